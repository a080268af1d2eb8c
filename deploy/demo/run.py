"""`make run`: a real directory, the service, what works beside it, and two applications, in the foreground.

Everything it writes is in `var/`. It ends with status 0 when it is asked to (SIGINT, SIGTERM, SIGHUP), having
stopped all that it started, and with another status and one sentence when something is wrong.
"""

import argparse
import base64
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.demo import organisation, slapd, testca
from deploy.demo.prepare import new_secrets
from deploy.demo.processes import (
    Asked,
    Supervisor,
    Trouble,
    clear_leftovers,
    listen_for_signals,
    say,
    stop_listening,
)

ROOT = Path(__file__).resolve().parents[2]
VAR = ROOT / "var"
BIN = Path(sys.executable).parent
# Whoever sits on the other address of `localhost` would be answering some of our visitors.
LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
APPLICATIONS = (("correspondence", "Correspondence", 1), ("finance", "Finance", 2))


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Refuse a second run on the same `var/`."""
    with (VAR / "run.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble("Another `make run` is using this folder; stop it first.") from None
        os.set_inheritable(lock.fileno(), False)
        yield


# -- before the start -------------------------------------------------------------------------------------------


def prepare_folder() -> None:
    """Make `var/`, for its owner only: slapd, another user, is led into its own part before it becomes that."""
    os.umask(0o077)
    try:
        VAR.mkdir(exist_ok=True)
        VAR.chmod(0o700)
        (VAR / "log").mkdir(exist_ok=True, mode=0o700)
        probe = VAR / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as problem:
        raise Trouble(f"The folder {VAR} cannot be written to: {problem.strerror}.") from problem


def check_tools() -> None:
    """Refuse to begin half of it."""
    if (
        shutil.which("slapd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/libexec")
        is None
    ):
        raise Trouble("slapd is missing; `make run` installs it as root or with sudo.")


def check_ports(port: int) -> None:
    """Refuse a busy port by name."""
    for number, what in (
        (port, "the service"),
        (port + 1, "Correspondence"),
        (port + 2, "Finance"),
        (port + 3, "the directory"),
    ):
        if any(_is_busy(family, host, number) for family, host in LOOPBACK):
            raise Trouble(
                f"Port {number} ({what}) is busy; stop what uses it, or choose others: make run DEMO_PORT=9000."
            )


def _is_busy(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as problem:
        return problem.errno == errno.EADDRINUSE  # no IPv6 on this machine is another number
    return False


def read_secrets() -> dict[str, Any]:  # Any: JSON
    """Return this installation's secrets, made at the first start."""
    file = VAR / "secrets.json"
    if file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if "ldap_writer_password" in kept:
            return dict(kept)
        raise Trouble("What is in var/ was made by an older version: make reset, and start again.")
    made = {
        **new_secrets(),
        "secret_key": secrets.token_urlsafe(64),
        "encryption_keys": "demo:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "ldap_admin_password": secrets.token_urlsafe(18),
        "ldap_service_password": secrets.token_urlsafe(18),
        "ldap_writer_password": secrets.token_urlsafe(18),
    }
    with os.fdopen(
        os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as target:
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
        "IAM_LDAP_WRITER_DN": directory.writer_dn,
        "IAM_LDAP_WRITER_PASSWORD": directory.writer_password,
        "IAM_OUTBOUND_ALLOW": "http://127.0.0.1:* http://localhost:* http://[::1]:* 127.0.0.0/8 ::1/128",
        "IAM_THROTTLE_EXEMPT_NETWORKS": os.environ.get("IAM_THROTTLE_EXEMPT_NETWORKS", ""),
        "DEMO_PORT": str(port),
        "DEMO_LDAP_ADMIN_PASSWORD": directory.admin_password,
    }
    file = VAR / "env"
    file.unlink(missing_ok=True)
    with os.fdopen(
        os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as target:
        target.writelines(f"export {name}='{value}'\n" for name, value in own.items())
    here = "localhost,127.0.0.1,::1"
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("IAM_", "DEMO_", "MAKE"))
    }
    return {
        **inherited,
        **own,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": here,
        "no_proxy": here,
    }


SEEN = {".py", ".json", ".ldif"}


