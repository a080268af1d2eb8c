"""One process that ends sessions or delivers, on a database that the test made for it. JSON order in, JSON answer out.

A program of its own, because a test of several deliverers, and of killing one, needs committed rows and processes.
"""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import django

ORDER: dict[str, Any] = json.loads(sys.stdin.readline())
django.setup()

from django.db import close_old_connections, connection, transaction  # noqa: E402

from iam.accounts.models import LoginSession, User  # noqa: E402
from iam.accounts.services import end_session, open_session  # noqa: E402
from iam.audit.models import AuditEvent  # noqa: E402
from iam.oauth import keyring, outbox, state  # noqa: E402
from iam.oauth.backchannel import Deliverer  # noqa: E402
from iam.oauth.clients import apply_all  # noqa: E402
from iam.oauth.models import LogoutDelivery  # noqa: E402
from iam.oauth.store import DatabaseStore  # noqa: E402


def prepare() -> str:
    """Make the database and a signing key."""
    connection.settings_dict["TEST"]["NAME"] = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    keyring.ensure(datetime.now(UTC), "system:test")
    return "made"


def begin() -> list[str]:
    """Forget everything before; make the applications, and sessions that all of them joined and that may have ended."""
    now = datetime.now(UTC)
    LogoutDelivery.objects.all().delete()
    apply_all(
        [
            {
                "client_id": name, "token_endpoint_auth_method": "none", "redirect_uris": ["http://127.0.0.1/cb"],
                "backchannel_logout_uri": uri, "scope": "openid", "trusted": True,
            }
            for name, uri in ORDER["clients"].items()
        ],
        now,
        "system:test",
    )  # fmt: skip
    state.forget()
    known = state.DatabaseState()
    sessions = []
    with transaction.atomic():
        for _ in range(ORDER["sessions"]):
            user = User.objects.create(created_at=now)
            session, _secret = open_session(user, now, timedelta(hours=12))
            for name in ORDER["clients"]:
                client = known.client(name)
                assert client is not None
                DatabaseStore().sid(session.pk, client, now)
            sessions.append(str(session.pk))
    if ORDER["ended"]:
        for ended in sessions:
            end_session(ended, reason="signed_out", now=datetime.now(UTC))
    return sessions


def together(act: Callable[[], list[bool]]) -> list[bool]:
    """Do the same from several threads at the agreed moment; return every outcome."""
    outcomes: list[bool] = []

    def run() -> None:
        connection.ensure_connection()
        time.sleep(max(0.0, ORDER["at"] - time.time()))
        try:
            outcomes.extend(act())
        finally:
            connection.close()

    crew = [threading.Thread(target=run) for _ in range(ORDER["threads"])]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(timeout=60)
    return outcomes


def end() -> list[bool]:
    """End every session, from each thread."""
    return [end_session(session, reason="signed_out", now=datetime.now(UTC)) for session in ORDER["sessions"]]


def claim() -> list[bool]:
    """Claim what is due, once, from each thread."""
    return [outbox.claim(datetime.now(UTC)) is not None]


def deliver() -> str:
    """Deliver until asked to stop, as `manage.py deliver` does."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    print(json.dumps("ready"), flush=True)
    Deliverer(lease=timedelta(seconds=ORDER["lease"])).run(stopped)
    return "stopped"


def look() -> dict[str, Any]:
    """Return what the database holds."""
    rows = LogoutDelivery.objects.select_related("client")
    return {
        "told": sum(row.told_at is not None for row in rows),
        "waiting": sum(row.told_at is None and row.given_up_at is None for row in rows),
        "attempts": sorted(row.attempts for row in rows),
        "failures": sorted({row.failure for row in rows}),
        "by_client": {
            name: sum(row.client.client_id == name for row in rows)
            for name in {row.client.client_id for row in rows}
        },
        "ends": AuditEvent.objects.filter(action="person:session:end").count(),
        "ended": LoginSession.objects.exclude(ended_at=None).count(),
    }


def hasten() -> int:
    """Let what waits be due now: stands for the time until then."""
    return LogoutDelivery.objects.filter(told_at=None).update(due_at=datetime.now(UTC))


match ORDER["do"]:
    case "prepare":
        result: object = prepare()
    case "begin":
        result = begin()
    case "end":
        result = together(end)
    case "claim":
        result = together(claim)
    case "deliver":
        result = deliver()
    case "look":
        result = look()
    case "hasten":
        result = hasten()
    case "destroy":
        connection.creation.destroy_test_db(connection.settings_dict["NAME"], verbosity=0)
        result = "gone"
    case unknown:
        raise SystemExit(f"unknown order {unknown}")
close_old_connections()
print(json.dumps(result), flush=True)
