"""The whole service on real parts: slapd, a database, the server with two workers; for tests that speak HTTP."""

import base64
import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.demo import slapd, testca
from tests.servers import organisation, postgres

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Service:
    """A running service. `environment` is what its processes see; `runtime` that of the database's lesser role."""

    issuer: str
    environment: dict[str, str]
    directory: slapd.Server
    folder: Path
    port: int = 0

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a management command as an operator would."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment, text=True, capture_output=True, check=check, timeout=120,
        )  # fmt: skip

    def python(self, code: str) -> str:
        """Run a few lines inside the service's environment and return what they print."""
        done = subprocess.run(
            [sys.executable, "-c", f"import django; django.setup()\n{code}"],
            cwd=ROOT, env=self.environment, text=True, capture_output=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextlib.contextmanager
def running(kind: str, more: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Start everything on free ports in a temporary folder, and remove it afterwards."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="iam-service-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)  # slapd and PostgreSQL run as other users
        directory = _directory(folder)
        stack.callback(directory.stop)
        port = postgres.free_port()
        environment = _environment(folder, port, directory) | (more or {})
        owner = runtime = f"sqlite:///{folder / 'iam.sqlite3'}"
        if kind == "postgresql":
            cluster = stack.enter_context(postgres.running())
            _make_database(cluster)
            owner, runtime = cluster.url(postgres.OWNER, "iam"), cluster.url(postgres.RUNTIME, "iam")
            environment["IAM_DATABASE_RUNTIME_ROLE"] = postgres.RUNTIME
        as_owner = {**environment, "IAM_DATABASE_URL": owner}
        environment["IAM_DATABASE_URL"] = runtime
        _run(as_owner, "manage.py", "migrate", "--verbosity", "0")
        _run(environment, "manage.py", "collectstatic", "--noinput", "--verbosity", "0")
        _run(environment, "-m", "tests.servers.organisation")
        process = subprocess.Popen(
            [sys.executable, "-m", "iam.serving", "--port", str(port)],
            cwd=ROOT, env=environment, stdout=stack.enter_context((folder / "service.log").open("wb")), stderr=subprocess.STDOUT,
        )  # fmt: skip
        stack.callback(_stop, process)
        deliverer = subprocess.Popen(
            [sys.executable, "manage.py", "deliver"], cwd=ROOT, env=environment,
            stdout=stack.enter_context((folder / "deliver.log").open("wb")), stderr=subprocess.STDOUT,
        )  # fmt: skip
        stack.callback(_stop, deliverer)
        service = Service(environment["IAM_ISSUER"], environment, directory, folder, port)
        _wait(service, process)
        yield service


def _directory(folder: Path) -> slapd.Server:
    certificates = testca.make(folder / "ca")
    entries = folder / "people.ldif"
    entries.write_text(organisation.ldif(slapd.hash_password(organisation.PASSWORD)), encoding="utf-8")
    server = slapd.Server(
        folder=folder / "slapd",
        port=slapd.free_port(),
        base_dn=organisation.BASE_DN,
        admin_dn=organisation.ADMIN_DN,
        admin_password=secrets.token_hex(12),
        service_dn=organisation.SERVICE_DN,
        service_password=secrets.token_hex(12),
        writer_dn=organisation.WRITER_DN,
        writer_password=secrets.token_hex(12),
        ldif_files=(entries,),
        certificate_file=certificates.certificate_file,
        key_file=certificates.key_file,
        ca_file=certificates.ca_file,
    )
    server.prepare()
    server.start()
    return server


def _environment(folder: Path, port: int, directory: slapd.Server) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("IAM_")},
        "DJANGO_SETTINGS_MODULE": "iam.settings",
        "PYTHONPATH": str(ROOT),
        "IAM_MODE": "test",
        "IAM_STATIC_ROOT": str(folder / "static"),
        "IAM_ISSUER": f"http://localhost:{port}",
        "IAM_SECRET_KEY": secrets.token_urlsafe(64),
        "IAM_ENCRYPTION_KEYS": "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "IAM_LDAP_URLS": directory.url,
        "IAM_LDAP_CA_FILE": str(directory.ca_file),
        "IAM_LDAP_BIND_DN": directory.service_dn,
        "IAM_LDAP_BIND_PASSWORD": directory.service_password,
        "IAM_LDAP_BASE_DN": directory.base_dn,
        "IAM_LDAP_WRITER_DN": directory.writer_dn,
        "IAM_LDAP_WRITER_PASSWORD": directory.writer_password,
        "IAM_OUTBOUND_ALLOW": "http://127.0.0.1:* http://localhost:* http://[::1]:* 127.0.0.0/8 ::1/128",
        # Most tests fail more often from one address than people would. A test of the delays comes from 127.0.0.2
        # or another address of the loopback network, which is no different from a stranger's.
        "IAM_THROTTLE_EXEMPT_NETWORKS": "127.0.0.1/32",
    }


def _make_database(cluster: postgres.Cluster) -> None:
    import psycopg

    with psycopg.connect(cluster.url(postgres.OWNER, "postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE iam")


def _run(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _wait(service: Service, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            break
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError),
            urllib.request.urlopen(f"http://localhost:{service.port}/jwks"),
        ):
            return
        time.sleep(0.1)
    raise RuntimeError("the service did not start:\n" + (service.folder / "service.log").read_text())


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
