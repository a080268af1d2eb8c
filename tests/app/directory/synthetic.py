"""A directory in memory, what it would send, and who may act as the service hears it. Inputs, no server."""

import copy
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from directory import mapping, models, store
from directory.changes import Change, Completeness, Ending, Gone, Happening, Kind, PersonEvent, Seen
from directory.config import Source
from directory.engine import Engine
from directory.entries import RawEntry
from directory.errors import DirectoryError, UnavailableReason

BASE = "dc=example"
NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)


def source(name: str = "hq", **changes) -> Source:
    values = {
        "name": name, "urls": ("ldaps://localhost",), "bind_dn": "cn=svc", "bind_password": "s", "base_dn": BASE,
    }  # fmt: skip
    return Source(**(values | changes))


@dataclass
class Entry:
    kind: Kind
    rdn: str
    parent: str  # id of the entry above, empty for the base
    attributes: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Reading:
    """What a server sends; `breaks_after` so many changes the connection ends."""

    changes: Sequence[Change]
    end: Ending
    breaks_after: int | None = None

    def __iter__(self) -> Iterator[Change]:
        for number, change in enumerate(self.changes):
            if number == self.breaks_after:
                raise DirectoryError(UnavailableReason.UNREACHABLE, "the connection ended")
            yield change

    def ending(self) -> Ending:
        if self.breaks_after is not None:
            raise DirectoryError(UnavailableReason.UNREACHABLE, "the connection ended")
        return self.end


class Directory:
    """Entries by id, and what changed since a cookie, which is a number."""

    def __init__(self, of: Source | None = None, *, has_refint: bool = True) -> None:
        self.source = of or source()
        self.entries: dict[str, Entry] = {}
        self.log: list[str] = []  # ids, in the order of their changes
        self.has_refint = has_refint
        self.hidden: set[str] = set()  # what a reading leaves out, and `lookup` finds
        self.put("base", Kind.UNIT, BASE, "")

    # -- changes -----------------------------------------------------------------------------------------

    def put(self, entry_id: str, kind: Kind, rdn: str, parent: str, **attributes: list[str]) -> None:
        self.entries[entry_id] = Entry(kind, rdn, parent, attributes)
        self.log.append(entry_id)

    def unit(self, entry_id: str, name: str, parent: str = "base") -> None:
        self.put(entry_id, Kind.UNIT, f"ou={name}", parent)

    def person(
        self, entry_id: str, parent: str = "base", login: str = "", status: str = "active", **more: list[str]
    ) -> None:
        login = login or entry_id
        self.put(
            entry_id,
            Kind.PERSON,
            f"uid={login}",
            parent,
            uid=[login],
            cn=[login.title()],
            orgaccountstatus=[status],
            **more,
        )

    def group(self, entry_id: str, *members: str) -> None:
        self.put(
            entry_id,
            Kind.GROUP,
            f"cn={entry_id}",
            "base",
            cn=[entry_id],
            member=[self.dn(one) for one in members],
        )

    def change(self, entry_id: str, **attributes: list[str]) -> None:
        self.entries[entry_id].attributes.update(attributes)
        self.log.append(entry_id)

    def disable(self, entry_id: str) -> None:
        self.change(entry_id, orgaccountstatus=["disabled"])

    def rename(self, entry_id: str, rdn: str | None = None, parent: str | None = None) -> None:
        before = self.dn(entry_id)
        entry = self.entries[entry_id]
        entry.rdn, entry.parent = rdn or entry.rdn, parent or entry.parent
        self.log.append(entry_id)
        self._repair(before, self.dn(entry_id))

    def delete(self, entry_id: str) -> None:
        dn = self.dn(entry_id)
        del self.entries[entry_id]
        self.log.append(entry_id)
        self._repair(dn, None)

    def add_member(self, group: str, member: str) -> None:
        self.change(group, member=[*self.entries[group].attributes["member"], self.dn(member)])

    def remove_member(self, group: str, dn: str) -> None:
        self.change(group, member=[one for one in self.entries[group].attributes["member"] if one != dn])

    def _repair(self, before: str, after: str | None) -> None:
        """Do as refint does: groups change, and nobody is told."""
        if self.has_refint:
            for entry in self.entries.values():
                kept = []
                for member in entry.attributes.get("member", ()):
                    is_below = member == before or member.endswith(f",{before}")
                    if not is_below:
                        kept.append(member)
                    elif after:
                        kept.append(member.removesuffix(before) + after)
                if "member" in entry.attributes:
                    entry.attributes["member"] = kept

    # -- answers -----------------------------------------------------------------------------------------

    def dn(self, entry_id: str) -> str:
        entry = self.entries[entry_id]
        return f"{entry.rdn},{self.dn(entry.parent)}" if entry.parent else entry.rdn

    def seen(self, entry_id: str) -> Seen:
        entry = self.entries[entry_id]
        attributes = {
            name: tuple(one.encode() for one in values) for name, values in entry.attributes.items()
        }
        raw = RawEntry(self.dn(entry_id).encode(), {**attributes, "entryuuid": (entry_id.encode(),)})
        return Seen(entry_id, entry.kind, raw)

    @property
    def cookie(self) -> bytes:
        return str(len(self.log)).encode()

    def poll(self, cookie: bytes) -> Reading:
        if not cookie:
            return self.full()
        ids = list(dict.fromkeys(reversed(self.log[int(cookie) :])))
        changes = [self.seen(one) if one in self.entries else Gone(one) for one in reversed(ids)]
        return Reading(changes, Ending(Completeness.CHANGES, self.cookie if changes else b""))

    def full(self) -> Reading:
        changes = [self.seen(one) for one in self.entries if one not in self.hidden]
        return Reading(changes, Ending(Completeness.COMPLETE, self.cookie))

    def present(self, cookie: bytes) -> Reading:
        """Answer as a server that lost its session log."""
        ids = list(dict.fromkeys(self.log[int(cookie) :]))
        changes = [self.seen(one) for one in ids if one in self.entries and one not in self.hidden]
        there = frozenset(self.entries) - self.hidden
        return Reading(changes, Ending(Completeness.PRESENT, self.cookie, there))

    def lookup(self, entry_ids: Collection[str]) -> frozenset[str]:
        return frozenset(entry_ids) & self.entries.keys()

    def follow(self, cookie, stop, *, idle_seconds=30.0):
        raise NotImplementedError

    def check(self):
        return ()

    def close(self) -> None:
        pass

    def copy(self) -> "Directory":
        return copy.deepcopy(self)


