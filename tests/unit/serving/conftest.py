"""A server in this process, in front of an application that says what it was asked."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import uvloop

from iam.serving import http
from iam.serving.threads import Threads


@dataclass
class Echo:
    """`/now` is answered at once; everything else in threads: it says what it was asked."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)

    def at_once(self, environment: http.Environment, body: bytes) -> tuple[bytes, bytes] | None:
        if environment["PATH_INFO"] != "/now":
            return None
        self.asked.append((environment["REQUEST_METHOD"], environment["PATH_INFO"]))
        return b"HTTP/1.1 200 OK\r\nContent-Length: 3", b"now"

    def __call__(self, environment, start_response):
        path = environment["PATH_INFO"]
        self.asked.append((environment["REQUEST_METHOD"], path))
        body = environment["wsgi.input"].read()
        match path:
            case "/stream":
                start_response("200 OK", [("Content-Type", "text/plain")])
                return (b"part %d;" % number for number in range(3))
            case "/nothing":
                start_response("204 No Content", [])
                return []
            case "/unchanged":
                start_response("304 Not Modified", [])
                return [b"not sent"]
            case "/fails":
                raise ZeroDivisionError
            case "/fails-later":
                start_response("200 OK", [("Content-Length", "100")])
                return self._broken()
            case "/short":
                start_response("200 OK", [("Content-Length", "100")])
                return [b"short"]
            case "/long":
                start_response("200 OK", [("Content-Length", "5")])
                return [b"longer than said"]
            case "/split":
                start_response("200 OK", [("Location", "/a\r\nSet-Cookie: stolen=1")])
                return [b"x"]
            case "/split-empty":
                start_response("302 Found", [("Location", "/a\r\nSet-Cookie: stolen=1")])
                return []
            case "/exits":
                raise SystemExit(1)
            case "/eight":
                start_response("200 OK", [("Content-Length", "8000000")])
                return [b"x" * 8_000_000]
            case "/slow":
                assert self.go.wait(10)
            case "/large":
                start_response("200 OK", [("Content-Length", str(64 * 1_000_000))])
                return (b"x" * 1_000_000 for _ in range(64))
        said = {name: value for name, value in environment.items() if isinstance(value, str)}
        text = json.dumps({**said, "body": len(body), "begins": body[:60].decode("latin-1")}).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
        return [text]

    @staticmethod
    def _broken() -> Iterator[bytes]:
        yield b"half of it"
        raise ZeroDivisionError


@dataclass
class Running:
    """The server, its application and its address."""

    server: http.Server
    application: Echo
    port: int

    def on_loop(self, act) -> None:
        """Do something in the loop's thread, and wait for it."""
        done = threading.Event()
        self.server.loop.call_soon_threadsafe(lambda: (act(), done.set()))
        assert done.wait(10)

    def wait_seconds(self, seconds: int) -> None:
        """Let the server's clock move on, without waiting."""
        self.on_loop(lambda: [self.server.tick() for _ in range(seconds)])

    def connect(self) -> socket.socket:
        """Connect a client."""
        client = socket.create_connection(("127.0.0.1", self.port), 10)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def ask(self, request: bytes) -> bytes:
        """Send something, end our half, and return everything that comes back."""
        with self.connect() as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            return rest(client)


def rest(client: socket.socket) -> bytes:
    """Return everything until the server closes."""
    seen = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while block := client.recv(65_536):
            seen += block
    return bytes(seen)


@pytest.fixture
def running() -> Iterator[Running]:
    """Start the server in a thread, and stop it."""
    application, started = Echo(), threading.Event()
    kept: list[Running] = []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        application.later = Threads(application, 2, "127.0.0.1", port).take
        server = http.Server(application, loop)
        listener = await loop.create_server(lambda: http.Connection(server), sock=listening)
        stop = asyncio.Event()
        kept.append(Running(server, application, port))
        kept[0].stop = lambda: loop.call_soon_threadsafe(stop.set)
        started.set()
        await stop.wait()
        listener.close()
        for connection in tuple(server.connections):
            connection._transport.abort()
        await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: uvloop.run(serve()), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield kept[0]
    finally:
        application.go.set()
        kept[0].stop()
        thread.join(10)
