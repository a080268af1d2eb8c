"""The supervisor and its workers, as processes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import rest

ROOT = Path(__file__).resolve().parents[3]
WORKERS = 2

_PROGRAM = """
import os, sys, time
from iam.serving import supervisor, worker

class Door:
    def at_once(self, environment, body):
        if environment["PATH_INFO"] != "/pid":
            return None
        pid = str(os.getpid()).encode()
        return b"HTTP/1.1 200 OK\\r\\nContent-Length: %d" % len(pid), pid
    def __call__(self, environment, start_response):
        time.sleep(1)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

def work(listening, parent):
    if "fail" in sys.argv:
        raise SystemExit("This is why.")
    worker.serve(Door(), listening, 2, parent)

supervisor.LIVED_SECONDS = 0.5
print("begun", flush=True)
sys.exit(supervisor.Supervisor("127.0.0.1", int(sys.argv[1]), 2, work).run())
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def started(port: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(port), *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ask(port: int, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return rest(client).partition(b"\r\n\r\n")[2]


def pids(port: int, count: int = WORKERS) -> set[int]:
    """Return who answers, once as many as expected do."""
    seen: set[int] = set()
    ends = time.monotonic() + 20
    while len(seen) < count and time.monotonic() < ends:
        with contextlib.suppress(OSError, ValueError):
            seen.add(int(ask(port, "/pid")))
    return seen


def test_clients_are_spread_over_workers_of_one_port():
    port = free_port()
    with started(port):
        assert len(pids(port)) == WORKERS


def test_worker_that_died_is_replaced():
    port = free_port()
    with started(port) as process:
        before = pids(port)
        time.sleep(0.6)
        os.kill(min(before), signal.SIGKILL)
        deadline = time.monotonic() + 10
        while len((now := pids(port)) - before) != 1 and time.monotonic() < deadline:
            pass

        assert len(now - before) == 1
        assert process.poll() is None


def test_stop_lets_what_was_asked_be_answered():
    port = free_port()
    with started(port) as process, socket.create_connection(("127.0.0.1", port_ready(port)), 10) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.2)
        process.terminate()

        assert rest(client).endswith(b"done")
        assert process.wait(10) == 0
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 1)


def port_ready(port: int) -> int:
    assert pids(port, 1)
    return port


def test_workers_end_with_a_supervisor_that_was_killed():
    port = free_port()
    with started(port) as process:
        before = pids(port)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while any(_lives(pid) for pid in before) and time.monotonic() < deadline:
            time.sleep(0.05)

        assert not any(_lives(pid) for pid in before)


def _lives(pid: int) -> bool:
    """Say whether a process works; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_worker_that_cannot_start_stops_everything_and_says_why():
    with started(free_port(), "fail") as process:
        _, words = process.communicate(timeout=20)

        assert process.returncode == 1
        assert "This is why." in words


def test_port_of_somebody_else_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as other, started(other.getsockname()[1]) as process:
        _, words = process.communicate(timeout=20)

        assert process.returncode != 0
        assert "Address already in use" in words
