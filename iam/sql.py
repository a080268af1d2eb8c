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

from django.db import connection, connections, transaction

from iam import postgres

Row = Sequence[Any]  # Any: what columns hold
Values = Mapping[str, Any]

_NAMED = re.compile(r"%\((\w+)\)s")


def execute(sql: str, values: Values) -> int:
    """Run a write; return how many rows it touched."""
    return _run(sql, values)[0]


def one(sql: str, values: Values) -> Row | None:
    """Run a statement; return its first row."""
    found = _run(sql, values)[1]
    return found[0] if found else None


def rows(sql: str, values: Values, same: int = 0) -> list[Row]:
    """Run a statement; return every row. In: so many columns at the beginning are the same in each row."""
    return _run(sql, values, same)[1]


def write(decisive: str, following: Sequence[str], values: Values) -> bool:
    """Run a conditional write, and if it touched a row what follows from it: all of it or nothing, nobody in between.

    In: `decisive` gives a row back when it succeeds (RETURNING, or a SELECT that locks); each of `following` is an
    `INSERT … SELECT …` that ends in WON, or has it before its ON CONFLICT. Out: whether it succeeded.
    On PostgreSQL it is one statement, and outside a transaction its own; on SQLite it is a transaction of several.
    """
    wrapper = connections["default"]
    if wrapper.vendor == "sqlite":
        with transaction.atomic(savepoint=False):
            touched, found = _run(decisive, values)
            if found or touched > 0:
                for text in following:
                    _run(text.replace(WON, "WHERE 1 = 1"), values)
            return bool(found) or touched > 0
    return bool(_run(_in_one(decisive, tuple(following)), values)[1])


# Where an INSERT … SELECT that follows from another write says so.
WON = "{won}"


@lru_cache(maxsize=256)
def _in_one(decisive: str, following: tuple[str, ...]) -> str:
    parts = [f"won AS ({decisive})"]
    parts += [
        f"then_{number} AS ({text.replace(WON, 'FROM won WHERE 1 = 1')})"
        for number, text in enumerate(following)
    ]
    return f"WITH {', '.join(parts)} SELECT 1 FROM won"


def _run(sql: str, values: Values, same: int = 0) -> tuple[int, list[Row]]:
    """Return how many rows were touched or found, and those that come back."""
    wrapper = connections["default"]  # looked up once: `connection` looks it up at every attribute
    if wrapper.connection is None:
        wrapper.ensure_connection()
    if wrapper.in_atomic_block:
        wrapper.validate_no_broken_transaction()
    if wrapper.queries_logged:  # what a test counts
        wrapper.queries_log.append({"sql": sql, "time": ""})
    raw = wrapper.connection
    with wrapper.wrap_database_errors:
        if wrapper.vendor != "sqlite":
            return postgres.run(raw, sql, values, same)
        cursor = raw.execute(_for_sqlite(sql), {name: bind(value) for name, value in values.items()})
        found = cursor.fetchall()
        return cursor.rowcount, found


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
