"""From a reading to what of it is new. Streams: of 100,000 entries that are as they were, only their names are kept."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from directory import store
from directory.changes import Change, Completeness, Ending, Gone, Kind, Reading, Seen
from directory.mapping import Mapped
from directory.plan import Known, Wait

# Up to so many changes are compared by asking for their rows; beyond it all rows are read once.
FEW = 1000


@dataclass(frozen=True, slots=True)
class Read:
    """An entry that is new or not as it was. `members` of groups only."""

    entry_id: str
    kind: Kind
    dn: bytes
    digest: bytes
    attributes: bytes
    members: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Gathered:
    """What a reading brought. `stored` is everything that is known, at `version`; None for few changes.

    `names` maps the names of all that was sent, or of what is new, to their ids; `groups` holds the members of
    groups that look as they did, since the people behind the names may be others.
    """

    ending: Ending
    began_at: datetime
    read: dict[str, Read] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)
    names: dict[bytes, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    groups: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    stored: dict[str, Known] | None = None
    version: int = 0

    @property
    def is_empty(self) -> bool:
        """Say whether nothing was said at all."""
        return self.stored is None and not self.read and not self.gone


def gather(source: str, mapped: Mapped, reading: Reading) -> Gathered:
    """Consume a reading. Raises DirectoryError when it is not whole."""
    version = store.read_state(source).version
    changes = iter(reading)
    first: list[Change] = []
    began_at = datetime.now(UTC)
    for change in changes:
        if not first:
            began_at = datetime.now(UTC)  # when the server began to speak, not when we began to wait
        first.append(change)
        if len(first) > FEW:
            break
    else:
        ending = reading.ending()
        if ending.completeness is Completeness.CHANGES:
            gathered = Gathered(ending, began_at)
            for change in first:
                _take(gathered, mapped, change)
            return gathered
    stored = store.all_known(source)
    gathered = Gathered(_NOT_YET, began_at, stored=stored, version=version)
    was = _StoredNames(stored)
    for change in itertools.chain(first, _freeing(first, changes)):
        _compare(gathered, mapped, was, change)
    gathered.ending = reading.ending()
    return gathered


_NOT_YET = Ending(Completeness.CHANGES, b"")


def _freeing(first: list[Change], changes: Iterator[Change]) -> Iterator[Change]:
    first.clear()
    yield from changes


def _take(gathered: Gathered, mapped: Mapped, change: Change) -> None:
    """Keep a change; what is said last of an entry counts."""
    if isinstance(change, Gone):
        if gathered.read.pop(change.entry_id, None) is None:
            gathered.gone.pop(change.entry_id, None)
        gathered.gone[change.entry_id] = None
        return
    gathered.gone.pop(change.entry_id, None)
    gathered.read.pop(change.entry_id, None)
    gathered.read[change.entry_id] = _read(mapped, change, mapped.digest(change.kind, change.raw))
    gathered.names[change.raw.dn] = change.entry_id


def _compare(gathered: Gathered, mapped: Mapped, was: "_StoredNames", change: Change) -> None:
    """Keep a change if it is one."""
    if isinstance(change, Gone):
        gathered.seen.discard(change.entry_id)
        gathered.groups.pop(change.entry_id, None)
        _take(gathered, mapped, change)
        return
    entry_id, kind, raw = change.entry_id, change.kind, change.raw
    digest = mapped.digest(kind, raw)
    known = (gathered.stored or {}).get(entry_id)
    if known is not None:
        entry_id = known.entry_id  # the same text, in memory once
    gathered.seen.add(entry_id)
    gathered.names[raw.dn] = entry_id
    if (
        known is not None
        and known.digest == digest
        and known.kind is kind
        and not known.is_gone
        and known.held is not Wait.LEAVE
        and was.dn(known) == raw.dn
    ):
        gathered.gone.pop(entry_id, None)
        gathered.read.pop(entry_id, None)
        if kind is Kind.GROUP:
            gathered.groups[entry_id] = mapped.members(raw)
        return
    gathered.gone.pop(entry_id, None)
    gathered.groups.pop(entry_id, None)
    gathered.read[entry_id] = _read(mapped, change, digest)


def _read(mapped: Mapped, change: Seen, digest: bytes) -> Read:
    raw = change.raw
    members = mapped.members(raw) if change.kind is Kind.GROUP else ()
    return Read(change.entry_id, change.kind, raw.dn, digest, mapped.write(change.kind, raw), members)


class _StoredNames:
    """The names that stored entries have."""

    def __init__(self, stored: Mapping[str, Known]) -> None:
        self._rows = {known.pk: known for known in stored.values() if known.kind is Kind.UNIT}
        parents = {known.parent for known in stored.values()}
        self._rows |= {known.pk: known for known in stored.values() if known.pk in parents}
        self._dns: dict[int, bytes] = {}

    def dn(self, known: Known) -> bytes:
        own = known.rdn.encode("utf-8", "surrogateescape")
        return own if known.parent is None else own + b"," + self._parent(known.parent, 0)

    def _parent(self, pk: int, depth: int) -> bytes:
        if pk not in self._dns:
            row = self._rows.get(pk)
            if row is None or depth > 64:
                return b""
            own = row.rdn.encode("utf-8", "surrogateescape")
            self._dns[pk] = own if row.parent is None else own + b"," + self._parent(row.parent, depth + 1)
        return self._dns[pk]
