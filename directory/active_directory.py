"""Follows Active Directory by its update numbers: what changed since a number, what was deleted, everything.

Each controller counts its own changes (`uSNChanged`), so a cookie is (controller's invocation id, number); another
controller, or one restored from a backup, gets a new invocation id and with it a comparison of everything.
Deleted entries are told only to accounts that may look into the container of deleted objects; to all others the
same search succeeds and finds nothing. Then the ids of everything are listed every few seconds, and what is missing
is inferred, with the brakes of inference. Changes of memberOf and of names below a renamed unit are not told at all:
links come from `member`, names from the stored tree. Big groups come in ranges.
Source: [MS-ADTS] §3.1.1.2 (uSN), §3.1.1.5.5 (tombstones), §3.1.1.3.1.3.3 (range retrieval).
"""

import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from threading import Event

from directory import ber, entries, kinds, paging
from directory.budget import Budget
from directory.changes import Change, Completeness, Ending, Finding, Gone, Reading, Seen
from directory.config import EntryIdForm, Server, Source
from directory.entries import RawEntry
from directory.errors import DirectoryError, UnavailableReason
from directory.servers import Gateway, Purpose
from directory.wire import Control, Wire

logger = logging.getLogger(__name__)

SHOW_DELETED = "1.2.840.113556.1.4.417"
POLL_SECONDS = 1.0
# How often everything is listed where deletions are hidden: a delete is known after this and one poll.
SCAN_SECONDS = 5.0
SILENCE_SECONDS = 10.0
# Numbers move with every sign-in somewhere: the cookie follows when it is this far behind, or something changed.
BEHIND_MAX = 10_000
IDS_AT_ONCE = 100
TICK_SECONDS = 0.2
RANGE = "member;range="
RANGES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Position:
    """Where a controller's changes were read to."""

    invocation: str
    number: int

    def write(self) -> bytes:
        """Return it as a cookie."""
        return f"usn:{self.invocation}:{self.number}".encode()


def read_position(cookie: bytes) -> Position | None:
    """Return the position of a cookie, None for one that is none of ours."""
    parts = cookie.decode("ascii", "replace").split(":")
    if len(parts) != 3 or parts[0] != "usn" or not parts[2].isascii() or not parts[2].isdigit():
        return None
    try:
        return Position(str(uuid.UUID(parts[1])), int(parts[2]))
    except ValueError:
        return None


