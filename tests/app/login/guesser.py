"""One process of many that guess at once, on a database that the test made for it. Reads and prints JSON.

A program of its own, because the suite's database must never be flushed and a race needs rows that are committed.
"""

import json
import sys
import threading
import time
from datetime import datetime
from typing import Any

ORDER: dict[str, Any] = json.load(sys.stdin)

import django  # noqa: E402
from django.conf import settings  # noqa: E402

django.setup()
settings.DATABASES["default"]["NAME"] = ORDER["name"]

from django.db import connection  # noqa: E402

from iam.login import throttle  # noqa: E402
from iam.login.models import ThrottleCounter  # noqa: E402

NOW = datetime.fromisoformat(ORDER["now"])
ADDRESS = "192.0.2.1"


def prepare() -> str:
    """Make the database from the models: no rule of the migrations matters to a counter."""
    connection.settings_dict["TEST"].update({"NAME": ORDER["name"], "MIGRATE": False})
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    return "made"


def guess() -> dict[str, int]:
    """Try as often as ordered, in threads that begin together; return how often each outcome came."""
    outcomes: list[str] = []
    account = throttle.entry_account("directory", ORDER["account"])

    def run() -> None:
        connection.ensure_connection()
        time.sleep(max(0.0, ORDER["start_at"] - time.time()))
        try:
            for _ in range(ORDER["guesses"]):
                outcomes.append(type(throttle.charge(throttle.Kind.CODE, account, ADDRESS, NOW)).__name__)
                throttle.count_source(throttle.Kind.CODE, ORDER["source"], NOW)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(ORDER["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)
    return {name: outcomes.count(name) for name in sorted(set(outcomes))}


def count() -> dict[str, int]:
    """Return the failures of every counter."""
    return {row.key: row.failures for row in ThrottleCounter.objects.all()}


def destroy() -> str:
    """Remove the database."""
    connection.creation.destroy_test_db(ORDER["name"], verbosity=0)
    return "gone"


print(json.dumps({"prepare": prepare, "guess": guess, "count": count, "destroy": destroy}[ORDER["do"]]()))
