"""What a directory's stream says, and what is handed over to the service. Pure values and two protocols.

A `Reader` turns one server's answers into `Seen` and `Gone`; `directory.engine` compares them with what is stored,
plans, and hands `PersonEvent`s to the service's `Effects` inside the transaction that stores the cookie.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

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
