"""What operators ask of a directory that is followed: how it stands, what would happen, that it may happen."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from threading import Event, Thread
from typing import Any

from directory import store, stored_removals
from directory.changes import Effects, Finding, Kind, Reader
from directory.config import Source
from directory.engine import Engine, Outcome
from directory.entries import Person
from directory.listener import PACE, Listener, Pace
from directory.plan import Plan, Wait
from directory.readers import open_reader
from directory.tree import Tree

LATENCIES_OF = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Waits:
    """Removals that wait for one reason."""

    count: int
    wait: Wait
    is_inferred: bool
    reason: str
    logins: tuple[str, ...]  # some of them
    since: datetime


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the end of access took in one office, from the directory's word to the commit; seconds."""

    office: str
    count: int
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Status:
    """How one directory stands. `to_approve` is the number that `approve` wants repeated, 0 for nothing."""

    source: str
    people: int
    groups: int
    links: int
    leader: str
    heard_at: datetime | None
    applied_at: datetime | None
    completed_at: datetime | None
    drift: dict[str, int]
    sizes: dict[str, int]
    to_approve: int
    waits: tuple[Waits, ...]
    names_taken: int
    refusal: str
    refused_people: int
    trouble: str
    trouble_at: datetime | None
    left_lately: int
    findings: tuple[Finding, ...] = ()
    latencies: tuple[Latency, ...] = field(default=())

    def event_age_seconds(self, now: datetime) -> float | None:
        """Return how long ago it was certain that everything is known; None for never."""
        return (now - self.heard_at).total_seconds() if self.heard_at else None

    def plain(self, now: datetime) -> dict[str, Any]:  # Any: JSON
        """Return it as JSON."""
        return {
            **asdict(self),
            "directory_event_age_seconds": self.event_age_seconds(now),
            "deprovision_latency_seconds": {one.office: {"count": one.count, "p50": one.p50, "p99": one.p99} for one in self.latencies},
        }  # fmt: skip


def status(source: str, now: datetime) -> Status:
    """Return how a directory stands; asks the database only."""
    row = store.state_row(source)
    counted = stored_removals.counted(source)
    waiting = stored_removals.waiting(source)
    reasons: dict[tuple[Wait, bool, str], list[stored_removals.HeldRow]] = {}
    for one in waiting:
        reasons.setdefault((one.wait, one.removal.is_inferred, one.reason), []).append(one)
    some = {one.removal.entry_id for rows in reasons.values() for one in rows[:10]}
    named = {one.entry_id: one.name for one in store.load(source, entry_ids=sorted(some))}
    return Status(
        source=source,
        people=counted["people"],
        groups=counted["groups"],
        links=counted["links"],
        leader=row.leader,
        heard_at=row.heard_at,
        applied_at=row.applied_at,
        completed_at=row.completed_at,
        drift=dict(row.drift),
        sizes=dict(row.sizes),
        to_approve=len(waiting) or row.refused_people,
        waits=tuple(
            Waits(
                len(rows), wait, is_inferred, reason,
                tuple(named.get(one.removal.entry_id, one.removal.entry_id) for one in rows[:10]),
                min(one.seen_at for one in rows),
            )
            for (wait, is_inferred, reason), rows in reasons.items()
        ),
        names_taken=len(stored_removals.waiting_for_names(source)),
        refusal=row.refusal,
        refused_people=row.refused_people,
        trouble=row.trouble,
        trouble_at=row.trouble_at,
        left_lately=counted["left"],
        findings=tuple(Finding(one) for one in row.findings),
        latencies=tuple(
            Latency(office, len(seconds), _quantile(seconds, 0.5), _quantile(seconds, 0.99))
            for office, seconds in sorted(stored_removals.latencies(source, now - LATENCIES_OF).items())
        ),
    )  # fmt: skip


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)], 3)


