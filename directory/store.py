"""The tables of `directory.models`: read and written here only, inside the caller's transaction.

Bulk goes by COPY on PostgreSQL and executemany on SQLite. Whoever writes holds the source's row (`lock`), so one
batch of a source comes after another; on SQLite there is one writer anyway.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from django.db import connection, transaction
from django.db.models import Count, F

from directory.brake import GROUPS, Pressure, Removal
from directory.changes import Kind
from directory.models import (
    Above,
    Edge,
    Entry,
    Held,
    Population,
    Recheck,
    SourceState,
    Unresolved,
)
from directory.models import Removal as RemovalRow
from directory.plan import Intended, Known, Told, Wait, Waiting

AT_ONCE = 500  # values in one statement: SQLite takes some thousands
COPY_FROM = 200  # rows from which COPY is worth its round trips
KEPT_FOR = timedelta(
    days=30
)  # how long somebody who left can be restored, and is kept from inference after that
Item = TypeVar("Item")


def chunks(items: Iterable[Item], size: int = AT_ONCE) -> Iterator[list[Item]]:
    """Cut into lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


# -- the source itself -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """How far a source was followed; `is_new` before its first whole reading."""

    version: int
    cookie: bytes
    base_id: str
    is_new: bool


def read_state(source: str) -> State:
    """Return how far a source was followed."""
    row = SourceState.objects.filter(source=source).first()
    return _state(row) if row else State(0, b"", "", is_new=True)


def lock(source: str) -> State:
    """Hold a source until the end of the transaction; return its state."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("a source is held by a transaction")
    SourceState.objects.bulk_create([SourceState(source=source)], ignore_conflicts=True)
    return _state(SourceState.objects.select_for_update().get(source=source))


def _state(row: SourceState) -> State:
    return State(row.version, bytes(row.cookie), row.base_id, is_new=row.completed_at is None)


def advance(source: str, **changes: Any) -> None:  # Any: what columns hold
    """Note what a batch changed of the source's state; its version rises."""
    SourceState.objects.filter(source=source).update(version=F("version") + 1, **changes)


def note(source: str, **changes: Any) -> None:  # Any: what columns hold
    """Note something that no plan depends on, in a transaction of its own or the caller's."""
    if not SourceState.objects.filter(source=source).update(**changes):
        SourceState.objects.bulk_create([SourceState(source=source, **changes)], ignore_conflicts=True)


# -- entries ---------------------------------------------------------------------------------------------------

_KNOWN = (
    "pk",
    "entry_id",
    "kind",
    "parent_id",
    "rdn",
    "digest",
    "name",
    "acts",
    "office",
    "gone_at",
    "kept_at",
)


def known(source: str, entry_ids: Iterable[str]) -> dict[str, Known]:
    """Return what is stored of some entries, by id."""
    found: dict[str, Known] = {}
    for chunk in chunks(entry_ids):
        found |= _known(Entry.objects.filter(source=source, entry_id__in=chunk), _held(source, chunk))
    return found


def all_known(source: str) -> dict[str, Known]:
    """Return what is stored of all entries of a source; some 50 MB for 100,000."""
    return _known(Entry.objects.filter(source=source), _held(source, None))


def _held(source: str, entry_ids: Collection[str] | None) -> dict[str, Wait]:
    rows = Held.objects.filter(source=source)
    if entry_ids is not None:
        rows = rows.filter(entry_id__in=entry_ids)
    return {entry_id: Wait(wait) for entry_id, wait in rows.values_list("entry_id", "wait")}


def _known(rows: Any, held: Mapping[str, Wait]) -> dict[str, Known]:  # Any: a query set
    kinds = {kind.value: kind for kind in Kind}
    offices: dict[str, str] = {}
    return {
        entry_id: Known(
            pk, entry_id, kinds[kind], parent, rdn, bytes(digest), name, acts, offices.setdefault(office, office),
            gone is not None, kept is not None, held.get(entry_id),
        )
        for pk, entry_id, kind, parent, rdn, digest, name, acts, office, gone, kept in rows.values_list(
            *_KNOWN
        ).iterator(chunk_size=5000)
    }  # fmt: skip


