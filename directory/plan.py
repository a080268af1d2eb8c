"""From what was stored and what was read to what shall happen. Pure: nothing is written, nobody is asked.

The one rule behind the others: a person whom a brake holds hears nothing at all, since whatever the service is told
of somebody disabled ends that person's access.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from directory.brake import GROUPS, Brake, Holding, Pressure, Removal, decide_brake
from directory.changes import Happening, Kind


class Wait(StrEnum):
    """What waits for an administrator."""

    DISABLE = "disable"
    LEAVE = "leave"
    JOIN = "join"  # somebody with the login name of somebody else who is still here


@dataclass(frozen=True, slots=True)
class Known:
    """An entry as it is stored. `name`: the folded login name of a person, the name of a group. `acts`: the directory last said that this person may act, held or not."""

    pk: int
    entry_id: str
    kind: Kind
    parent: int | None
    rdn: str
    digest: bytes
    name: str = ""
    acts: bool = False
    office: str = ""
    is_gone: bool = False
    is_kept: bool = False
    held: Wait | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """An entry as it was read just now, with the row it has or will have. `attributes` is JSON, empty for units."""

    pk: int
    entry_id: str
    kind: Kind
    parent: int | None
    rdn: str
    rdn_key: str
    digest: bytes
    name: str = ""
    acts: bool = False
    ends_at: datetime | None = None
    office: str = ""
    attributes: bytes = b"{}"


@dataclass(frozen=True, slots=True)
class Intended:
    """One thing that shall happen to one person."""

    happening: Happening
    entry_id: str
    is_inferred: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """One thing that shall not happen before somebody says so."""

    wait: Wait
    holding: Holding


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall happen. `rows` are written; `events` begin with all that ends access."""

    rows: tuple[Told, ...] = ()
    leavers: tuple[str, ...] = ()  # people: kept as tombstones
    dropped: tuple[str, ...] = ()  # groups and units: deleted
    events: tuple[Intended, ...] = ()
    removed: tuple[Removal, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    released: tuple[str, ...] = ()
    moved_units: tuple[str, ...] = ()

    def sizes(self) -> dict[str, int]:
        """Return how many of each thing, for people and metrics."""
        counted = {happening.value: 0 for happening in Happening}
        for event in self.events:
            counted[event.happening.value] += 1
        return {
            **counted,
            "rows": len(self.rows),
            "dropped": len(self.dropped),
            "held": len(self.waiting),
            "released": len(self.released),
            "moved_units": len(self.moved_units),
        }


@dataclass(slots=True)
class _Draft:
    rows: list[Told] = field(default_factory=list)
    events: list[Intended] = field(default_factory=list)
    removals: dict[str, tuple[Wait, Removal]] = field(default_factory=dict)
    joins: list[Waiting] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    moved_units: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def decide_plan(
    rules: Brake,
    known: Mapping[str, Known],
    told: Sequence[Told],
    said_gone: Sequence[str],
    missing: Sequence[str],
    holders: Mapping[str, str],
    pressure: Pressure,
) -> Plan:
    """Decide what a batch means.

    `told` has each entry once, as it was read last; `said_gone` those that the directory said are gone; `missing`
    those concluded from absence, after the second look. `holders` maps the login names that occur in the batch to
    the entries that have them in store and are still there.
    """
    draft = _Draft()
    logins = _final_logins(known, told, said_gone, holders)
    for entry in told:
        before = known.get(entry.entry_id)
        if entry.kind is Kind.PERSON:
            _person(draft, before, entry, logins)
        else:
            _group_or_unit(draft, before, entry)
    for entry_id in said_gone:
        _leave(draft, known.get(entry_id), is_inferred=False)
    for entry_id in missing:
        _leave(draft, known.get(entry_id), is_inferred=True)
    return _braked(rules, draft, pressure)


def _final_logins(
    known: Mapping[str, Known], told: Sequence[Told], said_gone: Sequence[str], holders: Mapping[str, str]
) -> dict[str, str]:
    """Return whose each login name is after the batch: who has it and keeps it, before who is new to it."""
    read = {entry.entry_id: entry.name for entry in told}
    final = {
        login: entry_id
        for login, entry_id in holders.items()
        if read.get(entry_id, login) == login and entry_id not in said_gone
    }
    waiting = {
        entry.entry_id
        for entry in told
        if (before := known.get(entry.entry_id)) is not None and before.held is Wait.JOIN
    }
    for entry in sorted(told, key=lambda one: one.entry_id in waiting):
        if entry.kind is Kind.PERSON:
            final.setdefault(entry.name, entry.entry_id)
    return final


def _person(draft: _Draft, before: Known | None, entry: Told, logins: Mapping[str, str]) -> None:
    draft.rows.append(entry)
    takes_a_name = logins[entry.name] != entry.entry_id
    if before is None or before.kind is not Kind.PERSON:
        _arrive(draft, entry, Happening.JOINED, takes_a_name=takes_a_name)
        return
    if before.held is Wait.LEAVE or (before.held is Wait.DISABLE and entry.acts):
        draft.released.append(entry.entry_id)
    if before.held is Wait.JOIN:
        if not takes_a_name:
            draft.released.append(entry.entry_id)
            _arrive(draft, entry, Happening.JOINED, takes_a_name=False)
    elif before.is_gone:
        happening = Happening.RETURNED if entry.acts else Happening.DISABLED
        _arrive(draft, entry, happening, takes_a_name=takes_a_name)
    elif before.held is Wait.DISABLE and not entry.acts:
        return
    elif before.acts and not entry.acts:
        removal = Removal(entry.entry_id, before.office, is_inferred=False)
        draft.removals[entry.entry_id] = (Wait.DISABLE, removal)
    else:
        is_new = entry.acts and not before.acts and before.held is not Wait.DISABLE
        happening = Happening.ENABLED if is_new else Happening.CHANGED
        _arrive(draft, entry, happening, takes_a_name=takes_a_name)


def _arrive(draft: _Draft, entry: Told, happening: Happening, *, takes_a_name: bool) -> None:
    """Let a person in, unless that would put out whoever has the login name now (A25, A26)."""
    if takes_a_name:
        removal = Removal(entry.entry_id, entry.office, is_inferred=False)
        reason = "another entry that is still there has this login name"
        draft.joins.append(Waiting(Wait.JOIN, Holding(removal, "", reason)))
    else:
        draft.events.append(Intended(happening, entry.entry_id))


def _group_or_unit(draft: _Draft, before: Known | None, entry: Told) -> None:
    if before is not None and before.kind is Kind.PERSON:
        # What was a person is none any more. The row stays the person's: it must be found if it comes back. Nobody
        # said that the person left: a right to read login names that is lost makes everybody look so at once.
        _leave(draft, before, is_inferred=True)
        return
    draft.rows.append(entry)
    if before is not None and before.held is not None:
        draft.released.append(entry.entry_id)
    if before is not None and (before.parent, before.rdn) != (entry.parent, entry.rdn):
        draft.moved_units.append(entry.entry_id)


def _leave(draft: _Draft, before: Known | None, *, is_inferred: bool) -> None:
    if before is None or before.is_gone or (is_inferred and before.is_kept):
        return
    if before.kind is not Kind.PERSON and not is_inferred:
        draft.dropped.append(before.entry_id)
        if before.held is not None:
            draft.released.append(before.entry_id)
    elif before.held is not Wait.LEAVE:
        office = before.office if before.kind is Kind.PERSON else GROUPS
        removal = Removal(before.entry_id, office, is_inferred=is_inferred)
        draft.removals[before.entry_id] = (Wait.LEAVE, removal)
        if before.held is not None:
            draft.released.append(before.entry_id)


def _braked(rules: Brake, draft: _Draft, pressure: Pressure) -> Plan:
    verdict = decide_brake(rules, (removal for _, removal in draft.removals.values()), pressure)
    ends: list[Intended] = []
    leavers: list[str] = []
    removed: list[Removal] = []
    for removal in verdict.passed:
        wait, _ = draft.removals[removal.entry_id]
        if removal.office == GROUPS:
            draft.dropped.append(removal.entry_id)
            continue
        removed.append(removal)
        if wait is Wait.LEAVE:
            leavers.append(removal.entry_id)
        happening = Happening.LEFT if wait is Wait.LEAVE else Happening.DISABLED
        ends.append(Intended(happening, removal.entry_id, removal.is_inferred))
    held = [Waiting(draft.removals[one.removal.entry_id][0], one) for one in verdict.held]
    held_ids = {one.holding.removal.entry_id for one in held}
    return Plan(
        rows=tuple(draft.rows),
        leavers=tuple(leavers),
        dropped=tuple(draft.dropped),
        events=(*ends, *draft.events),
        removed=tuple(removed),
        waiting=(*held, *draft.joins),
        released=tuple(one for one in draft.released if one not in held_ids),
        moved_units=tuple(draft.moved_units),
    )
