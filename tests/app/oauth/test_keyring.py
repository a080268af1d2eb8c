"""The key ring in the database: planned and emergency rotation, and what is believed meanwhile (US-33, A21, F11)."""

import base64
import json
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from iam.audit.models import AuditEvent
from iam.oauth import engine, keyring, memory, state
from iam.oauth.models import SigningKey
from iam.oauth.protocol import jose, key_ring
from iam.oauth.protocol.jose import SigningUnavailable
from iam.oauth.protocol.jwk import thumbprint
from iam.oauth.protocol.key_ring import Status, Withdrawal
from iam.oauth.protocol.messages import Request, Response

from .conftest import SERVER_SECRET, World, claims_of

ACTOR = "operator:test"
DAY = timedelta(days=1)
SCOPE = "openid demo.read"  # the second makes it a token for the resource server that introspects


def key_set(world: World) -> list[dict]:
    answer = world.ask(Request("GET", "/jwks"))
    assert isinstance(answer, Response)
    return json.loads(answer.body)["keys"]


def kids(world: World, algorithm: str = "ES256") -> list[str]:
    return [key["kid"] for key in key_set(world) if key["alg"] == algorithm]


def kid_of(token: str) -> str:
    return json.loads(jose.decode_segment(token.split(".", maxsplit=1)[0]))["kid"]


def statuses(algorithm: str = "ES256") -> dict[str, str]:
    return dict(SigningKey.objects.filter(algorithm=algorithm).values_list("kid", "status"))


def active(algorithm: str = "ES256") -> SigningKey:
    return SigningKey.objects.get(algorithm=algorithm, status=Status.ACTIVE)


def events(action: str = "administrator:key:") -> list[tuple[str, str, str]]:
    rows = AuditEvent.objects.filter(action__startswith=action).order_by("sequence")
    return [(row.action.rpartition(":")[2], row.object.removeprefix("key:"), row.reason) for row in rows]


# -- first keys -------------------------------------------------------------------------------------------


def test_ensure_makes_one_active_key_an_algorithm_and_no_second(world):
    first = {row.kid: row.status for row in SigningKey.objects.all()}

    assert keyring.ensure(world.now, ACTOR) == []
    assert set(first.values()) == {"active"}
    assert sorted(row.algorithm for row in SigningKey.objects.all()) == sorted(jose.ALGORITHMS)
    assert {row.kid: row.status for row in SigningKey.objects.all()} == first


@pytest.mark.spec("RFC 7638", "3", "a key is named by its thumbprint")
@pytest.mark.rules("fapi/5.4.2/3")
def test_ensure_names_a_key_by_its_thumbprint(world):
    for key in key_set(world):
        assert key["kid"] == thumbprint(key)


# -- planned ----------------------------------------------------------------------------------------------


@pytest.mark.spec("OIDC Core", "10.1.1", "a new key is published before it signs, the old one stays after it")
@pytest.mark.rules("core/10.1.1/retired-keys")
def test_planned_rotation_from_its_first_day_to_its_last(world):
    world.sign_in()
    old, token = active().kid, world.tokens()["access_token"]
    made = keyring.begin_rotation("ES256", world.now, ACTOR)

    assert made is not None
    assert kids(world) == [old, made.kid]
    assert kid_of(world.tokens()["access_token"]) == old
    world.later(hours=23, minutes=59)
    assert keyring.tend((), world.now, ACTOR) == 0
    world.later(minutes=1)
    assert keyring.tend((), world.now, ACTOR) == 1
    assert kids(world) == [made.kid, old]
    world.sign_in()
    assert kid_of(world.tokens()["access_token"]) == made.kid
    assert jose.verify(token, state.DatabaseState().keys()).claims["sub"]
    world.later(hours=24)
    assert keyring.tend((), world.now, ACTOR) == 1
    assert kids(world) == [made.kid]
    assert statuses() == {old: "retired", made.kid: "active"}
    assert events()[-4:] == [
        ("create", made.kid, "planned"),
        ("replace", old, "planned"),
        ("activate", made.kid, "planned"),
        ("retire", old, "time_over"),
    ]


def test_schedule_rotates_every_key_by_the_setting(world, settings):
    settings.IAM_KEY_ROTATION_DAYS = 30
    first = set(SigningKey.objects.values_list("kid", flat=True))

    assert keyring.tend((), world.now + 29 * DAY - timedelta(seconds=1), ACTOR) == 0
    assert keyring.tend((), world.now + 29 * DAY, ACTOR) == len(jose.ALGORITHMS)
    assert keyring.tend((), world.now + 29 * DAY, ACTOR) == 0
    assert keyring.tend((), world.now + 30 * DAY, ACTOR) == len(jose.ALGORITHMS)
    assert keyring.tend((), world.now + 31 * DAY, ACTOR) == len(jose.ALGORITHMS)

    left = SigningKey.objects.exclude(status=Status.RETIRED)
    assert {row.status for row in left} == {"active"}
    assert not first & {row.kid for row in left}


