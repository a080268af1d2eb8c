"""Reads an OpenLDAP directory as a stream (RFC 4533): the changes since a cookie, everything, or each as it is made.

One search over the base for people, groups and units, so that one cookie stands for all of them. A server without
the overlay `syncprov` is read whole, in pages, at every poll.
"""

import itertools
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Event

from directory import ber, entries, kinds, paging, syncrepl
from directory.budget import Budget
from directory.changes import Change, Completeness, Ending, Finding, Gone, Reading, Seen
from directory.config import Server, Source
from directory.entries import RawEntry
from directory.errors import DirectoryError, UnavailableReason
from directory.servers import Gateway, Purpose
from directory.syncrepl import Mode, RefreshRequiredError
from directory.wire import Control, Stream, Wire

logger = logging.getLogger(__name__)

# Nothing for so long is a server that hangs. A present phase of 100,000 people is 0.4 s of silence before it begins.
SILENCE_SECONDS = 10.0
# A burst ends here even when more is waiting, so that one transaction stays small.
BURST_MAX = 5000
# How soon a stop is noticed.
TICK_SECONDS = 0.2
# Ids in one filter; 100 are some 12 kB.
IDS_AT_ONCE = 100
# slapd answers a cookie in which it finds no change number with every entry and the word that all deletions were
# told, which they were not. Such a cookie is as good as none.
_CSN = rb"\d{14}\.\d{6}Z#[0-9a-f]{6}#[0-9a-f]{3}#[0-9a-f]{6}"
COOKIE = re.compile(rb"rid=\d{3}(,sid=[0-9a-f]{3})?,csn=%b(;%b)*(,delcsn=%b)?" % (_CSN, _CSN, _CSN))


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one product speaks RFC 4533.

    `id_attribute` in lower case; `format_id` turns the UUID of the stream into the entry's id. A cookie that is not
    of the form `cookie` is as good as none. `flags_deletes`: see syncrepl.Refresh. Without `keeps_attributes` the
    entries that changed since a cookie come with other attributes than were asked for, and are read again.
    """

    id_attribute: str
    cookie: re.Pattern[bytes]
    format_id: Callable[[str], str] | None = None
    flags_deletes: bool = True
    keeps_attributes: bool = True


OPENLDAP = Dialect("entryuuid", COOKIE)


class NoStreamError(DirectoryError):
    """Say that the server knows no content synchronisation."""


@dataclass(slots=True)
class _Search:
    """A search that has begun: the first message was seen, and is the first of `messages`."""

    server: Server
    wire: Wire
    stream: Stream
    messages: Iterator[ber.Message]


class SyncReader:
    """A Reader of a server with content synchronisation. Not for threads or forks."""

    def __init__(self, source: Source, gateway: Gateway | None = None, dialect: Dialect = OPENLDAP) -> None:
        """Prepare; connects at the first question. Raises ValueError when the source cannot be followed."""
        if source.entry_id_attribute.lower() != dialect.id_attribute:
            raise ValueError(
                f"Directory {source.name}: its changes name entries by {dialect.id_attribute} only."
            )
        base = entries.dn_key(source.base_dn)
        if entries.dn_key(source.group_base)[-len(base) :] != base:
            raise ValueError(f"Directory {source.name}: groups must stand under the base to be followed.")
        self._source, self.dialect = source, dialect
        self._gateway = gateway or Gateway(source)
        self._kept: tuple[Server, Wire] | None = None
        self._seen = kinds.build_seen(source)
        self._condition = kinds.build_whole_filter(source)
        self._attributes = kinds.wanted_attributes(source)

    @property
    def source(self) -> Source:
        """Return what is read."""
        return self._source

    def poll(self, cookie: bytes) -> Reading:
        """Return what changed since the cookie; an empty or unknown cookie brings everything."""
        return _Poll(self, self._usable(cookie))

    def full(self) -> Reading:
        """Return everything, with a cookie for the changes after it."""
        return _Poll(self, b"")

    def follow(self, cookie: bytes, stop: Event, *, idle_seconds: float = 30.0) -> Iterator[Reading]:
        """Yield what changed since the cookie, then every burst as it comes; see changes.Reader."""
        usable = self._usable(cookie)
        try:
            search = self.begin(Mode.REFRESH_AND_PERSIST, usable)
        except RefreshRequiredError:
            usable = b""
            search = self.begin(Mode.REFRESH_AND_PERSIST, usable)
        try:
            refresh = syncrepl.Refresh(
                search.messages,
                self.build,
                has_cookie=bool(usable),
                persists=True,
                flags_deletes=self.dialect.flags_deletes,
            )
            yield _Guarded(self, refresh, is_read_again=bool(usable))
            refresh.ending()  # raises when it was not consumed: what comes next would be taken for the rest
            heard = time.monotonic()
            while not stop.is_set():
                if search.stream.has_something(min(TICK_SECONDS, idle_seconds)):
                    burst = syncrepl.Burst(
                        search.stream.messages, self.build, search.stream.has_something, BURST_MAX
                    )
                    yield _Guarded(self, burst)
                    burst.ending()
                    heard = time.monotonic()
                elif time.monotonic() - heard >= idle_seconds:
                    # A frozen server keeps its connections; the listener's poll may be answered by another one.
                    try:
                        self._gateway.probe(search.server)
                    except DirectoryError as fault:
                        self._gateway.report(search.server, fault)
                        raise
                    yield _Nothing()
                    heard = time.monotonic()
        finally:
            search.wire.close()

    def lookup(self, entry_ids: Collection[str]) -> frozenset[str]:
        """Return those of the ids that are still there; raises DirectoryError unless every answer is whole."""
        found: set[str] = set()
        wanted = sorted(entry_ids)
        for start in range(0, len(wanted), IDS_AT_ONCE):
            some = tuple(wanted[start : start + IDS_AT_ONCE])
            entries_found = self._find(some, (self._source.entry_id_attribute,))
            found |= {entries.read_entry_id(self._source, entry) for entry in entries_found}
        return frozenset(found).intersection(wanted)

    def check(self) -> Sequence[Finding]:
        """Return what is wrong with the set-up of the server, as far as this account can see.

        Reads everything once. Raises DirectoryError for what is no set-up but an outage.
        """
        found = []
        reading = self.full()
        try:
            for _ in reading:
                pass
            if not reading.ending().cookie:
                found.append(Finding.NO_STREAM)
        except DirectoryError as fault:
            if fault.reason is not UnavailableReason.REFUSED:
                raise
            found.append(Finding.LIMITED)
        people = self._source.user_filter.replace("{login}", "*")
        budget = Budget.start(self._source.budget_seconds)
        answer = self._gateway.search(self._source.base_dn, people, ("userPassword",), 1, budget)
        if any(entry.attributes.get("userpassword") for entry in answer.entries):
            found.append(Finding.READS_PASSWORDS)
        if self._gateway.is_open_to_strangers(self._source.base_dn, people, budget):
            found.append(Finding.SHOWS_STRANGERS)
        return found

    def close(self) -> None:
        """Close the connections."""
        if self._kept:
            self._kept[1].close()
            self._kept = None
        self._gateway.close()

    # -- for the readings ---------------------------------------------------------------------------------

    def build(self, entry_id: str, entry: RawEntry) -> Change | None:
        """Make a change of an entry that was sent."""
        return self._seen(self.dialect.format_id(entry_id) if self.dialect.format_id else entry_id, entry)

    def translate(self, changes: Iterator[Change], *, is_read_again: bool) -> Iterator[Change]:
        """Return changes with the ids and the attributes that were asked for."""
        if self.dialect.keeps_attributes and self.dialect.format_id is None:
            return changes
        return self._translate(changes, is_read_again=is_read_again and not self.dialect.keeps_attributes)

    def translate_ending(self, ending: Ending) -> Ending:
        """Return an ending with the ids that entries have here."""
        if self.dialect.format_id is None or not ending.present:
            return ending
        return replace(ending, present=frozenset(map(self.dialect.format_id, ending.present)))

    def _translate(self, changes: Iterator[Change], *, is_read_again: bool) -> Iterator[Change]:
        waiting: list[str] = []
        for change in changes:
            if isinstance(change, Gone):
                yield Gone(self.dialect.format_id(change.entry_id)) if self.dialect.format_id else change
            elif not is_read_again:
                yield change
            else:
                waiting.append(change.entry_id)
                if len(waiting) >= IDS_AT_ONCE:
                    yield from self._read_again(waiting)
                    waiting.clear()
        yield from self._read_again(waiting)

    def _read_again(self, entry_ids: Sequence[str]) -> Iterator[Change]:
        """Read entries by id. One that is no longer there is passed over: the stream will say that it is gone."""
        if entry_ids:
            for entry in self._find(tuple(entry_ids), self._attributes):
                yield self.build_from_page(entry)

    def _find(self, entry_ids: tuple[str, ...], attributes: tuple[str, ...]) -> tuple[RawEntry, ...]:
        return self._gateway.search(
            self._source.base_dn,
            kinds.build_lookup_filter(self._source, entry_ids),
            attributes,
            0,
            Budget.start(self._source.budget_seconds),
        ).entries

    def build_from_page(self, entry: RawEntry) -> Seen:
        """Make a change of an entry that came without a state."""
        return self._seen(entries.read_entry_id(self._source, entry), entry)

    def begin(self, mode: Mode, cookie: bytes) -> _Search:
        """Begin a synchronising search at the first server that answers it; raises DirectoryError."""
        control = Control(syncrepl.REQUEST_CONTROL, syncrepl.build_request(mode, cookie))
        return self._ask([control], has_cookie=bool(cookie), is_kept=mode is Mode.REFRESH_ONLY)

    def begin_page(self, cookie: bytes) -> _Search:
        """Begin a search for one page; raises DirectoryError."""
        return self._ask(
            [Control(paging.CONTROL, paging.build_request(cookie))], has_cookie=False, is_kept=True
        )

    def keep(self, search: _Search) -> None:
        """Keep the connection of a search that has ended."""
        self._kept = (search.server, search.wire)

    def _usable(self, cookie: bytes) -> bytes:
        return cookie if self.dialect.cookie.fullmatch(cookie) else b""

    def _ask(self, controls: Sequence[Control], *, has_cookie: bool, is_kept: bool) -> _Search:
        kept, self._kept = (self._kept, None) if is_kept else (None, self._kept)
        if kept is not None:
            server, wire = kept
            if wire.is_fit():
                try:
                    return self._send(server, wire, controls, has_cookie=has_cookie)
                except DirectoryError as fault:
                    if not fault.may_try_next:
                        raise
                    if not fault.is_dead_connection:
                        self._gateway.report(server, fault)
            wire.close()
        faults = []
        for server in self._gateway.in_order():
            try:
                wire = self._gateway.open(server, Purpose.SEARCH, Budget.start(self._source.budget_seconds))
                search = self._send(server, wire, controls, has_cookie=has_cookie)
                self._gateway.succeed(server)
                return search
            except DirectoryError as fault:
                logger.warning("directory %s, %s: %s", self._source.name, server.url, fault)
                faults.append(fault)
                if not fault.may_try_next:
                    raise
                self._gateway.report(server, fault)
        # That one is behind matters more than that another is down: the engine waits, and asks for nothing anew.
        raise next((fault for fault in faults if fault.reason is UnavailableReason.LAGGING), faults[0])

    def _send(self, server: Server, wire: Wire, controls: Sequence[Control], *, has_cookie: bool) -> _Search:
        is_whole = False
        try:
            stream = wire.stream(
                self._source.base_dn, self._condition, self._attributes, controls, SILENCE_SECONDS
            )
            first = next(stream.messages)
            if first.operation == ber.SEARCH_DONE:
                _raise_at_once(first, has_cookie=has_cookie)
            is_whole = True
        finally:
            if not is_whole:
                wire.close()
        return _Search(server, wire, stream, itertools.chain([first], stream.messages))


class _Poll:
    """A Reading of one search that ends; begins anew when the server asks for it."""

    def __init__(self, reader: SyncReader, cookie: bytes) -> None:
        self._reader, self._cookie = reader, cookie
        self._ending: Ending | None = None

    def __iter__(self) -> Iterator[Change]:
        try:
            try:
                yield from self._refresh(self._cookie)
            except RefreshRequiredError:
                # What was yielded before is true; only its absences would not be, and those are dropped here.
                yield from self._refresh(b"")
        except NoStreamError:
            yield from self._pages()
        except ber.BERError as error:
            raise _nonsense(error) from None

    def ending(self) -> Ending:
        """Return how it ended; raises DirectoryError when it did not."""
        if self._ending is None:
            raise DirectoryError(UnavailableReason.UNREACHABLE, "the reading did not end")
        return self._ending

    def _refresh(self, cookie: bytes) -> Iterator[Change]:
        search = self._reader.begin(Mode.REFRESH_ONLY, cookie)
        is_whole = False
        try:
            refresh = syncrepl.Refresh(
                search.messages,
                self._reader.build,
                has_cookie=bool(cookie),
                flags_deletes=self._reader.dialect.flags_deletes,
            )
            yield from self._reader.translate(iter(refresh), is_read_again=bool(cookie))
            self._ending = self._reader.translate_ending(refresh.ending())
            is_whole = True
        finally:
            if is_whole:
                self._reader.keep(search)
            else:
                search.wire.close()

    def _pages(self) -> Iterator[Change]:
        searches: list[_Search] = []

        def ask(cookie: bytes) -> Iterator[ber.Message]:
            for search in searches:
                self._reader.keep(search)
            searches[:] = [self._reader.begin_page(cookie)]
            return searches[0].messages

        is_whole = False
        try:
            pages = paging.PagedReading(ask, self._reader.build_from_page)
            yield from pages
            self._ending = pages.ending()
            is_whole = True
        finally:
            for search in searches:
                if is_whole:
                    self._reader.keep(search)
                else:
                    search.wire.close()


class _Guarded:
    """A reading whose nonsense is a DirectoryError like any other."""

    def __init__(self, reader: SyncReader, reading: Reading, *, is_read_again: bool = False) -> None:
        self._reader, self._reading, self._is_read_again = reader, reading, is_read_again

    def __iter__(self) -> Iterator[Change]:
        try:
            yield from self._reader.translate(iter(self._reading), is_read_again=self._is_read_again)
        except ber.BERError as error:
            raise _nonsense(error) from None

    def ending(self) -> Ending:
        """Return how it ended; raises DirectoryError when it did not."""
        return self._reader.translate_ending(self._reading.ending())


class _Nothing:
    """A reading that says only that nothing was heard for a while."""

    def __iter__(self) -> Iterator[Change]:
        return iter(())

    def ending(self) -> Ending:
        """Return that nothing changed as far as we heard."""
        return Ending(Completeness.CHANGES, b"")


def _raise_at_once(done: ber.Message, *, has_cookie: bool) -> None:
    try:
        result = ber.read_result(done.body)
    except ber.BERError as error:
        raise _nonsense(error) from None
    if result.code == syncrepl.UNAVAILABLE_CRITICAL_EXTENSION:
        raise NoStreamError(UnavailableReason.REFUSED, "the server knows no such search", may_try_next=False)
    syncrepl.raise_for_result(result, has_cookie=has_cookie)


def _nonsense(error: ber.BERError) -> DirectoryError:
    return DirectoryError(UnavailableReason.NONSENSE, str(error))
