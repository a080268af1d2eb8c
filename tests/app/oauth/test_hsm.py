"""Signing keys in a PKCS#11 token, on SoftHSM: made there, used there, and never seen outside (A21)."""

import ctypes
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pkcs11
import pytest
from django.core.management import CommandError, call_command
from pkcs11 import Attribute, ObjectClass

from iam.checks import pkcs11_token
from iam.oauth import cryptoki, hsm, keyring, pkcs11_device, state
from iam.oauth.models import SigningKey
from iam.oauth.protocol import jose
from iam.oauth.protocol.jose import Key, SigningUnavailable
from iam.oauth.protocol.key_ring import Status, Withdrawal
from iam.oauth.secretbox import decrypt
from tests.servers import softhsm

from .conftest import World, claims_of

ACTOR = "operator:test"
SCOPE = "demo.read"  # without an ID token, whose hash of the other differs with each signature of a token


@pytest.fixture(scope="module")
def card() -> Iterator[softhsm.Token]:
    with softhsm.running() as token:
        yield token


@pytest.fixture
def token(card: softhsm.Token, settings) -> softhsm.Token:
    """The settings of an installation with this token, and a connection that nobody has made yet."""
    settings.IAM_PKCS11_MODULE = str(softhsm.MODULE)
    settings.IAM_PKCS11_TOKEN_LABEL = card.label
    settings.IAM_PKCS11_PIN = softhsm.PIN
    hsm._device.cache_clear()
    return card


def active(algorithm: str = "ES256") -> SigningKey:
    return SigningKey.objects.get(algorithm=algorithm, status=Status.ACTIVE)


def into_token(world: World, algorithm: str = "ES256") -> SigningKey:
    row = keyring.rotate_at_once(algorithm, Withdrawal.NOW, world.now, ACTOR, in_token=True)
    assert row is not None
    return row


def key_in_token(algorithm: str = "ES256") -> Key:
    reference, public = hsm.configured_device().generate(algorithm)
    return Key("k", algorithm, public, hsm.TokenSigner(algorithm, reference))


def lose_connection() -> None:
    """Close the library under our feet, as a network token that was restarted does."""
    pkcs11_device._loaded(str(softhsm.MODULE)).threads.end()


# -- signing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", jose.ALGORITHMS)
@pytest.mark.spec("RFC 7518", "3.1", "what a token signs verifies like any other signature")
def test_token_signs_with_each_algorithm(token, algorithm):
    key = key_in_token(algorithm)

    signed = [key.sign("JWT", {"number": number}) for number in range(20)]

    assert [jose.verify(one, {"k": key}).claims["number"] for one in signed] == list(range(20))


def test_token_of_tokens_from_the_engine_is_believed(world, token):
    world.sign_in()
    row = into_token(world)

    access = world.tokens(scope=SCOPE)["access_token"]

    assert json.loads(jose.decode_segment(access.split(".", maxsplit=1)[0]))["kid"] == row.kid
    assert world.introspect(access)["active"]
    assert claims_of(access)["iss"] == state.DatabaseState().issuer


def test_many_threads_share_a_few_sessions(token):
    key = key_in_token()

    with ThreadPoolExecutor(16) as pool:
        signed = list(pool.map(lambda number: key.sign("JWT", {"n": number}), range(400)))

    assert sorted(jose.verify(one, {"k": key}).claims["n"] for one in signed) == list(range(400))
    device = hsm.configured_device()
    assert 1 <= len(device._idle) <= pkcs11_device.SESSIONS_MAX
    assert device._lent == 0


def test_signature_does_not_wait_for_those_that_take_long(token):
    """Before there were several sessions, one signature at a time kept all others of the process waiting."""
    key, device = key_in_token(), hsm.configured_device()
    taken = [borrowed(device) for _ in range(pkcs11_device.SESSIONS_MAX - 1)]

    assert jose.verify(key.sign("JWT", {}), {"k": key})

    for session in taken:
        device._give_back(session, good=True)


def test_threads_that_sign_at_once_do_so_in_sessions_of_their_own(token):
    key, device = key_in_token(), hsm.configured_device()
    all_at_once, names = threading.Barrier(pkcs11_device.SESSIONS_MAX), []

    def sign(session: pkcs11_device._Session) -> bytes:
        all_at_once.wait(5)  # fails unless as many work at the same moment
        names.append(session.opened.handle)
        return b""

    with ThreadPoolExecutor(pkcs11_device.SESSIONS_MAX) as pool:
        for _ in pool.map(lambda _: device._run(sign), range(pkcs11_device.SESSIONS_MAX)):
            pass

    assert len(set(names)) == pkcs11_device.SESSIONS_MAX
    assert jose.verify(key.sign("JWT", {}), {"k": key})


