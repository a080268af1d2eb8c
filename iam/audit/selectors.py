"""Events, read: newest last, as a person reads a log."""

import hmac
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db.models import Count, Q

from .models import AuditDetail, AuditEvent, RefusalTally
from .record import commit
from .tags import Action

REFUSALS_MAX = 50_000  # a day of one refusal in two seconds; more than that tells an owner nothing new
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
    client: str = "",
    actor: str = "",
    action: str = "",
    reference: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[RecordedEvent]:
    """Return the newest events that match everything given, oldest of them first.

    In: `about` names subjects (`person:SUB`): events that one of them did or that were done to them; `client` is a client
    id, the same way; `action` is a tag or the beginning of one; `reference` the number of a request, or its beginning;
    `since` is included and `until` is not; `before` is a sequence number; `limit` at most EVENTS_MAX.
    """
    rows = AuditEvent.objects.all()
    if about:
        rows = rows.filter(Q(actor__in=about) | Q(object__in=about) | Q(on_behalf_of__in=about))
    if client:
        rows = rows.filter(Q(actor=f"client:{client}") | Q(object=f"client:{client}"))
    if actor:
        rows = rows.filter(actor=actor)
    if action:
        rows = rows.filter(action__startswith=action)
    if reference:
        rows = rows.filter(request_id__startswith=reference)
    if since is not None:
        rows = rows.filter(occurred_at__gte=since)
    if until is not None:
        rows = rows.filter(occurred_at__lt=until)
    if before is not None:
        rows = rows.filter(sequence__lt=before)
    found = list(rows.order_by("-sequence")[: max(0, min(limit, EVENTS_MAX))])[::-1]
    details = AuditDetail.objects.in_bulk([row.id for row in found])
    return [_event(row, details.get(row.id)) for row in found]


@dataclass(frozen=True, slots=True)
class EventCount:
    """How often something happened and ended in one way, for one reason; `reason` is "" where there is none."""

    action: str
    outcome: str
    reason: str
    count: int


def event_counts(since: datetime) -> list[EventCount]:
    """Count what happened since an instant, the most frequent first; never whose doing it was.

    Refusals of somebody unknown count as often as they happened, those that are still being counted too. Reads at most
    REFUSALS_MAX rows of the counted ones.
    """
    found: Counter[tuple[str, str, str]] = Counter()
    events = AuditEvent.objects.filter(occurred_at__gte=since)
    grouped = (
        events.exclude(action=Action.ANONYMOUS_REFUSE)
        .order_by()
        .values_list("action", "outcome", "reason")
        .annotate(count=Count("sequence"))
    )
    for action, outcome, reason, count in grouped:
        found[action, outcome, reason] += count
    counted = events.filter(action=Action.ANONYMOUS_REFUSE).order_by("-sequence")
    counting = RefusalTally.objects.filter(minute__gte=since - timedelta(minutes=1)).order_by("-minute")
    refused = Action.ANONYMOUS_REFUSE, "refused"
    for reason, method in counted.values_list("reason", "method")[:REFUSALS_MAX]:
        found[*refused, reason] += _counted(method)
    for reason, count in counting.values_list("reason", "count")[:REFUSALS_MAX]:
        found[*refused, reason] += count
    rows = [EventCount(*key, count) for key, count in found.items()]
    return sorted(rows, key=lambda row: (-row.count, row.action, row.outcome, row.reason))


@dataclass(frozen=True, slots=True)
class RefusalCount:
    """How often something of a client was refused for one reason, and the last time: never whose request it was."""

    reason: str
    count: int
    last_at: datetime
    last_reference: str


def refusals_of(client_id: str, since: datetime) -> list[RefusalCount]:
    """Return why a client was refused since an instant, the most frequent reason first.

    It counts single events (what an authenticated client did, and what was done for it in a person's browser), counted
    refusals that are events already, and those that are still being counted. Reads at most REFUSALS_MAX rows of each.
    """
    subject = f"client:{client_id}"
    events = (
        AuditEvent.objects.filter(
            Q(actor=subject) | Q(object=subject), outcome="refused", occurred_at__gte=since
        )
        .order_by("-sequence")
        .values_list("reason", "method", "occurred_at", "request_id", "action")[:REFUSALS_MAX]
    )
    counting = (
        RefusalTally.objects.filter(client=client_id, minute__gte=since - timedelta(minutes=1))
        .order_by("-minute")
        .values_list("reason", "count", "minute", "request_id")[:REFUSALS_MAX]
    )
    rows = [
        RefusalCount(reason, _counted(method) if action == Action.ANONYMOUS_REFUSE else 1, at, reference)
        for reason, method, at, reference, action in events
    ]
    rows += [RefusalCount(reason, count, minute, reference) for reason, count, minute, reference in counting]
    found: dict[str, RefusalCount] = {}
    for row in rows:
        known = found.get(row.reason, row)
        last = max(known, row, key=lambda one: (one.last_at, bool(one.last_reference)))
        total = row.count + (known.count if row.reason in found else 0)
        found[row.reason] = RefusalCount(row.reason, total, last.last_at, last.last_reference)
    return sorted(found.values(), key=lambda one: (-one.count, one.reason))


def _counted(method: str) -> int:
    """Read back what `flush_tallies` wrote."""
    number = method.removeprefix("count=")
    return int(number) if number.isascii() and number.isdigit() else 1


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
