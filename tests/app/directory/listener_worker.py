"""One look at, or act on, the database of test_listener. JSON order in, JSON answer out."""

import json
import os
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import django

ORDER: dict[str, Any] = json.load(sys.stdin)
django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402

from directory import models, service  # noqa: E402
from iam.accounts.models import DirectoryLink  # noqa: E402
from iam.audit.models import AuditEvent  # noqa: E402
from iam.lifecycle import DirectoryEffects  # noqa: E402


def database(statement: str) -> None:
    """Make or drop the database itself, where it is not a file."""
    url = os.environ["IAM_DATABASE_URL"]
    if url.startswith("postgresql"):
        import psycopg

        server, name = url.rsplit("/", 1)
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f'{statement} "{name}"')


def prepare() -> None:
    database("CREATE DATABASE")
    call_command("migrate", verbosity=0)


def destroy() -> None:
    database("DROP DATABASE IF EXISTS")


def people() -> list[list[Any]]:
    """Return who is there and may act, and how many accounts are open."""
    rows = models.Entry.objects.filter(kind="person", gone_at=None).order_by("entry_id")
    links = DirectoryLink.objects.filter(user__is_active=True).order_by("entry_uuid")
    return [list(rows.values_list("entry_id", flat=True)), list(links.values_list("entry_uuid", flat=True))]


def person() -> dict[str, Any]:
    row = models.Entry.objects.get(name=ORDER["login"], gone_at=None)
    return {"acts": row.acts}


def events() -> Counter[str]:
    link = DirectoryLink.objects.select_related("user").get(login=ORDER["login"])
    rows = AuditEvent.objects.filter(object=f"person:{link.user.sub}")
    return Counter(rows.values_list("action", flat=True))


def status() -> dict[str, Any]:
    row = service.status("hq", datetime.now(UTC))
    return {"leader": row.leader, "trouble": row.trouble}


def cookie() -> None:
    models.SourceState.objects.update(cookie=ORDER["cookie"].encode())


def logins() -> list[str]:
    """Return the names of people's entries."""
    [source] = settings.DIRECTORY_SOURCES
    names = models.Entry.objects.filter(kind="person").exclude(name="").values_list("name", flat=True)
    return [one.dn for name in names for one in service.describe(source, DirectoryEffects(), name)]


def compare() -> list[str]:
    """Return what a whole comparison finds that the stream did not bring."""
    [source] = settings.DIRECTORY_SOURCES
    planned = service.run(source, DirectoryEffects(), is_whole=True, is_rehearsal=True)
    return [*(f"{row.kind} {row.name} {row.rdn}" for row in planned.plan.rows), *["a link"] * planned.links]


DO = {
    one.__name__: one for one in (prepare, destroy, people, person, events, status, cookie, logins, compare)
}

if __name__ == "__main__":
    json.dump(DO[ORDER["do"]](), sys.stdout)
