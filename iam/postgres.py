"""Run prepared statements of PostgreSQL on libpq itself, below the driver's cursors.

A cursor of psycopg costs three times the processor time of the statement's own round trip: it adapts each value by
a table of classes, waits in Python, and reads texts. Here a statement is prepared once a connection, with the types
of its values; results come in binary, and types that this file does not know make the statement an ordinary one.
Nothing else about the connection changes: it is Django's, in Django's transaction.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import psycopg
from psycopg import errors
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus

Connection = psycopg.Connection[Any]  # Any: rows of any shape
Loader = Callable[[bytes], Any]  # Any: what a column holds

# More texts than the code holds. Were there ever more, all would be prepared anew rather than kept without end.
STATEMENTS_MAX = 400

# Plans of a connection are made anew after so many seconds, then after twice as many, and so on up to the most.
PLANS_KEPT_FIRST = 0.5
PLANS_KEPT_MAX = 300.0

_NAMED = re.compile(r"%\((\w+)\)s|%%")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TEXT, _BINARY = 0, 1
_DONE, _ROWS = ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK
# A statement that was prepared and is no longer what it was: dropped by somebody, or its columns changed.
_STALE = frozenset({"26000", "0A000"})


def _whole(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


def _time(value: bytes) -> datetime:
    return _EPOCH + timedelta(microseconds=int.from_bytes(value, "big", signed=True))


def _text(value: bytes) -> str:
    return value.decode()


# By the number that PostgreSQL gives a type (pg_type.dat). JSON stays text: `as_json` reads it.
_LOADERS: dict[int, Loader] = {
    16: lambda value: value == b"\x01",  # bool
    17: bytes,  # bytea
    20: _whole,  # int8
    21: _whole,  # int2
    23: _whole,  # int4
    25: _text,  # text
    114: _text,  # json
    1043: _text,  # varchar
    1184: _time,  # timestamptz
    2950: lambda value: UUID(bytes=value),  # uuid
    3802: lambda value: value[1:].decode(),  # jsonb: the first byte is its version
}


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A statement as one connection knows it."""

    name: bytes
    order: tuple[str, ...]
    loaders: tuple[Loader, ...] | None  # None: the driver's own cursor has to run it


def run(
    raw: Connection, sql: str, values: Mapping[str, Any], same: int = 0
) -> tuple[int, list[Sequence[Any]]]:
    """Run a statement; return how many rows were touched or found, and those that come back.

    In: the first `same` columns are read once, because every row repeats them.
    Raises: psycopg.Error. Values are str, int, bool, bytes, UUID, aware datetime, or None.
    """
    text, order = _numbered(sql)
    dumped = [_dump(values[name]) for name in order]
    known = _prepared(raw, text, order, tuple(kind for kind, _, _ in dumped))
    if known.loaders is None:
        cursor = psycopg.Cursor(raw).execute(sql, values)
        return cursor.rowcount, cursor.fetchall() if cursor.description else []
    _begin_if_due(raw)
    _plan_anew_if_due(raw)
    result = raw.pgconn.exec_prepared(
        known.name, [value for _, value, _ in dumped], [form for _, _, form in dumped], _BINARY
    )
    status = result.status
    if status == _ROWS:
        loaders, read = known.loaders, result.get_value
        found: list[Any] = []
        for row in range(result.ntuples):
            cells: list[Any] = found[0][:same] if found else []
            for column in range(len(cells), len(loaders)):
                cell = read(row, column)
                cells.append(None if cell is None else loaders[column](cell))
            found.append(cells)
        return len(found), found
    if status == _DONE:
        return result.command_tuples or 0, []
    raise _problem(raw, result)


def _dump(value: Any) -> tuple[int, Any, int]:  # Any: as `run` says
    """Return a value's type (0: as the statement needs it), its bytes, and whether they are binary."""
    if value is None:
        return 0, None, _TEXT
    kind = type(value)
    if kind is str:
        if "\0" in value:
            raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return 0, value.encode(), _TEXT
    if kind is UUID:
        return 2950, value.bytes, _BINARY
    if kind is datetime:
        return 1184, ((value - _EPOCH) // _MICROSECOND).to_bytes(8, "big", signed=True), _BINARY
    if kind is int:
        if -0x80000000 <= value < 0x80000000:
            return 23, value.to_bytes(4, "big", signed=True), _BINARY
        return 20, value.to_bytes(8, "big", signed=True), _BINARY
    if kind is bool:
        return 16, b"\x01" if value else b"\x00", _BINARY
    if kind is bytes:
        return 17, value, _BINARY
    if isinstance(value, str):  # an enumeration's member
        return _dump(str.__str__(value))
    raise TypeError(f"a statement's value cannot be a {kind.__name__}")


@lru_cache(maxsize=STATEMENTS_MAX)
def _numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    """Return a statement with numbers for names, and the names in their order."""
    names: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"${names.setdefault(name, len(names) + 1)}" if name else "%"

    return _NAMED.sub(number, sql), tuple(names)


def _prepared(raw: Connection, text: str, order: tuple[str, ...], kinds: tuple[int, ...]) -> _Prepared:
    """Return the statement as this connection knows it; the first time it is prepared."""
    known: dict[tuple[str, tuple[int, ...]], _Prepared] = raw.__dict__.setdefault("_iam_prepared", {})
    found = known.get((text, kinds))
    if found is None:
        if len(known) >= STATEMENTS_MAX:
            raw.execute("DEALLOCATE ALL")
            known.clear()
        _begin_if_due(raw)
        raw.__dict__["_iam_number"] = number = raw.__dict__.get("_iam_number", 0) + 1
        name = b"iam_%d" % number
        _require(raw, raw.pgconn.prepare(name, text.encode(), kinds))
        told = _require(raw, raw.pgconn.describe_prepared(name))
        loaders = [_LOADERS.get(told.ftype(column)) for column in range(told.nfields)]
        ordinary = any(loader is None for loader in loaders)
        found = _Prepared(name, order, None if ordinary else tuple(filter(None, loaders)))
        known[text, kinds] = found
    return found


def _require(raw: Connection, result: Any) -> Any:  # Any: libpq's result
    if result.status != _DONE:
        raise _problem(raw, result)
    return result


def _problem(raw: Connection, result: Any) -> psycopg.Error:  # Any: as above
    """Return what the driver would raise; a statement that became stale is prepared anew the next time."""
    if raw.pgconn.status != ConnStatus.OK:
        return psycopg.OperationalError("the connection was lost")
    problem = errors.error_from_result(result, encoding="utf-8")
    if problem.sqlstate in _STALE:
        raw.__dict__.pop("_iam_prepared", None)
    return problem


def _plan_anew_if_due(raw: Connection) -> None:
    """Drop the plans now and then, seldom in the end: what was planned for an empty table reads a full one row by row.

    PostgreSQL does so itself when a table was analysed, which may be a minute after it began to grow.
    """
    now = time.monotonic()
    due, pause = raw.__dict__.get("_iam_plans", (now + PLANS_KEPT_FIRST, PLANS_KEPT_FIRST))
    if now >= due:
        _require(raw, raw.pgconn.exec_(b"DISCARD PLANS"))
        pause = min(2 * pause, PLANS_KEPT_MAX)
        due = now + pause
    raw.__dict__["_iam_plans"] = due, pause


def _begin_if_due(raw: Connection) -> None:
    """Begin the transaction that Django asked for; the driver does so before the first statement of its own."""
    if not raw.autocommit and raw.pgconn.transaction_status == TransactionStatus.IDLE:
        _require(raw, raw.pgconn.exec_(b"BEGIN"))
