"""`/jwks/CLIENT_ID`: the same keys at an application's own address, and what is seen there (US-33)."""

import json
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from iam.oauth import keyring, sightings
from iam.oauth.clients import apply_all
from iam.oauth.key_report import build_report
from iam.oauth.models import Client, KeySighting, SigningKey
from iam.oauth.protocol import jose
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.key_ring import Status
from iam.oauth.protocol.messages import Request, Response
from iam.oauth.purge import purge

from .conftest import CLIENTS, SECRET, World

ACTOR = "operator:test"
OWN = {
    "client_id": "own", "client_secret": SECRET, "redirect_uris": ["https://own.example/cb"], "dedicated_jwks": True,
}  # fmt: skip


@pytest.fixture
def watched(world: World) -> World:
    """Two applications with an address of their own, one of them critical, and a next key for ES256."""
    apply_all([OWN, {**OWN, "client_id": "careful", "rotation_critical": True}], world.now, ACTOR)
    keyring.begin_rotation("ES256", world.now, ACTOR)
    sightings._noted.clear()
    return world


def fetch(world: World, client_id: str = "own", method: str = "GET") -> Response:
    answer = world.ask(Request(method, f"/jwks/{client_id}"))
    assert isinstance(answer, Response)
    sightings.write_pending()
    return answer


def seen(client_id: str = "own") -> dict[str, datetime]:
    return dict(KeySighting.objects.filter(client__client_id=client_id).values_list("key_id", "last_at"))


# -- the address ------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 7517", "5", "an application's own address serves the same key set")
def test_own_address_serves_the_same_keys(watched):
    common = watched.ask(Request("GET", "/jwks"))
    assert isinstance(common, Response)

    answer = fetch(watched)

    assert answer.status == 200
    assert answer.body == common.body
    assert dict(answer.headers)["Cache-Control"] == "private, max-age=300"


@pytest.mark.parametrize(
    "name",
    ["web", "nobody", "own ", "OWN", "own\x00", "own%00", "x" * 5000, "'; DROP TABLE oauth_client; --", "own/", "%2e%2e"],
)  # fmt: skip
def test_own_address_of_anybody_else_is_not_there_and_notes_nothing(watched, name):
    try:
        answer = fetch(watched, name)
    except KeyError:  # no address of the protocol: the door answers 404
        answer = None

    assert answer is None or answer.status == 404
    assert not KeySighting.objects.exists()


def test_own_address_of_a_client_that_is_switched_off_is_not_there(watched):
    apply_all([{**OWN, "enabled": False}], watched.now, ACTOR)

    assert fetch(watched).status == 404


# -- what is noted ----------------------------------------------------------------------------------------


def test_fetch_is_noted_with_every_key_that_was_served(watched):
    fetch(watched)

    assert set(seen()) == {key.kid for key in keyring.facts()}
    assert seen("careful") == {}


def test_head_is_answered_and_proves_nothing(watched):
    assert fetch(watched, method="HEAD").status == 200
    assert seen() == {}


def test_fetches_within_an_hour_write_once(watched):
    watched.now = watched.now.replace(minute=10)
    fetch(watched)
    before = seen()

    with CaptureQueriesContext(
        connection,
    ) as queries:
        for _ in range(20):
            fetch(watched.later(minutes=1))

    assert [query["sql"] for query in queries if "keysighting" in query["sql"]] == []
    assert seen() == before
    fetch(watched.later(minutes=40))
    assert set(seen().values()) == {watched.now}


def test_another_worker_within_the_hour_changes_nothing(watched):
    watched.now = watched.now.replace(minute=10)
    fetch(watched)
    before = seen()
    sightings._noted.clear()  # as a worker that has seen nothing yet

    fetch(watched.later(minutes=5))

    assert seen() == before


def test_new_key_is_noted_at_once_though_the_hour_is_not_over(watched):
    fetch(watched)
    made = keyring.begin_rotation("RS256", watched.now, ACTOR)
    assert made is not None

    fetch(watched)

    assert made.kid in seen()


def test_note_never_fails_and_forgets_what_is_too_much(watched, monkeypatch):
    monkeypatch.setattr(sightings, "REMEMBERED_MAX", 5)
    for number in range(sightings.PENDING_MAX + 10):
        sightings.note(sightings.KeysFetched(number, frozenset()), watched.now)

    assert len(sightings._noted) <= 6
    assert len(sightings._pending) == sightings.PENDING_MAX
    sightings._pending.clear()


