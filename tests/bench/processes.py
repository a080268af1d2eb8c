"""What the kernel says of a process and all that came from it: processor time and memory."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """Say in one sentence why the bench cannot go on."""


@dataclass(frozen=True, slots=True)
class _Stat:
    pid: int
    parent: int
    ended: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """A process and its descendants."""

    root: int

    def members(self) -> tuple[int, ...]:
        """Return the processes that live now."""
        return tuple(stat.pid for stat in self._stats())

    def processor_seconds(self) -> float:
        """Return the processor time (user and system) of all members, those that ended included.

        A member that ended is counted in its parent, which waited for it.
        """
        return sum(stat.seconds for stat in self._stats())

    def memory_bytes(self) -> int:
        """Return the memory of all members; what several share is divided among them (PSS)."""
        total = 0
        for pid in self.members():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
                total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        return total

    def _stats(self) -> list[_Stat]:
        every = [stat for folder in Path("/proc").glob("[0-9]*") if (stat := _read(int(folder.name)))]
        found = [stat for stat in every if stat.pid == self.root]
        if not found or found[0].ended:
            raise BenchError(f"Process {self.root} ended while it was measured.")
        for stat in found:  # grows while it is walked: children of children
            found += [child for child in every if child.parent == stat.pid]
        return found


def _read(pid: int) -> _Stat | None:
    """Read one line of /proc; None for a process that ended meanwhile. Spec: proc_pid_stat(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces
    utime, stime, cutime, cstime = (int(field) for field in fields[11:15])
    return _Stat(pid, int(fields[1]), fields[0] in "ZX", (utime + stime + cutime + cstime) / _TICKS)
