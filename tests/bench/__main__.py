"""Measure and print the table: `python -m tests.bench --help`. What it means is written in docs/performance.md."""

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType

from deploy.demo.slapd import SlapdError
from tests.bench import crowd, limits, runs, server
from tests.bench.limits import Limit
from tests.bench.load import Order
from tests.bench.operations import OPERATIONS
from tests.bench.processes import BenchError
from tests.bench.runs import Run
from tests.bench.server import Database
from tests.servers.postgres import free_port

CONNECTIONS = 8
REPEATS = 3
LIMIT_SECONDS = 1.5
WARM_SECONDS = 0.5


@dataclass(slots=True)
class Report:
    """Everything that one database's service showed. `runs` holds every run of an operation, `median` the medians."""

    database: Database
    starts_seconds: list[float] = field(default_factory=list)
    memory_start_bytes: int = 0
    memory_end_bytes: int = 0
    median: dict[str, Run] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=dict)


def main() -> int:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="How fast is the service here?"
    )
    parser.add_argument("--database", choices=[*Database, "both"], default="both")
    parser.add_argument("--seconds", type=_seconds, default=2.0, help="of one run; there are three of each")
    parser.add_argument("--only", choices=sorted(OPERATIONS), action="append", metavar="NAME",
                        help=f"measure this operation only: {', '.join(OPERATIONS)}")  # fmt: skip
    parser.add_argument("--workers", type=int, choices=(1, 2), default=2, help="of the service")
    parser.add_argument(
        "--pin", action="store_true", help="everything on one core, the load generator on another"
    )
    parser.add_argument(
        "--rows", type=int, default=0, metavar="N",
        help="so many live sessions and families of refresh tokens beside; PostgreSQL only, a purge is measured at the end",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure there")
    arguments = parser.parse_args()
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    if arguments.pin:
        first, second, *_ = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {first})  # every process that is started from here inherits it
        runs.generator_core = second
    databases = list(Database) if arguments.database == "both" else [Database(arguments.database)]
    try:
        measured, reports = _measure(
            databases,
            arguments.only or list(OPERATIONS),
            arguments.seconds,
            arguments.workers,
            arguments.rows,
        )
    except (BenchError, SlapdError, RuntimeError) as problem:  # the last: a server is not installed
        _note(str(problem))
        return 1
    except KeyboardInterrupt:
        _note("interrupted; everything is stopped.")
        return 130
    text = _table(measured, reports)
    print(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(_plain(measured, reports), indent=1), encoding="utf-8")
    return 0


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.2 <= seconds <= 20:  # codes live a minute, and as long as a run lasts they are made before it
        raise argparse.ArgumentTypeError("between 0.2 and 20")
    return seconds


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _note(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _measure(
    databases: list[Database], operations: list[str], seconds: float, workers: int, rows: int
) -> tuple[list[Limit], list[Report]]:
    measured = [limits.signature(LIMIT_SECONDS), limits.verification(LIMIT_SECONDS)]
    with server.temporary_folder() as folder:
        measured += [limits.sqlite_commit(folder, LIMIT_SECONDS), _empty_answer(folder, seconds)]
    reports = []
    for database in databases:
        with server.running(database, workers) as service:
            if service.owner_url.startswith("postgresql:"):
                measured.append(limits.postgresql_commit(service.owner_url, LIMIT_SECONDS))
                if rows:
                    took = crowd.fill(service.owner_url, rows)
                    _note(f"{rows} live sessions and families were made in {took:.0f} s")
            reports.append(_one_database(database, service, operations, seconds))
            if rows and service.owner_url.startswith("postgresql:"):
                _note(f"purging a tenth: {service.run('tests.bench.crowd', '0.1').strip()}")
    return measured, reports


def _empty_answer(folder: Path, seconds: float) -> Limit:
    empty = server.Server("tests.bench.empty", free_port(), server.bare_environment(), folder / "log")
    with contextlib.ExitStack() as stack:
        stack.callback(empty.stop)
        empty.start()
        order = Order("empty", seconds, CONNECTIONS, empty_port=empty.port)
        run = runs.median([runs.measure(order, {"service": empty.tree}) for _ in range(REPEATS)])
    return Limit("one empty answer of the server", run.per_second, run.p50_ms, run.p99_ms, run.total_ms)


def _one_database(
    database: Database, service: server.Service, operations: list[str], seconds: float
) -> Report:
    report = Report(database)
    for _ in range(REPEATS):
        service.server.stop()
        report.starts_seconds.append(service.server.start())
    report.memory_start_bytes = service.server.tree.memory_bytes()
    world_file = str(service.world_file)
    for operation in operations:
        _note(f"{database}: {operation}")
        run = partial(Order, operation, connections=CONNECTIONS, repeats=REPEATS + 1, world_file=world_file)
        # Not counted: templates are compiled, threads open their connections.
        runs.measure(run(seconds=WARM_SECONDS, repeat=0), service.parts())
        report.runs[operation] = [
            runs.measure(run(seconds=seconds, repeat=repeat), service.parts())
            for repeat in range(1, REPEATS + 1)
        ]
        report.median[operation] = runs.median(report.runs[operation])
    report.memory_end_bytes = service.server.tree.memory_bytes()
    return report


# -- what is shown ----------------------------------------------------------------------------------------------


def _table(measured: list[Limit], reports: list[Report]) -> str:
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {_machine()}; medians of {REPEATS} runs, {CONNECTIONS} connections",
        "",
        _row("raw limit of this machine", "a second", "p50 ms", "p99 ms", "processor ms"),
        _row("---", *["---:"] * 4),
    ]
    lines += [
        _row(limit.name, f"{limit.per_second:.0f}", f"{limit.p50_ms:.3f}", f"{limit.p99_ms:.3f}",
             "" if limit.processor_ms is None else f"{limit.processor_ms:.3f}")
        for limit in measured
    ]  # fmt: skip
    for report in reports:
        parts = ("database", "directory") if report.database is Database.POSTGRESQL else ("directory",)
        lines += [
            "",
            _row(report.database, "a second", "requests", "p50 ms", "p99 ms", "processor ms", *(f"of it {part}" for part in parts)),
            _row("---", *["---:"] * (5 + len(parts))),
        ]  # fmt: skip
        lines += [
            _row(name, f"{run.per_second:.0f}", f"{run.requests:.0f}", f"{run.p50_ms:.1f}", f"{run.p99_ms:.1f}",
                 f"{run.total_ms:.2f}", *(f"{run.processor_ms[part]:.2f}" for part in parts))
            for name, run in report.median.items()
        ]  # fmt: skip
        lines += [
            "",
            f"{report.database}: first answer {statistics.median(report.starts_seconds):.2f} s after the start; memory of"
            f" supervisor and workers {_megabytes(report.memory_start_bytes)} then,"
            f" {_megabytes(report.memory_end_bytes)} at the end.",
        ]
    return "\n".join(lines)


def _row(*cells: str) -> str:
    """Return a line of a table that a terminal and Markdown both show well."""
    first, *others = cells
    return "| " + " | ".join([f"{first:<36}", *(f"{cell:>12}" for cell in others)]) + " |"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def _machine() -> str:
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
         if line.startswith("model name")),
        platform.machine(),
    )  # fmt: skip
    processors, kernel = len(os.sched_getaffinity(0)), platform.release().partition("-")[0]
    return f"{processors} processors ({model}), Linux {kernel}, Python {platform.python_version()}"


def _plain(measured: list[Limit], reports: list[Report]) -> dict[str, object]:
    return {
        "at": datetime.now(UTC).isoformat(),
        "machine": _machine(),
        "limits": [asdict(limit) for limit in measured],
        "databases": [asdict(report) for report in reports],
    }


if __name__ == "__main__":
    sys.exit(main())
