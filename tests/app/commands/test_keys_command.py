"""`manage.py keys` as an operator runs it; a private key never shows (A21)."""

import base64
import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from django.core.management import call_command

from iam.oauth import keyring
from iam.oauth.models import SigningKey
from iam.oauth.protocol import jose
from iam.oauth.protocol.key_ring import Status

pytestmark = pytest.mark.django_db


@pytest.fixture
def ring(db) -> None:
    keyring.ensure(datetime.now(UTC), "system:test")


def active(algorithm: str = "ES256") -> SigningKey:
    return SigningKey.objects.get(algorithm=algorithm, status=Status.ACTIVE)


def test_ensure_makes_a_key_an_algorithm_once(run):
    first, second = run("keys", "ensure"), run("keys", "ensure")

    assert (first.failure, second.failure, second.out) == ("", "", "")
    assert len(first.out.splitlines()) == len(jose.ALGORITHMS)


def test_f11_ensure_over_a_damaged_store_says_why_and_changes_nothing(ring, run):
    SigningKey.objects.update(encrypted_private=b"z" * 80)
    before = set(SigningKey.objects.values_list("kid", flat=True))

    ran = run("keys", "ensure")

    assert all(kid in ran.failure for kid in before)
    assert "damaged" in ran.failure
    assert set(SigningKey.objects.values_list("kid", flat=True)) == before


def test_rotate_publishes_next_keys_for_every_algorithm_or_for_one(ring, run):
    one = run("keys", "rotate", "EdDSA")
    rest = run("keys", "rotate")

    assert "next for EdDSA; signs from " in one.out
    assert rest.out.count(": made, next for ") == len(jose.ALGORITHMS) - 1
    assert "EdDSA: a next key is published already" in rest.out
    assert SigningKey.objects.filter(status=Status.NEXT).count() == len(jose.ALGORITHMS)


def test_rotate_emergency_withdraws_at_once_unless_told_otherwise(ring, run):
    old = active().kid

    ran = run("keys", "rotate", "--emergency")

    assert ran.out.count("from now on") == len(jose.ALGORITHMS)
    assert "nothing that they signed is believed" in ran.out
    assert SigningKey.objects.get(kid=old).status == Status.RETIRED
    assert SigningKey.objects.filter(status=Status.RETIRED).count() == len(jose.ALGORITHMS)


def test_rotate_emergency_after_tokens_end_says_when(ring, run):
    old = active("PS256").kid

    ran = run("keys", "rotate", "PS256", "--emergency", "--after-tokens-end")

    assert "The old keys are withdrawn at " in ran.out
    assert SigningKey.objects.get(kid=old).status == Status.RETIRING
    assert SigningKey.objects.filter(algorithm="ES256").count() == 1


@pytest.mark.parametrize("word", ["--withdraw-now", "--after-tokens-end"])
def test_rotate_words_of_the_emergency_alone_are_refused(ring, run, word):
    assert "belong to --emergency" in run("keys", "rotate", word).failure
    assert not SigningKey.objects.exclude(status=Status.ACTIVE).exists()


def test_rotate_into_a_token_that_is_not_set_up_says_so(ring, run):
    ran = run("keys", "rotate", "ES256", "--pkcs11")

    assert "IAM_PKCS11_MODULE" in ran.failure
    assert SigningKey.objects.count() == len(jose.ALGORITHMS)


def test_retire_refuses_the_key_that_signs(ring, run):
    assert "not a key that can be withdrawn" in run("keys", "retire", active().kid).failure
    assert active()


def test_list_shows_each_key_what_comes_next_and_where_it_is(ring, run):
    run("keys", "rotate", "ES256")
    run("keys", "rotate", "RS256", "--emergency", "--after-tokens-end")

    ran = run("keys", "list")

    assert ran.failure == ""
    for row in SigningKey.objects.all():
        assert row.kid in ran.out
    for text in ("active", "next", "retiring", "signs from", "planned until", "verifies until", "database"):
        assert text in ran.out


def test_status_fails_with_the_reason_when_a_key_cannot_be_used(ring, run):
    kid = active().kid
    SigningKey.objects.filter(kid=kid).update(encryption_key_id="gone")

    ran = run("keys", "status")

    assert "CANNOT BE USED" in ran.out
    assert kid in ran.failure
    assert "no key 'gone'" in ran.failure
    assert run("keys", "list").failure == ""


def test_status_as_json_says_what_a_program_needs(ring, run):
    shown = json.loads(run("keys", "status", "--json").out)

    assert {(key["algorithm"], key["status"]) for key in shown["keys"]} == {
        (algorithm, "active") for algorithm in jose.ALGORITHMS
    }
    assert (shown["readers"], shown["unknown"], shown["old_secrets"]) == ([], 0, [])


def canaries() -> set[str]:
    """Return everything secret of every key, in the spellings in which it could leak."""
    found = set()
    for row in SigningKey.objects.exclude(status=Status.RETIRED):
        signer = keyring.open_key(row).signer
        assert isinstance(signer, jose.MemorySigner)
        match signer.private:
            case ec.EllipticCurvePrivateKey() as key:
                numbers = [key.private_numbers().private_value]
            case rsa.RSAPrivateKey() as key:
                private = key.private_numbers()
                numbers = [private.d, private.p, private.q, private.dmp1, private.dmq1, private.iqmp]
            case ed25519.Ed25519PrivateKey() as key:
                numbers = [int.from_bytes(key.private_bytes_raw(), "big")]
        raw = [number.to_bytes((number.bit_length() + 7) // 8, "big") for number in numbers]
        for secret in [jose.private_bytes(signer.private), *raw]:
            # From the middle, so that padding and line breaks at the ends do not matter.
            middle = secret[len(secret) // 4 : len(secret) * 3 // 4]
            found |= {
                middle.hex(),
                base64.b64encode(secret).decode()[8:28],
                base64.urlsafe_b64encode(secret).decode()[8:28],
            }
        found |= {str(number)[:40] for number in numbers}
    return found


def test_a21_no_command_export_or_log_shows_a_private_key(ring, run, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    said = ""
    for words in (
        ("rotate", "ES256"),
        ("rotate", "RS256", "--emergency", "--after-tokens-end"),
        ("list",),
        ("list", "--json"),
        ("status",),
        ("status", "--json"),
        ("ensure",),
    ):
        ran = run("keys", *words)
        said += ran.out + ran.err + ran.failure
    secret = canaries()
    SigningKey.objects.filter(algorithm="EdDSA").update(encryption_key_id="gone")
    keyring.tend((), datetime.now(UTC) + timedelta(days=100), "system:test")
    ran = run("keys", "status")
    call_command("dumpdata", "oauth", "audit", "accounts")
    said += ran.out + ran.failure + capsys.readouterr().out + caplog.text
    said += "".join(repr(vars(row)) for row in SigningKey.objects.all()) + repr(
        keyring.load(datetime.now(UTC))
    )

    assert len(secret) > 30
    assert [canary for canary in secret if canary in said] == []
    assert "PRIVATE KEY" not in said
