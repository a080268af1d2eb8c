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
from django.db.models import F

from directory.changes import Kind
from directory.models import (
    Above,
    Edge,
    Entry,
    Held,
    Recheck,
    SourceState,
    Unresolved,
)
from directory.models import Removal as RemovalRow
from directory.plan import Known, Told, Wait

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


def next_batch(source: str) -> Any:  # Any: a query inside a statement
    """Return, as part of a statement, the number of the batch that is being written."""
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
        rows.update(gone_at=now, kept_at=None, batch=next_batch(source))


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


# -- people who are looked at again ------------------------------------------------------------------------------


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
