"""The process that holds the port, starts the workers, starts one again that died, and stops them all."""

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

# A worker that ends sooner after its start does not work: trying again would hide why.
LIVED_SECONDS = 5.0
# A worker stops by itself within `worker.STOP_SECONDS`.
STOP_SECONDS = 12.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

Work = Callable[[socket.socket, int], None]


class Supervisor:
    """Some workers on one port. Children of one process, so that they share the memory of what was imported before."""

    def __init__(self, host: str, port: int, workers: int, work: Work) -> None:
        self._work = work
        self._listening = listen(host, port, workers)
        # The second end is closed with us, however we end: then no worker works on.
        self._end, self._held = os.pipe()
        self._alive: dict[int, tuple[int, float]] = {}
        self._is_stopping = False

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit status: 1 when a worker did not start."""
        for stop in STOP_SIGNALS:
            signal.signal(stop, self._asked)
        for number in range(len(self._listening)):
            self._start(number)
        status = 0
        while self._alive and not self._is_stopping:
            pid, code = os.waitpid(-1, 0)
            number, began = self._alive.pop(pid, (0, 0.0))
            if self._is_stopping or not began:
                continue
            if time.monotonic() - began < LIVED_SECONDS:
                status = 1
                break
            logger.error("A worker ended (%s); another one takes its place.", code)
            self._start(number)
        self._stop()
        return status

    def _start(self, number: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # ours is no handler for the child
        pid = os.fork()
        if pid:
            self._alive[pid] = (number, time.monotonic())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            return
        status = 1
        try:
            os.close(self._held)
            for other in STOP_SIGNALS:
                signal.signal(other, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            for index, listening in enumerate(self._listening):
                if index != number:
                    listening.close()
            self._work(self._listening[number], self._end)
            status = 0
        except SystemExit as problem:
            if problem.code:
                sys.stderr.write(f"{problem.code}\n")  # why the service does not start
        except BaseException:
            logger.exception("A worker failed.")
        finally:
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            os._exit(status)

    def _asked(self, number: int, frame: object) -> None:
        self._is_stopping = True
        for pid in tuple(self._alive):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _stop(self) -> None:
        self._asked(0, None)
        ends = time.monotonic() + STOP_SECONDS
        while self._alive and time.monotonic() < ends:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            self._alive.pop(pid, None)
            if not pid:
                time.sleep(0.02)
        for pid in self._alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """Return listening sockets on one port, one for each worker: the kernel spreads clients over them.

    Raises: OSError when somebody else has the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(
        family, socket.SOCK_STREAM
    ) as alone:  # would not be refused if it shared as the others do
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind((host, port))
        port = alone.getsockname()[1]
    sockets = []
    for _ in range(count):
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind((host, port))
        sockets.append(one)
    return sockets
