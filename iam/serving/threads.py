"""Threads that answer what has to wait for the database, the directory or the disk, by WSGI. Spec: PEP 3333."""

import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from .http import Environment, Reply

logger = logging.getLogger(__name__)

# A part of an answer is sent when there is so much of it.
PART_BYTES = 65_536

Headers = list[tuple[str, str]]
StartResponse = Callable[..., Callable[[bytes], None]]
WSGIApplication = Callable[[Environment, StartResponse], Iterable[bytes]]


class Threads:
    """Some threads in front of a WSGI application."""

    def __init__(self, application: WSGIApplication, count: int, host: str, port: int) -> None:
        self._application = application
        self._queue: queue.SimpleQueue[tuple[Environment, bytes, Reply]] = queue.SimpleQueue()
        self._base: Environment = {
            "SCRIPT_NAME": "", "SERVER_NAME": host, "SERVER_PORT": str(port), "SERVER_SOFTWARE": "iam",
            "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr, "wsgi.multithread": True,
            "wsgi.multiprocess": True, "wsgi.run_once": False, "wsgi.input_terminated": True,
        }  # fmt: skip
        for number in range(count):
            threading.Thread(target=self._run, name=f"answers-{number}", daemon=True).start()

    def take(self, environment: Environment, body: bytes, reply: Reply) -> None:
        """Let the next free thread answer."""
        self._queue.put((environment, body, reply))

    def _run(self) -> None:
        while True:
            environment, body, reply = self._queue.get()
            try:
                if not reply.is_wanted:
                    raise ConnectionError("the client is gone")
                environment.update(self._base)
                environment["wsgi.input"] = BytesIO(body)
                _Answer(reply).make(self._application, environment)
            except ConnectionError:
                reply.fail()
            except BaseException:  # a thread that ended would be missed by every request after
                logger.exception("A request was not answered.")
                reply.fail()
            del environment, body, reply  # nothing of a request outlives it while the thread waits


class _Answer:
    """One answer on its way."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._status = ""
        self._headers: Headers = []
        self._has_begun = self._is_known = False
        self._unsent = b""

    def make(self, application: WSGIApplication, environment: Environment) -> None:
        """Ask the application and send what it says. Raises: whatever it raises, ConnectionError."""
        try:
            parts = application(environment, self._start_response)
            try:
                for part in parts:
                    self._write(part, len(parts) if isinstance(parts, list | tuple) else None)
            finally:
                getattr(parts, "close", bool)()
            if not self._has_begun:
                self._begin(0)
        except BaseException:  # SystemExit too: nobody may end the process by a request
            if self._has_begun:
                raise
            logger.exception("A request failed.")
            self._status, self._headers = "500 Internal Server Error", [("Content-Length", "0")]
        if not self._has_begun:
            self._begin(0)
        self._reply.finish(self._unsent)

    def _start_response(self, status: str, headers: Headers, problem: Any = None) -> Callable[[bytes], None]:
        if self._status and problem is None:
            raise AssertionError("start_response was called twice")
        if problem is not None and self._has_begun:
            raise problem[1].with_traceback(problem[2])
        self._status, self._headers = status, headers
        return lambda part: self._write(part, None)

    def _write(self, part: bytes, parts: int | None) -> None:
        if not part:
            return
        if not self._has_begun:
            self._begin(len(part) if parts == 1 else None)
        self._unsent += self._reply.part(part)
        if len(self._unsent) >= PART_BYTES or (parts is None and not self._is_known):
            self._reply.send(self._unsent)
            self._unsent = b""

    def _begin(self, whole: int | None) -> None:
        length, head = head_of(self._status, self._headers)
        if length is None and whole is not None:
            length = whole
            if not self._status.startswith(("204", "304", "1")):
                head += b"\r\nContent-Length: %d" % whole
        self._is_known = length is not None
        self._has_begun = True
        self._unsent = self._reply.begin(int(self._status[:3]), head, length)


def head_of(status: str, headers: Iterable[tuple[str, str]]) -> tuple[int | None, bytes]:
    """Return the length that headers announce, if any, and the head of an answer, without the last line end.

    Raises: ValueError for what would end a line early: an attacker could write headers with it.
    """
    length = None
    lines = [f"HTTP/1.1 {status}"]
    for name, value in headers:
        lowered = name.lower()
        if lowered == "content-length":
            length = int(value)
        elif lowered in _OURS:
            continue
        lines.append(f"{name}: {value}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        raise ValueError("a header of an answer holds a line end")
    return length, text.encode("latin-1")


# What is between the server and its client, and not the application's to say. Spec: PEP 3333 "Other HTTP Features".
_OURS = frozenset({"connection", "keep-alive", "transfer-encoding", "date", "upgrade", "trailer", "te"})
