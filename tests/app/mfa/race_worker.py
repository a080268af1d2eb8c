"""One process of a race, on a database that the test made for it. Reads a JSON order, prints a JSON answer.

A program of its own, because a race needs committed rows, several processes and its own connections, and the
suite's database must never be flushed.
"""

import json
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import django
from django.conf import settings

ORDER: dict[str, Any] = json.load(sys.stdin)

settings.configure(
    INSTALLED_APPS=["mfa"],
    DATABASES={"default": ORDER["database"]},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    MFA_ENCRYPTION_KEYS={"race": b"r" * 32},
    MFA_ISSUER_NAME="Secretariat",
)
django.setup()

from django.db import connection  # noqa: E402

from mfa import service  # noqa: E402

NOW = datetime.fromisoformat(ORDER["now"])
OWNER = "owner"


def prepare() -> dict[str, Any]:
    """Make the database and what is raced for."""
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    service.import_totp(OWNER, ORDER["secret"], NOW)
    codes = service.replace_recovery_codes(OWNER, NOW)
    enrolment = service.begin_totp("enrolling", "a", NOW)
    return {"code": codes[0], "enrolment": str(enrolment.id), "enrolment_secret": enrolment.secret}


def run_race() -> list[str]:
    """Start the threads at the agreed moment and return every outcome."""
    raw = ORDER.get("raw", "")
    acts: dict[str, Callable[[], object]] = {
        "totp": lambda: service.verify_totp(OWNER, raw, NOW),
        "recovery": lambda: service.verify_recovery(OWNER, raw, NOW),
        "confirm": lambda: service.confirm_totp("enrolling", uuid.UUID(ORDER["enrolment"]), raw, NOW),
        "begin": lambda: service.begin_totp("new", "a", NOW).secret,
        "replace": lambda: service.replace_recovery_codes("sheet", NOW),
    }
    act = acts[ORDER["act"]]
    barrier = threading.Barrier(ORDER["threads"])
    outcomes: list[str] = []

    def run() -> None:
        connection.ensure_connection()
        barrier.wait(timeout=30)
        time.sleep(max(0.0, ORDER["start_at"] - time.time()))
        try:
            outcome = act()
            outcomes.append(outcome if isinstance(outcome, str) else type(outcome).__name__)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(ORDER["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return outcomes


match ORDER["do"]:
    case "prepare":
        answer: object = prepare()
    case "race":
        answer = run_race()
    case "count":
        answer = service.remaining_recovery_codes("sheet")
    case "destroy":
        connection.creation.destroy_test_db(ORDER["database"]["NAME"], verbosity=0)
        answer = "gone"
    case unknown:
        raise SystemExit(f"unknown order {unknown}")
print(json.dumps(answer))
