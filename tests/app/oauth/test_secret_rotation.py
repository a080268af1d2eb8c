"""US-33: a client's secret leaked. It is replaced at once, or with an overlap in which one sees who still uses it."""

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction

from iam.audit.models import AuditEvent
from iam.errors import Conflict, NotKnown
from iam.oauth import secret_rotation, sightings, state
from iam.oauth.clients import apply_all
from iam.oauth.models import Client
from iam.oauth.secret_rotation import OVERLAP_MAX, end_old_secret, forget_old_secrets, rotate_secret
from iam.oauth.secretbox import client_secret_digest

from .conftest import CLIENTS, SECRET, World

ACTOR = "operator:test"
HOUR = timedelta(hours=1)


def status(world: World, secret: str, client: str = "service") -> int:
    answer = world.post("/token", client, secret, grant_type="client_credentials", scope="demo.read")
    sightings.write_pending()
    return answer.status


def row(client_id: str = "service") -> Client:
    return Client.objects.get(client_id=client_id)


def command(*words: str) -> str:
    out = io.StringIO()
    call_command("client", *words, stdout=out)
    return out.getvalue()


# -- at once ----------------------------------------------------------------------------------------------


@pytest.mark.spec("US-33", "1", "a leaked secret, and what was got with it, end at once")
def test_us33_rotated_at_once_the_old_secret_and_its_tokens_end(world):
    answer = world.post("/token", "service", SECRET, grant_type="client_credentials", scope="demo.read")
    token = json.loads(answer.body)["access_token"]
    assert world.introspect(token)["active"]

    new = rotate_secret("service", None, world.now, ACTOR)

    assert status(world, SECRET) == 401
    assert status(world, new) == 200
    assert world.introspect(token) == {"active": False}
    event = AuditEvent.objects.get(action="administrator:secret:rotate")
    assert (event.actor, event.object, event.method) == (ACTOR, "client:service", "at_once")


def test_us33_new_secret_is_long_and_stored_as_a_digest_only(world):
    new = rotate_secret("service", None, world.now, ACTOR)

    assert len(new) >= 43
    assert new not in str(Client.objects.filter(client_id="service").values().get())
    assert row().secret_digest == client_secret_digest(new)


# -- with an overlap ----------------------------------------------------------------------------------------


def test_us33_in_the_overlap_both_secrets_are_good_and_then_one(world):
    new = rotate_secret("service", 2 * HOUR, world.now, ACTOR)

    assert (status(world, SECRET), status(world, new)) == (200, 200)
    world.later(hours=2, seconds=-1)
    assert status(world, SECRET) == 200
    world.later(seconds=1)
    assert (status(world, SECRET), status(world, new)) == (401, 200)


def test_us33_in_the_overlap_tokens_of_before_live(world):
    answer = world.post("/token", "service", SECRET, grant_type="client_credentials", scope="demo.read")
    rotate_secret("service", HOUR, world.now, ACTOR)

    assert world.introspect(json.loads(answer.body)["access_token"])["active"]


def test_us33_old_secret_is_good_where_the_client_authenticates_and_nowhere_else(world):
    rotate_secret("service", HOUR, world.now, ACTOR)

    assert status(world, SECRET, "web") == 400  # web may not use this grant, but it is web
    assert status(world, SECRET + "x") == 401
    assert status(world, "") == 401
    assert world.post("/introspect", "service", SECRET, token="x").status == 200


def test_us33_second_rotation_ends_the_oldest_secret_at_once(world):
    first = rotate_secret("service", HOUR, world.now, ACTOR)
    second = rotate_secret("service", HOUR, world.now, ACTOR)

    assert [status(world, secret) for secret in (SECRET, first, second)] == [401, 200, 200]
    third = rotate_secret("service", None, world.now, ACTOR)
    assert [status(world, secret) for secret in (first, second, third)] == [401, 401, 200]


@pytest.mark.parametrize("overlap", [timedelta(0), -HOUR, OVERLAP_MAX + timedelta(seconds=1)])
def test_us33_overlap_is_bounded(world, overlap):
    with pytest.raises(ValueError, match="at most 7 days"):
        rotate_secret("service", overlap, world.now, ACTOR)

    assert status(world, SECRET) == 200


def test_us33_overlap_ends_before_its_time_when_asked(world):
    rotate_secret("service", HOUR, world.now, ACTOR)

    assert end_old_secret("service", world.now, ACTOR)
    assert not end_old_secret("service", world.now, ACTOR)
    assert status(world, SECRET) == 401


