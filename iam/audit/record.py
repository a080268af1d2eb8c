"""Write events: `record` in the transaction of what happened, `tally` for refusals of somebody unknown.

An action without its event cannot commit, and an event without its action cannot either.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection

from iam import sql

from .tags import Action, Outcome

__all__ = [
    "Event", "Outcome", "Written", "flush_tallies", "record", "record_all", "record_alone", "tally", "written",
]  # fmt: skip

SCHEMA_VERSION = 1
# What a reader could take for the log's own structure: control characters, line separators, bidi controls,
# characters without width; and lone surrogates, which no database can store.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_SECRET_NAMES = re.compile(r"password|secret|code|token|cookie|credential|private", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `actor` is `person:SUB`, `client:ID`, `operator:NAME`, `system:NAME` or `anonymous`.

    `details` (address, names, free text) goes to the side table; never a secret.
    """

    action: Action
    outcome: Outcome
    actor: str
    now: datetime
    object: str = ""
    on_behalf_of: str = ""
    reason: str = ""
    method: str = ""
    application: str = ""
    office: str = ""
    session: str = ""
    request_id: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


def neutral(text: str, length: int) -> str:
    """Return text in which nothing can pass for a line, a control sequence or a change of direction (A64)."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)[:length]


# The names of values begin with `event_`: another write may have the event follow from it, in one statement with it.
_INSERT = (
    "INSERT INTO audit_auditevent (occurred_at, id, actor, on_behalf_of, action, object, outcome, reason, method,"
    " application, office, session, request_id, schema_version, commitment, canonical)"
    " SELECT %(event_now)s, %(event_id)s, %(event_actor)s, %(event_on_behalf_of)s, %(event_action)s, %(event_object)s,"
    " %(event_outcome)s, %(event_reason)s, %(event_method)s, %(event_application)s, %(event_office)s, %(event_session)s,"
    " %(event_request_id)s, %(event_schema_version)s, %(event_commitment)s, %(event_canonical)s " + sql.WON
)
_INSERT_DETAILS = (
    "INSERT INTO audit_auditdetail (event_id, occurred_at, salt, details)"
    " SELECT %(event_id)s, %(event_now)s, %(event_salt)s, %(event_details)s " + sql.WON
)
_INSERT_FIRST = _INSERT.replace(sql.WON, "RETURNING 1")
_TALLY = (
    "INSERT INTO audit_refusaltally (minute, source, client, reason, count, request_id)"
    " VALUES (%(minute)s, %(source)s, %(client)s, %(reason)s, 1, %(request_id)s)"
    " ON CONFLICT (minute, source, client, reason)"
    " DO UPDATE SET count = audit_refusaltally.count + 1, request_id = excluded.request_id"
)


@dataclass(frozen=True, slots=True)
class Written:
    """An event as statements: what follows from the write that it records, in one with it (`iam.sql.write`)."""

    id: UUID
    following: tuple[str, ...]
    values: Mapping[str, Any]  # Any: what columns hold


def record(event: Event) -> UUID:
    """Write one event in the current transaction; return its id (UUIDv7).

    Raises: RuntimeError outside a transaction, ValueError when a detail is named like a secret.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("an audit event is written in the transaction of what it records")
    return record_alone(event)


def record_alone(event: Event) -> UUID:
    """Write one event of something that changed nothing, such as a refusal: in a transaction, or as one of its own.

    Raises: ValueError as `record`.
    """
    made = written(event)
    sql.write(_INSERT_FIRST, made.following[1:], made.values)
    return made.id


