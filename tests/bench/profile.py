"""Where the time of an operation goes: `python -m tests.bench.profile OPERATION [--database KIND] [--sort tottime]`.

The service runs inside this process, on one thread and without a socket; the database and the directory are real.
"""

import argparse
import collections
import contextlib
import cProfile
import io
import os
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench import server, world
from tests.bench.connection import Answer, Connection
from tests.bench.operations import OPERATIONS, Exhausted, Setting
from tests.bench.server import Database

STEPS = 120  # three times, and a few before: no more than there are people to sign in
LINES = 45


class InProcess(Connection):
    """A connection whose other end is the WSGI application itself."""

    def __init__(self, application: Callable[..., Any], port: int) -> None:
        self.number, self.sent, self.cookies = 0, 0, {}
        self._application, self._port = application, port
        self._host = f"localhost:{port}"

    def close(self) -> None:
        """Close nothing."""

    def _send(self, method: str, path: str, lines: str, body: bytes) -> Answer:
        if self.cookies:
            lines += (
                "Cookie: " + "; ".join(f"{name}={value}" for name, value in self.cookies.items()) + "\r\n"
            )
        bare, _, query = path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method, "PATH_INFO": bare, "QUERY_STRING": query, "SERVER_NAME": "localhost",
            "SERVER_PORT": str(self._port), "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": self._host, "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr,
        }  # fmt: skip
        for line in lines.splitlines():
            name, _, value = line.partition(": ")
            name = name.upper().replace("-", "_")
            environ[name if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{name}"] = value
        seen: list[Any] = []
        response = self._application(environ, lambda status, headers: seen.extend((status, headers)))
        content = b"".join(response)
        getattr(response, "close", bool)()  # the fast door's answers have nothing to close
        answer = Answer(
            f"{method} {bare}", int(seen[0].split()[0]), tuple((n.lower(), v) for n, v in seen[1]), content
        )
        for name, value in answer.headers:
            if name == "set-cookie":
                self._keep(value)
        return answer


def inside(operation: str, world_file: Path, sort: str) -> None:
    """Profile one operation; runs in the service's environment."""
    from django.db import connection

    from iam import wsgi

    application = wsgi.application
    place = world.load(world_file)
    step = OPERATIONS[operation](Setting(place, 1, 0, 1, 2.0), InProcess(application, place.port))
    times: dict[str, list[float]] = collections.defaultdict(list)

    def timed(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        begun = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            # A savepoint's name is a new one each time.
            name = sql.split(' "', maxsplit=1)[0] if "SAVEPOINT" in sql else " ".join(sql.split())[:100]
            times[name].append(time.perf_counter() - begun)

    for _ in range(20):
        step()
    with connection.execute_wrapper(timed):
        done = _repeat(step)
    statements, spent = sum(map(len, times.values())) / done, sum(map(sum, times.values())) / done * 1000
    print(
        f"{operation}: {statements:.0f} statements besides BEGIN and COMMIT, {spent:.2f} ms elapsed in them"
    )
    for sql, each in sorted(times.items(), key=lambda pair: -sum(pair[1])):
        print(f"  {len(each) / done:.1f} x {statistics.median(each) * 1000:.3f} ms  {sql}")
    used, begun, done = time.process_time(), time.perf_counter(), _repeat(step)
    used, elapsed = time.process_time() - used, time.perf_counter() - begun
    print(
        f"{used / done * 1000:.2f} ms of this process, {elapsed / done * 1000:.2f} ms elapsed, of {done} without a profiler"
    )
    profiler = cProfile.Profile()
    profiler.enable()
    _repeat(step)
    profiler.disable()
    pstats.Stats(profiler).strip_dirs().sort_stats(sort).print_stats(LINES)


def _repeat(step: Callable[[], None]) -> int:
    done = 0
    with contextlib.suppress(Exhausted):
        for _ in range(STEPS):
            step()
            done += 1
    return done


@contextlib.contextmanager
def _prepared(kind: Database) -> Iterator[tuple[dict[str, str], Path]]:
    with server.running(kind) as service:
        yield service.server.environment, service.world_file


def main() -> None:
    """Prepare a world, and profile in its environment."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile")
    parser.add_argument("operation", choices=sorted(OPERATIONS))
    parser.add_argument("--database", choices=list(Database), default=Database.POSTGRESQL)
    parser.add_argument("--sort", default="tottime", choices=["tottime", "cumulative"])
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        inside(arguments.operation, arguments.inside, arguments.sort)
        return
    with _prepared(Database(arguments.database)) as (environment, world_file):
        subprocess.run(
            [sys.executable, "-m", "tests.bench.profile", arguments.operation, "--sort", arguments.sort,
             "--inside", str(world_file)],
            cwd=server.ROOT, env={**os.environ, **environment}, check=False,
        )  # fmt: skip


if __name__ == "__main__":
    main()
