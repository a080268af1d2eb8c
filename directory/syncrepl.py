"""Content synchronisation: what a server says to someone who has seen its entries before. Pure.

A search with the request control brings a *refresh*: entries with their state, sets of ids, and an ending that
says what absence means. With persistence the same search then goes on with each change as it is made.
Spec: RFC 4533 (the numbers in brackets are its sections).

What servers really do (measured): when nothing changed no new cookie comes; a session log that was lost brings the
ids of all that is still there; an unknown cookie brings everything without a word; a flag that is not sent
is false, and reading "no deletions were sent" as "nothing was deleted" or the other way round deletes people.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

from directory import ber
from directory.changes import Change, Completeness, Ending, Gone
from directory.entries import RawEntry
from directory.errors import DirectoryError, UnavailableReason

REQUEST_CONTROL = "1.3.6.1.4.1.4203.1.9.1.1"
STATE_CONTROL = "1.3.6.1.4.1.4203.1.9.1.2"
DONE_CONTROL = "1.3.6.1.4.1.4203.1.9.1.3"
INFO_MESSAGE = "1.3.6.1.4.1.4203.1.9.1.4"

SUCCESS = 0
UNAVAILABLE_CRITICAL_EXTENSION = 12
LAGGING = 53  # "consumer state is newer than provider!"
REFRESH_REQUIRED = 4096
TIME_LIMIT = 3
UUID_BYTES = 16
COOKIE_BYTES_MAX = 4096  # a CSN for each of hundreds of servers


class Mode(IntEnum):
    """What is asked for [2.2]."""

    REFRESH_ONLY = 1
    REFRESH_AND_PERSIST = 3


class State(IntEnum):
    """What an entry that was sent is [2.3]."""

    PRESENT = 0
    ADD = 1
    MODIFY = 2
    DELETE = 3


class InfoKind(StrEnum):
    """What a message between the entries says [2.5]."""

    NEW_COOKIE = "new_cookie"
    REFRESH_DELETE = "refresh_delete"
    REFRESH_PRESENT = "refresh_present"
    ID_SET = "id_set"


INFO_KINDS = {
    0x80: InfoKind.NEW_COOKIE,
    0xA1: InfoKind.REFRESH_DELETE,
    0xA2: InfoKind.REFRESH_PRESENT,
    0xA3: InfoKind.ID_SET,
}


class EntryState(NamedTuple):
    """The control beside an entry. Not a dataclass: one is made for each of 100,000 entries."""

    state: State
    entry_id: str
    cookie: bytes


@dataclass(frozen=True, slots=True)
class Info:
    """A message between the entries. `flag`: refreshDone (true unless said), or an id set's refreshDeletes (false)."""

    kind: InfoKind
    cookie: bytes
    flag: bool
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The control beside the end of the search."""

    cookie: bytes
    has_deletes: bool


class RefreshRequiredError(DirectoryError):
    """Say that the server wants us to begin anew, without a cookie."""


def build_request(mode: Mode, cookie: bytes) -> bytes:
    """Write the value of the request control [2.2]; an empty cookie asks for everything."""
    return ber.write(
        ber.SEQUENCE,
        ber.write_number(mode, ber.ENUMERATED),
        ber.write(ber.OCTETS, cookie) if cookie else b"",
    )


def read_state(value: bytes) -> EntryState:
    """Read the control beside an entry [2.3]; raises BERError."""
    parts = ber.read_sequence(value)
    if [part.tag for part in parts[:2]] != [ber.ENUMERATED, ber.OCTETS]:
        raise ber.BERError("an entry's state has not its two parts")
    try:
        state = State(ber.read_number(parts[0].body))
    except ValueError:
        raise ber.BERError("an entry has a state that does not exist") from None
    return EntryState(state, format_uuid(parts[1].body), _cookie(parts[2:]))


def read_done(value: bytes) -> Done:
    """Read the control beside the end [2.4]; raises BERError."""
    parts = ber.read_sequence(value)
    return Done(_cookie(parts), _flag(parts, default=False))


def read_info(value: bytes) -> Info:
    """Read a message between the entries [2.5]; raises BERError."""
    choices = ber.read_elements(value)
    if len(choices) != 1 or choices[0].tag not in INFO_KINDS:
        raise ber.BERError("a message between the entries is of no known kind")
    kind, body = INFO_KINDS[choices[0].tag], choices[0].body
    if kind is InfoKind.NEW_COOKIE:
        return Info(kind, _checked_cookie(body), flag=False)
    parts = ber.read_elements(body)
    if kind is not InfoKind.ID_SET:
        return Info(kind, _cookie(parts), _flag(parts, default=True))
    sets = [part.body for part in parts if part.tag == ber.SET]
    if len(sets) != 1:
        raise ber.BERError("a set of ids has no set")
    ids = ber.read_elements(sets[0])
    if any(part.tag != ber.OCTETS for part in ids):
        raise ber.BERError("a set of ids holds something else")
    return Info(
        kind, _cookie(parts), _flag(parts, default=False), tuple([format_uuid(part.body) for part in ids])
    )


def format_uuid(data: bytes) -> str:
    """Write 16 bytes as text; raises BERError. Spec: RFC 4530 §2.1."""
    if len(data) != UUID_BYTES:
        raise ber.BERError("an id has not 16 bytes")
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def raise_for_result(result: ber.Result, *, has_cookie: bool) -> None:
    """Raise for every result but success: a reading that a limit cut looks just like a whole one."""
    text = result.text[:200]
    match result.code:
        case code if code == SUCCESS:
            return
        case code if code == REFRESH_REQUIRED:
            raise RefreshRequiredError(
                UnavailableReason.REFUSED, "the server asks to begin anew", may_try_next=False
            )
        case code if code == LAGGING and has_cookie:
            raise DirectoryError(UnavailableReason.LAGGING, f"this server is behind our cookie: {text}")
        case code if code == TIME_LIMIT:
            raise DirectoryError(UnavailableReason.TIMEOUT, "the server's own time limit")
        case code:
            raise DirectoryError(
                UnavailableReason.REFUSED, f"the reading ended with result {code}: {text}", may_try_next=True
            )


class Refresh:
    """The refreshing stage of one search: iterate once, then ask for the ending.

    `messages` brings the messages of this search only; `build` makes a change of an entry (None: not ours).
    With `persists` the stage ends with a message and the search goes on; else it ends with the search. A server
    that never lists what is there, and never sets the flag that says so, has `flags_deletes` false.
    """

    def __init__(
        self,
        messages: Iterator[ber.Message],
        build: Callable[[str, RawEntry], Change | None],
        *,
        has_cookie: bool,
        persists: bool = False,
        flags_deletes: bool = True,
    ) -> None:
        self._messages, self._build, self._flags_deletes = messages, build, flags_deletes
        self._has_cookie, self._persists = has_cookie, persists
        self._cookie = b""
        self._is_present = False  # a list of what is still there was sent: what it lacks is gone
        self._present: set[str] = set()
        self._count = 0
        self._ending: Ending | None = None

    def __iter__(self) -> Iterator[Change]:
        """Yield the changes; raises DirectoryError and BERError."""
        for message in self._messages:
            if message.operation == ber.SEARCH_ENTRY:
                change = self._take_entry(message)
                if change is not None:
                    yield change
                continue
            match message.operation:
                case ber.INTERMEDIATE:
                    name, value = ber.read_intermediate(message.body)
                    if name == INFO_MESSAGE:
                        info = read_info(value)
                        yield from self._take_info(info)
                        if self._persists and info.flag and info.kind in REFRESH_ENDS:
                            self._end(is_present=self._is_present)
                            return
                case ber.SEARCH_DONE:
                    self._take_done(message)
                    return
                case ber.SEARCH_REFERENCE:
                    pass  # we ask whom the settings name, nobody else
                case _:
                    raise ber.BERError("an operation that belongs to no search")
        raise DirectoryError(UnavailableReason.UNREACHABLE, "the reading broke off")

    def ending(self) -> Ending:
        """Return how it ended; raises DirectoryError when it did not."""
        if self._ending is None:
            raise DirectoryError(UnavailableReason.UNREACHABLE, "the reading did not end")
        return self._ending

    def _take_entry(self, message: ber.Message) -> Change | None:
        state, entry_id, cookie = _state_of(message)
        if cookie:
            self._cookie = cookie
        self._count += 1
        if state is State.PRESENT:
            self._present.add(entry_id)
            return None
        if state is State.DELETE:
            return Gone(entry_id)
        return self._build(entry_id, ber.read_entry(message.body))

    def _take_info(self, info: Info) -> Iterator[Change]:
        self._cookie = info.cookie or self._cookie
        if info.kind is InfoKind.REFRESH_PRESENT:
            self._is_present = True
        elif info.kind is InfoKind.ID_SET and info.flag:
            for entry_id in info.ids:
                yield Gone(entry_id)
        elif info.kind is InfoKind.ID_SET:
            self._present.update(info.ids)

    def _take_done(self, message: ber.Message) -> None:
        raise_for_result(ber.read_result(message.body), has_cookie=self._has_cookie)
        if self._persists:
            raise DirectoryError(UnavailableReason.UNREACHABLE, "the server ended a search that should go on")
        controls = ber.read_controls(message.controls)
        if DONE_CONTROL not in controls:
            raise DirectoryError(
                UnavailableReason.NONSENSE, "the reading has no ending that says what it was"
            )
        done = read_done(controls[DONE_CONTROL])
        self._cookie = done.cookie or self._cookie
        # With `has_deletes` all deletions were named; a list of what is there may have come before them [3.3.2].
        self._end(is_present=self._is_present or (self._flags_deletes and not done.has_deletes))

    def _end(self, *, is_present: bool) -> None:
        if not self._has_cookie and not self._present:
            completeness = Completeness.COMPLETE
        elif is_present:
            completeness = Completeness.PRESENT
        else:
            completeness = Completeness.CHANGES
        if completeness is not Completeness.CHANGES and not self._count and not self._present:
            # The base itself is an entry: who shows nothing at all shows us another place, or hides this one.
            raise DirectoryError(UnavailableReason.NONSENSE, "the directory shows no entry at all")
        self._ending = Ending(completeness, self._cookie, frozenset(self._present))


REFRESH_ENDS = frozenset({InfoKind.REFRESH_DELETE, InfoKind.REFRESH_PRESENT})


class Burst:
    """Changes of the persisting stage that have arrived together: iterate once, then ask for the ending.

    `is_more` says without waiting whether another message is there. Raises as Refresh does.
    """

    def __init__(
        self,
        messages: Iterator[ber.Message],
        build: Callable[[str, RawEntry], Change | None],
        is_more: Callable[[], bool],
        changes_max: int,
    ) -> None:
        self._messages, self._build, self._is_more, self._left = messages, build, is_more, changes_max
        self._cookie = b""
        self._is_over = False

    def __iter__(self) -> Iterator[Change]:
        """Yield the changes that are there."""
        while self._left > 0 and self._is_more():
            message = next(self._messages)
            self._left -= 1
            match message.operation:
                case ber.SEARCH_ENTRY:
                    state = _state_of(message)
                    self._cookie = state.cookie or self._cookie
                    if state.state is State.DELETE:
                        yield Gone(state.entry_id)
                    elif state.state is not State.PRESENT:
                        change = self._build(state.entry_id, ber.read_entry(message.body))
                        if change is not None:
                            yield change
                case ber.INTERMEDIATE:
                    name, value = ber.read_intermediate(message.body)
                    if name == INFO_MESSAGE:
                        info = read_info(value)
                        self._cookie = info.cookie or self._cookie
                        if info.kind is InfoKind.ID_SET and info.flag:
                            for entry_id in info.ids:
                                yield Gone(entry_id)
                case ber.SEARCH_DONE:
                    raise_for_result(ber.read_result(message.body), has_cookie=True)
                    raise DirectoryError(
                        UnavailableReason.UNREACHABLE, "the server ended a search that should go on"
                    )
                case ber.SEARCH_REFERENCE:
                    pass
                case _:
                    raise ber.BERError("an operation that belongs to no search")
        self._is_over = True

    def ending(self) -> Ending:
        """Return how it ended; raises DirectoryError when it did not."""
        if not self._is_over:
            raise DirectoryError(UnavailableReason.UNREACHABLE, "the reading did not end")
        return Ending(Completeness.CHANGES, self._cookie)


# The control as OpenLDAP writes it during a refresh, up to the state: one comparison for each of 100,000 entries.
_COMMON = b"\x30\x33\x04\x18" + STATE_CONTROL.encode() + b"\x04\x17\x30\x15\x0a\x01"
_COMMON_SIZE = len(_COMMON) + 1 + 2 + UUID_BYTES
_STATES = {bytes([state]): state for state in State}


def _state_of(message: ber.Message) -> EntryState:
    written, at = message.controls, len(_COMMON)
    if (
        len(written) == _COMMON_SIZE
        and written.startswith(_COMMON)
        and written[at + 1 : at + 3] == b"\x04\x10"
    ):
        state = _STATES.get(written[at : at + 1])
        if state is not None:
            return EntryState(state, format_uuid(written[at + 3 :]), b"")
    controls = ber.read_controls(message.controls)
    if STATE_CONTROL not in controls:
        raise ber.BERError("an entry came without its state")
    return read_state(controls[STATE_CONTROL])


def _cookie(parts: list[ber.Element]) -> bytes:
    return next((_checked_cookie(part.body) for part in parts if part.tag == ber.OCTETS), b"")


def _checked_cookie(cookie: bytes) -> bytes:
    if len(cookie) > COOKIE_BYTES_MAX:
        raise ber.BERError("a cookie is longer than any real one")
    return cookie


def _flag(parts: list[ber.Element], *, default: bool) -> bool:
    return next((ber.read_boolean(part.body) for part in parts if part.tag == ber.BOOLEAN), default)