def test_us33_secret_given_by_apply_ends_the_overlap(world):
    rotate_secret("service", HOUR, world.now, ACTOR)
    (service,) = [client for client in CLIENTS if client["client_id"] == "service"]

    apply_all([{**service, "client_secret": "q" * 40}], world.now, ACTOR)

    assert (status(world, SECRET), status(world, "q" * 40)) == (401, 200)


def test_us33_client_switched_off_is_refused_with_either_secret(world):
    new = rotate_secret("service", HOUR, world.now, ACTOR)
    Client.objects.filter(client_id="service").update(enabled=False)

    assert (status(world, SECRET), status(world, new)) == (401, 401)


def test_old_secret_is_forgotten_when_its_time_is_over_and_not_before(world):
    rotate_secret("service", HOUR, world.now, ACTOR)

    assert forget_old_secrets(world.now + HOUR - timedelta(seconds=1)) == 0
    assert forget_old_secrets(world.now + HOUR) == 1
    assert forget_old_secrets(world.now + HOUR) == 0
    assert row().old_secret_digest == ""


# -- who still uses it ----------------------------------------------------------------------------------------


def test_us33_use_of_the_old_secret_is_seen_once_an_hour(world):
    world.now = world.now.replace(minute=10)
    new = rotate_secret("service", 9 * HOUR, world.now, ACTOR)
    status(world, new)
    assert row().old_secret_used_at is None

    status(world, SECRET)
    first = row().old_secret_used_at
    status(world.later(minutes=5), SECRET)
    assert first is not None
    assert row().old_secret_used_at == first
    status(world.later(hours=1), SECRET)
    assert row().old_secret_used_at == world.now


def test_us33_use_of_a_secret_that_was_replaced_meanwhile_is_not_counted(world):
    rotate_secret("service", HOUR, world.now, ACTOR)
    sightings.note(sightings.OldSecretUsed(row().pk, row().old_secret_digest), world.now)
    rotate_secret("service", HOUR, world.now, ACTOR)

    sightings.write_pending()

    assert row().old_secret_used_at is None


# -- refusals ---------------------------------------------------------------------------------------------


def test_rotate_unknown_client_is_refused(world):
    with pytest.raises(NotKnown, match="There is no client"):
        rotate_secret("nobody", None, world.now, ACTOR)


def test_rotate_client_without_a_secret_is_refused(world):
    with pytest.raises(Conflict, match="has no secret"):
        rotate_secret("public", None, world.now, ACTOR)

    assert row("public").secret_digest == ""


def test_rotate_that_another_rotation_overtook_changes_nothing(world, monkeypatch):
    """The other commits between our look and our write; the statement's own condition sees it."""
    original = secret_rotation.client_secret_digest

    def overtaken(secret: str) -> str:
        Client.objects.filter(client_id="service").update(secret_digest=original("theirs"))
        return original(secret)

    monkeypatch.setattr(secret_rotation, "client_secret_digest", overtaken)

    with pytest.raises(Conflict, match="at this moment"):
        rotate_secret("service", None, world.now, ACTOR)
    assert row().secret_digest == original("theirs")
    assert not AuditEvent.objects.filter(action="administrator:secret:rotate").exists()


def test_database_refuses_an_old_secret_without_an_end(world):
    with pytest.raises(IntegrityError), transaction.atomic():
        Client.objects.filter(client_id="service").update(old_secret_digest="x")


# -- the command ------------------------------------------------------------------------------------------


def test_command_prints_the_new_secret_once_and_it_works(world):
    said = command("rotate-secret", "service")
    secret = said.split("keep it now): ")[1].split()[0]
    state.forget()

    assert status(world, secret) == 200
    assert "ended just now" in said
    assert secret not in command("list") + command("show", "service")
    assert secret not in "".join(str(vars(event)) for event in AuditEvent.objects.all())


def test_command_with_overlap_shows_who_still_uses_the_old_one(world):
    said = command("rotate-secret", "service", "--overlap", "24")
    assert "The old secret is good until" in said
    assert "not used since" in command("list")

    status(world, SECRET)

    assert "last used" in command("list")
    command("end-old-secret", "service")
    assert "old secret" not in command("list")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("rotate-secret", "nobody"), "There is no client"),
        (("rotate-secret", "public"), "has no secret"),
        (("rotate-secret", "service", "--overlap", "0"), "1 to 168"),
        (("rotate-secret", "service", "--overlap", "169"), "1 to 168"),
        (("end-old-secret", "service"), "no old secret"),
    ],
)
def test_command_refuses_in_one_sentence(world, words, reason):
    with pytest.raises(CommandError, match=reason):
        command(*words)