def holders(source: str, names: Collection[str]) -> dict[str, str]:
    """Return who of the people that are here has each of these login names; those held back have none."""
    found: dict[str, str] = {}
    for chunk in chunks(sorted(names)):
        waiting = Held.objects.filter(source=source, wait=Wait.JOIN).values("entry_id")
        rows = Entry.objects.filter(source=source, name__in=chunk, kind=Kind.PERSON, gone_at=None)
        rows = rows.exclude(entry_id__in=waiting).order_by("-pk")
        found |= dict(rows.values_list("name", "entry_id"))
    return found


def allocate(count: int) -> list[int]:
    """Return numbers for new rows of Entry, which nobody else gets."""
    if not count:
        return []
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT nextval(pg_get_serial_sequence('directory_entry', 'id')) FROM generate_series(1, %s)",
                [count],
            )
            return [row[0] for row in cursor.fetchall()]
        # AUTOINCREMENT: no number is ever used twice, and this transaction is the only writer.
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = 'directory_entry'")
        row = cursor.fetchone()
        first = (row[0] if row else 0) + 1
        return list(range(first, first + count))


_COLUMNS = (
    "id", "source", "entry_id", "kind", "parent_id", "rdn", "rdn_key", "digest", "name", "acts", "ends_at", "office",
    "attributes", "batch", "gone_at", "kept_at",
)  # fmt: skip


def write_entries(source: str, told: Sequence[Told], new: Collection[int], batch: int) -> None:
    """Write what was read; `new` holds the numbers of rows that are not there yet. Whoever was gone is back."""
    insert("directory_entry", _COLUMNS, (_row(source, one, batch) for one in told if one.pk in new))
    changed = [one for one in told if one.pk not in new]
    if not changed:
        return
    columns = _COLUMNS[3:]
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE directory_entry SET {', '.join(f'{name} = %s' for name in columns)} WHERE id = %s",
            [(*map(_bind, _row(source, one, batch)[3:]), one.pk) for one in changed],
        )


def _row(source: str, one: Told, batch: int) -> tuple[Any, ...]:  # Any: what columns hold
    return (
        one.pk, source, one.entry_id, one.kind.value, one.parent, one.rdn, one.rdn_key, one.digest, one.name,
        one.acts, one.ends_at, one.office, one.attributes.decode("utf-8"), batch,
        None, None,
    )  # fmt: skip


def insert(
    table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]
) -> None:  # Any: columns' values
    """Insert rows: by COPY on PostgreSQL when they are many."""
    names = ", ".join(columns)
    for chunk in chunks(rows, 20_000):
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql" and len(chunk) >= COPY_FROM:
                with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                    for row in chunk:
                        copy.write_row(row)
            else:
                marks = ", ".join(["%s"] * len(columns))
                cursor.executemany(
                    f"INSERT INTO {table} ({names}) VALUES ({marks})",
                    [tuple(map(_bind, row)) for row in chunk],
                )


def _bind(value: Any) -> Any:  # Any: what a column holds
    """Write a time as Django's fields do: SQLite has none of its own."""
    if isinstance(value, datetime) and connection.vendor != "postgresql":
        return str(value.astimezone(UTC).replace(tzinfo=None))
    return value


def _next_batch(source: str) -> Any:  # Any: a query inside a statement
    return SourceState.objects.filter(source=source).values(next=F("version") + 1)[:1]


def written_since(source: str, batch: int) -> dict[str, int]:
    """Return the rows that later batches wrote, by the entries' ids."""
    rows = Entry.objects.filter(source=source, batch__gt=batch)
    return dict(rows.values_list("entry_id", "pk"))


def mark_gone(source: str, entry_ids: Collection[str], now: datetime) -> None:
    """Make tombstones of people: their groups forget them, their names are free."""
    for chunk in chunks(entry_ids):
        rows = Entry.objects.filter(source=source, entry_id__in=chunk)
        Edge.objects.filter(member_id__in=list(rows.values_list("pk", flat=True))).delete()
        rows.update(gone_at=now, kept_at=None, batch=_next_batch(source))


def drop(pks: Collection[int]) -> None:
    """Delete groups and units, with what hangs on them."""
    for chunk in chunks(pks):
        Edge.objects.filter(group_id__in=chunk).delete()
        Edge.objects.filter(member_id__in=chunk).delete()
        Unresolved.objects.filter(group_id__in=chunk).delete()
        Above.objects.filter(group_id__in=chunk).delete()
        Above.objects.filter(above_id__in=chunk).delete()
        Recheck.objects.filter(unit_id__in=chunk).delete()
        Entry.objects.filter(pk__in=chunk).exclude(kind=Kind.PERSON).delete()


