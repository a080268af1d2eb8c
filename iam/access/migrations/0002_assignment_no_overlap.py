"""Assignments of one (person, role, office, subtree, source) cannot overlap in time.

Half-open intervals: one may begin at the instant at which another ends. An empty one (revoked before it began)
overlaps nothing. PostgreSQL says it with an exclusion constraint, SQLite with triggers of the same name and meaning.
"""

from django.db import migrations

POSTGRESQL = [
    "CREATE EXTENSION IF NOT EXISTS btree_gist",
    """
    ALTER TABLE access_assignment ADD CONSTRAINT assignment_no_overlap EXCLUDE USING gist (
        person_id WITH =, role_id WITH =, office_id WITH =, (subtree::int) WITH =, source WITH =,
        tstzrange(valid_from, valid_until) WITH &&
    )
    """,
]

SQLITE_CONDITION = """
    WHEN (NEW.valid_until IS NULL OR NEW.valid_until > NEW.valid_from) AND EXISTS (
        SELECT 1 FROM access_assignment a
        WHERE a.id IS NOT NEW.id AND a.person_id = NEW.person_id AND a.role_id = NEW.role_id
          AND a.office_id = NEW.office_id AND a.subtree = NEW.subtree AND a.source = NEW.source
          AND (a.valid_until IS NULL OR a.valid_until > a.valid_from)
          AND (a.valid_until IS NULL OR a.valid_until > NEW.valid_from)
          AND (NEW.valid_until IS NULL OR a.valid_from < NEW.valid_until)
    )
    BEGIN SELECT RAISE(ABORT, 'assignment_no_overlap'); END
"""

SQLITE = [
    f"CREATE TRIGGER assignment_no_overlap_insert BEFORE INSERT ON access_assignment {SQLITE_CONDITION}",
    f"CREATE TRIGGER assignment_no_overlap_update BEFORE UPDATE ON access_assignment {SQLITE_CONDITION}",
]


def create(apps, schema_editor):
    for statement in POSTGRESQL if schema_editor.connection.vendor == "postgresql" else SQLITE:
        schema_editor.execute(statement)


def drop(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE access_assignment DROP CONSTRAINT assignment_no_overlap")
        return
    schema_editor.execute("DROP TRIGGER assignment_no_overlap_insert")
    schema_editor.execute("DROP TRIGGER assignment_no_overlap_update")


class Migration(migrations.Migration):
    dependencies = [("access", "0001_initial")]
    operations = [migrations.RunPython(create, drop)]