def borrowed(device: pkcs11_device.Device) -> pkcs11_device._Session:
    return device._borrow(time.monotonic() + 1, fresh=False)


def kill(session: pkcs11_device._Session) -> None:
    """End a session behind its owner's back, as a token does that was reset."""
    library = ctypes.CDLL(str(softhsm.MODULE))
    assert library.C_CloseSession(ctypes.c_ulong(session.opened.handle)) == 0


@pytest.mark.parametrize("killed", [1, 2, 4], ids=["one", "half", "all"])
def test_sessions_that_were_killed_are_opened_again(token, killed):
    key, device = key_in_token(), hsm.configured_device()
    sessions = [borrowed(device) for _ in range(pkcs11_device.SESSIONS_MAX)]
    for session in sessions:
        session.keys[key.signer.reference.object] = session.opened.get_key(
            object_class=ObjectClass.PRIVATE_KEY, label=key.signer.reference.object
        )
        device._give_back(session, good=True)
    for session in sessions[-killed:]:
        kill(session)

    with ThreadPoolExecutor(8) as pool:
        signed = list(pool.map(lambda number: key.sign("JWT", {"n": number}), range(40)))

    assert sorted(jose.verify(one, {"k": key}).claims["n"] for one in signed) == list(range(40))
    # The first connection made the key. Where a session is left, the login is; else all begins anew.
    assert device._connection == (2 if killed < pkcs11_device.SESSIONS_MAX else 3)


def test_connection_is_renewed_only_when_nobody_is_in_a_call(token):
    key, device = key_in_token(), hsm.configured_device()
    session = borrowed(device)
    lose_connection()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(key.sign, "JWT", {})
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)
        device._give_back(session, good=False)

        assert jose.verify(waiting.result(timeout=5), {"k": key})


def test_library_that_knows_no_threads_is_used_by_one(token, monkeypatch):
    key, device = key_in_token(), hsm.configured_device()
    begin = cryptoki.Library.begin
    monkeypatch.setattr(cryptoki.Library, "begin", lambda library: begin(library) and False)
    lose_connection()
    key.sign("JWT", {})
    monkeypatch.setattr(pkcs11_device, "WAIT_SECONDS", 0.1)

    session = borrowed(device)
    with pytest.raises(SigningUnavailable, match="does not answer"):
        key.sign("JWT", {})
    device._give_back(session, good=True)
    assert key.sign("JWT", {})


