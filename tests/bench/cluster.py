"""A private PostgreSQL that keeps its promises: a commit is on the disk when it returns.

The cluster of the tests (tests/servers/postgres.py) gives that up for speed; figures from it would be those of
another database. Everything else is the distribution's default.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.bench.processes import BenchError, ProcessTree
from tests.servers import postgres

START_SECONDS = 30.0
STOP_SECONDS = 10.0
NAME = "iam"


@dataclass(frozen=True, slots=True)
class Database:
    """A running database: the addresses of the two roles, and the processes."""

    owner_url: str
    runtime_url: str
    tree: ProcessTree


@contextlib.contextmanager
def running() -> Iterator[Database]:
    """Start a cluster with the service's two roles and an empty database, and remove it afterwards."""
    who = _ordinary_user()
    folder = Path(tempfile.mkdtemp(prefix="iam-bench-postgres-"))
    try:
        if who:
            os.chown(folder, int(str(who["user"])), int(str(who["group"])))
        port, superuser = postgres.free_port(), secrets.token_hex(12)
        process = _start(folder, port, superuser, who)
        try:
            cluster = postgres.Cluster(port, secrets.token_hex(12), secrets.token_hex(12))
            _make_roles(cluster, superuser, process)
            yield Database(
                cluster.url(postgres.OWNER, NAME),
                cluster.url(postgres.RUNTIME, NAME),
                ProcessTree(process.pid),
            )
        finally:
            process.send_signal(signal.SIGINT)  # "fast": it does not wait for its clients
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)  # "immediate"; kill -9 would leave its children behind
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ordinary_user() -> dict[str, object]:
    """PostgreSQL refuses to run as root: hand its processes to the package's user."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _start(folder: Path, port: int, superuser: str, who: dict[str, object]) -> subprocess.Popen[bytes]:
    programs, data, password_file = postgres.binaries(), folder / "data", folder / "password"
    descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(superuser)
    if who:
        os.chown(password_file, int(str(who["user"])), int(str(who["group"])))
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8",
         f"--pwfile={password_file}", "--no-sync"],
        cwd=folder, stdout=subprocess.DEVNULL, check=True, **who,
    )  # type: ignore[call-overload] # fmt: skip
    password_file.unlink()
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [programs / "postgres", "-D", data, "-c", f"port={port}", "-c", "listen_addresses=127.0.0.1",
             "-c", f"unix_socket_directories={folder}"],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **who,
        )  # type: ignore[call-overload] # fmt: skip


def _make_roles(cluster: postgres.Cluster, superuser: str, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + START_SECONDS
    while True:
        try:
            connection = psycopg.connect(
                host="127.0.0.1", port=cluster.port, user="postgres", password=superuser, dbname="postgres",
                autocommit=True, connect_timeout=5,
            )  # fmt: skip
            break
        except psycopg.OperationalError as problem:
            if process.poll() is not None or time.monotonic() > ends:
                raise BenchError(f"PostgreSQL did not start: {problem}") from problem
            time.sleep(0.05)
    with connection:
        connection.execute(f"CREATE ROLE {postgres.OWNER} LOGIN CREATEDB PASSWORD '{cluster.owner_password}'")
        connection.execute(f"CREATE ROLE {postgres.RUNTIME} LOGIN PASSWORD '{cluster.runtime_password}'")
        connection.execute(f"CREATE DATABASE {NAME} OWNER {postgres.OWNER}")
