"""Start the service on real parts, stop it, and read from the kernel what its processes cost."""

import base64
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from deploy.demo import slapd, testca
from tests.bench import cluster, world
from tests.bench.processes import BenchError, ProcessTree
from tests.servers import postgres

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 10.0


class Database(StrEnum):
    """The two databases that the service runs on."""

    POSTGRESQL = "postgresql"
    SQLITE = "sqlite"


@dataclass(slots=True)
class Server:
    """The server as `make run` starts it: two workers with eight threads each. `program` is a module that serves."""

    program: str
    port: int
    environment: dict[str, str]
    log: Path
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it and return the seconds until its first answer."""
        begun = time.perf_counter()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.program, *self.options, "--port", str(self.port)],
                cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # Control-C is ours to hear: we stop things in their order
            )  # fmt: skip
        while time.perf_counter() - begun < START_SECONDS:
            if self.process.poll() is not None:
                break
            if self._answers():
                return time.perf_counter() - begun
            time.sleep(0.005)
        self.stop()
        words = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise BenchError(f"The service ({self.program}) did not start: {' / '.join(words[-3:])}")

    def _answers(self) -> bool:
        request = b"GET /jwks HTTP/1.1\r\nHost: localhost:%d\r\nConnection: close\r\n\r\n" % self.port
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.settimeout(5)
                connection.sendall(request)
                return connection.recv(15).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def stop(self) -> None:
        """Stop the supervisor, which stops its workers; kill what is left of them when it could not."""
        if self.process is None:
            return
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # a group of its own since the start
        self.process.wait()
        self.process = None

    @property
    def tree(self) -> ProcessTree:
        """Return the supervisor and its workers."""
        if self.process is None:
            raise BenchError("The service does not run.")
        return ProcessTree(self.process.pid)


@dataclass(slots=True)
class Service:
    """The service in use: server, its database, the directory, and the file that describes its world."""

    server: Server
    directory: ProcessTree
    database: ProcessTree | None
    world_file: Path
    owner_url: str

    def run(self, module: str, *arguments: str) -> str:
        """Run a program in the service's environment; return what it prints. Raises BenchError."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=ROOT, env=self.server.environment, text=True,
            capture_output=True, check=False, timeout=1800,
        )  # fmt: skip
        if done.returncode:
            raise BenchError(f"{module} failed: {done.stderr.strip().splitlines()[-1:]}")
        return done.stdout

    def parts(self) -> dict[str, ProcessTree]:
        """Return what does the work, by name; SQLite works inside the service's own processes."""
        parts = {"service": self.server.tree, "directory": self.directory}
        return parts if self.database is None else {**parts, "database": self.database}


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that slapd and PostgreSQL, which run as other users, may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="iam-bench-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(kind: Database, workers: int = 2) -> Iterator[Service]:
    """Prepare everything on free ports in a temporary folder; the caller starts the service as often as wanted."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        directory = _directory(folder)
        stack.callback(directory.stop)
        port = postgres.free_port()
        environment = {**_environment(port, directory), "IAM_STATIC_ROOT": str(folder / "static")}
        owner = runtime = f"sqlite:///{folder / 'iam.sqlite3'}"
        tree = None
        if kind is Database.POSTGRESQL:
            database = stack.enter_context(cluster.running())
            owner, runtime, tree = database.owner_url, database.runtime_url, database.tree
            environment["IAM_DATABASE_RUNTIME_ROLE"] = postgres.RUNTIME
        environment["IAM_DATABASE_URL"] = runtime
        _run({**environment, "IAM_DATABASE_URL": owner}, "manage.py", "migrate", "--verbosity", "0")
        _run(environment, "manage.py", "collectstatic", "--noinput", "--verbosity", "0")
        _run(environment, "-m", "tests.bench.world", str(folder / "world.json"))
        if kind is Database.POSTGRESQL:
            _analyse(owner)
        server = Server("iam.serving", port, environment, folder / "service.log", ("--workers", str(workers)))
        stack.callback(server.stop)
        if directory.pid is None:
            raise BenchError("slapd ended.")
        yield Service(server, ProcessTree(directory.pid), tree, folder / "world.json", owner)


def _directory(folder: Path) -> slapd.Server:
    certificates = testca.make(folder / "ca")
    entries = folder / "people.ldif"
    entries.write_text(world.ldif(slapd.hash_password(world.PASSWORD)), encoding="utf-8")
    server = slapd.Server(
        folder=folder / "slapd",
        port=slapd.free_port(),
        base_dn=world.BASE_DN,
        admin_dn=world.ADMIN_DN,
        admin_password=secrets.token_hex(12),
        service_dn=world.SERVICE_DN,
        service_password=secrets.token_hex(12),
        ldif_files=(entries,),
        certificate_file=certificates.certificate_file,
        key_file=certificates.key_file,
        ca_file=certificates.ca_file,
    )
    server.prepare()
    server.start()
    return server


def _environment(port: int, directory: slapd.Server) -> dict[str, str]:
    return {
        **bare_environment(),
        "DJANGO_SETTINGS_MODULE": "iam.settings",
        "IAM_MODE": "test",
        "IAM_ISSUER": f"http://localhost:{port}",
        "IAM_SECRET_KEY": secrets.token_urlsafe(64),
        "IAM_ENCRYPTION_KEYS": "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "IAM_LDAP_URLS": directory.url,
        "IAM_LDAP_CA_FILE": str(directory.ca_file),
        "IAM_LDAP_BIND_DN": directory.service_dn,
        "IAM_LDAP_BIND_PASSWORD": directory.service_password,
        "IAM_LDAP_BASE_DN": directory.base_dn,
        "IAM_THROTTLE_EXEMPT_NETWORKS": "127.0.0.0/8",
    }


def bare_environment() -> dict[str, str]:
    """Return our own environment without settings of another installation."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IAM_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def _run(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, text=True, capture_output=True, check=False,
        timeout=300,
    )  # fmt: skip
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise BenchError(f"`{' '.join(arguments[:3])}` failed: {' / '.join(words[-3:])}")


def _analyse(owner_url: str) -> None:
    """Give the planner the statistics that a database in use has."""
    import psycopg

    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
