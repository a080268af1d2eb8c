"""Where rows stand, both ways: from a name to its row, and from a row to its name and the units above it.

One object lives as long as one batch, and knows what the batch read before what is stored.
"""

from collections.abc import Collection, Mapping

from directory import entries, names, store
from directory.store import Place

DEPTH_MAX = 64  # a circle of parents, which only broken data can have, must end


class Tree:
    """Names and places of one source.

    `read`: names as they were written -> rows, of what was read just now. `is_whole`: that is all there is, so
    nothing else is looked up. `others`: rows whose stored names count no more: read under another one, or gone.
    """

    def __init__(
        self, source: str, read: Mapping[bytes, int], others: Collection[int], *, is_whole: bool
    ) -> None:
        self._source = source
        self._read = read
        self._by_key: dict[bytes, int] | None = None
        self._others = others
        self._is_whole = is_whole
        self._found: dict[bytes, int | None] = {}
        self._places: dict[int, Place] = {}
        self._dns: dict[int, str] = {}
        self._units: dict[int, tuple[str, ...]] = {}

    # -- from a name to its row ----------------------------------------------------------------------------

    def find(self, dn: bytes) -> int | None:
        """Return the row of a name; None when it is nobody's. Raises ValueError when it is no name."""
        pk = self._read.get(dn)
        if pk is not None or not dn:
            return pk
        if dn in self._found:
            return self._found[dn]
        if self._by_key is None:
            self._by_key = {}
            for name, row in self._read.items():
                try:
                    self._by_key[names.key(name)] = row
                except ValueError:
                    continue  # found by its exact spelling only
        pk = self._by_key.get(names.key(dn))
        if pk is None and not self._is_whole:
            pk = self._stored(dn)
        if len(self._found) < 100_000:
            self._found[dn] = pk
        return pk

    def _stored(self, dn: bytes) -> int | None:
        own, parent = names.split(dn)
        above = self.find(parent) if parent else None
        if above is None:
            key = names.key(dn).hex()
            pk = store.roots(self._source, [key]).get(key)
        else:
            pk = store.child(above, names.rdn_key(own))
        return None if pk in self._others else pk

    def place(self, dn: bytes) -> tuple[int | None, bytes, str]:
        """Return parent, own name and its key; without a known parent the own name is all of it."""
        own, parent = names.split(dn)
        above = self.find(parent) if parent else None
        if above is None:
            return None, dn, names.key(dn).hex()
        return above, own, names.rdn_key(own)

    # -- from a row to its name ------------------------------------------------------------------------------

    def put(self, places: Mapping[int, Place]) -> None:
        """Learn where rows stand."""
        self._places.update(places)

    def dn(self, parent: int | None, rdn: str) -> str:
        """Return the whole name of a row."""
        return rdn if parent is None else f"{rdn},{self._dn(parent)}"

    def units(self, parent: int | None) -> tuple[str, ...]:
        """Return the ids of the units above, nearest first: one for each unit in the name, empty where none is known."""
        if parent is None:
            return ()
        if parent not in self._units:
            self._units[parent] = tuple(found for place in self._chain(parent) for found in _unit_ids(place))
        return self._units[parent]

    def _dn(self, pk: int) -> str:
        if pk not in self._dns:
            self._dns[pk] = ",".join(place.rdn for place in self._chain(pk))
        return self._dns[pk]

    def _chain(self, pk: int) -> list[Place]:
        chain: list[Place] = []
        at: int | None = pk
        while at is not None and len(chain) < DEPTH_MAX:
            if at not in self._places:
                self._places.update(store.places([at]))
            place = self._places.get(at)
            if place is None:
                break
            chain.append(place)
            at = place.parent
        return chain


def _unit_ids(place: Place) -> list[str]:
    """Return an id for each organisational unit in an own name; the row at the base has more than one RDN."""
    try:
        parts = entries.parse_dn(place.rdn)
    except ValueError:
        return []
    return [
        place.entry_id if number == 0 else ""
        for number, part in enumerate(parts)
        for kind, _ in part
        if kind in entries.OU_TYPES
    ]
