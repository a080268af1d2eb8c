"""Events are written in the transaction of what they record, whole, and without secrets."""

import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.db import connection, transaction

from iam.audit.models import AuditDetail, AuditEvent, RefusalTally
from iam.audit.record import Event, Outcome, flush_tallies, record, tally
from iam.audit.selectors import DetailState, canonical_fields, recorded_events
from iam.audit.tags import Action
from tests.organisation import NOW

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


def event(**changes):
    fields = {
        "action": Action.SESSION_OPEN,
        "outcome": Outcome.SUCCESS,
        "actor": "person:x",
        "now": NOW,
        **changes,
    }
    return Event(**fields)


def test_event_is_stored_with_all_that_it_says():
    said = {
        "object": "client:web", "on_behalf_of": "person:y", "reason": "r", "method": "otp", "application": "mail",
        "office": "NIM", "session": "s-1", "request_id": "q-1",
    }  # fmt: skip

    event_id = record(event(**said))

    row = AuditEvent.objects.get(id=event_id)
    assert {name: getattr(row, name) for name in said} == said
    assert (row.actor, row.action, row.outcome) == ("person:x", "person:session:open", "success")
    assert (row.occurred_at, row.schema_version, row.commitment) == (NOW, 1, "")
    assert row.pk == (NOW, event_id)


def test_canonical_bytes_say_what_the_columns_say():
    event_id = record(
        event(object="person:é", details={"address": "192.0.2.1"}, now=NOW + timedelta(microseconds=7))
    )

    row = AuditEvent.objects.get(id=event_id)
    fields = canonical_fields(row)
    columns = {
        field.name
        for field in AuditEvent._meta.concrete_fields
        if field.name not in {"pk", "sequence", "canonical"}
    }
    assert set(fields) == columns
    assert fields["occurred_at"] == "2026-11-25T10:00:00.000007+00:00"
    assert fields["id"] == str(event_id)
    assert all(fields[name] == getattr(row, name) for name in columns - {"occurred_at", "id"})
    assert (
        bytes(row.canonical)
        == json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )


def test_details_stand_beside_the_event_under_its_commitment():
    event_id = record(event(details={"name": "أمينة", "address": "192.0.2.1", "empty": ""}))

    row, detail = AuditEvent.objects.get(id=event_id), AuditDetail.objects.get(event_id=event_id)
    assert detail.details == {"name": "أمينة", "address": "192.0.2.1"}
    text = '{"address":"192.0.2.1","name":"أمينة"}'.encode()
    assert row.commitment == hmac.new(bytes(detail.salt), text, hashlib.sha256).hexdigest()
    assert b"192.0.2.1" not in bytes(row.canonical)
    assert len(bytes(detail.salt)) == 16


def test_event_without_details_costs_one_statement(django_assert_num_queries):
    with django_assert_num_queries(1):
        record(event())


def test_event_with_details_costs_two_statements_and_one_on_postgresql(django_assert_num_queries):
    with django_assert_num_queries(1 if connection.vendor == "postgresql" else 2):
        record(event(details={"address": "192.0.2.1"}))


def test_sequence_follows_the_order_of_writing_whatever_the_clock_says():
    first, second = record(event()), record(event(now=NOW - timedelta(hours=1)))

    rows = {row.id: row.sequence for row in AuditEvent.objects.filter(id__in=[first, second])}
    assert rows[first] < rows[second]


def test_time_of_another_zone_is_stored_in_utc():
    kabul = timezone(timedelta(hours=4, minutes=30))

    event_id = record(event(now=NOW.astimezone(kabul)))

    row = AuditEvent.objects.get(id=event_id)
    assert row.occurred_at == NOW
    assert canonical_fields(row)["occurred_at"].endswith("+00:00")


@pytest.mark.parametrize(
    "name",
    ["password", "code", "totp_code", "token", "refresh_token", "client_secret", "Cookie", "private_key"],
)
def test_detail_named_like_a_secret_is_refused(name):
    before = AuditEvent.objects.count()

    with pytest.raises(ValueError, match="secret"):
        record(event(details={name: "x"}))

    assert AuditEvent.objects.count() == before


@pytest.mark.parametrize(
    "text", ["a\r\n#9 operator:root", "\x1b[2J", "\u2028x", "\u202egnp", "\x00", "\ud800", "x" * 5000]
)
def test_text_from_outside_cannot_break_out_of_its_field(text):
    event_id = record(event(actor=text, object=text, reason=text, method=text, session=text, request_id=text,
                            details={"name": text}))  # fmt: skip

    row, detail = AuditEvent.objects.get(id=event_id), AuditDetail.objects.get(event_id=event_id)
    for stored in (
        row.actor,
        row.object,
        row.reason,
        row.method,
        row.session,
        row.request_id,
        detail.details["name"],
    ):
        assert stored.isprintable()
    assert canonical_fields(row)["actor"] == row.actor