def test_planned_rotation_begun_twice_publishes_one_next_key(world):
    made = keyring.begin_rotation("RS256", world.now, ACTOR)

    assert made is not None
    assert keyring.begin_rotation("RS256", world.now, ACTOR) is None
    assert statuses("RS256") == {active("RS256").kid: "active", made.kid: "next"}


def test_next_key_that_cannot_sign_does_not_take_over(world, caplog):
    made = keyring.begin_rotation("ES256", world.now, ACTOR)
    assert made is not None
    SigningKey.objects.filter(kid=made.kid).update(encrypted_private=b"damaged" * 9)

    assert keyring.tend((), world.now + 2 * DAY, ACTOR) == 0
    assert statuses()[made.kid] == "next"
    assert "does not take over" in caplog.text


# -- emergency --------------------------------------------------------------------------------------------


def test_emergency_withdraw_now_refuses_every_token_of_the_old_key_at_once(world):
    world.sign_in()
    tokens, old = world.tokens(scope=SCOPE), active().kid
    assert world.introspect(tokens["access_token"])["active"]

    made = keyring.rotate_at_once("ES256", Withdrawal.NOW, world.now, ACTOR)

    assert made is not None
    assert kids(world) == [made.kid]
    assert world.introspect(tokens["access_token"]) == {"active": False}
    assert world.userinfo(tokens["access_token"]).status == 401
    assert kid_of(world.tokens()["access_token"]) == made.kid
    refreshed = world.refresh(tokens["refresh_token"])
    assert kid_of(json.loads(refreshed.body)["access_token"]) == made.kid
    assert events()[-3:] == [
        ("retire", old, "emergency"),
        ("create", made.kid, "emergency"),
        ("activate", made.kid, "emergency"),
    ]


def test_emergency_after_tokens_end_believes_the_old_key_until_then_even_without_housekeeping(world):
    world.sign_in()
    token, old = world.tokens(scope=SCOPE)["access_token"], active().kid

    made = keyring.rotate_at_once("ES256", Withdrawal.AFTER_TOKENS_END, world.now, ACTOR)

    assert made is not None
    assert kids(world) == [made.kid, old]
    assert world.introspect(token)["active"]
    late = world.now + key_ring.RETIRING_EMERGENCY
    assert old in keyring.load(late - timedelta(seconds=1)).by_kid
    assert old not in keyring.load(late).by_kid


def test_emergency_replaces_a_next_key_too(world):
    following = keyring.begin_rotation("ES256", world.now, ACTOR)
    made = keyring.rotate_at_once("ES256", Withdrawal.AFTER_TOKENS_END, world.now, ACTOR)

    assert following is not None
    assert made is not None
    assert statuses()[following.kid] == "retired"
    assert following.kid not in kids(world)


def test_worker_forgets_a_retiring_key_when_its_time_is_over_without_any_commit(world, monkeypatch):
    old = active().kid
    keyring.rotate_at_once("ES256", Withdrawal.AFTER_TOKENS_END, world.now, ACTOR)
    assert old in state.DatabaseState().keys()  # noqa: SIM118 -- the State's, not a dict's
    version = memory.current().version
    ring = memory.current().ring

    monkeypatch.setattr(memory.time, "time", lambda: ring.until.timestamp())
    monkeypatch.setattr(memory, "datetime", _At(ring.until))

    assert old not in state.DatabaseState().keys()  # noqa: SIM118 -- the State's, not a dict's
    assert memory.current().version == version


def test_a21_token_that_a_thief_made_is_worth_five_minutes_and_ends_with_the_key(world, monkeypatch):
    leaked = state.DatabaseState().signing_key("ES256")
    answer = world.post("/token", "service", grant_type="client_credentials", scope="demo.read")
    claims = claims_of(json.loads(answer.body)["access_token"])
    forged = leaked.sign("at+jwt", {**claims, "jti": "m.made-by-a-thief"})
    for seconds in (1, 10 * 365 * 86400):
        long = leaked.sign("at+jwt", {**claims, "exp": claims["exp"] + seconds})
        assert not world.introspect(long)["active"]
    keyring.rotate_at_once("ES256", Withdrawal.AFTER_TOKENS_END, world.now, ACTOR)

    def is_active() -> bool:  # in one worker, which remembers tokens that were good
        basic = "Basic " + base64.b64encode(f"resource:{SERVER_SECRET}".encode()).decode()
        request = Request(
            "POST", "/introspect", body=f"token={forged}".encode(), authorization=basic,
            content_type="application/x-www-form-urlencoded",
        )  # fmt: skip
        found = engine.handle(request, state.DatabaseState(), world.now)
        assert isinstance(found, Response)
        return json.loads(found.body)["active"]

    for _ in range(3):
        assert is_active()  # from the second time on remembered, where the database is SQLite
    end = memory.current().ring.until
    assert end is not None
    monkeypatch.setattr(memory.time, "time", lambda: end.timestamp())
    monkeypatch.setattr(memory, "datetime", _At(end))

    assert not is_active()


class _At:
    """A clock that stands."""

    def __init__(self, at) -> None:
        self.at = at

    def now(self, _zone):
        return self.at


# -- withdrawing by hand ----------------------------------------------------------------------------------