def written(event: Event) -> Written:
    """Return an event as statements that follow from another write, which carries them out or does not happen.

    Raises: ValueError when a detail is named like a secret.
    """
    for name in event.details:
        if _SECRET_NAMES.search(name):
            raise ValueError(f"a detail named {name!r} could hold a secret")
    event_id = uuid7(event.now)
    details = {name: neutral(str(value), 500) for name, value in sorted(event.details.items()) if value}
    salt = secrets.token_bytes(16) if details else b""
    commitment = commit(salt, details) if details else ""
    fields: dict[str, Any] = {
        "action": event.action.value,
        "actor": neutral(event.actor, 160),
        "application": neutral(event.application, 64),
        "commitment": commitment,
        "id": str(event_id),
        "method": neutral(event.method, 300),
        "object": neutral(event.object, 300),
        "occurred_at": event.now.astimezone(UTC).isoformat(timespec="microseconds"),
        "office": neutral(event.office, 64),
        "on_behalf_of": neutral(event.on_behalf_of, 160),
        "outcome": event.outcome.value,
        "reason": neutral(event.reason, 80),
        "request_id": neutral(event.request_id, 64),
        "schema_version": SCHEMA_VERSION,
        "session": neutral(event.session, 64),
    }
    values = {f"event_{name}": value for name, value in fields.items()}
    values |= {"event_id": event_id, "event_now": event.now, "event_canonical": canonical(fields)}
    if not details:
        return Written(event_id, (_INSERT,), values)
    values |= {"event_salt": salt, "event_details": canonical(details).decode()}
    return Written(event_id, (_INSERT, _INSERT_DETAILS), values)


def record_all(events: Iterable[Event]) -> None:
    """Write many events, in their order; see `record`."""
    for event in events:
        record(event)


def canonical(value: Mapping[str, Any]) -> bytes:  # Any: JSON
    """Return the one way to write a value: names sorted, no spaces, UTF-8. Spec: RFC 8785 (for what we store)."""
    return _CANONICAL.encode(value).encode()


def commit(salt: bytes, details: Mapping[str, str]) -> str:
    """Return the commitment that ties details to their event; without the salt it tells nothing of them."""
    return hmac.new(salt, canonical(details), hashlib.sha256).hexdigest()


def tally(source: str, client: str, reason: str, now: datetime, request_id: str = "") -> None:
    """Count a refusal of somebody unknown: one line a minute, source, client and reason, however many come.

    `request_id` is kept of the last one, so that a developer's reference number leads here.
    """
    minute = now.astimezone(UTC).replace(second=0, microsecond=0)
    sql.execute(
        _TALLY,
        {
            "minute": minute,
            "source": neutral(source, 64),
            "client": neutral(client, 128),
            "reason": neutral(reason, 80),
            "request_id": neutral(request_id, 64),
        },
    )


def flush_tallies(now: datetime) -> int:
    """Turn every minute that is over into events; return how many.

    Two that run at once share the rows: each is deleted by one of them only.
    Raises: RuntimeError outside a transaction, where a count could be deleted without its event.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("counts leave the table in the transaction that writes their events")
    minute = now.astimezone(UTC).replace(second=0, microsecond=0)
    rows = sql.rows(
        "DELETE FROM audit_refusaltally WHERE minute < %(minute)s"
        " RETURNING minute, source, client, reason, count, request_id",
        {"minute": minute},
    )
    for counted, source, client, reason, count, request_id in rows:
        record(
            Event(
                Action.ANONYMOUS_REFUSE,
                Outcome.REFUSED,
                actor="anonymous",
                now=now,
                object=f"client:{client}" if client else "",
                reason=reason,
                method=f"count={count}",
                request_id=request_id,
                details={"address": source, "minute": str(counted)},
            )
        )
    return len(rows)


# -- UUIDv7 ---------------------------------------------------------------------------------------------------

_last_ms = 0
_counter = 0
_lock = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_last_ms=0, _lock=threading.Lock()))


def uuid7(now: datetime) -> UUID:
    """Return a UUID that begins with the time; those of one process only grow. Spec: RFC 9562 §5.7, §6.2."""
    global _last_ms, _counter
    with _lock:
        ms = max(int(now.timestamp() * 1000), _last_ms)
        _counter = _counter + 1 if ms == _last_ms else secrets.randbits(10)
        if _counter > 0xFFF:
            ms, _counter = ms + 1, 0
        _last_ms = ms
        count = _counter
    value = ms << 80 | 0x7 << 76 | count << 64 | 0b10 << 62 | secrets.randbits(62)
    return UUID(int=value)