@dataclass
class Service:
    """What the service made of the events: who may act, with which groups. An entry's first unit is its office."""

    acting: dict[str, frozenset[str]] = field(default_factory=dict)
    heard: list[tuple[Happening, str]] = field(default_factory=list)
    breaks: bool = False
    units: dict[str, frozenset[str]] = field(default_factory=dict)
    brake: list[int] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def office_of(self, person) -> str:
        return person.ou_path[0].upper()[:16] if person.ou_path else ""

    def apply(self, events: Sequence[PersonEvent], now: datetime) -> None:
        if self.breaks:
            raise RuntimeError("the service cannot")
        for event in events:
            self.heard.append((event.happening, event.entry_id))
            if event.person is None or event.person.standing.at(now).value in {"disabled", "expired"}:
                self.acting.pop(event.entry_id, None)
            else:
                self.acting[event.entry_id] = frozenset(group.entry_uuid for group in event.person.groups)

    def held(self, source: str, holdings, now: datetime) -> None:
        self.brake.append(len(holdings))

    def refused(self, source: str, reason: str, people: int, now: datetime) -> None:
        self.refusals.append(reason)

    def know_units(self, source: str, units) -> None:
        self.units = dict(units)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def wait(self, **span: float) -> None:
        self.now += timedelta(**span)


class Bridge:
    """An engine of one source, and the service behind it."""

    def __init__(self, of: Source | None = None) -> None:
        self.source = of or source()
        self.service = Service()
        self.clock = Clock()
        self.engine = Engine(self.source, self.service, self.clock)

    @property
    def cookie(self) -> bytes:
        return store.read_state(self.source.name).cookie

    def poll(self, directory: Directory):
        return self.engine.take(directory.poll(self.cookie), directory, self.cookie)

    def full(self, directory: Directory):
        return self.engine.take(directory.full(), directory)

    def present(self, directory: Directory):
        return self.engine.take(directory.present(self.cookie), directory, self.cookie)

    def state(self) -> dict[str, object]:
        """Return everything that must not depend on the way it was reached."""
        name = self.source.name
        rows = {row.pk: row for row in models.Entry.objects.filter(source=name)}
        live = {pk: row for pk, row in rows.items() if row.gone_at is None}
        return {
            "entries": {
                row.entry_id: (row.kind, dn_of(rows, row), row.name, row.acts, row.office, mapping.read(row.attributes))
                for row in live.values()
            },
            "edges": {
                (rows[edge.group_id].entry_id, rows[edge.member_id].entry_id)
                for edge in models.Edge.objects.all() if edge.group_id in rows and edge.member_id in live
            },
            "above": {
                (rows[one.group_id].entry_id, rows[one.above_id].entry_id)
                for one in models.Above.objects.all() if one.group_id in rows
            },
            "people": {
                row.office: row.people for row in models.Population.objects.filter(source=name) if row.people
            },
            "held": set(models.Held.objects.filter(source=name).values_list("entry_id", "wait")),
        }  # fmt: skip


def dn_of(rows: dict[int, models.Entry], row: models.Entry) -> str:
    return row.rdn if row.parent_id is None else f"{row.rdn},{dn_of(rows, rows[row.parent_id])}"