def test_sighting_of_a_client_and_a_key_that_are_gone_is_dropped(watched):
    sightings.note(sightings.KeysFetched(999_999, frozenset({"gone"})), watched.now)
    sightings.write_pending()

    assert not KeySighting.objects.exists()


def test_sightings_of_withdrawn_keys_are_purged(watched):
    fetch(watched)
    (following,) = [key for key in keyring.facts() if key.status is Status.NEXT]
    keyring.retire(following.kid, watched.now, ACTOR)

    purge(watched.now)

    assert following.kid not in seen()
    assert len(seen()) == len(jose.ALGORITHMS)


# -- what it decides ----------------------------------------------------------------------------------------


def test_planned_rotation_waits_for_the_critical_application_and_for_nobody_else(watched):
    late = watched.now + timedelta(days=9)
    assert keyring.tend(sightings.readers(), late, ACTOR) == 0
    (waiting,) = [key for key in build_report(late).keys if key.status == "next"]
    assert waiting.waits_for == ("careful",)

    fetch(watched, "careful")

    assert keyring.tend(sightings.readers(), late, ACTOR) == 1
    assert SigningKey.objects.get(kid=waiting.kid).status == Status.ACTIVE


def test_fetch_before_the_next_key_does_not_count(watched):
    KeySighting.objects.all().delete()
    fetch(watched, "careful")
    made = keyring.begin_rotation("RS256", watched.now, ACTOR)
    assert made is not None

    assert keyring.tend(sightings.readers(), watched.now + timedelta(days=2), ACTOR) == 1
    assert SigningKey.objects.get(kid=made.kid).status == Status.NEXT


def test_waiting_is_said_once_a_day(watched, caplog):
    late = watched.now.replace(hour=1) + timedelta(days=3)
    keyring._warned.clear()
    for minutes in range(5):
        keyring.tend(sightings.readers(), late + timedelta(minutes=minutes), ACTOR)

    assert [
        record.message for record in caplog.records if "waits for careful" in record.message
    ].__len__() == 1


def test_critical_application_that_is_switched_off_is_not_waited_for(watched):
    careful = {**OWN, "client_id": "careful", "rotation_critical": True, "enabled": False}
    apply_all([careful], watched.now, ACTOR)

    assert keyring.tend(sightings.readers(), watched.now + timedelta(days=2), ACTOR) == 1


def test_emergency_never_waits_and_the_report_says_who_fails_until_it_fetches(watched):
    fetch(watched, "careful")
    for algorithm in jose.ALGORITHMS:
        keyring.rotate_at_once(algorithm, keyring.Withdrawal.NOW, watched.now, ACTOR)

    report = {line.client_id: line for line in build_report(watched.now).readers}

    assert set(report["careful"].lacks_active) == set(jose.ALGORITHMS)
    fetch(watched, "careful")
    report = {line.client_id: line for line in build_report(watched.now).readers}
    assert report["careful"].lacks_active == ()
    assert set(report["own"].lacks_active) == set(jose.ALGORITHMS)


def test_report_counts_the_others_as_unknown(watched):
    report = build_report(watched.now)

    assert [line.client_id for line in report.readers] == ["careful", "own"]
    assert report.unknown == len(CLIENTS)


# -- registration -------------------------------------------------------------------------------------------


def test_only_a_client_with_an_address_of_its_own_can_be_critical(world):
    with pytest.raises(MetadataError, match="rotation_critical needs dedicated_jwks"):
        apply_all([{**OWN, "dedicated_jwks": False, "rotation_critical": True}], world.now, ACTOR)

    assert not Client.objects.filter(client_id="own").exists()


@pytest.mark.parametrize("value", ["yes", 1, None, [], {}])
@pytest.mark.parametrize("name", ["dedicated_jwks", "rotation_critical"])
def test_options_of_another_type_are_refused(world, name, value):
    with pytest.raises(MetadataError, match=name):
        apply_all([{**OWN, name: value}], world.now, ACTOR)


def test_registered_options_are_shown_again(world):
    apply_all([{**OWN, "rotation_critical": True}], world.now, ACTOR)

    options = Client.objects.get(client_id="own").options
    assert (options["dedicated_jwks"], options["rotation_critical"]) == (True, True)


def test_first_key_of_an_algorithm_is_the_one_that_signs_now(watched):
    """A careless library takes the first that fits."""
    keys = json.loads(fetch(watched).body)["keys"]

    first = next(key["kid"] for key in keys if key["alg"] == "ES256")

    assert SigningKey.objects.get(kid=first).status == Status.ACTIVE