def test_child_of_a_fork_makes_a_connection_of_its_own(token):
    program = """
import os, django
django.setup()
from iam.oauth import hsm
from iam.oauth.protocol.jose import Key, verify
reference, public = hsm.configured_device().generate("ES256")
key = Key("k", "ES256", public, hsm.TokenSigner("ES256", reference))
verify(key.sign("JWT", {}), {"k": key})
child = os.fork()
if child == 0:
    verify(key.sign("JWT", {}), {"k": key})
    os._exit(7)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
verify(key.sign("JWT", {}), {"k": key})
print("child", status)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **token.environment}, text=True, capture_output=True, timeout=60,
        cwd=Path(__file__).resolve().parents[3],
    )  # fmt: skip

    assert done.stdout.split() == ["child", "7"], done.stderr


# -- what stays inside --------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", jose.ALGORITHMS)
def test_a21_private_key_cannot_be_read_even_by_us(token, algorithm):
    reference, _ = hsm.configured_device().generate(algorithm)
    library = pkcs11_device._loaded(str(softhsm.MODULE))
    library.threads.begin()
    with library.calls.get_token(token_label=token.label).open(user_pin=softhsm.PIN) as session:
        private = session.get_key(object_class=ObjectClass.PRIVATE_KEY, label=reference.object)

        assert private[Attribute.SENSITIVE] is True
        assert private[Attribute.EXTRACTABLE] is False
        secret = Attribute.PRIVATE_EXPONENT if algorithm in {"RS256", "PS256"} else Attribute.VALUE
        with pytest.raises(pkcs11.AttributeSensitive):
            private[secret]


def test_a21_database_holds_an_address_and_a_public_key(world, token):
    row = into_token(world)

    sealed = json.loads(
        decrypt(row.encryption_key_id, bytes(row.encrypted_private), f"signing key {row.kid}")
    )

    assert row.pkcs11_uri.startswith("pkcs11:token=iam;object=iam-es256-")
    assert sealed["uri"] == row.pkcs11_uri
    assert set(sealed["jwk"]) == {"kid", "alg", "use", "kty", "crv", "x", "y"}


def test_a21_pin_shows_nowhere(world, token, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    into_token(world)
    call_command("keys", "list")
    call_command("keys", "list", "--json")
    said = repr(hsm.configured_device()) + repr(keyring.load(world.now))
    hsm._device.cache_clear()
    with token.away():
        lose_connection()
        with pytest.raises(SigningUnavailable) as refused:
            state.DatabaseState().signing_key("ES256").sign("JWT", {})
    said += str(refused.value) + repr(refused.value.__cause__) + caplog.text + capsys.readouterr().out

    assert "pkcs11:token=iam" in said
    assert softhsm.PIN not in said


def test_a21_address_slipped_into_the_database_is_not_followed(world, token):
    row, other = into_token(world), key_in_token()
    signer = other.signer
    assert isinstance(signer, hsm.TokenSigner)
    SigningKey.objects.filter(kid=row.kid).update(
        pkcs11_uri=str(signer.reference), public_jwk=other.jwk() | {"kid": row.kid}
    )

    signed = keyring.load(world.now).active["ES256"].sign("JWT", {})

    with pytest.raises(jose.BadToken):
        jose.verify(signed, {row.kid: Key(row.kid, "ES256", other.public)})
    assert jose.verify(signed, keyring.load(world.now).by_kid)


# -- what breaks ------------------------------------------------------------------------------------------


def test_connection_that_was_lost_is_made_again(token):
    key = key_in_token()
    key.sign("JWT", {})

    lose_connection()

    assert jose.verify(key.sign("JWT", {"again": 1}), {"k": key}).claims == {"again": 1}


def test_token_that_is_away_denies_and_signs_again_when_it_is_back(token):
    key = key_in_token()
    with token.away():
        lose_connection()
        with pytest.raises(SigningUnavailable, match="NoSuchToken"):
            key.sign("JWT", {})
        begun = time.monotonic()
        with pytest.raises(SigningUnavailable, match="a moment ago"):
            key.sign("JWT", {})
        assert time.monotonic() - begun < 0.1

    time.sleep(pkcs11_device.COOL_DOWN_SECONDS)

    assert jose.verify(key.sign("JWT", {}), {"k": key})


def test_token_that_is_away_stops_the_engine_and_not_the_verification(world, token):
    world.sign_in()
    into_token(world)
    access = world.tokens(scope=SCOPE)["access_token"]
    with token.away():
        lose_connection()
        time.sleep(pkcs11_device.COOL_DOWN_SECONDS)
        with pytest.raises(SigningUnavailable):
            state.DatabaseState().signing_key("ES256").sign("JWT", {})
        assert world.introspect(access)["active"]


def test_wrong_pin_is_tried_once_so_that_the_token_does_not_lock_itself(token, settings):
    key = key_in_token()
    settings.IAM_PKCS11_PIN = "wrong"
    with pytest.raises(SigningUnavailable, match="PinIncorrect"):
        key.sign("JWT", {})
    for _ in range(20):
        with pytest.raises(SigningUnavailable, match="not tried again"):
            key.sign("JWT", {})

    settings.IAM_PKCS11_PIN = softhsm.PIN
    time.sleep(pkcs11_device.COOL_DOWN_SECONDS)

    assert jose.verify(key.sign("JWT", {}), {"k": key})


def test_key_that_is_not_in_the_token_denies(token):
    signer = hsm.TokenSigner("ES256", hsm.Reference(token.label, "nobody"))

    with pytest.raises(SigningUnavailable, match="NoSuchKey"):
        signer.sign(b"x")
    connection = hsm.configured_device()._connection
    for _ in range(20):
        with pytest.raises(SigningUnavailable, match="no such key a moment ago"):
            signer.sign(b"x")
    assert hsm.configured_device()._connection == connection  # the others were not disturbed


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("IAM_PKCS11_TOKEN_LABEL", "other", "IAM_PKCS11_TOKEN_LABEL is 'other'"),
        ("IAM_PKCS11_TOKEN_LABEL", "", "are not set"),
        ("IAM_PKCS11_MODULE", "", "are not set"),
        ("IAM_PKCS11_MODULE", "/nowhere.so", "nowhere.so"),
    ],
)
def test_settings_that_lead_nowhere_deny_with_the_reason(token, settings, name, value, reason):
    key = key_in_token()
    setattr(settings, name, value)

    with pytest.raises(SigningUnavailable, match=reason):
        key.sign("JWT", {})


def test_token_that_hangs_keeps_nobody_waiting_for_long(token, monkeypatch):
    key, device = key_in_token(), hsm.configured_device()
    monkeypatch.setattr(pkcs11_device, "WAIT_SECONDS", 0.1)
    hanging = [borrowed(device) for _ in range(pkcs11_device.SESSIONS_MAX)]

    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(SigningUnavailable, match="does not answer"):
            key.sign("JWT", {})
        assert time.monotonic() - begun < 1

    for session in hanging:
        device._give_back(session, good=True)
    assert jose.verify(key.sign("JWT", {}), {"k": key})


def test_algorithm_that_the_token_does_not_know_is_refused_in_words(world, token):
    before = dict(SigningKey.objects.values_list("kid", "status"))
    token.configure("-CKM_EDDSA,CKM_EDDSA")  # SoftHSM 2.6.1 overlooks the first name of such a list
    try:
        with pytest.raises(CommandError, match="makes no keys for EdDSA; leave them in the database"):
            call_command("keys", "rotate", "EdDSA", "--emergency", "--pkcs11")
    finally:
        token.configure()

    assert dict(SigningKey.objects.values_list("kid", "status")) == before


@pytest.mark.parametrize(
    "uri", ["", "pkcs11:", "pkcs11:token=iam", "file:token=iam;object=x", "pkcs11:object=x", "x" * 9999]
)
def test_reference_that_is_none_is_an_error(uri):
    with pytest.raises(ValueError, match="not the address"):
        hsm.Reference.parse(uri)


@pytest.mark.parametrize("name", ["a;b=c", "ي", "100%", "a b"])
def test_reference_is_read_back_whatever_its_names(name):
    reference = hsm.Reference(name, name)

    assert hsm.Reference.parse(str(reference)) == reference
    assert str(reference).isascii()


# -- the ring ---------------------------------------------------------------------------------------------


def test_f11_sound_ring_in_a_token_has_no_problem_and_one_without_its_token_has(world, token):
    row = into_token(world)
    assert keyring.problems() == []

    with token.away():
        lose_connection()
        time.sleep(pkcs11_device.COOL_DOWN_SECONDS)
        problems = keyring.problems()

    assert len(problems) == 1
    assert row.kid in problems[0]
    assert "the token 'iam' fails: NoSuchToken" in problems[0]


def test_next_key_is_made_where_the_active_one_is(world, token):
    into_token(world)

    keyring.begin_rotation("ES256", world.now, ACTOR)
    keyring.begin_rotation("EdDSA", world.now, ACTOR)
    assert keyring.tend((), world.now + timedelta(days=1), ACTOR) == 2

    assert active("ES256").pkcs11_uri.startswith("pkcs11:")
    assert active("EdDSA").pkcs11_uri == ""


def test_way_back_into_the_database(world, token):
    into_token(world)

    call_command("keys", "rotate", "ES256", "--emergency", "--database")

    assert active().pkcs11_uri == ""


def test_schedule_goes_on_for_the_others_when_the_token_is_away(world, token, caplog):
    into_token(world)
    with token.away():
        lose_connection()
        time.sleep(pkcs11_device.COOL_DOWN_SECONDS)
        made = keyring.tend((), world.now + timedelta(days=89), ACTOR)

    assert made == len(jose.ALGORITHMS) - 1
    assert "No key for ES256 could be made" in caplog.text


def test_next_key_in_a_token_that_is_away_does_not_take_over(world, token, caplog):
    into_token(world)
    keyring.begin_rotation("ES256", world.now, ACTOR)
    with token.away():
        lose_connection()
        time.sleep(pkcs11_device.COOL_DOWN_SECONDS)
        assert keyring.tend((), world.now + timedelta(days=1), ACTOR) == 0

    assert "does not take over" in caplog.text
    time.sleep(pkcs11_device.COOL_DOWN_SECONDS)
    assert keyring.tend((), world.now + timedelta(days=1), ACTOR) == 1


# -- settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(("", "", ""), 0, id="none"),
        pytest.param((str(softhsm.MODULE), "iam", "1"), 0, id="all"),
        pytest.param((str(softhsm.MODULE), "iam", ""), 1, id="no pin"),
        pytest.param((str(softhsm.MODULE), "", "1"), 1, id="no label"),
        pytest.param(("", "iam", "1"), 1, id="no module"),
        pytest.param(("/nowhere.so", "iam", "1"), 1, id="no file"),
    ],
)
def test_check_half_a_token_stops_the_start(settings, values, expected):
    settings.IAM_PKCS11_MODULE, settings.IAM_PKCS11_TOKEN_LABEL, settings.IAM_PKCS11_PIN = values

    assert [message.id for message in pkcs11_token(None)] == ["iam.E020"] * expected


def test_library_is_loaded_by_those_only_who_have_a_token(tmp_path):
    program = "import django, sys; django.setup(); import iam.oauth.keyring; print('pkcs11' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, timeout=60)

    assert done.stdout.strip() == "False", done.stderr
