"""Repeated runs of the operations against a started service, and their medians."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tests.bench.load import Order, Outcome
from tests.bench.processes import BenchError, ProcessTree
from tests.bench.server import ROOT, bare_environment


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `processor_ms` is the processor time of one operation, by part of the server side."""

    per_second: float
    requests: float
    p50_ms: float
    p99_ms: float
    processor_ms: Mapping[str, float]

    @property
    def total_ms(self) -> float:
        """Return the processor time of one operation on the whole server side."""
        return sum(self.processor_ms.values())


# Where the load generator runs when the server side has a core of its own; None: wherever there is time.
generator_core: int | None = None


def measure(order: Order, parts: Mapping[str, ProcessTree]) -> Run:
    """Let a load generator do one run, and read before and after it what the server's parts used."""
    generator = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.load"],
        cwd=ROOT, env=bare_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        if generator_core is not None:
            os.sched_setaffinity(
                generator.pid, {generator_core}
            )  # its threads are started later, and inherit it
        _say(generator, json.dumps(asdict(order)))
        if (line := _hear(generator)) != "ready":
            raise BenchError(f"{order.operation}: {Outcome(**json.loads(line)).error}")
        before = {name: tree.processor_seconds() for name, tree in parts.items()}
        _say(generator, "go")
        outcome = Outcome(**json.loads(_hear(generator)))
        used = {name: tree.processor_seconds() - before[name] for name, tree in parts.items()}
    finally:
        generator.kill()
        generator.communicate()
    if outcome.error:
        raise BenchError(f"{order.operation}: {outcome.error}")
    return Run(
        outcome.operations / outcome.elapsed,
        outcome.requests / outcome.operations,
        outcome.p50 * 1000,
        outcome.p99 * 1000,
        {name: seconds / outcome.operations * 1000 for name, seconds in used.items()},
    )


def median(runs: list[Run]) -> Run:
    """Return a run whose every figure is the median of that figure."""
    return Run(
        statistics.median(run.per_second for run in runs),
        statistics.median(run.requests for run in runs),
        statistics.median(run.p50_ms for run in runs),
        statistics.median(run.p99_ms for run in runs),
        {name: statistics.median(run.processor_ms[name] for run in runs) for name in runs[0].processor_ms},
    )


def _say(generator: subprocess.Popen[str], line: str) -> None:
    if generator.stdin is None:
        raise BenchError("The load generator has no input.")
    generator.stdin.write(line + "\n")
    generator.stdin.flush()


def _hear(generator: subprocess.Popen[str]) -> str:
    line = generator.stdout.readline().strip() if generator.stdout else ""
    if not line:
        raise BenchError("The load generator ended without a word.")
    return line