# -- names -----------------------------------------------------------------------------------------------------


def roots(source: str, keys: Collection[str]) -> dict[str, int]:
    """Return the rows without a known parent whose whole name has one of these keys."""
    rows = Entry.objects.filter(source=source, parent_id=None, rdn_key__in=list(keys), gone_at=None)
    return dict(rows.order_by("-pk").values_list("rdn_key", "pk"))


def child(parent: int, rdn_key: str) -> int | None:
    """Return the row of this name below a row; whoever is held as gone only if nobody else has the name."""
    rows = list(
        Entry.objects.filter(parent_id=parent, rdn_key=rdn_key, gone_at=None).order_by("-pk").values_list(
            "pk", "source", "entry_id"
        )
    )  # fmt: skip
    if len(rows) > 1:
        held = Held.objects.filter(source=rows[0][1], entry_id__in=[row[2] for row in rows], wait=Wait.LEAVE)
        gone = set(held.values_list("entry_id", flat=True))
        rows.sort(key=lambda row: row[2] in gone)
    return rows[0][0] if rows else None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands."""

    parent: int | None
    rdn: str
    entry_id: str


def places(pks: Collection[int]) -> dict[int, Place]:
    """Return where rows stand."""
    found: dict[int, Place] = {}
    for chunk in chunks(pks):
        for pk, parent, rdn, entry_id in Entry.objects.filter(pk__in=chunk).values_list(
            "pk", "parent_id", "rdn", "entry_id"
        ):
            found[pk] = Place(parent, rdn, entry_id)
    return found


def units(source: str) -> dict[int, Place]:
    """Return all units of a source."""
    rows = Entry.objects.filter(source=source, kind=Kind.UNIT)
    return {
        pk: Place(parent, rdn, entry_id)
        for pk, parent, rdn, entry_id in rows.values_list("pk", "parent_id", "rdn", "entry_id")
    }


def people_below(unit: int, after: int, limit: int) -> list[int]:
    """Return the rows of people at any depth below a unit, in order, from beyond one on."""
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE below (id) AS (SELECT id FROM directory_entry WHERE parent_id = %s"
            " UNION SELECT e.id FROM directory_entry e JOIN below b ON e.parent_id = b.id)"
            " SELECT e.id FROM directory_entry e JOIN below b ON e.id = b.id"
            " WHERE e.kind = 'person' AND e.gone_at IS NULL AND e.id > %s ORDER BY e.id LIMIT %s",
            [unit, after, limit],
        )
        return [row[0] for row in cursor.fetchall()]


# -- groups ----------------------------------------------------------------------------------------------------


def edges_of(groups: Collection[int]) -> dict[int, dict[int, int]]:
    """Return the members of groups: group -> member -> number of the name that said so."""
    found: dict[int, dict[int, int]] = {group: {} for group in groups}
    for chunk in chunks(groups):
        rows = Edge.objects.filter(group_id__in=chunk).values_list("group_id", "member_id", "given")
        for group, member, number in rows.iterator(chunk_size=5000):
            found[group][member] = number
    return found


def unresolved_of(groups: Collection[int]) -> dict[int, set[int]]:
    """Return the numbers of the names that are nobody's yet, by group."""
    found: dict[int, set[int]] = {group: set() for group in groups}
    for chunk in chunks(groups):
        for group, number in Unresolved.objects.filter(group_id__in=chunk).values_list("group_id", "given"):
            found[group].add(number)
    return found


def take_unresolved(keys: Mapping[bytes, int]) -> list[tuple[int, int, int]]:
    """Take away the names that are somebody's now; return (group, member, number) of each."""
    found = []
    for chunk in chunks(keys):
        rows = Unresolved.objects.filter(member_key__in=chunk)
        found += [
            (group, keys[bytes(key)], number)
            for group, key, number in rows.values_list("group_id", "member_key", "given")
        ]
        rows.delete()
    return found


def has_unresolved() -> bool:
    """Say whether any group waits for anybody."""
    return Unresolved.objects.exists()


def forget_names(members: Collection[int]) -> None:
    """Say that the names by which groups mean these members must be looked up again."""
    for chunk in chunks(members):
        Edge.objects.filter(member_id__in=chunk).update(given=0)


