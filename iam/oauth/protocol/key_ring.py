"""The life of a signing key, as a table and a few deciders. Pure.

    next ──► active ──► retiring ──► retired
      └──────────┴─────────────────────▲        (withdrawn by hand, or in an emergency)

`next` is published but signs nothing: applications learn it before it is needed. `active` signs, one an
algorithm. `retiring` signs nothing and still verifies, until its time is over. `retired` is nowhere any more.
A decider looks at the ring and returns plans; the caller carries a plan out whole or, if the ring has
changed in the meantime, not at all. Spec: OIDC Core §10.1.1; NIST SP 800-57 part 1 §8.2.3.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from .claims import ACCESS_TOKEN_LIFE, ID_TOKEN_LIFE

# How long an application may keep a key set that it has read (`Cache-Control` of /jwks).
JWKS_CACHE = timedelta(minutes=5)
LONGEST_TOKEN_LIFE = max(ACCESS_TOKEN_LIFE, ID_TOKEN_LIFE)
# A next key is published at least this long before it signs, and an old one at least this long afterwards:
# applications that read /jwks once a day, whom we cannot see, have both (US-33: at least 24 hours). An ID token
# is also a hint at sign-out (OIDC RP-Initiated Logout §2), and a session lasts 24 hours at most.
OVERLAP = timedelta(hours=24)
RETIRING_PLANNED = max(OVERLAP, LONGEST_TOKEN_LIFE + JWKS_CACHE)
# Workers learn of a new key within a second; a token signed in that second outlives the others by as much.
RETIRING_EMERGENCY = LONGEST_TOKEN_LIFE + timedelta(seconds=10)


class Status(StrEnum):
    """Where a key is in its life."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"


TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.NEXT: frozenset({Status.ACTIVE, Status.RETIRED}),
    Status.ACTIVE: frozenset({Status.RETIRING, Status.RETIRED}),
    Status.RETIRING: frozenset({Status.RETIRING, Status.RETIRED}),  # itself: its end can be brought forward
    Status.RETIRED: frozenset(),
}
# In this order they stand in the key set: a careless application that takes the first key takes the right one.
PUBLISHED = (Status.ACTIVE, Status.NEXT, Status.RETIRING)


class Withdrawal(StrEnum):
    """When the old keys stop to verify in an emergency."""

    NOW = "now"
    AFTER_TOKENS_END = "after_tokens_end"


class Cause(StrEnum):
    """Why a plan was made; a stable word for the audit."""

    FIRST = "first"
    PLANNED = "planned"
    EMERGENCY = "emergency"
    TIME_OVER = "time_over"
    BY_HAND = "by_hand"


@dataclass(frozen=True, slots=True)
class RingKey:
    """A key as the deciders see it. `retires_at` only while it is retiring."""

    kid: str
    algorithm: str
    status: Status
    created_at: datetime
    activated_at: datetime | None = None
    retires_at: datetime | None = None

    def verifies(self, now: datetime) -> bool:
        """Say whether it is published, and what it signed is believed, whatever housekeeping does."""
        match self.status:
            case Status.NEXT | Status.ACTIVE:
                return True
            case Status.RETIRING:
                return self.retires_at is None or now < self.retires_at
            case Status.RETIRED:
                return False


