"""What has happened cannot be changed: the database says so, whoever asks."""

import os

import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction

from iam.audit.models import AuditDetail, AuditEvent
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action
from tests.organisation import NOW

pytestmark = pytest.mark.django_db
on_postgresql = pytest.mark.skipif(
    "postgresql" not in os.environ.get("IAM_DATABASE_URL", ""), reason="PostgreSQL only"
)
on_sqlite = pytest.mark.skipif("postgresql" in os.environ.get("IAM_DATABASE_URL", ""), reason="SQLite only")


@pytest.fixture
def event():
    event_id = record(
        Event(
            Action.SESSION_OPEN, Outcome.SUCCESS, actor="person:x", now=NOW, details={"address": "192.0.2.1"}
        )
    )
    return AuditEvent.objects.get(id=event_id)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_auditevent SET actor = 'person:y'",
        "UPDATE audit_auditevent SET actor = actor",
        "DELETE FROM audit_auditevent",
        "INSERT INTO audit_auditevent SELECT * FROM audit_auditevent"
        " ON CONFLICT (occurred_at, id) DO UPDATE SET actor = 'person:y'",
    ],
    ids=["update", "update-to-the-same", "delete", "upsert"],
)
def test_event_when_a_statement_would_change_it_stays(event, statement):
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)

    assert AuditEvent.objects.get(id=event.id).actor == "person:x"


def test_event_when_the_models_would_change_it_stays(event):
    with pytest.raises(DatabaseError), transaction.atomic():
        AuditEvent.objects.filter(id=event.id).update(outcome="refused")
    with pytest.raises(DatabaseError), transaction.atomic():
        AuditEvent.objects.filter(id=event.id).delete()

    assert AuditEvent.objects.get(id=event.id).outcome == "success"


@on_sqlite
@pytest.mark.parametrize("same", ["sequence", "id"])
def test_event_when_a_replace_would_displace_it_stays(event, same):
    """REPLACE removes the row in its way without firing a delete trigger."""
    columns = "actor, on_behalf_of, action, object, outcome, reason, method, application, office, session, request_id, schema_version, commitment, canonical"
    key = "sequence, occurred_at, id" if same == "sequence" else "occurred_at, id"
    values = "sequence, '2020-01-01', 'other'" if same == "sequence" else "occurred_at, id"

    with (
        pytest.raises(DatabaseError, match="cannot be changed"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(
            f"INSERT OR REPLACE INTO audit_auditevent ({key}, {columns}) SELECT {values}, {columns} FROM audit_auditevent"
        )

    assert AuditEvent.objects.get(id=event.id).actor == "person:x"


@on_sqlite
def test_event_when_an_update_or_replace_would_change_it_stays(event):
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE OR REPLACE audit_auditevent SET reason = 'x'")

    assert AuditEvent.objects.get(id=event.id).reason == ""


@on_postgresql
def test_events_when_somebody_would_truncate_them_stay(event):
    with (
        pytest.raises(DatabaseError, match="cannot be changed"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("TRUNCATE audit_auditevent CASCADE")

    assert AuditEvent.objects.filter(id=event.id).exists()


def test_details_when_retention_erases_them_leave_the_event_whole(event):
    before = bytes(event.canonical)

    AuditDetail.objects.filter(event_id=event.id).delete()

    after = AuditEvent.objects.get(id=event.id)
    assert (bytes(after.canonical), after.commitment) == (before, event.commitment)


@pytest.fixture
def runtime():
    """A connection as the role under which the service runs."""
    import psycopg

    address = (
        os.environ["IAM_TEST_RUNTIME_URL"].rsplit("/", 1)[0] + "/" + str(connection.settings_dict["NAME"])
    )
    with psycopg.connect(address) as opened:
        yield opened
        opened.rollback()


@on_postgresql
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_auditevent SET actor = 'x'",
        "DELETE FROM audit_auditevent",
        "TRUNCATE audit_auditevent",
        "UPDATE audit_auditdetail SET details = '{}'",
        "DELETE FROM audit_auditdetail",
        "TRUNCATE access_assignment",
        "CREATE TABLE sneaky (x int)",
        "ALTER TABLE audit_auditevent DISABLE TRIGGER ALL",
        "ALTER TABLE access_assignment DROP CONSTRAINT assignment_no_overlap",
        "DROP TABLE audit_auditdetail",
        "INSERT INTO django_migrations (app, name, applied) VALUES ('a', 'b', now())",
        "DELETE FROM django_migrations",
        "SELECT setval('audit_event_sequence', 1)",
        "SET session_replication_role = replica",
    ],
)
def test_runtime_role_when_it_would_change_history_or_schema_is_refused(runtime, statement):
    import psycopg

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        runtime.execute(statement)


@on_postgresql
def test_runtime_role_may_do_its_work(runtime):
    runtime.execute("SELECT count(*) FROM audit_auditevent")
    runtime.execute(
        "INSERT INTO audit_auditevent (occurred_at, id, actor, on_behalf_of, action, object, outcome, reason, method,"
        " application, office, session, request_id, schema_version, commitment, canonical)"
        " VALUES (now(), gen_random_uuid(), '', '', '', '', '', '', '', '', '', '', '', 1, '', '')"
    )
    runtime.execute("INSERT INTO access_application (code, name_ar, name_fr, name_en, owner_contact, url, admits,"
                    " second_factor) VALUES ('a', '', '', '', '', '', 'roles', false)")  # fmt: skip
    runtime.execute("DELETE FROM access_application WHERE code = 'a'")
    runtime.execute("SELECT name FROM django_migrations")


@on_postgresql
def test_runtime_role_owns_nothing():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_tables WHERE tableowner = %s", [settings.IAM_DATABASE_RUNTIME_ROLE]
        )

        assert cursor.fetchone() == (0,)
