"""The load generator: a process of its own, so that what it costs is not counted.

`python -m tests.bench.load` reads one line of JSON, connects and prepares, writes `ready`, waits for the line
`go`, and writes one line of JSON with what it saw.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench import world
from tests.bench.connection import Connection, Refused
from tests.bench.operations import OPERATIONS, Exhausted, Setting, Step

PREPARE_SECONDS_MAX = 120.0


@dataclass(frozen=True, slots=True)
class Order:
    """What to do. `empty_port` is the port of a server whose every answer is empty, instead of an operation."""

    operation: str
    seconds: float
    connections: int
    repeat: int = 0
    repeats: int = 1
    world_file: str = ""
    empty_port: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen. `error` is a sentence, or empty; times are in seconds."""

    operations: int = 0
    requests: int = 0
    elapsed: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    error: str = ""


@dataclass(slots=True)
class _Runner:
    """One connection in one thread."""

    connection: Connection
    begin: Callable[[Connection], Step]
    times: list[float] = field(default_factory=list)
    requests: int = 0
    error: str = ""

    def run(self, prepared: threading.Barrier, started: threading.Barrier, seconds: float) -> None:
        try:
            step = self.begin(self.connection)
            prepared.wait(PREPARE_SECONDS_MAX)
            started.wait()
            self._repeat(step, seconds)
        except Refused as problem:
            self.error = str(problem)
            prepared.abort()
        except OSError as problem:
            self.error = f"The connection broke: {problem}."
            prepared.abort()
        except (KeyError, ValueError) as problem:
            self.error = f"An answer could not be read: {problem!r}."
            prepared.abort()
        except threading.BrokenBarrierError:
            pass  # another one said why
        finally:
            self.connection.close()

    def _repeat(self, step: Step, seconds: float) -> None:
        sent = self.connection.sent
        before = time.perf_counter()
        ends = before + seconds
        while before < ends:
            try:
                step()
            except Exhausted:
                break
            now = time.perf_counter()
            self.times.append(now - before)
            before = now
        self.requests = self.connection.sent - sent


def main() -> None:
    """Do what one order says."""
    order = Order(**json.loads(sys.stdin.readline()))
    prepared, started = threading.Barrier(order.connections + 1), threading.Barrier(order.connections + 1)
    try:
        runners = _runners(order)
    except OSError as problem:
        _say(Outcome(error=f"No connection to the service: {problem}."))
        return
    threads = [
        threading.Thread(target=runner.run, args=(prepared, started, order.seconds), daemon=True)
        for runner in runners
    ]
    for thread in threads:
        thread.start()
    try:
        prepared.wait(PREPARE_SECONDS_MAX)
    except threading.BrokenBarrierError:
        _say(_failed(runners) or Outcome(error="The preparation took too long."))
        return
    print("ready", flush=True)
    if sys.stdin.readline().strip() != "go":
        return
    begun = time.perf_counter()
    started.wait()
    for thread in threads:
        thread.join()
    _say(_failed(runners) or _summary(runners, time.perf_counter() - begun))


def _runners(order: Order) -> list[_Runner]:
    if order.empty_port:
        connections = [Connection("127.0.0.1", order.empty_port, n) for n in range(order.connections)]
        return [_Runner(connection, _empty) for connection in connections]
    place = world.load(Path(order.world_file))
    setting = Setting(place, order.connections, order.repeat, order.repeats, order.seconds)
    operation = OPERATIONS[order.operation]
    return [
        _Runner(Connection(place.host, place.port, number), lambda connection: operation(setting, connection))
        for number in range(order.connections)
    ]


def _empty(connection: Connection) -> Step:
    def step() -> None:
        connection.get("/").expect(200)

    return step


def _failed(runners: list[_Runner]) -> Outcome | None:
    errors = [runner.error for runner in runners if runner.error]
    return Outcome(error=errors[0]) if errors else None


def _summary(runners: list[_Runner], elapsed: float) -> Outcome:
    times = sorted(seconds for runner in runners for seconds in runner.times)
    if not times:
        return Outcome(error="Not one operation was done.")
    return Outcome(
        operations=len(times),
        requests=sum(runner.requests for runner in runners),
        elapsed=elapsed,
        p50=times[len(times) // 2],
        p99=times[min(len(times) - 1, len(times) * 99 // 100)],
    )


def _say(outcome: Outcome) -> None:
    print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    main()
