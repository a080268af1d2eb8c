"""Whether a server is asked: a circuit breaker for each. Pure but for the lock; times are given in.

Closed: asked in its turn. Open: it gave no answer, and is asked last, briefly, and only when no other answered.
Half-open: one time-out, or the waiting time is over; a probe decides. One time-out alone may be one slow question,
so it takes a second one, the probe's, to open; but until the probe has answered nobody else waits for it.
"""

import threading
from dataclasses import dataclass
from enum import StrEnum

PROBE_SECONDS = 5.0  # how long an open breaker waits before the next probe


class State(StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Trouble(StrEnum):
    """Why a breaker is not closed."""

    NONE = ""
    FROZEN = "frozen"  # no answer in time
    REFUSING = "refusing"  # no connection, no protected channel, or an answer that is no service
    LAGGING = "lagging"  # a replica that is behind another server


@dataclass(frozen=True, slots=True)
class Reading:
    """What a breaker shows to operators and to metrics; `since` is of the monotonic clock."""

    state: State
    trouble: Trouble
    since: float


class Breaker:
    """The breaker of one server. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state, self._trouble, self._since = State.CLOSED, Trouble.NONE, 0.0
        self._is_probed = False
        self._probe_due = 0.0

    def read(self) -> Reading:
        """Return what it is now."""
        with self._lock:
            return Reading(self._state, self._trouble, self._since)

    @property
    def is_closed(self) -> bool:
        """Say whether the server is asked in its turn."""
        return self._state is State.CLOSED

    def succeed(self, now: float) -> None:
        """Take note of an answer."""
        with self._lock:
            self._move(State.CLOSED, Trouble.NONE, now)

    def fail(self, trouble: Trouble, now: float) -> None:
        """Take note of trouble: the first time-out opens it half, and asks for a probe at once."""
        with self._lock:
            if trouble is Trouble.FROZEN and self._state is State.CLOSED:
                self._move(State.HALF_OPEN, trouble, now)
                self._probe_due = now
            else:
                self._move(State.OPEN, trouble, now)
                self._probe_due = now + PROBE_SECONDS

    def take_probe(self, now: float) -> bool:
        """Say whether the caller must probe now; then nobody else is told so until `end_probe`."""
        with self._lock:
            if self._state is State.CLOSED or self._is_probed or now < self._probe_due:
                return False
            self._is_probed = True
            if self._state is State.OPEN:
                self._move(State.HALF_OPEN, self._trouble, now)
            return True

    def end_probe(self, trouble: Trouble, now: float) -> None:
        """Take note of how the probe went; NONE closes."""
        with self._lock:
            self._is_probed = False
        if trouble is Trouble.NONE:
            self.succeed(now)
        else:
            self.fail(trouble, now)

    def _move(self, state: State, trouble: Trouble, now: float) -> None:
        if state is not self._state:
            self._since = now
        self._state, self._trouble = state, trouble