class ActiveDirectoryReader:
    """A Reader of Active Directory. Not for threads or forks."""

    def __init__(self, source: Source, gateway: Gateway | None = None) -> None:
        """Prepare; connects at the first question. Raises ValueError when the source cannot be followed."""
        if source.entry_id_form is not EntryIdForm.GUID:
            raise ValueError(f"Directory {source.name}: entries of Active Directory are known by objectGUID.")
        self._source = source
        self._gateway = gateway or Gateway(source)
        self._kept: tuple[Server, Wire] | None = None
        self._seen = kinds.build_seen(source)
        self._condition = kinds.build_whole_filter(source)
        self._attributes = kinds.wanted_attributes(source)
        self._scanned_at = float("-inf")
        self._sees_deleted = False

    @property
    def source(self) -> Source:
        """Return what is read."""
        return self._source

    def poll(self, cookie: bytes) -> Reading:
        """Return what changed since the cookie; an empty or unknown cookie brings everything."""
        return _Poll(self, read_position(cookie))

    def full(self) -> Reading:
        """Return everything, with a cookie for the changes after it."""
        return _Poll(self, None)

    def follow(self, cookie: bytes, stop: Event, *, idle_seconds: float = 30.0) -> Iterator[Reading]:
        """Yield what changed since the cookie, then what each poll finds; see changes.Reader."""
        first = self.poll(cookie)
        yield first
        cookie = first.ending().cookie or cookie
        heard = time.monotonic()
        while not stop.wait(POLL_SECONDS):
            reading = self.poll(cookie)
            changes = list(reading)
            ending = reading.ending()
            if changes or ending.cookie or ending.completeness is not Completeness.CHANGES:
                yield _Read(changes, ending)
                cookie = ending.cookie or cookie
                heard = time.monotonic()
            elif time.monotonic() - heard >= idle_seconds:
                yield _Read([], ending)
                heard = time.monotonic()

    def lookup(self, entry_ids: Collection[str]) -> frozenset[str]:
        """Return those of the ids that are still there; raises DirectoryError unless every answer is whole."""
        found: set[str] = set()
        wanted = sorted(entry_ids)
        for start in range(0, len(wanted), IDS_AT_ONCE):
            answer = self._gateway.search(
                self._source.base_dn,
                kinds.build_lookup_filter(self._source, tuple(wanted[start : start + IDS_AT_ONCE])),
                (self._source.entry_id_attribute,),
                0,
                self._budget(),
            )
            found |= {entries.read_entry_id(self._source, entry) for entry in answer.entries}
        return frozenset(found).intersection(wanted)

    def check(self) -> Sequence[Finding]:
        """Return what is wrong with the set-up, as far as this account can see; reads everything once."""
        found = []
        reading = self.full()
        try:
            for _ in reading:
                pass
            reading.ending()
        except DirectoryError as fault:
            if fault.reason is not UnavailableReason.REFUSED:
                raise
            found.append(Finding.LIMITED)
        if not self.sees_deleted(self.wire()):
            found.append(Finding.DELETIONS_HIDDEN)
        return found

    def close(self) -> None:
        """Close the connections."""
        self._drop()
        self._gateway.close()

    # -- for the readings -----------------------------------------------------------------------------------

    def wire(self) -> Wire:
        """Return the kept connection, or open one at the first server that answers; raises DirectoryError."""
        if self._kept is not None:
            if self._kept[1].is_fit():
                return self._kept[1]
            self._drop()
        faults = []
        for server in self._gateway.in_order():
            try:
                wire = self._gateway.open(server, Purpose.SEARCH, self._budget())
            except DirectoryError as fault:
                logger.warning("directory %s, %s: %s", self._source.name, server.url, fault)
                faults.append(fault)
                if not fault.may_try_next:
                    raise
                self._gateway.report(server, fault)
                continue
            self._gateway.succeed(server)
            self._kept = (server, wire)
            return wire
        raise faults[0]

    def fail(self, fault: DirectoryError) -> None:
        """Throw the connection away after a fault, and let the next question go elsewhere if that may help."""
        if self._kept is not None and fault.may_try_next:
            self._gateway.report(self._kept[0], fault)
        self._drop()

    def position(self, wire: Wire) -> Position:
        """Return where the controller stands now; read before its changes, so that none falls between."""
        root = wire.read("", ("highestCommittedUSN", "dsServiceName"), self._budget())
        number, service = _value(root, "highestcommittedusn"), _value(root, "dsservicename")
        own = (
            wire.read(service.decode("utf-8", "replace"), ("invocationId",), self._budget())
            if service
            else None
        )
        invocation = _value(own, "invocationid")
        if not number.isdigit() or len(invocation) != 16:
            raise DirectoryError(
                UnavailableReason.NONSENSE, "the controller does not say where its changes stand"
            )
        return Position(str(uuid.UUID(bytes_le=invocation)), int(number))

    def sees_deleted(self, wire: Wire) -> bool:
        """Say whether this account was ever shown a deleted entry; while it was not, it may be that it never will be.

        Being shown the container proves nothing: Samba shows it to everybody, and what is in it to few.
        """
        if not self._sees_deleted:
            control = Control(paging.CONTROL, paging.build_request(b"", 1))
            shown = Control(SHOW_DELETED, is_critical=True, value=b"")
            stream = wire.stream(
                self._graveyard, "(lastKnownParent=*)", ("cn",), [control, shown], SILENCE_SECONDS
            )
            for message in stream.messages:
                if message.operation == ber.SEARCH_ENTRY:
                    self._sees_deleted = True
                elif message.operation == ber.SEARCH_DONE:
                    break
        return self._sees_deleted

    def everything(self, wire: Wire) -> Iterator[Change]:
        """Yield every entry."""
        return self._pages(wire, self._source.base_dn, self._condition, self._attributes, self.build)

    def changed(self, wire: Wire, since: int) -> Iterator[Change]:
        """Yield the entries that changed after a number."""
        condition = f"(&{self._condition}(uSNChanged>={since + 1}))"
        return self._pages(wire, self._source.base_dn, condition, self._attributes, self.build, is_some=False)

    def deleted(self, wire: Wire, since: int) -> Iterator[Change]:
        """Yield what was deleted after a number, as far as this account may see it."""
        return self._pages(
            wire,
            self._graveyard,
            f"(&(isDeleted=TRUE)(uSNChanged>={since + 1}))",
            (self._source.entry_id_attribute,),
            lambda entry: Gone(entries.read_entry_id(self._source, entry)),
            controls=[Control(SHOW_DELETED, is_critical=True, value=b"")],
            is_some=False,
        )

    def scan(self, wire: Wire) -> frozenset[str] | None:
        """Return the ids of everything, when it is time to look again; None when it is not."""
        if time.monotonic() - self._scanned_at < SCAN_SECONDS:
            return None
        ids: set[str] = set()

        def note(entry: RawEntry) -> Change | None:
            ids.add(entries.read_entry_id(self._source, entry))
            return None

        for _ in self._pages(
            wire, self._source.base_dn, self._condition, (self._source.entry_id_attribute,), note
        ):
            pass
        self._scanned_at = time.monotonic()
        return frozenset(ids)

    def build(self, entry: RawEntry) -> Seen:
        """Make a change of an entry; a group's members are complete."""
        return self._seen(entries.read_entry_id(self._source, entry), entry)

    def complete(self, change: Change) -> Change:
        """Return a change with every member of a big group, of which the server sends a range at a time."""
        if isinstance(change, Gone):
            return change
        attributes = dict(change.raw.attributes)
        name = next((one for one in attributes if one.startswith(RANGE)), None)
        if name is None:
            return change
        members = list(attributes.pop(name))
        for _ in range(RANGES_MAX):
            if name.endswith("-*"):
                attributes[self._source.member_attribute.lower()] = tuple(members)
                return Seen(change.entry_id, change.kind, RawEntry(change.raw.dn, attributes))
            name, more = self._next_range(change.entry_id, int(name.rpartition("-")[2]) + 1)
            members += more
        raise DirectoryError(UnavailableReason.NONSENSE, "the ranges of a group do not end")

    def _next_range(self, entry_id: str, start: int) -> tuple[str, tuple[bytes, ...]]:
        """Return the members of a group from a place on, and the name of the range that they are."""
        answer = self._gateway.search(
            self._source.base_dn,
            kinds.build_lookup_filter(self._source, (entry_id,)),
            (f"{RANGE}{start}-*",),
            2,
            self._budget(),
        )
        if len(answer.entries) != 1:
            raise DirectoryError(UnavailableReason.NONSENSE, "a group went while its members were read")
        found = [item for item in answer.entries[0].attributes.items() if item[0].startswith(RANGE)]
        # A group that shrank in the meantime has no such range: what was read is all there is.
        return found[0] if found else (f"{RANGE}{start}-*", ())

    @property
    def _graveyard(self) -> str:
        return f"CN=Deleted Objects,{self._source.base_dn}"

    def _pages(
        self,
        wire: Wire,
        base: str,
        condition: str,
        attributes: tuple[str, ...],
        build: Callable[[RawEntry], Change | None],
        *,
        controls: Sequence[Control] = (),
        is_some: bool = True,
    ) -> Iterator[Change]:
        def ask(cookie: bytes) -> Iterator[ber.Message]:
            paged = Control(paging.CONTROL, paging.build_request(cookie))
            return wire.stream(base, condition, attributes, [paged, *controls], SILENCE_SECONDS).messages

        return iter(paging.PagedReading(ask, build, may_be_empty=not is_some))

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept[1].close()
            self._kept = None

    def _budget(self) -> Budget:
        return Budget.start(self._source.budget_seconds)


