"""Measure the bridge to the directory beside OpenLDAP's own tools: `python -m tests.bench.directory --help`.

The same server, the same filter, the same attributes, in the same run: read the ratios, not the seconds.
A measure is a function in `MEASURES` that takes the place and returns rows.
"""

import argparse
import contextlib
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.demo import slapd, testca
from directory import ber, kinds
from directory.budget import Budget
from directory.config import Source
from directory.openldap import SyncReader
from directory.servers import Gateway
from tests.bench import bridge, population
from tests.bench.processes import ProcessTree

ADMIN, ADMIN_PASSWORD = f"cn=admin,{population.BASE}", "admin-of-the-bench"
SERVICE, SERVICE_PASSWORD = f"cn=sign-in,ou=services,{population.BASE}", "service-of-the-bench"
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A running server with its people."""

    server: slapd.Server
    source: Source
    people: int


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: seconds, and how many times that of the tool it stands beside (0 = beside nothing)."""

    name: str
    seconds: float
    ratio: float = 0.0
    at_most: str = ""  # what was asked for, in words


@contextlib.contextmanager
def running(people: int) -> Iterator[Place]:
    """Start a server of so many people in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="iam-bench-slapd-"))
    folder.chmod(0o755)  # the server is another user
    certificates = testca.make(folder / "ca")
    ldif = population.write(folder / "people.ldif", people)
    server = slapd.Server(
        folder=folder / "slapd", port=slapd.free_port(), base_dn=population.BASE, admin_dn=ADMIN,
        admin_password=ADMIN_PASSWORD, service_dn=SERVICE, service_password=SERVICE_PASSWORD, ldif_files=(ldif,),
        certificate_file=certificates.certificate_file, key_file=certificates.key_file, ca_file=certificates.ca_file,
        data_bytes_max=2 * 1024**3,
    )  # fmt: skip
    source = Source(
        name="hq", urls=(server.url,), ca_file=str(server.ca_file), bind_dn=SERVICE, bind_password=SERVICE_PASSWORD,
        base_dn=population.BASE,
    )  # fmt: skip
    try:
        server.prepare()
        server.start()
        yield Place(server, source, people)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


# -- reading ------------------------------------------------------------------------------------------------------


def reading(place: Place) -> list[Row]:
    """Read everything, beside `ldapsearch` with the same filter and attributes over the same TLS.

    Time on the clock, and the processor time of client and server together: the second is what counts where
    other work shares the processors.
    """
    reader = SyncReader(place.source)
    try:
        # Not counted: the server's caches.
        _ldapsearch(place)
        _read(reader)
        # Turn by turn, so that what else the machine does disturbs both.
        pairs = [
            (_spent(place, lambda: _ldapsearch(place)), _spent(place, lambda: _read(reader)))
            for _ in range(REPEATS)
        ]
    finally:
        reader.close()
    tool, ours = ([pair[side] for pair in pairs] for side in (0, 1))
    tool_seconds, our_seconds = (statistics.median(spent.clock for spent in side) for side in (tool, ours))
    tool_processor, our_processor = (
        statistics.median(spent.processor for spent in side) for side in (tool, ours)
    )
    return [
        Row("ldapsearch, the same attributes", tool_seconds),
        Row("read alone", our_seconds, our_seconds / tool_seconds, "2 x ldapsearch"),
        Row("ldapsearch, processor of both sides", tool_processor),
        Row("read alone, processor of both sides", our_processor, our_processor / tool_processor),
    ]


@dataclass(frozen=True, slots=True)
class _Spent:
    """Seconds on the clock, and of the processor in this process, its children and the server."""

    clock: float
    processor: float


def _spent(place: Place, act: Callable[[], object]) -> _Spent:
    assert place.server.pid is not None
    server = ProcessTree(place.server.pid)
    begun, before = time.perf_counter(), os.times()
    used = server.processor_seconds()
    act()
    clock, after = time.perf_counter() - begun, os.times()
    return _Spent(clock, sum(after[:4]) - sum(before[:4]) + server.processor_seconds() - used)


def _ldapsearch(place: Place) -> None:
    subprocess.run(
        ["ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-E", "pr=1000/noprompt", "-H", place.server.url,
         "-D", SERVICE, "-w", SERVICE_PASSWORD, "-b", population.BASE, kinds.build_whole_filter(place.source),
         *kinds.wanted_attributes(place.source)],
        stdout=subprocess.DEVNULL, check=True, env={**os.environ, "LDAPTLS_CACERT": str(place.server.ca_file)},
    )  # fmt: skip


def _read(reader: SyncReader) -> None:
    reading = reader.full()
    count = sum(1 for _ in reading)
    assert count > 0
    reading.ending()


def polling(place: Place) -> list[Row]:
    """Ask for the changes when there are none."""
    reader = SyncReader(place.source)
    try:
        whole = reader.full()
        for _ in whole:
            pass
        cookie = whole.ending().cookie

        def poll() -> None:
            answer = reader.poll(cookie)
            assert not list(answer)
            answer.ending()

        return [Row("nothing changed, read alone", _median(poll, 100), at_most="5 ms with the transaction")]
    finally:
        reader.close()


# -- signing in ------------------------------------------------------------------------------------------------------


def binding(place: Place) -> list[Row]:
    """Try right passwords, beside a raw TLS socket that sends the same bytes."""
    gateway = Gateway(place.source)
    numbers = iter(range(10**9))

    def dn() -> str:
        return population.person_dn(next(numbers) % place.people, place.people)

    def kept() -> None:
        assert gateway.judge(dn(), population.PASSWORD, Budget.start(3)).refusal is None

    def new() -> None:
        gateway.close()
        kept()

    try:
        raw_new = _median(lambda: _raw_bind(place, dn()), 100)
        ours_new = _median(new, 100)
        with _raw_connection(place) as connection:
            raw_kept = _median(lambda: _raw_bind_on(connection, dn()), 300)
        ours_kept = _median(kept, 300)
    finally:
        gateway.close()
    return [
        Row("raw bind, new TLS connection", raw_new),
        Row("sign-in bind, new TLS connection", ours_new, ours_new / raw_new, "10 ms"),
        Row("raw bind, kept TLS connection", raw_kept),
        Row("sign-in bind, kept TLS connection", ours_kept, ours_kept / raw_kept, "2 ms"),
    ]


@contextlib.contextmanager
def _raw_connection(place: Place) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(place.server.ca_file))
    with socket.create_connection((place.server.host, place.server.port)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname=place.server.host) as protected:
            yield protected


def _raw_bind(place: Place, dn: str) -> None:
    with _raw_connection(place) as connection:
        _raw_bind_on(connection, dn)


def _raw_bind_on(connection: ssl.SSLSocket, dn: str) -> None:
    bind = ber.write(
        0x60,
        ber.write_number(3),
        ber.write(ber.OCTETS, dn.encode()),
        ber.write(0x80, population.PASSWORD.encode()),
    )
    connection.sendall(ber.write(ber.SEQUENCE, ber.write_number(1), bind))
    [message] = ber.Splitter().feed(connection.recv(4096))
    assert ber.read_result(message.body).code == 0


# -- into a database -------------------------------------------------------------------------------------------------


def bridging(place: Place) -> list[Row]:
    """Apply the directory to PostgreSQL: everything, everything again, ten changes, nothing.

    Processor time is the bridge's own, beside that of `ldapsearch` alone: neither slapd nor PostgreSQL is in it.
    """
    _ldapsearch(place)
    spent = [_spent_alone(lambda: _ldapsearch(place)) for _ in range(3)]
    tool, tool_processor = (statistics.median(values) for values in zip(*spent, strict=True))
    with bridge.bridge(place.source, place.server, place.people) as made:
        rows = made.ask("whole", is_first=True, with_effects=False)
    with bridge.bridge(place.source, place.server, place.people) as made:
        real = made.ask("whole", is_first=True, with_effects=True)
        again = made.ask("whole", is_first=False, with_effects=True)
        changes = []
        for round_ in range(5):
            made.apply(bridge.ten_changes(place.people, round_))
            changes.append(made.ask("poll", times=1, warm=True))
        nothing = made.ask("poll", times=50)
    found = [Row("ldapsearch, the same attributes", tool), Row("  its processor", tool_processor)]
    for name, one, at_most in (
        ("first synchronisation, rows committed", rows, "10 x ldapsearch"),
        ("the same with accounts, rights, audit", real, ""),
        ("whole comparison, nothing changed", again, "3 x ldapsearch"),
    ):
        found += [
            Row(name, one["seconds"], one["seconds"] / tool, at_most),
            Row("  its processor", one["processor"], one["processor"] / tool_processor),
            Row(f"  its memory: {one['peak'] / 1e6:.0f} MB", 0.0, at_most="350 MB"),
        ]
    return [
        *found,
        Row(
            "ten changes, stream to commit",
            statistics.median(one["seconds"] for one in changes),
            at_most="50 ms",
        ),
        Row(
            "  its processor",
            statistics.median(one["processor"] for one in changes),
            at_most="2 x that at 1,000",
        ),
        Row("nothing changed, stream to commit", nothing["seconds"], at_most="5 ms"),
        Row("  its processor", nothing["processor"]),
    ]


def _spent_alone(act: Callable[[], object]) -> tuple[float, float]:
    begun, before = time.perf_counter(), os.times()
    act()
    after = os.times()
    return time.perf_counter() - begun, sum(after[:4]) - sum(before[:4])


def leaving(place: Place) -> list[Row]:
    """Disable people while the listener follows."""
    with bridge.bridge(place.source, place.server, place.people) as made:
        made.ask("whole", is_first=True, with_effects=True)
        times = bridge.leave(made, min(bridge.LEAVERS, max(4, place.people // 60)))
    return [
        Row(
            f"disabled to account closed, p50 of {len(times)}", bridge.quantile(times, 0.5), at_most="500 ms"
        ),
        Row("disabled to account closed, p99", bridge.quantile(times, 0.99), at_most="2 s"),
    ]


# -- the table -------------------------------------------------------------------------------------------------------

MEASURES: dict[str, Callable[[Place], list[Row]]] = {
    "reading": reading,
    "polling": polling,
    "binding": binding,
    "bridging": bridging,
    "leaving": leaving,
}


def _median(act: Callable[[], object], repeats: int = REPEATS) -> float:
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        act()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def table(people: int, rows: list[Row]) -> str:
    """Return the table as Markdown."""
    lines = [
        f"| {f'directory of {people} people':<40} | {'ms':>10} | {'ratio':>6} | asked for |",
        "| --- | ---: | ---: | --- |",
    ]
    for row in rows:
        ratio = f"{row.ratio:.2f}" if row.ratio else ""
        lines.append(f"| {row.name:<40} | {row.seconds * 1000:>10.2f} | {ratio:>6} | {row.at_most} |")
    return "\n".join(lines)


def main() -> int:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.directory", description="How fast is the bridge?"
    )
    parser.add_argument(
        "--people", type=int, action="append", metavar="NUMBER", help="default 10000; may be repeated"
    )
    parser.add_argument(
        "--only", choices=sorted(MEASURES), action="append", metavar="NAME", help=", ".join(MEASURES)
    )
    arguments = parser.parse_args()
    for people in arguments.people or [10_000]:
        print(f"bench: a directory of {people} people is loaded", file=sys.stderr, flush=True)
        with running(people) as place:
            rows = [row for name in arguments.only or MEASURES for row in MEASURES[name](place)]
        print(table(people, rows), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
