"""Children of `make run`: started, watched, stopped in order; and what a killed run left behind, ended.

Standard library only.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.demo import slapd

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Ten seconds are promised for stopping everything; the directory, stopped last, may take five of its own.
STOP_SECONDS = 4.0
# What was killed is gone at once, unless the kernel is busy; a process it cannot end is nothing to wait for.
KILLED_SECONDS = 2.0
START_SECONDS = 60.0
LAST_WORDS = 12

# Never through a proxy that the environment names: everything is on this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Trouble(Exception):
    """One sentence for the person at the terminal."""


class Asked(BaseException):
    """Somebody asked us to stop."""


def say(text: str) -> None:
    """Print one line at once; a terminal that has gone away is no reason to stop in the middle."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


# -- being asked to stop ----------------------------------------------------------------------------------------


class _Asking:
    """Whether a request to stop may interrupt now, and whether one is waiting."""

    may_interrupt = True
    is_waiting = False


def listen_for_signals() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into Asked, whatever make or a shell set before us."""
    for number in STOP_SIGNALS:
        signal.signal(number, _on_signal)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def stop_listening() -> None:
    """Ignore further requests: stopping is under way."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _on_signal(number: int, frame: object) -> None:
    _Asking.is_waiting = True
    if _Asking.may_interrupt:
        stop_listening()  # the second Control-C must not interrupt what the first one began
        raise Asked


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a request to stop wait: between a child's start and our knowing of it, an exception would lose it."""
    _Asking.may_interrupt = False
    try:
        yield
    finally:
        _Asking.may_interrupt = True
    if _Asking.is_waiting:
        stop_listening()
        raise Asked


# -- what is left from before -----------------------------------------------------------------------------------


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name; empty when there is no such process, or only its corpse."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return []
    return [] if fields[0] in {"Z", "X"} else fields


def started_at(pid: int) -> str:
    """Return when a process began: the boot and the kernel's ticks since; "" when it does not live.

    With it a pid is unmistakable: numbers are given again, moments are not.
    """
    fields = _stat(pid)
    if not fields:
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {fields[19]}"


def _session_members(leader: int) -> list[int]:
    """Return the living processes of a session."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if (fields := _stat(pid)) and int(fields[3]) == leader]


def _is_ours(pid: int, root: Path) -> bool:
    """Say whether a process works inside our folder; slapd does even where we may not look, by its session."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(root)
    except OSError:
        return False


def clear_leftovers(ledger: Path, root: Path) -> list[str]:
    """End what a killed supervisor left running; return the names.

    A foreign process with a recycled number is left alone: a process counts as left behind only when it began
    at the recorded moment, or works in our folder in the session of one that did.
    """
    try:
        known = json.loads(ledger.read_text(encoding="utf-8"))
        recorded = [(str(one["name"]), int(one["pid"]), str(one["started"])) for one in known]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    left: dict[int, str] = {}
    for name, pid, started in recorded:
        if started and started_at(pid) == started:
            left[pid] = name
            left.update(dict.fromkeys(_session_members(pid), name))
        elif not started_at(
            pid
        ):  # the leader died, its workers may not have: they keep its number from being reused
            left.update({member: name for member in _session_members(pid) if _is_ours(member, root)})
    _end(left)
    ledger.unlink(missing_ok=True)
    return sorted(set(left.values()))


def _end(pids: Mapping[int, str]) -> None:
    moments = {pid: started_at(pid) for pid in pids}
    for number, seconds in ((signal.SIGTERM, 4.0), (signal.SIGKILL, KILLED_SECONDS)):
        alive = [pid for pid, moment in moments.items() if moment and started_at(pid) == moment]
        for pid in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(started_at(pid) == moments[pid] for pid in alive):
            time.sleep(0.02)


# -- running ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Supervisor:
    """What was started, in order; stopped in the opposite order."""

    root: Path
    var: Path
    environment: dict[str, str]
    processes: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)
    directory: slapd.Server | None = None

    @property
    def ledger(self) -> Path:
        """Return where the running processes are written down for the start after a kill -9."""
        return self.var / "processes.json"

    def start(self, name: str, *command: str | Path, environment: dict[str, str] | None = None) -> None:
        """Start a child whose words go to `var/log/NAME.log`."""
        path = self.log_file(name)
        if path.exists():
            path.replace(path.with_suffix(".log.1"))  # the run before, and no more: logs must not fill a disk
        with uninterrupted(), path.open("wb") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=self.root,
                env=environment or self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Control-C reaches the whole group of the terminal: the order of stopping is ours.
                start_new_session=True,
            )
            self.processes.append((name, process))
            self.write_ledger()

    def start_directory(self, directory: slapd.Server) -> None:
        """Start the directory, which knows its own way."""
        with uninterrupted():
            self.directory = directory
            directory.start()
            self.write_ledger()

    def log_file(self, name: str) -> Path:
        """Return where a child's words go."""
        return self.var / "log" / f"{name}.log"

    def write_ledger(self) -> None:
        """Remember what runs."""
        pids = [(name, process.pid) for name, process in self.processes]
        if self.directory is not None and self.directory.pid is not None:
            pids.append(("directory", self.directory.pid))
        known = [{"name": name, "pid": pid, "started": started_at(pid)} for name, pid in pids]
        draft = self.ledger.with_suffix(".new")
        draft.write_text(json.dumps(known), encoding="utf-8")
        draft.replace(self.ledger)

    def check(self) -> None:
        """Raise Trouble with the last words of a child that died."""
        for name, process in self.processes:
            if process.poll() is not None:
                raise Trouble(
                    f"{name} ended with status {process.returncode}. {_last_words(self.log_file(name))}"
                )
        if self.directory is not None and not self.directory.running():
            raise Trouble(f"The directory ended. {_last_words(self.directory.log_file)}")

    def stop(self) -> None:
        """Stop everything, kindly, then not."""
        deadline = time.monotonic() + STOP_SECONDS
        for _, process in reversed(self.processes):
            if process.poll() is None:
                _signal_group(process.pid, signal.SIGTERM)
        for _, process in reversed(self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.05, deadline - time.monotonic()))
            _signal_group(process.pid, signal.SIGKILL)  # the rest of its group too, should it have died alone
            process.wait()
            _wait_for_the_end_of(process.pid)
        if self.directory is not None:
            self.directory.stop()
        self.ledger.unlink(missing_ok=True)

    def wait_for(self, url: str, name: str) -> None:
        """Wait until an address answers well."""
        deadline = time.monotonic() + START_SECONDS
        answer = "nothing"
        while time.monotonic() < deadline:
            self.check()
            try:
                with _DIRECT.open(url, timeout=5):
                    return
            except urllib.error.HTTPError as problem:
                answer = f"status {problem.code}"
                time.sleep(0.2)
            except OSError:
                time.sleep(0.03)
        raise Trouble(
            f"{name} did not answer at {url} within {START_SECONDS:.0f} seconds ({answer}); see var/log/."
        )


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _wait_for_the_end_of(session: int) -> None:
    """Wait until no process of a killed session lives: a signal sent is not yet a port or a file let go."""
    deadline = time.monotonic() + KILLED_SECONDS
    while _session_members(session) and time.monotonic() < deadline:
        time.sleep(0.01)


def _last_words(log: Path) -> str:
    try:
        words = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_WORDS:]
    except OSError:
        words = []
    return f"The last words of {log.name}:\n  " + "\n  ".join(words) if words else "It said nothing."