def write_edges(
    added: Sequence[tuple[int, int, int]], removed: Collection[tuple[int, int]], renamed: Sequence[tuple[int, int, int]]
) -> None:  # fmt: skip
    """Write links of groups: (group, member, number) added and renamed, (group, member) removed."""
    with connection.cursor() as cursor:
        if removed:
            cursor.executemany(
                "DELETE FROM directory_edge WHERE group_id = %s AND member_id = %s", list(removed)
            )
        if renamed:
            cursor.executemany(
                "UPDATE directory_edge SET given = %s WHERE group_id = %s AND member_id = %s",
                [(number, group, member) for group, member, number in renamed],
            )
    insert("directory_edge", ("group_id", "member_id", "given"), added)


def write_unresolved(added: Sequence[tuple[int, bytes, int]], removed: Collection[tuple[int, int]]) -> None:
    """Write names that are nobody's: (group, key, number) added, (group, number) removed."""
    if removed:
        with connection.cursor() as cursor:
            cursor.executemany(
                "DELETE FROM directory_unresolved WHERE group_id = %s AND given = %s", list(removed)
            )
    insert("directory_unresolved", ("group_id", "member_key", "given"), added)


def only_groups(pks: Collection[int]) -> set[int]:
    """Return those that are groups."""
    found: set[int] = set()
    for chunk in chunks(pks):
        found |= set(Entry.objects.filter(pk__in=chunk, kind=Kind.GROUP).values_list("pk", flat=True))
    return found


def nested(source: str) -> list[tuple[int, int]]:
    """Return the links between groups, (below, above)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT e.member_id, e.group_id FROM directory_entry g JOIN directory_edge e ON e.member_id = g.id"
            " WHERE g.source = %s AND g.kind = 'group'",
            [source],
        )
        return cursor.fetchall()


def above_of(groups: Collection[int]) -> dict[int, set[int]]:
    """Return the groups above groups."""
    found: dict[int, set[int]] = {group: set() for group in groups}
    for chunk in chunks(groups):
        for group, above in Above.objects.filter(group_id__in=chunk).values_list("group_id", "above_id"):
            found[group].add(above)
    return found


def write_above(sets: Mapping[int, Collection[int]]) -> set[int]:
    """Store the groups above groups; return those whose set is another one now."""
    before = above_of(sets.keys())
    changed = {group for group, above in sets.items() if before[group] != set(above)}
    for group in changed:
        Above.objects.filter(group_id=group, above_id__in=before[group] - set(sets[group])).delete()
    insert(
        "directory_above",
        ("group_id", "above_id"),
        [(group, above) for group in changed for above in set(sets[group]) - before[group]],
    )
    return changed


def people_in(groups: Collection[int]) -> set[int]:
    """Return the people that are members of groups themselves."""
    found: set[int] = set()
    for chunk in chunks(groups):
        marks = ", ".join(["%s"] * len(chunk))
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT DISTINCT e.member_id FROM directory_edge e JOIN directory_entry m ON m.id = e.member_id"
                f" WHERE m.kind = 'person' AND e.group_id IN ({marks})",
                chunk,
            )
            found |= {row[0] for row in cursor.fetchall()}
    return found


def groups_of(people: Collection[int]) -> dict[int, set[int]]:
    """Return the groups in which people are themselves."""
    found: dict[int, set[int]] = {person: set() for person in people}
    for chunk in chunks(people):
        for group, member in Edge.objects.filter(member_id__in=chunk).values_list("group_id", "member_id"):
            found[member].add(group)
    return found


# -- people, to be described to the service ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A person's or group's row, as far as a description needs it."""

    pk: int
    entry_id: str
    parent: int | None
    rdn: str
    name: str
    attributes: str
    acts: bool
    office: str
    is_gone: bool
    held: Wait | None


def load(source: str, *, pks: Iterable[int] = (), entry_ids: Iterable[str] = ()) -> list[Row]:
    """Return rows by their numbers, or by the entries' ids."""
    found: list[Row] = []
    wanted: Iterator[tuple[str, list[Any]]] = itertools.chain(
        (("pk__in", chunk) for chunk in chunks(pks)), (("entry_id__in", chunk) for chunk in chunks(entry_ids))
    )
    for name, chunk in wanted:
        rows = list(
            Entry.objects.filter(source=source, **{name: chunk}).values_list(
                "pk", "entry_id", "parent_id", "rdn", "name", "attributes", "acts", "office", "gone_at"
            )
        )
        held = _held(source, [row[1] for row in rows])
        found += [Row(*row[:-1], row[-1] is not None, held.get(row[1])) for row in rows]
    return found


