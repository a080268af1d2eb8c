"""Run a plain statement on this thread's connection, on the driver itself.

For what stands in the way of every token: through Django's cursor the same statement costs twice the processor
time, because it is put together anew and parsed by the database each time. Here it is prepared once a connection.
One text serves PostgreSQL and SQLite: parameters are written `%(name)s`; times go in and come out aware and UTC
(`as_time`), identifiers as UUID (`as_uuid`), JSON as its value (`as_json`). Statements take part in Django's
transaction of this thread; errors are Django's.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection

Row = Sequence[Any]  # Any: what columns hold
Values = Mapping[str, Any]

_NAMED = re.compile(r"%\((\w+)\)s")


def execute(sql: str, values: Values) -> int:
    """Run a write; return how many rows it touched."""
    return int(_run(sql, values).rowcount)


def one(sql: str, values: Values) -> Row | None:
    """Run a statement; return its first row."""
    row: Row | None = _run(sql, values).fetchone()
    return row


def rows(sql: str, values: Values) -> list[Row]:
    """Run a statement; return every row."""
    found: list[Row] = _run(sql, values).fetchall()
    return found


def _run(sql: str, values: Values) -> Any:  # Any: a driver's cursor
    wrapper = connection
    wrapper.ensure_connection()
    if wrapper.in_atomic_block:
        wrapper.validate_no_broken_transaction()
    if wrapper.queries_logged:  # what a test counts
        wrapper.queries_log.append({"sql": sql, "time": ""})
    raw = wrapper.connection
    with wrapper.wrap_database_errors:
        if wrapper.vendor == "sqlite":
            return raw.execute(_for_sqlite(sql), {name: bind(value) for name, value in values.items()})
        # Not Django's cursor, which writes values into the text: the server would plan each statement anew.
        return psycopg.Cursor(raw).execute(sql, values, prepare=True)


@lru_cache(maxsize=512)
def _for_sqlite(sql: str) -> str:
    return _NAMED.sub(r":\1", sql).replace("%%", "%")


# -- what the two databases spell differently -----------------------------------------------------------------


def bind(value: Any) -> Any:  # Any: what a column holds
    """Write a value as Django's fields do: SQLite has neither a UUID nor a time of its own."""
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, datetime):
        return str(value.astimezone(UTC).replace(tzinfo=None))
    return value


def as_time(value: datetime | str) -> datetime:
    """Read a time back; SQLite gives text, or a time without its zone."""
    read = datetime.fromisoformat(value) if isinstance(value, str) else value
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read


def as_uuid(value: UUID | str) -> UUID:
    """Read a UUID back."""
    return value if isinstance(value, UUID) else UUID(value)


def as_json(value: Any) -> Any:  # Any: JSON, decoded already by one of the two drivers
    """Read JSON back."""
    return json.loads(value) if isinstance(value, str) else value


def for_share(alias: str) -> str:
    """Return what locks a row of a SELECT against its change until the commit; SQLite has one writer at a time."""
    return f"FOR SHARE OF {alias}" if connection.vendor == "postgresql" else ""