def test_event_of_a_transaction_that_is_undone_is_undone():
    before = AuditEvent.objects.count()

    with transaction.atomic():
        record(event(details={"address": "192.0.2.1"}))
        transaction.set_rollback(True)

    assert AuditEvent.objects.count() == before
    assert not AuditDetail.objects.exists()


def in_another_thread(work):
    """Call something where no transaction is open: on the connection of another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_event_outside_a_transaction_is_refused():
    with pytest.raises(RuntimeError, match="transaction"):
        in_another_thread(lambda: record(event()))


# -- refusals of somebody unknown -------------------------------------------------------------------------


def tallied():
    return list(RefusalTally.objects.order_by("pk").values_list("source", "client", "reason", "count"))


def test_tally_counts_one_line_a_minute_source_client_and_reason():
    for _ in range(3):
        tally("192.0.2.1", "web", "invalid_client", NOW)
    tally("192.0.2.1", "web", "invalid_client", NOW + timedelta(seconds=59))
    tally("192.0.2.2", "web", "invalid_client", NOW)
    tally("192.0.2.1", "", "invalid_client", NOW)
    tally("192.0.2.1", "web", "invalid_request", NOW)
    tally("192.0.2.1", "web", "invalid_client", NOW + MINUTE)

    assert [row[3] for row in tallied()] == [4, 1, 1, 1, 1]


def test_tally_costs_one_statement(django_assert_num_queries):
    with django_assert_num_queries(1):
        tally("192.0.2.1", "web", "invalid_client", NOW)


def test_tally_of_hostile_text_is_neutral_and_bounded():
    tally("x" * 500, "web\n" * 500, "bad\x00\ud800" * 50, NOW)

    ((source, client, reason, _),) = tallied()
    assert (len(source), len(client), len(reason)) == (64, 128, 80)
    assert client.isprintable()
    assert reason.isprintable()


def test_flush_leaves_the_minute_that_still_runs():
    tally("192.0.2.1", "web", "invalid_client", NOW)

    assert flush_tallies(NOW + timedelta(seconds=59)) == 0
    assert len(tallied()) == 1


def test_flush_writes_each_count_once():
    for _ in range(5):
        tally("192.0.2.1", "web", "invalid_client", NOW)

    assert flush_tallies(NOW + MINUTE) == 1
    assert flush_tallies(NOW + MINUTE) == 0

    assert tallied() == []
    (row,) = AuditEvent.objects.filter(action=Action.ANONYMOUS_REFUSE)
    assert (row.actor, row.object, row.reason, row.method) == (
        "anonymous",
        "client:web",
        "invalid_client",
        "count=5",
    )
    assert AuditDetail.objects.get(event_id=row.id).details["address"] == "192.0.2.1"


def test_flush_that_is_undone_keeps_the_counts():
    tally("192.0.2.1", "web", "invalid_client", NOW)

    with transaction.atomic():
        flush_tallies(NOW + MINUTE)
        transaction.set_rollback(True)

    assert len(tallied()) == 1
    assert not AuditEvent.objects.filter(action=Action.ANONYMOUS_REFUSE).exists()


def test_flush_outside_a_transaction_is_refused():
    """A count could be deleted there without its event."""
    with pytest.raises(RuntimeError, match="transaction"):
        in_another_thread(lambda: flush_tallies(NOW + MINUTE))


# -- reading ----------------------------------------------------------------------------------------------


def test_events_are_found_by_whom_they_are_about():
    did = record(event(actor="person:me"))
    suffered = record(event(actor="operator:root", object="person:me"))
    record(event(actor="person:other"))

    assert [one.id for one in recorded_events(about=["person:me"])] == [did, suffered]


def test_events_are_found_by_actor_action_and_time():
    record(event(now=NOW - timedelta(days=1)))
    record(event(action=Action.SESSION_END))
    record(event(actor="person:xy"))
    wanted = record(event())

    found = recorded_events(actor="person:x", action="person:session:o", since=NOW)

    assert [one.id for one in found] == [wanted]


def test_events_are_the_newest_in_the_order_of_their_writing_and_can_be_paged():
    ids = [record(event()) for _ in range(5)]

    last = recorded_events(limit=2)
    earlier = recorded_events(limit=2, before=last[0].sequence)

    assert [one.id for one in earlier + last] == ids[1:]


def test_details_that_were_erased_or_altered_are_named():
    none, whole, erased, altered = (
        record(event(details=details)) for details in ({}, *[{"address": "192.0.2.1"}] * 3)
    )
    AuditDetail.objects.filter(event_id=erased).delete()
    AuditDetail.objects.filter(event_id=altered).update(details={"address": "192.0.2.2"})

    states = {one.id: one.detail_state for one in recorded_events()}

    assert states == {
        none: DetailState.NONE,
        whole: DetailState.WHOLE,
        erased: DetailState.ERASED,
        altered: DetailState.ALTERED,
    }


def test_now_is_taken_as_given():
    at = datetime(2031, 1, 1, tzinfo=UTC)

    assert AuditEvent.objects.get(id=record(event(now=at))).occurred_at == at