def due_ends(source: str, now: datetime, limit: int) -> list[str]:
    """Return the people whose end has come, and whom the rows still let act."""
    rows = Entry.objects.filter(source=source, acts=True, ends_at__lte=now, gone_at=None)
    return list(rows.order_by("ends_at", "pk").values_list("entry_id", flat=True)[:limit])


# -- brakes ----------------------------------------------------------------------------------------------------


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


# -- what waits --------------------------------------------------------------------------------------------------


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


# -- people who come back, and who are looked at again ------------------------------------------------------------


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
            gone_at=None, kept_at=now, batch=_next_batch(source)
        )


def called(source: str, name: str) -> list[str]:
    """Return the ids of the people of a folded login name, tombstones included."""
    rows = Entry.objects.filter(source=source, name=name, kind=Kind.PERSON)
    return list(rows.order_by("pk").values_list("entry_id", flat=True))


def as_told(source: str, entry_ids: Collection[str]) -> list[Told]:
    """Return people as if they were read just now, unchanged."""
    found: list[Told] = []
    for chunk in chunks(entry_ids):
        rows = Entry.objects.filter(source=source, entry_id__in=chunk).order_by("pk")
        found += [
            Told(
                row.pk, row.entry_id, Kind(row.kind), row.parent_id, row.rdn, row.rdn_key, bytes(row.digest),
                row.name, row.acts, row.ends_at, row.office, row.attributes.encode("utf-8"),
            )
            for row in rows
        ]  # fmt: skip
    return found


def stop_acting(source: str, entry_ids: Collection[str]) -> None:
    """Say that these people may not act any more, as far as the directory goes."""
    for chunk in chunks(entry_ids):
        Entry.objects.filter(source=source, entry_id__in=chunk).update(acts=False)


def set_office(pk: int, office: str) -> None:
    """Store another office of a person."""
    Entry.objects.filter(pk=pk).update(office=office)


@dataclass(frozen=True, slots=True)
class RecheckRow:
    """A unit below which people are to be looked at again, from beyond a row on."""

    pk: int
    unit: int
    after: int


def has_rechecks(source: str) -> bool:
    """Say whether people are to be looked at again."""
    return Recheck.objects.filter(source=source).exists()


def next_recheck(source: str) -> RecheckRow | None:
    """Return the oldest unit below which people are to be looked at again."""
    row = Recheck.objects.filter(source=source).order_by("pk").first()
    return RecheckRow(row.pk, row.unit_id, row.after_id) if row else None


def add_rechecks(source: str, units_: Collection[int]) -> None:
    """Let the people below units be looked at again, from the first one on."""
    if units_:
        Recheck.objects.bulk_create(
            [Recheck(source=source, unit_id=unit) for unit in units_],
            update_conflicts=True,
            unique_fields=["source", "unit_id"],
            update_fields=["after_id"],
        )


def note_recheck(row: RecheckRow, after: int | None) -> None:
    """Note how far that is; None when it is done."""
    if after is None:
        Recheck.objects.filter(pk=row.pk).delete()
    else:
        Recheck.objects.filter(pk=row.pk).update(after_id=after)


def below_of(groups: Collection[int]) -> set[int]:
    """Return the groups below groups."""
    found: set[int] = set()
    for chunk in chunks(groups):
        found |= set(Above.objects.filter(above_id__in=chunk).values_list("group_id", flat=True))
    return found


def purge(now: datetime) -> int:
    """Empty what is known of people who left more than thirty days ago; their tombstones stay. Idempotent."""
    since = now - KEPT_FOR
    Entry.objects.filter(kept_at__lt=since).update(kept_at=None)
    RemovalRow.objects.filter(applied_at__lt=now - 3 * KEPT_FOR).delete()
    old = Entry.objects.filter(gone_at__lt=since).exclude(attributes="{}")
    return old.update(attributes="{}", rdn="", rdn_key="", name="", digest=b"")


def completed_at(source: str) -> datetime | None:
    """Return when everything was compared last."""
    return SourceState.objects.filter(source=source).values_list("completed_at", flat=True).first()


def state_row(source: str) -> SourceState:
    """Return the source's row, or what it is before anything was read."""
    return SourceState.objects.filter(source=source).first() or SourceState(source=source)


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