def fingerprint(port: int) -> str:
    """Return what the prepared database depends on: the code, the sample, the port."""
    digest = hashlib.sha256(str(port).encode())
    for folder in ("iam", "directory", "mfa", "deploy/demo"):
        for path in sorted((ROOT / folder).rglob("*")):
            if (
                path.is_file()
                and "__pycache__" not in path.parts
                and (path.suffix in SEEN or "static" in path.parts)
            ):
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


# -- running ------------------------------------------------------------------------------------------------------


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
        writer_dn=organisation.WRITER_DN,
        writer_password=given["ldap_writer_password"],
        ldif_files=(people,),
        certificate_file=certificates.certificate_file,
        key_file=certificates.key_file,
        ca_file=certificates.ca_file,
    )


def prepare_database(supervisor: Supervisor, port: int) -> None:
    """Migrate, seed and write the draft of demo.json, unless nothing changed since the last time."""
    stamp, draft, demo = VAR / "prepared", VAR / "demo.json.new", VAR / "demo.json"
    wanted = fingerprint(port)
    if (
        stamp.exists()
        and stamp.read_text(encoding="utf-8") == wanted
        and demo.exists()
        and (VAR / "iam.sqlite3").exists()
    ):
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(demo.read_bytes())
        return
    say("preparing the database: tables, offices, roles, applications, sample people")
    stamp.unlink(missing_ok=True)
    process = subprocess.run(
        [sys.executable, "-m", "deploy.demo.prepare", str(VAR)],
        cwd=ROOT, env=supervisor.environment, capture_output=True, text=True, start_new_session=True, check=False,
    )  # fmt: skip
    if process.returncode:
        raise Trouble("The database could not be prepared:\n" + (process.stderr or process.stdout)[-3000:])
    stamp.write_text(wanted, encoding="utf-8")


def start_everything(supervisor: Supervisor, port: int, given: dict[str, Any]) -> None:
    """Start the service, its deliveries, listener and housekeeping, and the applications; wait until all of them answer."""
    issuer = supervisor.environment["IAM_ISSUER"]
    supervisor.start(
        "service", sys.executable, "-m", "iam.serving", "--host", "127.0.0.1", "--port", str(port),
    )  # fmt: skip
    supervisor.start("deliver", sys.executable, "manage.py", "deliver")
    supervisor.start("listen", sys.executable, "manage.py", "directory", "listen")
    supervisor.start("housekeeping", sys.executable, "manage.py", "housekeeping", "--every", "60")
    clients = {
        client["client_id"]: client
        for client in json.loads((VAR / "clients.json").read_text(encoding="utf-8"))
    }
    plain = {
        name: value
        for name, value in supervisor.environment.items()
        if not name.startswith(("IAM_", "DEMO_", "DJANGO"))
    }
    supervisor.wait_for(f"{issuer}/jwks", "The service")
    for name, _, offset in APPLICATIONS:
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
    say("  a screen to sign in:  .venv/bin/python -m deploy.demo.device")
    say("  Control-C stops everything; the data stays in var/ until `make reset`")
    say("")


def supervise(port: int) -> None:
    """Run until asked to stop."""
    prepare_folder()
    with only_one():
        for name in clear_leftovers(VAR / "processes.json", ROOT):
            say(f"ended {name}, left from a run that was killed")
        check_tools()
        check_ports(port)
        given = read_secrets()
        directory = build_directory(port, given)
        supervisor = Supervisor(ROOT, VAR, build_environment(port, given, directory))
        try:
            say("starting the directory")
            if directory.prepare():
                (VAR / "prepared").unlink(missing_ok=True)
            supervisor.start_directory(directory)
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
            stop_listening()
            say("stopping")
            supervisor.stop()


def main() -> None:
    """Run, and turn what happened into a status."""
    parser = argparse.ArgumentParser(description="Run the service, a sample directory and two applications.")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    if not 1024 <= options.port <= 65532:
        raise SystemExit("DEMO_PORT must be between 1024 and 65532.")
    # make lifts its own stack limit, and hands it on by becoming us: threads would reserve that much each.
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_STACK, (8 * 1024 * 1024, hard))
    listen_for_signals()
    try:
        supervise(options.port)
    except Asked:
        return
    except (Trouble, slapd.SlapdError) as problem:
        print(problem, file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except OSError as problem:  # a full disk, a file of another user
        print(f"{problem.filename or VAR}: {problem.strerror}.", file=sys.stderr, flush=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
