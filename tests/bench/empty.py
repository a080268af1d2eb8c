"""The smallest application: what the server costs when nothing is asked of it. `python -m tests.bench.empty --port PORT`."""

import socket
import sys
from collections.abc import Iterable
from typing import Any

from iam.serving.supervisor import Supervisor
from iam.serving.worker import serve

WORKERS, THREADS = 2, 8


class Empty:
    """Answers with nothing."""

    def at_once(self, environment: dict[str, Any], body: bytes) -> tuple[bytes, bytes]:
        """Answer in the loop."""
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0", b""

    def __call__(self, environment: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer in a thread; nobody asks."""
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]


def _work(listening: socket.socket, parent: int) -> None:
    serve(Empty(), listening, THREADS, parent)


if __name__ == "__main__":
    sys.exit(Supervisor("127.0.0.1", int(sys.argv[-1]), WORKERS, _work).run())