def test_retire_never_the_key_that_signs(world):
    made = keyring.begin_rotation("ES256", world.now, ACTOR)
    assert made is not None

    assert not keyring.retire(active().kid, world.now, ACTOR)
    assert not keyring.retire("nobody", world.now, ACTOR)
    assert keyring.retire(made.kid, world.now, ACTOR)
    assert not keyring.retire(made.kid, world.now, ACTOR)


def test_a21_retired_key_is_emptied_so_that_nobody_can_bring_it_back(world):
    made = keyring.begin_rotation("ES256", world.now, ACTOR)
    assert made is not None
    keyring.retire(made.kid, world.now, ACTOR)

    row = SigningKey.objects.get(kid=made.kid)
    assert bytes(row.encrypted_private) == b""
    SigningKey.objects.filter(kid=made.kid).update(status=Status.NEXT)
    assert made.kid not in keyring.load(world.now).by_kid


# -- what is written by somebody else -----------------------------------------------------------------------


def test_a21_key_slipped_into_the_database_is_not_believed(world):
    forger = jose.load_private("evil", "ES256", jose.private_bytes(jose.generate("ES256")))
    token = world.post("/token", "service", grant_type="client_credentials").body
    claims = claims_of(json.loads(token)["access_token"])
    forged = forger.sign("at+jwt", claims)
    row = active()
    SigningKey.objects.create(
        kid="evil", algorithm="ES256", status=Status.NEXT, public_jwk=forger.jwk(), created_at=world.now,
        encrypted_private=bytes(row.encrypted_private), encryption_key_id=row.encryption_key_id,
    )  # fmt: skip
    SigningKey.objects.filter(kid=row.kid).update(public_jwk=forger.jwk() | {"kid": row.kid})

    assert world.introspect(forged) == {"active": False}
    assert "evil" not in kids(world)
    genuine = next(key for key in key_set(world) if key["kid"] == row.kid)
    assert thumbprint(genuine) == row.kid


def test_damaged_key_denies_its_own_signatures_and_nothing_else(world, caplog):
    world.sign_in()
    token = world.tokens(scope=SCOPE)["access_token"]
    SigningKey.objects.filter(algorithm="RS256").update(encrypted_private=b"x" * 60)
    state.forget()

    with pytest.raises(SigningUnavailable, match="RS256"):
        state.DatabaseState().signing_key("RS256")
    assert world.introspect(token)["active"]
    assert {key["alg"] for key in key_set(world)} == {"ES256", "PS256", "EdDSA"}
    assert "damaged" in caplog.text


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.NEXT])
def test_database_refuses_a_second_key_of_one_status(world, status):
    keyring.begin_rotation("ES256", world.now, ACTOR)
    row = active()

    with pytest.raises(IntegrityError), transaction.atomic():
        SigningKey.objects.create(
            kid="second", algorithm="ES256", status=status, public_jwk={}, created_at=world.now,
            encrypted_private=b"", encryption_key_id=row.encryption_key_id,
        )  # fmt: skip


def test_plan_for_a_ring_that_changed_is_not_carried_out_at_all(world):
    ring = keyring.facts()
    stale = key_ring.decide_emergency(ring, "ES256", Withdrawal.NOW, world.now)
    keyring.rotate_at_once("ES256", Withdrawal.AFTER_TOKENS_END, world.now, ACTOR)
    before, version = statuses(), memory.current().version

    assert keyring._carry_out(stale, world.now, ACTOR) is False

    assert statuses() == before
    state.forget()
    assert memory.current().version == version


# -- F11 --------------------------------------------------------------------------------------------------


def test_f11_sound_ring_has_no_problem(world):
    keyring.begin_rotation("ES256", world.now, ACTOR)

    assert keyring.problems() == []


def test_f11_missing_keys_are_named_with_what_to_do(world):
    SigningKey.objects.filter(algorithm__in=["ES256", "EdDSA"]).delete()

    (problem,) = keyring.problems()

    assert "no active signing key for ES256, EdDSA" in problem
    assert "keys ensure" in problem


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"encrypted_private": b"z" * 80}, "damaged", id="other bytes"),
        pytest.param({"encrypted_private": b""}, "damaged", id="no bytes"),
        pytest.param({"encryption_key_id": "gone"}, "no key 'gone'", id="unknown key of the environment"),
        pytest.param({"algorithm": "EdDSA"}, "no key for EdDSA", id="another algorithm's"),
    ],
)
def test_f11_damaged_key_is_named_with_the_exact_reason(world, change, reason):
    SigningKey.objects.filter(algorithm="EdDSA").delete()
    kid = active().kid
    SigningKey.objects.filter(kid=kid).update(**change)

    found = [problem for problem in keyring.problems() if kid in problem]

    assert len(found) == 1
    assert reason in found[0]


def test_f11_other_key_of_the_environment_is_said_of_every_key(world, settings):
    settings.IAM_ENCRYPTION_KEYS = dict.fromkeys(settings.IAM_ENCRYPTION_KEYS, b"q" * 32)

    problems = keyring.problems()

    assert len(problems) == len(jose.ALGORITHMS)
    assert all("is another one" in problem for problem in problems)