@dataclass(frozen=True, slots=True)
class Reader:
    """An application with a key set address of its own, the keys that it has fetched there, and when it last did."""

    client_id: str
    critical: bool
    kids: frozenset[str] = frozenset()
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One key passes from one status to another. Raises: ValueError for a passage that is not in the table."""

    kid: str
    before: Status
    after: Status
    retires_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.after not in TRANSITIONS[self.before]:
            raise ValueError(f"a key cannot pass from {self.before} to {self.after}")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done at once to one algorithm's keys: `makes` a key with this status, `changes` in this order.

    `held` must still be the active key when it is done ("": there must be none); else nothing of it is done.
    """

    algorithm: str
    cause: Cause
    held: str
    makes: Status | None = None
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a next key waits for: the end of its day, and critical applications that do not have it yet."""

    until: datetime
    for_clients: tuple[str, ...]

    def is_over(self, now: datetime) -> bool:
        """Say whether there is nothing left to wait for."""
        return self.until <= now and not self.for_clients


def active_of(ring: Iterable[RingKey], algorithm: str) -> RingKey | None:
    """Return the key that signs."""
    return _the_one(ring, algorithm, Status.ACTIVE)


def next_of(ring: Iterable[RingKey], algorithm: str) -> RingKey | None:
    """Return the key that will sign."""
    return _the_one(ring, algorithm, Status.NEXT)


def waiting_for(key: RingKey, readers: Iterable[Reader]) -> Waiting:
    """Return what a next key waits for."""
    missing = sorted(reader.client_id for reader in readers if reader.critical and key.kid not in reader.kids)
    return Waiting(key.created_at + OVERLAP, tuple(missing))


def fetches_missing(reader: Reader, ring: Iterable[RingKey], status: Status) -> tuple[str, ...]:
    """Return the algorithms whose key of this status an application has not fetched yet."""
    return tuple(key.algorithm for key in ring if key.status is status and key.kid not in reader.kids)


def decide_first(ring: Sequence[RingKey], algorithms: Iterable[str]) -> list[Plan]:
    """Give each algorithm that has no active key one that signs at once: nothing was signed before it."""
    return [
        Plan(algorithm, Cause.FIRST, held="", makes=Status.ACTIVE)
        for algorithm in algorithms
        if active_of(ring, algorithm) is None
    ]


def decide_planned(ring: Sequence[RingKey], algorithm: str) -> Plan | None:
    """Begin a planned rotation: publish a next key. None when there is one already, or none that it would follow."""
    active = active_of(ring, algorithm)
    if active is None or next_of(ring, algorithm) is not None:
        return None
    return Plan(algorithm, Cause.PLANNED, held=active.kid, makes=Status.NEXT)


def decide_emergency(ring: Sequence[RingKey], algorithm: str, withdrawal: Withdrawal, now: datetime) -> Plan:
    """Replace the active key at once, waiting for nobody.

    A next key lay where the active one lay: it goes too, and a new one signs. `withdrawal` says whether the
    old keys stop to verify now, or when the last token that they honestly signed has ended.
    """
    active = active_of(ring, algorithm)
    end = now + RETIRING_EMERGENCY
    changes = []
    for key in ring:
        if key.algorithm != algorithm or key.status is Status.RETIRED:
            continue
        if withdrawal is Withdrawal.NOW or key.status is Status.NEXT:
            changes.append(Change(key.kid, key.status, Status.RETIRED))
        elif key.retires_at is None or key.retires_at > end:
            changes.append(Change(key.kid, key.status, Status.RETIRING, end))
    return Plan(algorithm, Cause.EMERGENCY, active.kid if active else "", Status.ACTIVE, tuple(changes))


def decide_withdrawal(ring: Sequence[RingKey], kid: str) -> Plan | None:
    """Withdraw one key by hand; None when it is not known, signs at present, or is withdrawn already."""
    for key in ring:
        if key.kid == kid and key.status in {Status.NEXT, Status.RETIRING}:
            active = active_of(ring, key.algorithm)
            change = Change(kid, key.status, Status.RETIRED)
            return Plan(key.algorithm, Cause.BY_HAND, active.kid if active else "", None, (change,))
    return None


def decide_due(
    ring: Sequence[RingKey], readers: Sequence[Reader], rotation: timedelta, now: datetime
) -> list[Plan]:
    """Return what the schedule asks for now: retire, activate, and publish, in this order.

    In: `rotation` is how long a key signs. A next key is published one OVERLAP before that is over, and takes
    over once it waits for nothing (`waiting_for`). Asked again with the ring that its plans lead to, it
    returns nothing. At most one plan of each kind an algorithm.
    """
    plans = []
    for key in ring:
        if key.status is Status.RETIRING and not key.verifies(now):
            active = active_of(ring, key.algorithm)
            change = Change(key.kid, Status.RETIRING, Status.RETIRED)
            plans.append(Plan(key.algorithm, Cause.TIME_OVER, active.kid if active else "", None, (change,)))
    for active in (key for key in ring if key.status is Status.ACTIVE):
        following = next_of(ring, active.algorithm)
        if following is None:
            if now >= (active.activated_at or active.created_at) + rotation - OVERLAP:
                plans.append(Plan(active.algorithm, Cause.PLANNED, active.kid, Status.NEXT))
        elif waiting_for(following, readers).is_over(now):
            plans.append(_activation(active, following, now))
    return plans


def _activation(active: RingKey, following: RingKey, now: datetime) -> Plan:
    return Plan(
        active.algorithm,
        Cause.PLANNED,
        held=active.kid,
        changes=(
            Change(active.kid, Status.ACTIVE, Status.RETIRING, now + RETIRING_PLANNED),
            Change(following.kid, Status.NEXT, Status.ACTIVE),
        ),
    )


def _the_one(ring: Iterable[RingKey], algorithm: str, status: Status) -> RingKey | None:
    return next((key for key in ring if key.algorithm == algorithm and key.status is status), None)
