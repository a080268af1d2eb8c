"""One process of a race over the key ring, on a database that the test made for it. JSON order in, JSON answer out."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import django

ORDER: dict[str, Any] = json.load(sys.stdin)
django.setup()

from django.db import close_old_connections, connection  # noqa: E402

from iam.audit.models import AuditEvent  # noqa: E402
from iam.errors import Conflict  # noqa: E402
from iam.oauth import keyring  # noqa: E402
from iam.oauth.clients import apply_all  # noqa: E402
from iam.oauth.models import Client, Installation, SigningKey  # noqa: E402
from iam.oauth.protocol import key_ring  # noqa: E402
from iam.oauth.secret_rotation import rotate_secret  # noqa: E402
from iam.oauth.secretbox import client_secret_digest  # noqa: E402

ACTOR = "system:test"
ALGORITHM = "ES256"


def prepare() -> str:
    """Make the database, without any key, and one client."""
    connection.settings_dict["TEST"]["NAME"] = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    client = {
        "client_id": "service", "client_secret": "s" * 40, "grant_types": ["client_credentials"],
        "resource_server": ["race.read"], "scope": "race.read",
    }  # fmt: skip
    apply_all([client], datetime.now(UTC), ACTOR)
    return "made"


def race() -> list[str]:
    """Do it in each thread at the agreed moment; an emergency is decided by the ring that the test saw, for all alike."""
    now = datetime.now(UTC)
    tomorrow = now + timedelta(days=1, hours=1)
    ring = [keyring.fact_of(row) for row in SigningKey.objects.filter(kid__in=ORDER["kids"])]
    emergency = key_ring.decide_emergency(ring, ALGORITHM, key_ring.Withdrawal.NOW, now)
    acts: dict[str, Callable[[], str]] = {
        "first": lambda: str(len(keyring.ensure(now, ACTOR))),
        "begin": lambda: str(bool(keyring.begin_rotation(ALGORITHM, now, ACTOR))),
        "tend": lambda: str(keyring.tend((), tomorrow, ACTOR)),
        "emergency": lambda: str(bool(keyring._carry_out(emergency, now, ACTOR))),
        "secret": lambda: new_secret(now),
    }
    return together(acts[ORDER["act"]], ORDER["threads"], ORDER["start_at"])


def new_secret(now: datetime) -> str:
    """Return the digest of the new secret, or that another came first."""
    try:
        return client_secret_digest(rotate_secret("service", None, now, ACTOR))
    except Conflict:
        return "conflict"


def together(act: Callable[[], str], threads: int, start_at: float) -> list[str]:
    outcomes: list[str] = []
    barrier = threading.Barrier(threads)

    def run() -> None:
        connection.ensure_connection()
        barrier.wait(timeout=30)
        time.sleep(max(0.0, start_at - time.time()))
        try:
            outcomes.append(act())
        except Exception as problem:  # an exception is an outcome, and a wrong one
            outcomes.append(f"{type(problem).__name__}: {problem}")
        finally:
            connection.close()

    crew = [threading.Thread(target=run) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(timeout=90)
    return outcomes


def look() -> dict[str, Any]:
    """Return what the database holds."""
    return {
        "keys": sorted(SigningKey.objects.values_list("algorithm", "status")),
        "kids": list(SigningKey.objects.values_list("kid", flat=True)),
        "problems": keyring.problems(),
        "events": dict(
            Counter(AuditEvent.objects.filter(action__contains=":key:").values_list("action", flat=True))
        ),
        "secret": Client.objects.get(client_id="service").secret_digest,
        "secrets": AuditEvent.objects.filter(action="administrator:secret:rotate").count(),
        "version": Installation.objects.get().version,
    }


match ORDER["do"]:
    case "prepare":
        result: object = prepare()
    case "race":
        result = race()
    case "look":
        result = look()
    case "destroy":
        connection.creation.destroy_test_db(connection.settings_dict["NAME"], verbosity=0)
        result = "gone"
    case unknown:
        raise SystemExit(f"unknown order {unknown}")
close_old_connections()
print(json.dumps(result))
