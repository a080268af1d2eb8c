"""One persistent HTTP connection, as little of HTTP as the server's answers need: the generator shares the machine."""

import socket
from dataclasses import dataclass
from urllib.parse import urlencode

ANSWER_SECONDS = 30.0
_BLOCK = 65536


class Refused(Exception):
    """An answer that is not the expected one; the sentence says which."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; names of headers are in lower case."""

    request: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """Return a header, or an empty text."""
        return next((value for known, value in self.headers if known == name), "")

    def expect(self, status: int) -> "Answer":
        """Return the answer itself. Raises: Refused when its status is another one."""
        if self.status != status:
            # The beginning only: a token in a terminal's history is a token lost.
            words = " ".join(self.body[:200].decode("utf-8", "replace").split())
            raise Refused(f"{self.request} answered {self.status}, not {status}: {words}")
        return self


class Connection:
    """A connection that stays open. It keeps the cookies that the service sets, as a browser does."""

    def __init__(self, host: str, port: int, number: int = 0) -> None:
        self.number = number  # among the connections of a run
        self.sent = 0
        self._host = f"localhost:{port}"
        self._socket = socket.create_connection((host, port), ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self.cookies: dict[str, str] = {}

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def get(self, path: str, headers: str = "") -> Answer:
        """Send a GET. `headers` are whole lines, each with its CR LF."""
        return self._send("GET", path, headers, b"")

    def post(self, path: str, form: dict[str, str], headers: str = "") -> Answer:
        """Send a form."""
        body = urlencode(form).encode("ascii")
        lines = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n{headers}"
        return self._send("POST", path, lines, body)

    def _send(self, method: str, path: str, lines: str, body: bytes) -> Answer:
        if self.cookies:
            lines += (
                "Cookie: " + "; ".join(f"{name}={value}" for name, value in self.cookies.items()) + "\r\n"
            )
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept-Encoding: identity\r\n{lines}\r\n"
        self.sent += 1
        self._socket.sendall(head.encode("latin-1") + body)
        answer = self._read(f"{method} {path.partition('?')[0]}")
        for name, value in answer.headers:
            if name == "set-cookie":
                self._keep(value)
        return answer

    def _keep(self, cookie: str) -> None:
        name, _, value = cookie.partition(";")[0].partition("=")
        if value in {"", '""'}:
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = value

    def _read(self, request: str) -> Answer:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._more(request)
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        self._buffer = self._buffer[end + 4 :]
        headers = tuple(
            (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)
        )
        answer = Answer(request, int(first.split(" ")[1]), headers, b"")
        length = answer.header("content-length")
        if not length and answer.status not in {204, 304}:
            raise Refused(f"{request} answered without a Content-Length.")
        size = int(length or 0)
        while len(self._buffer) < size:
            self._more(request)
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return Answer(request, answer.status, headers, body)

    def _more(self, request: str) -> None:
        block = self._socket.recv(_BLOCK)
        if not block:
            raise Refused(f"{request}: the service closed the connection.")
        self._buffer += block
