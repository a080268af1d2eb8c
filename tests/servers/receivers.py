"""Applications that are told of ended sessions: real HTTP servers, well-behaved, slow, broken, away."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from tests.servers.postgres import free_port


@dataclass
class Receiver:
    """What one application was sent, and how it answers: a status, after some seconds."""

    url: str
    status: int = 200
    seconds: float = 0.0
    location: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    running: int = 0
    most_at_once: int = 0

    @property
    def tokens(self) -> list[str]:
        return [request["form"]["logout_token"][0] for request in self.requests]

    def wait_for(self, count: int, seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while len(self.requests) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(self.requests) >= count, f"{len(self.requests)} of {count} arrived"


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            with lock:
                receiver.running += 1
                receiver.most_at_once = max(receiver.most_at_once, receiver.running)
                receiver.at.append(time.monotonic())
                receiver.requests.append(
                    {"form": parse_qs(body), "type": self.headers["Content-Type"], "path": self.path}
                )
            time.sleep(receiver.seconds)
            with lock:
                receiver.running -= 1
            with contextlib.suppress(OSError):
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Cache-Control", "no-store")
                self.send_header("Content-Length", "0")
                self.end_headers()

        do_GET = do_POST  # noqa: N815 -- as the library calls it

        def log_message(self, *args: object) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a deliverer that was killed breaks its connection."""


@contextlib.contextmanager
def receiving(
    status: int = 200, seconds: float = 0.0, location: str = "", port: int = 0
) -> Iterator[Receiver]:
    """Run one receiver until the block ends."""
    receiver = Receiver("", status, seconds, location)
    server = _Server(("127.0.0.1", port), _handler(receiver))
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/backchannel-logout"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def away() -> str:
    """Return an address where nobody answers."""
    return f"http://127.0.0.1:{free_port()}/backchannel-logout"
