"""A private PostgreSQL cluster from the distribution's package: unprivileged, a free port, a temporary folder."""

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OWNER, RUNTIME = "iam_owner", "iam_runtime"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a running cluster answers."""

    port: int
    owner_password: str
    runtime_password: str

    def url(self, role: str, name: str) -> str:
        """Return a database address for one of the two roles."""
        password = self.owner_password if role == OWNER else self.runtime_password
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{name}"


def binaries() -> Path:
    """Return the newest installed version's folder of programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found or not (found[-1] / "initdb").exists():
        raise RuntimeError(
            "PostgreSQL's server is not installed; `make test` installs the package postgresql."
        )
    return found[-1]


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_ordinary_user() -> dict[str, object]:
    """PostgreSQL refuses to run as root: hand its processes to the package's user."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """Start a cluster with the two roles of the service, and remove it afterwards."""
    programs, who = binaries(), _as_ordinary_user()
    folder = Path(tempfile.mkdtemp(prefix="iam-postgres-"))
    if who:
        os.chown(folder, int(str(who["user"])), int(str(who["group"])))
    port = free_port()
    cluster = Cluster(port, secrets.token_hex(12), secrets.token_hex(12))
    password_file = folder / "password"
    superuser = secrets.token_hex(12)
    password_file.write_text(superuser)
    password_file.chmod(0o644)
    data = folder / "data"
    run = {"cwd": folder, "stdout": subprocess.DEVNULL, "check": True, **who}
    try:
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8",
             f"--pwfile={password_file}", "--no-sync"], **run)  # fmt: skip
        password_file.unlink()
        options = (
            f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
            " -c full_page_writes=off -c synchronous_commit=off -c max_connections=100 -c shared_buffers=128MB"
        )
        log = folder / "log"
        subprocess.run([programs / "pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start"], **run)
        try:
            _make_roles(cluster, superuser)
            yield cluster
        finally:
            subprocess.run([programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_roles(cluster: Cluster, superuser: str) -> None:
    import psycopg

    with psycopg.connect(
        host="127.0.0.1",
        port=cluster.port,
        user="postgres",
        password=superuser,
        dbname="postgres",
        autocommit=True,
    ) as connection:
        connection.execute(f"CREATE ROLE {OWNER} LOGIN CREATEDB PASSWORD '{cluster.owner_password}'")
        connection.execute(f"CREATE ROLE {RUNTIME} LOGIN PASSWORD '{cluster.runtime_password}'")
