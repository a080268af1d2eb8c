"""Describes people to the service: as they are stored, with their units and groups, ends of access first."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from directory import entries, mapping, store, stored_links
from directory.changes import Effects, Happening, PersonEvent
from directory.config import Source
from directory.entries import Group, Person, RawEntry
from directory.errors import DirectoryError
from directory.plan import Intended
from directory.store import Row
from directory.tree import Tree

# People handed to the service at once: as many as may be in memory together.
EVENTS_AT_ONCE = 1000


class Teller:
    """Describes people to the service."""

    def __init__(self, source: Source, effects: Effects, tree: Tree | None = None) -> None:
        """Describe from a tree, or from what is stored alone."""
        self._source = source
        self._effects = effects
        self._tree = tree or Tree(source.name, {}, (), is_whole=False)
        self._groups: dict[int, Group] = {}
        self._built: dict[str, Person] = {}

    def remember(self, entry_id: str, person: Person) -> None:
        """Keep a person who was built just now from what is written just now."""
        self._built[entry_id] = person

    def build(self, parent: int | None, rdn: str, attributes: Mapping[str, tuple[bytes, ...]]) -> Person:
        """Return a person without groups."""
        raw = RawEntry(self._tree.dn(parent, rdn).encode("utf-8"), attributes)
        person, units = entries.build_person(self._source, raw), self._tree.units(parent)
        return replace(person, unit_ids=units) if units else person

    def people(self, rows: Sequence[Row]) -> dict[str, Person]:
        """Return people with their groups, by entry id; who cannot be read is left out."""
        above_of = stored_links.groups_of([row.pk for row in rows])
        direct = set().union(*above_of.values())
        further = stored_links.above_of(direct)
        self._learn(direct.union(*further.values()))
        found: dict[str, Person] = {}
        for row in rows:
            try:
                person = self._built.get(row.entry_id) or self.build(
                    row.parent, row.rdn, mapping.read(row.attributes)
                )
            except DirectoryError:
                continue
            pks = above_of[row.pk].union(*(further[group] for group in above_of[row.pk]))
            groups = sorted(
                (self._groups[pk] for pk in pks if pk in self._groups),
                key=lambda one: (one.name, one.entry_uuid),
            )
            found[row.entry_id] = replace(person, groups=tuple(groups)) if groups else person
        return found

    def _learn(self, pks: Collection[int]) -> None:
        for row in store.load(self._source.name, pks=[pk for pk in pks if pk not in self._groups]):
            self._groups[row.pk] = Group(row.entry_id, self._tree.dn(row.parent, row.rdn), row.name)

    def place_again(self, rows: Sequence[Row]) -> dict[str, int]:
        """Ask for the offices of people again and store those that are others; return how offices grew."""
        by: Counter[str] = Counter()
        for row in rows:
            try:
                person = self.build(row.parent, row.rdn, mapping.read(row.attributes))
            except DirectoryError:
                continue
            office = self._effects.office_of(person)
            if office != row.office:
                store.set_office(row.pk, office)
                by[row.office] -= 1
                by[office] += 1
        return by

    def tell(self, events: Sequence[Intended], affected: Collection[int], now: datetime) -> int:
        """Hand events to the service, ends of access first, then people whose groups changed; return how many."""
        count = 0
        intended = {event.entry_id for event in events}
        for chunk in store.chunks(self._events(events, affected, intended), EVENTS_AT_ONCE):
            count += self._hand_over(chunk, now)
        return count

    def _events(
        self, events: Sequence[Intended], affected: Collection[int], intended: Collection[str]
    ) -> Iterator[Intended]:
        yield from events
        for chunk in store.chunks(sorted(affected), EVENTS_AT_ONCE):
            for row in store.load(self._source.name, pks=chunk):
                if row.entry_id not in intended:
                    yield Intended(Happening.CHANGED, row.entry_id)

    def _hand_over(self, chunk: Sequence[Intended], now: datetime) -> int:
        name = self._source.name
        rows = {row.entry_id: row for row in store.load(name, entry_ids=[one.entry_id for one in chunk])}
        # Who is held hears nothing; who left has no description.
        described = self.people(
            [
                rows[one.entry_id]
                for one in chunk
                if one.happening is not Happening.LEFT and one.entry_id in rows
            ]
        )
        told = []
        for one in chunk:
            row = rows.get(one.entry_id)
            if row is None or row.held is not None:
                continue
            if one.happening is Happening.LEFT:
                told.append(PersonEvent(one.happening, name, one.entry_id, None, one.is_inferred))
            elif not row.is_gone and one.entry_id in described:
                told.append(
                    PersonEvent(one.happening, name, one.entry_id, described[one.entry_id], one.is_inferred)
                )
        if told:
            self._effects.apply(told, now)
        return len(told)