class _Poll:
    """One reading of a controller: everything, or what changed since a position."""

    def __init__(self, reader: ActiveDirectoryReader, since: Position | None) -> None:
        self._reader, self._since = reader, since
        self._ending: Ending | None = None

    def __iter__(self) -> Iterator[Change]:
        try:
            yield from self._read()
        except ber.BERError as error:
            fault = DirectoryError(UnavailableReason.NONSENSE, str(error))
            self._reader.fail(fault)
            raise fault from None
        except DirectoryError as fault:
            self._reader.fail(fault)
            raise

    def ending(self) -> Ending:
        """Return how it ended; raises DirectoryError when it did not."""
        if self._ending is None:
            raise DirectoryError(UnavailableReason.UNREACHABLE, "the reading did not end")
        return self._ending

    def _read(self) -> Iterator[Change]:
        reader, since = self._reader, self._since
        wire = reader.wire()
        now = reader.position(wire)
        if since is None or since.invocation != now.invocation or since.number > now.number:
            for change in reader.everything(wire):
                yield reader.complete(change)
            self._ending = Ending(Completeness.COMPLETE, now.write())
            return
        is_changed = False
        if now.number > since.number:
            # Whole lists: a question about a range must not come between the pages of this one.
            for change in list(reader.changed(wire, since.number)):
                is_changed = True
                yield reader.complete(change)
        present = None
        if reader.sees_deleted(wire):
            if now.number > since.number:
                for change in reader.deleted(wire, since.number):
                    is_changed = True
                    yield change
        else:
            present = reader.scan(wire)
        moved = is_changed or now.number - since.number > BEHIND_MAX
        self._ending = Ending(
            Completeness.CHANGES if present is None else Completeness.PRESENT,
            now.write() if moved else b"",
            present or frozenset(),
        )


@dataclass(frozen=True, slots=True)
class _Read:
    """A reading that was consumed already."""

    changes: list[Change]
    end: Ending

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def ending(self) -> Ending:
        """Return how it ended."""
        return self.end


def _value(entry: RawEntry | None, name: str) -> bytes:
    values = entry.attributes.get(name, ()) if entry is not None else ()
    return values[0] if len(values) == 1 else b""
