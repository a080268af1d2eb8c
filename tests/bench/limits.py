"""What the machine itself can do: nothing that the service does can be faster than these."""

import contextlib
import sqlite3
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

_MESSAGE = b"x" * 600  # about an access token


@dataclass(frozen=True, slots=True)
class Limit:
    """One raw operation, one after the other. `processor_ms` is None where another process does the work."""

    name: str
    per_second: float
    p50_ms: float
    p99_ms: float
    processor_ms: float | None = None


def signature(seconds: float) -> Limit:
    """Sign with ES256, as every access token is."""
    key, algorithm = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(hashes.SHA256())
    return _measure("one ES256 signature", lambda: key.sign(_MESSAGE, algorithm), seconds)


def verification(seconds: float) -> Limit:
    """Verify an ES256 signature, as userinfo and introspection do."""
    key, algorithm = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(hashes.SHA256())
    signed, public = key.sign(_MESSAGE, algorithm), key.public_key()
    return _measure("one ES256 verification", lambda: public.verify(signed, _MESSAGE, algorithm), seconds)


def sqlite_commit(folder: Path, seconds: float) -> Limit:
    """Insert one row and commit, with the service's own settings of SQLite."""
    with contextlib.closing(sqlite3.connect(folder / "limit.sqlite3", isolation_level=None)) as connection:
        connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE limit_row (text TEXT)"
        )

        def commit() -> None:
            connection.execute("INSERT INTO limit_row VALUES ('x')")

        return _measure("one commit of SQLite (WAL, NORMAL)", commit, seconds)


def postgresql_commit(url: str, seconds: float) -> Limit:
    """Insert one row and commit, durably, over one connection."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE limit_row (text TEXT)")
        try:
            limit = _measure(
                "one commit of PostgreSQL (fsync)",
                lambda: connection.execute("INSERT INTO limit_row VALUES ('x')"),
                seconds,
            )
        finally:
            connection.execute("DROP TABLE limit_row")
    return Limit(limit.name, limit.per_second, limit.p50_ms, limit.p99_ms)


def _measure(name: str, act: Callable[[], object], seconds: float) -> Limit:
    """Take the medians of three runs."""
    runs = [_run(name, act, seconds / 3) for _ in range(3)]

    def median(values: list[float]) -> float:
        return statistics.median(values)

    return Limit(
        name,
        median([run.per_second for run in runs]),
        median([run.p50_ms for run in runs]),
        median([run.p99_ms for run in runs]),
        median([run.processor_ms or 0.0 for run in runs]),
    )


def _run(name: str, act: Callable[[], object], seconds: float) -> Limit:
    act()
    times = []
    begun, used = time.perf_counter(), time.process_time()
    before = begun
    while before - begun < seconds:
        act()
        now = time.perf_counter()
        times.append(now - before)
        before = now
    elapsed, used = before - begun, time.process_time() - used
    times.sort()
    return Limit(
        name,
        len(times) / elapsed,
        times[len(times) // 2] * 1000,
        times[len(times) * 99 // 100] * 1000,
        used / len(times) * 1000,
    )
