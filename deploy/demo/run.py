"""`make run`: a real directory, the service, its housekeeping and two applications, in the foreground.

Everything it writes is in `var/`. It ends with status 0 when it is asked to (SIGINT, SIGTERM, SIGHUP), having
stopped all that it started, and with another status and one sentence when something is wrong.
"""

import argparse
import base64
import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.demo import organisation, slapd, testca
from deploy.demo.prepare import new_secrets

ROOT = Path(__file__).resolve().parents[2]
VAR = ROOT / "var"
BIN = Path(sys.executable).parent
STOP_SECONDS = 8.0  # of the ten that are promised
START_SECONDS = 60.0
APPLICATIONS = (("correspondence", "Correspondence", 1), ("finance", "Finance", 2))


class Trouble(Exception):
    """One sentence for the person at the terminal."""


class Asked(BaseException):
    """Somebody asked us to stop."""


def say(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)


# -- what is left from before -----------------------------------------------------------------------------------


def started_at(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; "" when there is none. With it a pid is unmistakable."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def clear_leftovers() -> None:
    """End what a killed supervisor left running; a foreign process with a recycled number is left alone."""
    ledger = VAR / "processes.json"
    try:
        known = json.loads(ledger.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    alive = [one for one in known if started_at(one["pid"]) == one["started"]]
    for one in alive:
        say(f"ending {one['name']}, left from a run that was killed")
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one["pid"], signal.SIGTERM)
    deadline = time.monotonic() + 5
    while any(started_at(one["pid"]) == one["started"] for one in alive) and time.monotonic() < deadline:
        time.sleep(0.05)
    for one in alive:
        if started_at(one["pid"]) == one["started"]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one["pid"], signal.SIGKILL)
    ledger.unlink(missing_ok=True)


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Refuse a second run on the same `var/`."""
    with (VAR / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble("Another `make run` is using this folder; stop it first.") from None
        os.set_inheritable(lock.fileno(), False)
        yield


# -- before the start -------------------------------------------------------------------------------------------


def prepare_folder() -> None:
    """Make `var/`; others may pass through it (slapd runs as another user), but not look into it."""
    try:
        VAR.mkdir(exist_ok=True)
        VAR.chmod(0o711)
        (VAR / "log").mkdir(exist_ok=True, mode=0o700)
        probe = VAR / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as problem:
        raise Trouble(f"The folder {VAR} cannot be written to: {problem.strerror}.") from problem


def check_tools() -> None:
    """Refuse to begin half of it."""
    if not (BIN / "granian").exists():
        raise Trouble("granian is missing from .venv; remove .venv and run `make run` again.")
    if shutil.which("slapd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/libexec") is None:
        raise Trouble("slapd is missing; `make run` installs it as root or with sudo.")


def check_ports(port: int) -> None:
    """Refuse a busy port by name."""
    for number, what in ((port, "the service"), (port + 1, "Correspondence"), (port + 2, "Finance"), (port + 3, "the directory")):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                raise Trouble(
                    f"Port {number} ({what}) is busy; stop what uses it, or choose others: make run DEMO_PORT=9000."
                ) from None


def read_secrets() -> dict[str, Any]:  # Any: JSON
    """Return this installation's secrets, made at the first start."""
    file = VAR / "secrets.json"
    if file.exists():
        return dict(json.loads(file.read_text(encoding="utf-8")))
    made = {
        **new_secrets(),
        "secret_key": secrets.token_urlsafe(64),
        "encryption_keys": "demo:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "ldap_admin_password": secrets.token_urlsafe(18),
        "ldap_service_password": secrets.token_urlsafe(18),
    }
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as target:
        json.dump(made, target)
    return made


