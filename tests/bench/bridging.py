"""One process of the bench that applies a directory to a database. JSON order in, JSON answer out; see directory.py.

A process of its own, so that its memory is the synchronisation's and nothing else's.
"""

import json
import resource
import statistics
import sys
import time
from dataclasses import fields
from datetime import datetime
from typing import Any

import django

ORDER: dict[str, Any] = json.load(sys.stdin)
django.setup()

from django.core.management import call_command  # noqa: E402

from directory import store  # noqa: E402
from directory.config import Source  # noqa: E402
from directory.engine import Engine  # noqa: E402
from directory.openldap import SyncReader  # noqa: E402
from iam.access.models import Office, OfficeMapping  # noqa: E402
from iam.lifecycle import DirectoryEffects  # noqa: E402

NAMES = {"name_ar": "مكتب", "name_fr": "bureau", "name_en": "office"}


class NoEffects(DirectoryEffects):
    """The rows alone: what the bridge costs without what the service makes of it."""

    def apply(self, events: Any, now: datetime) -> None:
        """Do nothing."""


def source() -> Source:
    given = ORDER["source"]
    known = {one.name for one in fields(Source)}
    return Source(
        **{name: tuple(value) if name == "urls" else value for name, value in given.items() if name in known}
    )


def prepare() -> dict[str, Any]:
    """Migrate, and make an office with a rule for each office of the directory."""
    call_command("migrate", verbosity=0)
    offices = Office.objects.bulk_create(
        [Office(code=f"O{number}X", kind="humanitarian", **NAMES) for number in range(ORDER["offices"])]
    )
    OfficeMapping.objects.bulk_create(
        [
            OfficeMapping(source="hq", ou=f"Office {number}", office=office)
            for number, office in enumerate(offices)
        ]
    )
    return {}


def whole() -> dict[str, Any]:
    """Read and apply everything; say how long it took and how much memory it needed."""
    reader = SyncReader(source())
    engine = Engine(source(), DirectoryEffects() if ORDER["with_effects"] else NoEffects())
    began, used = time.perf_counter(), time.process_time()
    outcome = engine.take(
        reader.poll(b"") if ORDER["is_first"] else reader.full(), reader, b"" if ORDER["is_first"] else None
    )
    took, used = time.perf_counter() - began, time.process_time() - used
    reader.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": took,
        "processor": used,
        "peak": peak,
        "rows": len(outcome.plan.rows),
        "links": outcome.links,
    }


def poll() -> dict[str, Any]:
    """Apply what changed since the cookie."""
    reader = SyncReader(source())
    engine = Engine(source(), DirectoryEffects())
    times, used_each, told = [], [], 0
    if ORDER.get("warm"):
        # What the first batch of a process costs once, and a listener paid long ago: a plan that is thrown away.
        cookie = store.read_state("hq").cookie
        engine.take(reader.poll(cookie), reader, cookie, is_rehearsal=True)
    for _ in range(ORDER["times"]):
        cookie = store.read_state("hq").cookie
        began, used = time.perf_counter(), time.process_time()
        told += engine.take(reader.poll(cookie), reader, cookie).told
        times.append(time.perf_counter() - began)
        used_each.append(time.process_time() - used)
    reader.close()
    return {
        "seconds": statistics.median(times),
        "processor": statistics.median(used_each),
        "first": times[0],
        "told": told,
    }


DO = {"prepare": prepare, "whole": whole, "poll": poll}

if __name__ == "__main__":
    json.dump(DO[ORDER["do"]](), sys.stdout)
