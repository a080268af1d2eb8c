"""An address at which a client publishes its keys, slowly: it answers when it is let, or when nobody waits any more."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Less than the service waits for, so that the answer counts all the same.
HELD_SECONDS = 2.5


@dataclass
class SlowKeySet:
    """`asked` is set when the service asks; it is answered when `released` is set, or after HELD_SECONDS."""

    url: str
    keys: list[dict[str, Any]]
    asked: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    was_released: bool | None = None


@contextlib.contextmanager
def publishing_slowly(*keys: dict[str, Any]) -> Iterator[SlowKeySet]:
    """Publish public keys until the block ends."""
    key_set = SlowKeySet("", list(keys))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            key_set.asked.set()
            key_set.was_released = key_set.released.wait(HELD_SECONDS)
            body = json.dumps({"keys": key_set.keys}).encode()
            with contextlib.suppress(OSError):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    key_set.url = f"http://127.0.0.1:{server.server_port}/jwks"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield key_set
    finally:
        key_set.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