def metrics(statuses: Sequence[Status], now: datetime) -> str:
    """Return what a collector reads, in the text form of Prometheus."""
    lines = []
    for one in statuses:
        source = f'source="{_label(one.source)}"'
        age = one.event_age_seconds(now)
        if age is not None:
            lines.append(f"directory_event_age_seconds{{{source}}} {age:.3f}")
        lines += [
            f'deprovision_latency_seconds{{{source},office="{_label(latency.office)}",quantile="{name}"}} {value:.3f}'
            for latency in one.latencies
            for name, value in (("0.5", latency.p50), ("0.99", latency.p99))
        ]
        lines += [
            f'directory_plan_size{{{source},what="{_label(what)}"}} {size}'
            for what, size in sorted(one.sizes.items())
        ]
        lines += [
            f'directory_drift{{{source},what="{_label(what)}"}} {size}'
            for what, size in sorted(one.drift.items())
        ]
        lines += [
            f"directory_people{{{source}}} {one.people}",
            f"directory_removals_held{{{source}}} {len(one.waits) and one.to_approve}",
            f"directory_reading_refused{{{source}}} {int(bool(one.refusal))}",
            f"directory_in_trouble{{{source}}} {int(bool(one.trouble))}",
            f"directory_listener_leads{{{source}}} {int(bool(one.leader))}",
        ]
    return "".join(f"{line}\n" for line in lines)


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# -- to plan and to apply ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Planned:
    """What a reading would do, or did. `logins` names the people in it, as far as they have names."""

    plan: Plan
    links: int
    told: int
    logins: dict[str, str]


def run(source: Source, effects: Effects, *, is_whole: bool, is_rehearsal: bool) -> Planned:
    """Read what changed since the last batch, or everything, and apply it or only plan it.

    Raises DirectoryError, Refused, and Overtaken when the listener was faster.
    """
    reader = open_reader(source)
    try:
        engine = Engine(source, effects)
        cookie = store.read_state(source.name).cookie
        if is_whole or not cookie:
            outcome = engine.take(reader.full(), reader, is_rehearsal=is_rehearsal)
        else:
            outcome = engine.take(reader.poll(cookie), reader, cookie, is_rehearsal=is_rehearsal)
        if not is_rehearsal:
            engine.hear()
            while engine.recheck():
                pass
        return _planned(source.name, outcome)
    finally:
        reader.close()


def _planned(source: str, outcome: Outcome) -> Planned:
    plan = outcome.plan
    wanted = {event.entry_id for event in plan.events[:1000]}
    wanted |= {one.holding.removal.entry_id for one in plan.waiting[:1000]}
    named = {row.entry_id: row.name for row in store.load(source, entry_ids=sorted(wanted))}
    named |= {row.entry_id: row.name for row in plan.rows if row.entry_id in wanted}
    return Planned(plan, outcome.links, outcome.told, named)


def approve(source: Source, effects: Effects, number: int) -> int:
    """Let happen what waits; see Engine.approve."""
    reader = open_reader(source)
    try:
        return Engine(source, effects).approve(number, reader)
    finally:
        reader.close()


def restore(source: Source, effects: Effects, who: Sequence[str]) -> list[str]:
    """Take back that people left; return their login names. See Engine.restore."""
    ids = Engine(source, effects).restore(who)
    named = {row.entry_id: row.name for row in store.load(source.name, entry_ids=ids)}
    return [named.get(entry_id) or entry_id for entry_id in ids]


def describe(source: Source, effects: Effects, login: str) -> list[Person]:
    """Return the people of a login name as they are stored; see Engine.describe."""
    return Engine(source, effects).describe(login)


def place(person: Person) -> Person:
    """Add the ids of the units above a person who was read just now, where the directory is followed."""
    rows = store.load(person.source, entry_ids=[person.entry_uuid])
    if not rows:
        return person
    units = Tree(person.source, {}, (), is_whole=False).units(rows[0].parent)
    # Moved a moment ago, and not told yet: then names decide.
    return replace(person, unit_ids=units) if len(units) == len(person.ou_path) else person


def has_ended(person: Person) -> bool:
    """Say whether the directory's stream said last that this entry is gone, or that its person may not act.

    For a sign-in, which may have been answered by a copy that has not heard of it, or a moment before it was said.
    """
    rows = store.known(person.source, [person.entry_uuid])
    return any(row.kind is Kind.PERSON and (row.is_gone or not row.acts) for row in rows.values())


# -- to follow -------------------------------------------------------------------------------------------------------


def listen(
    sources: Sequence[Source],
    effects: Callable[[], Effects],
    stop: Event,
    pace: Pace = PACE,
    readers: Callable[[Source], Reader] = open_reader,
) -> None:
    """Follow every directory in a thread of its own until `stop` is set."""
    threads = [
        Thread(
            target=Listener(source, effects, pace, readers).run, args=(stop,), name=f"follow-{source.name}"
        )
        for source in sources
    ]
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join(30)
