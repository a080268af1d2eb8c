"""Measures of the bridge as a whole: a directory into a database, changes, and how soon a leaver is out."""

import base64
import contextlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg

from deploy.demo import slapd
from directory.config import Source
from tests.bench import population
from tests.servers import postgres

ROOT = Path(__file__).resolve().parents[2]
LEAVERS = 150  # two in a hundred of 10,000 may go within ten minutes


class Bridge:
    """A database on a cluster of its own, and processes that apply a directory to it."""

    def __init__(self, source: Source, server: slapd.Server, people: int, url: str) -> None:
        self.source, self.server, self.people, self.url = source, server, people, url
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("IAM_")},
            "DJANGO_SETTINGS_MODULE": "iam.settings", "PYTHONPATH": str(ROOT), "IAM_MODE": "test",
            "IAM_ISSUER": "http://localhost:9", "IAM_SECRET_KEY": secrets.token_urlsafe(64),
            "IAM_ENCRYPTION_KEYS": "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
            "IAM_DATABASE_URL": url, "IAM_LDAP_SOURCE_NAME": source.name, "IAM_LDAP_URLS": server.url,
            "IAM_LDAP_CA_FILE": str(server.ca_file), "IAM_LDAP_BIND_DN": source.bind_dn,
            "IAM_LDAP_BIND_PASSWORD": source.bind_password, "IAM_LDAP_BASE_DN": source.base_dn,
        }  # fmt: skip

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """Let a process do one thing."""
        wanted = ("name", "urls", "ca_file", "bind_dn", "bind_password", "base_dn")
        given = {name: value for name, value in asdict(self.source).items() if name in wanted}
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.bridging"],
            input=json.dumps({"do": do, "source": given, "offices": population.office_count(self.people), **order}),
            cwd=ROOT, env=self.environment, text=True, capture_output=True, check=False, timeout=1800,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        return dict(json.loads(done.stdout))

    def apply(self, ldif: str, program: str = "ldapmodify") -> None:
        """Change the directory as an operator would."""
        subprocess.run(
            [program, "-x", "-H", self.server.url, "-D", self.server.admin_dn, "-w", self.server.admin_password],
            input=ldif.encode(), capture_output=True, check=True, env={**os.environ, "LDAPTLS_CACERT": str(self.server.ca_file)},
        )  # fmt: skip


@contextlib.contextmanager
def bridge(source: Source, server: slapd.Server, people: int) -> Iterator[Bridge]:
    """Make an empty database on PostgreSQL."""
    with postgres.running() as cluster:
        with psycopg.connect(cluster.url(postgres.OWNER, "postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE iam")
        made = Bridge(source, server, people, cluster.url(postgres.OWNER, "iam"))
        made.ask("prepare")
        yield made


def ten_changes(people: int, round_: int) -> str:
    """Return five changes of people, two joiners, two leavers and a move."""
    first = 40 + 10 * round_  # five rounds fit into a hundred people, and leave those alone who leave later
    dns = [population.person_dn(first + number, people) for number in range(10)]
    changed = [f"dn: {dn}\nchangetype: modify\nreplace: title\ntitle: Changed {round_}\n" for dn in dns[:5]]
    new = [
        f"dn: uid=new{round_}-{number},ou=Office 0,ou=Offices,{population.BASE}\nchangetype: add\nobjectClass: inetOrgPerson\n"
        f"uid: new{round_}-{number}\ncn: New\nsn: New\n"
        for number in range(2)
    ]
    gone = [f"dn: {dn}\nchangetype: delete\n" for dn in dns[5:7]]
    moved = f"dn: {dns[8]}\nchangetype: modrdn\nnewrdn: {dns[8].split(',', maxsplit=1)[0]}\ndeleteoldrdn: 0\nnewsuperior: ou=Office 1,ou=Offices,{population.BASE}\n"
    return "\n".join([*changed, *new, *gone, moved])


def leave(made: Bridge, count: int) -> list[float]:
    """Disable people one by one while the listener follows; return the seconds until each account was closed."""
    listener = subprocess.Popen(
        [sys.executable, "manage.py", "directory", "listen"], cwd=ROOT, env=made.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    modify = subprocess.Popen(
        ["ldapmodify", "-x", "-H", made.server.url, "-D", made.server.admin_dn, "-w", made.server.admin_password],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "LDAPTLS_CACERT": str(made.server.ca_file)},
    )  # fmt: skip
    times = []
    try:
        with psycopg.connect(made.url, autocommit=True) as connection:
            _wait(connection, "SELECT 1 FROM directory_sourcestate WHERE leader <> ''", ())
            time.sleep(3)
            assert modify.stdin is not None
            for number in range(count):
                who = made.people - 1 - number
                text = f"dn: {population.person_dn(who, made.people)}\nchangetype: modify\nreplace: orgAccountStatus\norgAccountStatus: disabled\n\n"
                began = time.perf_counter()
                modify.stdin.write(text.encode())
                modify.stdin.flush()
                _wait(
                    connection,
                    "SELECT 1 FROM accounts_directorylink l JOIN accounts_user u ON u.id = l.user_id"
                    " WHERE l.login = %s AND NOT u.is_active",
                    (f"p{who}",),
                )
                times.append(time.perf_counter() - began)
    finally:
        modify.kill()
        modify.wait()
        listener.terminate()
        listener.wait(30)
    return times


def _wait(connection: Any, sql: str, values: tuple[str, ...]) -> None:
    ends = time.monotonic() + 60
    while connection.execute(sql, values).fetchone() is None:
        if time.monotonic() > ends:
            raise RuntimeError("the listener did not do it within a minute")
        time.sleep(0.001)


def quantile(values: list[float], share: float) -> float:
    """Return a quantile of some times."""
    return statistics.quantiles(values, n=100)[int(share * 100) - 1]
