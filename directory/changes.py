"""What a directory's stream says, and what is handed over to the service. Pure values and two protocols.

A `Reader` turns one server's answers into `Seen` and `Gone`; `directory.engine` compares them with what is stored,
plans, and hands `PersonEvent`s to the service's `Effects` inside the transaction that stores the cookie.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from threading import Event
from typing import Protocol

from directory.brake import Holding
from directory.config import Source
from directory.entries import Person, RawEntry


class Kind(StrEnum):
    """What an entry is to us."""

    PERSON = "person"
    GROUP = "group"
    UNIT = "unit"  # whatever other entries stand below: an OU, a container, the base itself


@dataclass(frozen=True, slots=True)
class Seen:
    """An entry as it is now. `entry_id` is the immutable id as text; nothing of `raw` is decoded yet."""

    entry_id: str
    kind: Kind
    raw: RawEntry


@dataclass(frozen=True, slots=True)
class Gone:
    """The server said that this entry was deleted, or is out of what we may read. An explicit leave."""

    entry_id: str


Change = Seen | Gone


class Completeness(StrEnum):
    """What the absence of an entry from a reading means."""

    CHANGES = "changes"  # nothing: only changes were sent, deletions as `Gone`
    PRESENT = "present"  # changed entries, and the ids of all that are still there: the others are missing
    COMPLETE = "complete"  # every entry was sent: the others are missing


@dataclass(frozen=True, slots=True)
class Ending:
    """How a reading ended. Only a reading that ended has one: whatever broke it raises instead.

    `cookie` is where the next reading begins; empty when the server sent none: then the old one stays.
    `present` holds ids beside those of the entries that were sent (PRESENT only).
    """

    completeness: Completeness
    cookie: bytes
    present: frozenset[str] = frozenset()


class Reading(Protocol):
    """One answer of a server, streamed: iterate once, then ask for the ending."""

    def __iter__(self) -> Iterator[Change]:
        """Yield what the server sends; raises DirectoryError when it is not whole."""

    def ending(self) -> Ending:
        """Return how it ended; raises DirectoryError when it did not end well."""


class Finding(StrEnum):
    """What a set-up check found to be wrong at a server."""

    NO_STREAM = "no_stream"  # it cannot send changes: every poll is a whole reading
    LIMITED = "limited"  # a whole reading hits a limit: nothing could ever be concluded from absence
    READS_PASSWORDS = "reads_passwords"  # the service account can read what it never needs
    DELETIONS_HIDDEN = "deletions_hidden"  # it does not tell this account what was deleted
    SHOWS_STRANGERS = "shows_strangers"  # it shows people to whoever asks, without any bind


class Reader(Protocol):
    """One directory as a stream. Not for threads or forks: a listener has its own.

    Every method raises DirectoryError when the directory gives no whole answer; what was yielded before that is
    true, but nothing may be concluded from what was not. `UnavailableReason.LAGGING`: this server is behind the
    cookie; wait and keep the cookie.
    """

    @property
    def source(self) -> Source:
        """Return what is read."""

    def poll(self, cookie: bytes) -> Reading:
        """Return what changed since the cookie; an empty or unknown cookie brings everything."""

    def full(self) -> Reading:
        """Return everything (COMPLETE), with a cookie for the changes after it where the server gives one."""

    def follow(self, cookie: bytes, stop: Event, *, idle_seconds: float = 30.0) -> Iterator[Reading]:
        """Yield what changed since the cookie, then every burst of changes as it comes, until `stop` is set.

        Each reading must be consumed before the next is asked for. One without changes and without a cookie
        comes when nothing was heard for `idle_seconds`: time for a `poll`, since a dead server is silent too.
        """

    def lookup(self, entry_ids: Collection[str]) -> frozenset[str]:
        """Return those of the ids that are still there: the second look before absence is believed."""

    def check(self) -> Sequence[Finding]:
        """Return what is wrong with the set-up of the server, as far as this account can see."""

    def close(self) -> None:
        """Close the connections."""


class Happening(StrEnum):
    """What happened to a person, as the service must hear it."""

    JOINED = "joined"
    CHANGED = "changed"  # names, unit, groups, times: whatever is mapped; the account keeps its `sub`
    DISABLED = "disabled"  # may not act: disabled, expired, locked for good
    ENABLED = "enabled"
    LEFT = "left"  # gone from the directory
    RETURNED = "returned"  # the same immutable id is there again, or an administrator restored it


@dataclass(frozen=True, slots=True)
class PersonEvent:
    """One thing that happened to one person; `person` is what the directory says now, None after LEFT."""

    happening: Happening
    source: str
    entry_id: str
    person: Person | None
    is_inferred: bool = False  # concluded from absence, not said by the server


class Effects(Protocol):
    """What the service does with it. Called inside the transaction of the batch; what it raises undoes the batch."""

    def office_of(self, person: Person) -> str:
        """Return the code of the person's office, empty when none: plans and brakes count by it."""

    def apply(self, events: Sequence[PersonEvent], now: datetime) -> None:
        """Make accounts, rights and sessions what the events say, leaves and disables first. Idempotent."""

    def know_units(self, source: str, units: Mapping[str, frozenset[str]]) -> None:
        """Take the ids of all units by their names (NFC, casefolded), after a complete reading: rules learn ids."""

    def held(self, source: str, holdings: Sequence[Holding], now: datetime) -> None:
        """Hear that a brake holds people (and groups) until an administrator approves."""

    def refused(self, source: str, reason: str, people: int, now: datetime) -> None:
        """Hear that a reading was not believed, which would have cost so many people."""
