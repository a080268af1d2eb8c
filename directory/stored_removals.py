"""The tables of the brake: who was removed, who waits, who can come back, how many there are; see `store`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, F

from directory.brake import GROUPS, Pressure, Removal
from directory.changes import Kind
from directory.models import Edge, Entry, Held, Population, SourceState
from directory.models import Removal as RemovalRow
from directory.plan import Intended, Wait, Waiting
from directory.store import AT_ONCE, chunks, next_batch


def pressure(source: str, now: datetime, window: timedelta, *, counts_groups: bool = False) -> Pressure:
    """Return what weighs on the brakes of a source; groups and units are counted only where some are missing."""
    people = dict(Population.objects.filter(source=source).values_list("office", "people"))
    if counts_groups:
        people[GROUPS] = Entry.objects.filter(source=source).exclude(kind=Kind.PERSON).count()
    recent = RemovalRow.objects.filter(source=source, is_approved=False, applied_at__gt=now - window)
    engaged = Held.objects.filter(source=source).exclude(wait=Wait.JOIN)
    return Pressure(
        people,
        [Removal(*row) for row in recent.values_list("entry_id", "office", "is_inferred")],
        frozenset(engaged.values_list("scope", "is_inferred").distinct()),
    )


def count_people(source: str, changes: Mapping[str, int]) -> None:
    """Add to and take from the number of people in offices."""
    changes = {office: by for office, by in changes.items() if by}
    if not changes:
        return
    Population.objects.bulk_create(
        [Population(source=source, office=office) for office in changes], ignore_conflicts=True
    )
    for office, by in changes.items():
        Population.objects.filter(source=source, office=office).update(people=F("people") + by)


def recount_people(source: str) -> None:
    """Count the people of every office again."""
    rows = Entry.objects.filter(source=source, kind=Kind.PERSON, gone_at=None).order_by()
    counted = dict(rows.values_list("office").annotate(Count("pk")))
    Population.objects.filter(source=source).delete()
    Population.objects.bulk_create(
        [Population(source=source, office=office, people=people) for office, people in counted.items()]
    )


def hold(source: str, waiting: Sequence[Waiting], now: datetime) -> None:
    """Let removals wait; who waits already waits for what is said now."""
    Held.objects.bulk_create(
        [
            Held(
                source=source,
                entry_id=one.holding.removal.entry_id,
                wait=one.wait.value,
                is_inferred=one.holding.removal.is_inferred,
                office=one.holding.removal.office,
                scope=one.holding.scope,
                reason=one.holding.reason[:300],
                seen_at=now,
            )
            for one in waiting
        ],
        batch_size=AT_ONCE,
        update_conflicts=True,
        unique_fields=["source", "entry_id"],
        update_fields=["wait", "is_inferred", "reason"],
    )


def release(source: str, entry_ids: Collection[str]) -> None:
    """Let wait no longer."""
    for chunk in chunks(entry_ids):
        Held.objects.filter(source=source, entry_id__in=chunk).delete()


def note_removals(
    source: str,
    removed: Sequence[tuple[Removal, Intended]],
    seen_at: datetime,
    now: datetime,
    *,
    is_approved: bool = False,
) -> None:
    """Write down who lost access."""
    RemovalRow.objects.bulk_create(
        [
            RemovalRow(
                source=source,
                entry_id=removal.entry_id,
                office=removal.office,
                happening=event.happening.value,
                is_inferred=removal.is_inferred,
                is_approved=is_approved,
                seen_at=seen_at,
                applied_at=now,
            )
            for removal, event in removed
        ],
        batch_size=AT_ONCE,
    )


def no_pressure() -> Pressure:
    """Return the brakes of a batch that removes nobody."""
    return Pressure({})


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A removal that waits, as it is stored."""

    wait: Wait
    removal: Removal
    scope: str
    reason: str
    seen_at: datetime


def waiting(source: str) -> list[HeldRow]:
    """Return the removals that wait for an administrator, oldest first."""
    rows = Held.objects.filter(source=source).exclude(wait=Wait.JOIN).order_by("pk")
    return [
        HeldRow(Wait(row.wait), Removal(row.entry_id, row.office, row.is_inferred), row.scope, row.reason, row.seen_at)
        for row in rows
    ]  # fmt: skip


def oldest(rows: Sequence[HeldRow], now: datetime) -> datetime:
    """Return when the first of those that wait was said."""
    return min((row.seen_at for row in rows), default=now)


def waiting_for_names(source: str) -> dict[str, str]:
    """Return who waits for a login name that somebody else has: id -> name, oldest first."""
    ids = list(
        Held.objects.filter(source=source, wait=Wait.JOIN).order_by("pk").values_list("entry_id", flat=True)
    )
    if not ids:
        return {}
    called: dict[str, str] = {}
    for chunk in chunks(ids):
        rows = Entry.objects.filter(source=source, entry_id__in=chunk, gone_at=None)
        called |= dict(rows.values_list("entry_id", "name"))
    return {entry_id: called[entry_id] for entry_id in ids if entry_id in called}


def refused_people(source: str) -> int:
    """Return how many people the last reading would have cost that was not believed."""
    return SourceState.objects.filter(source=source).values_list("refused_people", flat=True).first() or 0


def accepted_people(source: str) -> int | None:
    """Return how many people an administrator said a strange reading may cost."""
    return SourceState.objects.filter(source=source).values_list("accepted_people", flat=True).first()


def accept_refused(source: str) -> None:
    """Let the next reading pass that costs no more people than the refused one; its brakes stay."""
    SourceState.objects.filter(source=source).update(accepted_people=F("refused_people"))


def restorable(source: str, who: Collection[str], since: datetime) -> list[str]:
    """Return the ids of people who left after an instant, by folded login name or id; all of them for nobody."""
    rows = Entry.objects.filter(source=source, gone_at__gt=since).exclude(attributes="{}")
    if who:
        rows = rows.filter(entry_id__in=who) | rows.filter(name__in=[one.casefold() for one in who])
    return list(rows.order_by("-gone_at", "pk").values_list("entry_id", flat=True))


def bring_back(source: str, entry_ids: Collection[str], now: datetime) -> None:
    """Make people of tombstones; absence concludes nothing about them from now on."""
    for chunk in chunks(entry_ids):
        Entry.objects.filter(source=source, entry_id__in=chunk).update(
            gone_at=None, kept_at=now, batch=next_batch(source)
        )


def counted(source: str) -> dict[str, int]:
    """Return how many people, groups and links a source has, and how many people can be restored."""
    rows = Entry.objects.filter(source=source)
    groups = rows.filter(kind=Kind.GROUP)
    return {
        "people": rows.filter(kind=Kind.PERSON, gone_at=None).count(),
        "groups": groups.count(),
        "links": Edge.objects.filter(group_id__in=groups.values("pk")).count(),
        "left": rows.exclude(gone_at=None).exclude(attributes="{}").count(),
    }


def latencies(source: str, since: datetime) -> dict[str, list[float]]:
    """Return how many seconds ends of access took, by office, without those an administrator approved."""
    found: dict[str, list[float]] = {}
    rows = RemovalRow.objects.filter(source=source, applied_at__gt=since, is_approved=False)
    for office, seen, applied in rows.values_list("office", "seen_at", "applied_at"):
        found.setdefault(office, []).append(max(0.0, (applied - seen).total_seconds()))
    return found
