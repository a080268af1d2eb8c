"""What the runtime role of PostgreSQL may do, given anew after every migration.

The owner migrates; the service runs as a role without DDL, and without UPDATE, DELETE or TRUNCATE on the
audit. Nothing here when IAM_DATABASE_RUNTIME_ROLE is empty or the database is SQLite.
"""

from typing import Any

from django.conf import settings
from django.db import connections, transaction

# The service adds to these and reads them; retention is the owner's work.
APPEND_ONLY = ("audit_auditevent", "audit_auditdetail")
READ_ONLY = ("django_migrations",)


def apply_grants(using: str = "default", **kwargs: Any) -> None:  # Any: a signal's arguments
    """Give the runtime role its rights. Idempotent."""
    role, connection = settings.IAM_DATABASE_RUNTIME_ROLE, connections[using]
    if not role or connection.vendor != "postgresql":
        return
    name = connection.ops.quote_name
    to = name(role)
    # One transaction: the audit is never open to change in between.
    with transaction.atomic(using=using), connection.cursor() as cursor:
        cursor.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        cursor.execute(f"GRANT USAGE ON SCHEMA public TO {to}")
        cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {to}")
        cursor.execute(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {to}")
        tables = set(connection.introspection.table_names(cursor))
        for table in [table for table in APPEND_ONLY if table in tables]:
            cursor.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON {name(table)} FROM {to}")
        for table in [table for table in READ_ONLY if table in tables]:
            cursor.execute(f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {name(table)} FROM {to}")
