"""Serve `iam.wsgi`: `python -m iam.serving --help`."""

import argparse
import gc
import os
import socket
import sys

THREADS = 8
WORKERS = 2


def main() -> int:
    """Read the arguments, import the service once, and let workers serve it."""
    parser = argparse.ArgumentParser(
        prog="python -m iam.serving", description="Serve the sign-in service by HTTP/1.1."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes")
    parser.add_argument(
        "--threads", type=int, default=THREADS, help="of each, for what waits for database or directory"
    )
    arguments = parser.parse_args()
    if arguments.workers < 1 or arguments.threads < 1:
        parser.error("at least one worker, and one thread")

    from iam import wsgi
    from iam.serving.supervisor import Supervisor
    from iam.serving.worker import serve

    def work(listening: socket.socket, parent: int) -> None:
        serve(wsgi.start(), listening, arguments.threads, parent)

    try:
        supervisor = Supervisor(arguments.host, arguments.port, arguments.workers, work)
    except OSError as problem:
        sys.stderr.write(f"Port {arguments.port} of {arguments.host}: {os.strerror(problem.errno or 0)}.\n")
        return 1
    gc.collect()
    gc.freeze()  # what all share is not written to by the collector, so that it stays shared
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
