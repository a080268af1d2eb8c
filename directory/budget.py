"""How long one question may still take, over all servers, retries and round trips. Pure but for the clock."""

import time
from dataclasses import dataclass
from typing import Self

from directory.errors import DirectoryError, UnavailableReason


@dataclass(frozen=True, slots=True)
class Budget:
    """A moment of the monotonic clock by which an answer must be there."""

    ends: float

    @classmethod
    def start(cls, seconds: float) -> Self:
        """Begin a budget of `seconds` now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Return the seconds left, more than zero; raises DirectoryError(TIMEOUT) when there are none."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise DirectoryError(UnavailableReason.TIMEOUT, "the time for this question is used up")
        return left

    def share(self, askers: int) -> "Budget":
        """Return an equal part of what is left, so that a silent server leaves time for the ones after it."""
        now = time.monotonic()
        return Budget(now + (self.ends - now) / max(askers, 1))

    def at_most(self, seconds: float) -> "Budget":
        """Return this budget, cut to `seconds` from now."""
        return Budget(min(self.ends, time.monotonic() + seconds))
