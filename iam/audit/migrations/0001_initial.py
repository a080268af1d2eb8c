"""The audit's tables, and the guards that keep events from being changed.

The event table is written by hand: its key begins with the time (so that it can be partitioned), its sequence
is the database's, and Django's schema editor can express neither on both databases.
"""

from django.db import migrations, models

COLUMNS = """
    actor varchar(160) NOT NULL,
    on_behalf_of varchar(160) NOT NULL,
    action varchar(64) NOT NULL,
    object varchar(300) NOT NULL,
    outcome varchar(16) NOT NULL,
    reason varchar(80) NOT NULL,
    method varchar(300) NOT NULL,
    application varchar(64) NOT NULL,
    office varchar(64) NOT NULL,
    session varchar(64) NOT NULL,
    request_id varchar(64) NOT NULL,
    schema_version smallint NOT NULL,
    commitment varchar(64) NOT NULL
"""

POSTGRESQL = [
    "CREATE SEQUENCE audit_event_sequence",
    f"""
    CREATE TABLE audit_auditevent (
        occurred_at timestamptz NOT NULL,
        id uuid NOT NULL,
        sequence bigint NOT NULL DEFAULT nextval('audit_event_sequence'),
        {COLUMNS},
        canonical bytea NOT NULL,
        PRIMARY KEY (occurred_at, id)
    )
    """,
    "ALTER SEQUENCE audit_event_sequence OWNED BY audit_auditevent.sequence",
    "CREATE INDEX audit_event_by_sequence ON audit_auditevent (sequence)",
    "CREATE INDEX audit_event_by_object ON audit_auditevent (object, sequence)",
    "CREATE INDEX audit_event_by_actor ON audit_auditevent (actor, sequence)",
    """
    CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'audit events cannot be changed (%)', TG_OP USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    """
    CREATE TRIGGER audit_event_no_change BEFORE UPDATE OR DELETE ON audit_auditevent
    FOR EACH ROW EXECUTE FUNCTION audit_refuse_change()
    """,
    """
    CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON audit_auditevent
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change()
    """,
]

SQLITE = [
    f"""
    CREATE TABLE audit_auditevent (
        occurred_at datetime NOT NULL,
        id char(32) NOT NULL,
        sequence integer PRIMARY KEY AUTOINCREMENT,
        {COLUMNS},
        canonical blob NOT NULL,
        UNIQUE (occurred_at, id)
    )
    """,
    "CREATE INDEX audit_event_by_object ON audit_auditevent (object, sequence)",
    "CREATE INDEX audit_event_by_actor ON audit_auditevent (actor, sequence)",
    """
    CREATE TRIGGER audit_event_no_update BEFORE UPDATE ON audit_auditevent
    BEGIN SELECT RAISE(ABORT, 'audit events cannot be changed (UPDATE)'); END
    """,
    """
    CREATE TRIGGER audit_event_no_delete BEFORE DELETE ON audit_auditevent
    BEGIN SELECT RAISE(ABORT, 'audit events cannot be changed (DELETE)'); END
    """,
    # INSERT OR REPLACE deletes without firing a delete trigger: refuse it before it looks for what to replace.
    """
    CREATE TRIGGER audit_event_no_replace BEFORE INSERT ON audit_auditevent
    WHEN EXISTS (SELECT 1 FROM audit_auditevent e WHERE e.sequence = NEW.sequence
                 OR (e.occurred_at = NEW.occurred_at AND e.id = NEW.id))
    BEGIN SELECT RAISE(ABORT, 'audit events cannot be changed (REPLACE)'); END
    """,
]


def create(apps, schema_editor):
    for statement in POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE:
        schema_editor.execute(statement, params=None)  # a bare % is SQL here, no placeholder


def drop(apps, schema_editor):
    schema_editor.execute("DROP TABLE audit_auditevent")
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP FUNCTION audit_refuse_change()")


class Migration(migrations.Migration):
    initial = True
    dependencies = []

    operations = [
        migrations.CreateModel(
            name="AuditEvent",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "occurred_at", "id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("occurred_at", models.DateTimeField()),
                ("id", models.UUIDField()),
                ("sequence", models.BigIntegerField(unique=True)),
                ("actor", models.CharField(max_length=160)),
                ("on_behalf_of", models.CharField(blank=True, max_length=160)),
                ("action", models.CharField(max_length=64)),
                ("object", models.CharField(blank=True, max_length=300)),
                ("outcome", models.CharField(max_length=16)),
                ("reason", models.CharField(blank=True, max_length=80)),
                ("method", models.CharField(blank=True, max_length=300)),
                ("application", models.CharField(blank=True, max_length=64)),
                ("office", models.CharField(blank=True, max_length=64)),
                ("session", models.CharField(blank=True, max_length=64)),
                ("request_id", models.CharField(blank=True, max_length=64)),
                ("schema_version", models.PositiveSmallIntegerField()),
                ("commitment", models.CharField(blank=True, max_length=64)),
                ("canonical", models.BinaryField()),
            ],
            options={"db_table": "audit_auditevent", "managed": False},
        ),
        migrations.RunPython(create, drop),
        migrations.CreateModel(
            name="AuditDetail",
            fields=[
                ("event_id", models.UUIDField(primary_key=True, serialize=False)),
                ("occurred_at", models.DateTimeField()),
                ("salt", models.BinaryField()),
                ("details", models.JSONField()),
            ],
            options={"indexes": [models.Index(fields=["occurred_at"], name="audit_detail_by_time")]},
        ),
        migrations.CreateModel(
            name="RefusalTally",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("minute", models.DateTimeField()),
                ("source", models.CharField(max_length=64)),
                ("client", models.CharField(blank=True, max_length=128)),
                ("reason", models.CharField(max_length=80)),
                ("count", models.PositiveIntegerField(default=1)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("minute", "source", "client", "reason"), name="refusal_tally_once"
                    )
                ]
            },
        ),
    ]
