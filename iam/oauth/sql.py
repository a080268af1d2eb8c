"""Plain SQL on Django's connection of this thread, the same text for PostgreSQL and SQLite.

Here is what the two spell differently, and the two conditions under which alone anything is issued.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection

# For `.format(session=…)`: an SQL expression of the session's id. Another condition may follow it.
LIVE_SESSION = """
    SELECT 1 FROM accounts_loginsession s JOIN accounts_user u ON u.id = s.user_id
    WHERE s.id = {session} AND s.ended_at IS NULL AND s.expires_at > %(now)s AND u.is_active
"""
ENABLED_CLIENT = "SELECT 1 FROM oauth_client c WHERE c.id = %(client)s AND c.enabled"


def bind(value: Any) -> Any:  # Any: what a column holds
    """Write a value as Django's fields do: SQLite has neither a UUID nor a time of its own."""
    if connection.vendor == "sqlite":
        if isinstance(value, UUID):
            return value.hex
        if isinstance(value, datetime):
            return str(value.astimezone(UTC).replace(tzinfo=None))
    return value


def hold() -> str:
    """Lock the session's row against its end; only the row, so that no order of locks can close a circle.

    PostgreSQL lets others commit between two statements of one transaction, and even between a statement's
    snapshot and its end. SQLite has one writer at a time.
    """
    return "FOR SHARE OF s" if connection.vendor == "postgresql" else ""


def _bound(values: Mapping[str, Any] | Sequence[Any]) -> Any:
    if isinstance(values, Mapping):
        return {name: bind(value) for name, value in values.items()}
    return [bind(value) for value in values]


def execute(sql: str, values: Mapping[str, Any]) -> int:
    """Run a statement; return how many rows it wrote."""
    with connection.cursor() as cursor:
        cursor.execute(sql, _bound(values))
        return int(cursor.rowcount)


def one(sql: str, values: Mapping[str, Any] | Sequence[Any]) -> Sequence[Any] | None:
    """Run a statement; return its first row, None when there is none."""
    with connection.cursor() as cursor:
        cursor.execute(sql, _bound(values))
        return cursor.fetchone()


def as_uuid(value: Any) -> UUID:  # Any: a UUID on PostgreSQL, 32 digits on SQLite
    """Read an identifier."""
    return value if isinstance(value, UUID) else UUID(hex=value)


def as_json(value: Any) -> Any:  # Any: text from both, unless a loader was registered; JSON
    """Read a JSON column."""
    return json.loads(value) if isinstance(value, str) else value


def as_time(value: Any) -> datetime:  # Any: aware from PostgreSQL, naive UTC or text from SQLite
    """Read a time; aware and UTC."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