def build_environment(port: int, given: dict[str, Any], directory: slapd.Server) -> dict[str, str]:
    """Return what the service's processes see."""
    own = {
        "DJANGO_SETTINGS_MODULE": "iam.settings",
        "IAM_MODE": "demo",
        "IAM_ISSUER": f"http://localhost:{port}",
        "IAM_SECRET_KEY": given["secret_key"],
        "IAM_ENCRYPTION_KEYS": given["encryption_keys"],
        "IAM_DATABASE_URL": f"sqlite:///{VAR / 'iam.sqlite3'}",
        "IAM_LDAP_URLS": directory.url,
        "IAM_LDAP_CA_FILE": str(directory.ca_file),
        "IAM_LDAP_BIND_DN": directory.service_dn,
        "IAM_LDAP_BIND_PASSWORD": directory.service_password,
        "IAM_LDAP_BASE_DN": directory.base_dn,
        "IAM_OUTBOUND_ALLOW": "127.0.0.1 localhost ::1",
        "IAM_THROTTLE_EXEMPT_NETWORKS": os.environ.get("IAM_THROTTLE_EXEMPT_NETWORKS", ""),
        "DEMO_PORT": str(port),
        "DEMO_LDAP_ADMIN_PASSWORD": directory.admin_password,
    }
    file = VAR / "env"
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as target:
        target.writelines(f"export {name}='{value}'\n" for name, value in own.items())
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("IAM_", "DEMO_", "MAKE"))}
    return {**inherited, **own, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def fingerprint(port: int) -> str:
    """Return what the prepared database depends on: the code, the sample, the port."""
    digest = hashlib.sha256(str(port).encode())
    for folder in ("iam", "directory", "mfa", "deploy/demo"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".json", ".css", ".ldif", ".mo"} and path.is_file():
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


# -- running ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Supervisor:
    """What was started, in order; stopped in the opposite order."""

    environment: dict[str, str]
    processes: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)
    directory: slapd.Server | None = None

    def start(self, name: str, *command: str | Path, environment: dict[str, str] | None = None) -> None:
        """Start a child whose words go to `var/log/NAME.log`."""
        with (VAR / "log" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=ROOT,
                env=environment or self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Control-C reaches the whole group of the terminal: the order of stopping is ours.
                start_new_session=True,
            )
        self.processes.append((name, process))
        self.write_ledger()

    def write_ledger(self) -> None:
        """Remember what runs, for the start after a kill -9."""
        pids = [(name, process.pid) for name, process in self.processes]
        if self.directory is not None and self.directory.pid is not None:
            pids.append(("the directory", self.directory.pid))
        known = [{"name": name, "pid": pid, "started": started_at(pid)} for name, pid in pids]
        draft = VAR / "processes.json.new"
        draft.write_text(json.dumps(known), encoding="utf-8")
        draft.replace(VAR / "processes.json")

    def check(self) -> None:
        """Raise Trouble with the last words of a child that died."""
        for name, process in self.processes:
            if process.poll() is not None:
                words = (VAR / "log" / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
                raise Trouble(f"{name} ended with status {process.returncode}. Its last words:\n  " + "\n  ".join(words))
        if self.directory is not None and not self.directory.running():
            raise Trouble(f"The directory ended; see {self.directory.log_file}.")

    def stop(self) -> None:
        """Stop everything, kindly, then not."""
        deadline = time.monotonic() + STOP_SECONDS
        for _, process in reversed(self.processes):
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
        for _, process in reversed(self.processes):
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if self.directory is not None:
            self.directory.stop()
        (VAR / "processes.json").unlink(missing_ok=True)

    def wait_for(self, url: str, name: str) -> None:
        """Wait until an address answers."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check()
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except urllib.error.HTTPError:
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        raise Trouble(f"{name} did not answer at {url} within {START_SECONDS:.0f} seconds; see var/log/.")


def build_directory(port: int, given: dict[str, Any]) -> slapd.Server:
    """Return the sample directory's server, its data written at the first start."""
    certificates = testca.load_or_make(VAR / "ca")
    people = VAR / "people.ldif"
    if not people.exists():
        text = organisation.build_ldif(organisation.build_people(given["seed"]), slapd.hash_password)
        people.write_text(text, encoding="utf-8")
        people.chmod(0o600)
    return slapd.Server(
        folder=VAR / "slapd",
        port=port + 3,
        base_dn=organisation.BASE_DN,
        admin_dn=organisation.ADMIN_DN,
        admin_password=given["ldap_admin_password"],
        service_dn=organisation.SERVICE_DN,
        service_password=given["ldap_service_password"],
        ldif_files=(people,),
        certificate_file=certificates.certificate_file,
        key_file=certificates.key_file,
        ca_file=certificates.ca_file,
    )


def prepare_database(supervisor: Supervisor, port: int) -> None:
    """Migrate, seed and write the draft of demo.json, unless nothing changed since the last time."""
    stamp, draft, demo = VAR / "prepared", VAR / "demo.json.new", VAR / "demo.json"
    wanted = fingerprint(port)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted and demo.exists() and (VAR / "iam.sqlite3").exists():
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(demo.read_bytes())
        return
    say("preparing the database: tables, offices, roles, applications, sample people")
    stamp.unlink(missing_ok=True)
    process = subprocess.run(
        [sys.executable, "-m", "deploy.demo.prepare", str(VAR)],
        cwd=ROOT, env=supervisor.environment, capture_output=True, text=True, start_new_session=True,
    )  # fmt: skip
    if process.returncode:
        raise Trouble("The database could not be prepared:\n" + (process.stderr or process.stdout)[-3000:])
    stamp.write_text(wanted, encoding="utf-8")


def start_everything(supervisor: Supervisor, port: int, given: dict[str, Any]) -> None:
    """Start the service, its housekeeping and the applications, and wait until all of them answer."""
    issuer = supervisor.environment["IAM_ISSUER"]
    supervisor.start(
        "service", BIN / "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "2", "--blocking-threads", "8", "--no-access-log", "iam.wsgi:application",
    )  # fmt: skip
    supervisor.start("housekeeping", sys.executable, "manage.py", "housekeeping", "--every", "60")
    clients = {client["client_id"]: client for client in json.loads((VAR / "clients.json").read_text(encoding="utf-8"))}
    plain = {name: value for name, value in supervisor.environment.items() if not name.startswith(("IAM_", "DEMO_", "DJANGO"))}
    supervisor.wait_for(f"{issuer}/jwks", "The service")
    for name, label, offset in APPLICATIONS:
        client = clients[f"{name}-app"]
        supervisor.start(
            name,
            sys.executable,
            "-m",
            f"deploy.demo.apps.{name}",
            environment={
                **plain,
                "APP_PORT": str(port + offset),
                "APP_ISSUER": issuer,
                "APP_CLIENT_ID": client["client_id"],
                "APP_CLIENT_SECRET": client["client_secret"],
                "APP_SESSION_KEY": given["session_keys"][name],
            },
        )
    for _, label, offset in APPLICATIONS:
        supervisor.wait_for(f"http://localhost:{port + offset}/health", label)


def introduce(port: int) -> None:
    """Print what a newcomer needs."""
    demo = json.loads((VAR / "demo.json").read_text(encoding="utf-8"))
    people = {person["username"]: person for person in demo["people"]}
    say("")
    say(f"  the service      http://localhost:{port}/")
    for _, label, offset in APPLICATIONS:
        say(f"  {label:16} http://localhost:{port + offset}/")
    say(f"  the directory    {demo['directory']['url']}")
    say("")
    say("  sample accounts (more, and every secret, in var/demo.json)")
    notes = {
        "amina": "Niamey, French; may pay in Finance; has a second factor",
        "omar": "Geneva, Arabic; has a second factor",
        "sara": "Kabul, English; has a second factor",
        "newcomer": "Niamey; no second factor yet: will be led to enrol",
        "niamey.admin": "administrator of the office in Niamey",
        "central.admin": "central administrator",
        "gone": "disabled in the directory",
    }
    for name, note in notes.items():
        secret = people[name]["totp_secret"] or "-"
        say(f"    {name:14} password {people[name]['password']}   code secret {secret:32}  {note}")
    say("")
    say("  in another terminal:  . var/env; .venv/bin/python manage.py person show amina")
    say("  Control-C stops everything; the data stays in var/ until `make reset`")
    say("")


def supervise(port: int) -> None:
    """Run until asked to stop."""
    prepare_folder()
    with only_one():
        clear_leftovers()
        check_tools()
        check_ports(port)
        given = read_secrets()
        directory = build_directory(port, given)
        supervisor = Supervisor(build_environment(port, given, directory))
        try:
            say("starting the directory")
            supervisor.directory = directory
            if directory.prepare():
                (VAR / "prepared").unlink(missing_ok=True)
            directory.start()
            supervisor.write_ledger()
            prepare_database(supervisor, port)
            say("starting the service and the applications")
            start_everything(supervisor, port, given)
            (VAR / "demo.json.new").replace(VAR / "demo.json")
            introduce(port)
            say(f"ready {supervisor.environment['IAM_ISSUER']}")
            while True:
                time.sleep(0.5)
                supervisor.check()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            say("stopping")
            supervisor.stop()


def _on_signal(number: int, frame: object) -> None:
    raise Asked


def main() -> None:
    """Run, and turn what happened into a status."""
    parser = argparse.ArgumentParser(description="Run the service, a sample directory and two applications.")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    if not 1024 <= options.port <= 65532:
        raise SystemExit("DEMO_PORT must be between 1024 and 65532.")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_signal)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    try:
        supervise(options.port)
    except Asked:
        return
    except (Trouble, slapd.SlapdError) as problem:
        print(problem, file=sys.stderr, flush=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
