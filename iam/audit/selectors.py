"""Events, read: newest last, as a person reads a log."""

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db.models import Q

from .models import AuditDetail, AuditEvent
from .record import commit

EVENTS_MAX = 1000  # one answer; older ones are reached with `before`


class DetailState(StrEnum):
    """What became of the side table's row of an event."""

    NONE = "none"
    WHOLE = "whole"
    ERASED = "erased"
    ALTERED = "altered"


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event, with what is still known beside it."""

    sequence: int
    id: UUID
    occurred_at: datetime
    actor: str
    on_behalf_of: str
    action: str
    object: str
    outcome: str
    reason: str
    method: str
    application: str
    office: str
    session: str
    request_id: str
    details: Mapping[str, str]
    detail_state: DetailState


def recorded_events(
    *,
    about: Sequence[str] = (),
    actor: str = "",
    action: str = "",
    since: datetime | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[RecordedEvent]:
    """Return the newest events that match everything given, oldest of them first.

    In: `about` names subjects (`person:SUB`, `client:ID`): events that they did or that were done to them;
    `action` is a tag or the beginning of one; `before` is a sequence number; `limit` at most EVENTS_MAX.
    """
    rows = AuditEvent.objects.all()
    if about:
        rows = rows.filter(Q(actor__in=about) | Q(object__in=about) | Q(on_behalf_of__in=about))
    if actor:
        rows = rows.filter(actor=actor)
    if action:
        rows = rows.filter(action__startswith=action)
    if since is not None:
        rows = rows.filter(occurred_at__gte=since)
    if before is not None:
        rows = rows.filter(sequence__lt=before)
    found = list(rows.order_by("-sequence")[: max(0, min(limit, EVENTS_MAX))])[::-1]
    details = AuditDetail.objects.in_bulk([row.id for row in found])
    return [_event(row, details.get(row.id)) for row in found]


def _event(row: AuditEvent, detail: AuditDetail | None) -> RecordedEvent:
    return RecordedEvent(
        sequence=row.sequence,
        id=row.id,
        occurred_at=row.occurred_at,
        actor=row.actor,
        on_behalf_of=row.on_behalf_of,
        action=row.action,
        object=row.object,
        outcome=row.outcome,
        reason=row.reason,
        method=row.method,
        application=row.application,
        office=row.office,
        session=row.session,
        request_id=row.request_id,
        details=dict(detail.details) if detail else {},
        detail_state=_state(row, detail),
    )


def _state(row: AuditEvent, detail: AuditDetail | None) -> DetailState:
    """Compare the side table with the commitment that the event carries."""
    if not row.commitment:
        return DetailState.NONE if detail is None else DetailState.ALTERED
    if detail is None:
        return DetailState.ERASED
    same = hmac.compare_digest(commit(bytes(detail.salt), detail.details), row.commitment)
    return DetailState.WHOLE if same else DetailState.ALTERED


def canonical_fields(row: AuditEvent) -> dict[str, Any]:  # Any: JSON
    """Return what an event's canonical bytes say; a checker compares them with its columns."""
    fields: dict[str, Any] = json.loads(bytes(row.canonical))
    return fields
