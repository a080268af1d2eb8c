"""What clients were seen with: the keys they fetched at an address of their own, an old secret they still use.

Seen in the way of an answer, so it never delays or fails one: a worker notes it in memory, at most once an hour
for the same thing, and a thread of its own writes it down. What is lost with a worker is seen again within the hour.
"""

import logging
import os
import threading
from collections import deque
from dataclasses import dataclass
from datetime import datetime

from django.db import Error, close_old_connections, transaction

from .models import Client, KeySighting
from .protocol.key_ring import Reader, Status
from .sql import execute

logger = logging.getLogger("iam.keys")

# Enough for every client of the house at once; beyond that the hour's note is dropped and comes again.
PENDING_MAX = 1_000
REMEMBERED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class KeysFetched:
    """A client read its key set, which held these keys."""

    client_pk: int
    kids: frozenset[str]


@dataclass(frozen=True, slots=True)
class OldSecretUsed:
    """A client authenticated with a secret that was replaced and whose time is not over yet."""

    client_pk: int
    digest: str


Sighting = KeysFetched | OldSecretUsed

_pending: deque[tuple[Sighting, datetime]] = deque(maxlen=PENDING_MAX)
_noted: dict[Sighting, datetime] = {}  # until which hour it is noted already
_wake = threading.Event()
_thread: threading.Thread | None = None
_thread_pid = 0
_starting = threading.Lock()
_serving = False


def serve() -> None:
    """Let this process write what it notes; called once by a server's entry point, which then may still fork."""
    global _serving
    _serving = True


def note(sighting: Sighting, now: datetime) -> None:
    """Remember it to be written soon. Never blocks, never fails."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    if _noted.get(sighting) == hour:
        return
    if len(_noted) >= REMEMBERED_MAX:
        _noted.clear()
    _noted[sighting] = hour
    _pending.append((sighting, now))
    if _serving:
        _start()
        _wake.set()


def forget() -> None:
    """Drop what was noted; for tests, whose rows are rolled back."""
    _pending.clear()
    _noted.clear()


def write_pending() -> None:
    """Write what was noted, on this thread's connection. Raises: django.db.Error, and then it will be seen again."""
    while _pending:
        sighting, seen_at = _pending.popleft()
        try:
            with transaction.atomic():
                _write(sighting, seen_at)
        except Error:
            _noted.pop(sighting, None)
            raise


def readers() -> list[Reader]:
    """Return the enabled clients that have a key set address of their own, and the keys that each has fetched."""
    clients = [
        client for client in Client.objects.filter(enabled=True).order_by("client_id")
        if client.options.get("dedicated_jwks")
    ]  # fmt: skip
    seen: dict[int, dict[str, datetime]] = {}
    for row in KeySighting.objects.exclude(key__status=Status.RETIRED):
        seen.setdefault(row.client_id, {})[row.key_id] = row.last_at
    return [
        Reader(
            client.client_id,
            bool(client.options.get("rotation_critical")),
            frozenset(seen.get(client.pk, ())),
            max(seen.get(client.pk, {}).values(), default=None),
        )
        for client in clients
    ]


def _write(sighting: Sighting, seen_at: datetime) -> None:
    """Write it down once an hour, whoever else writes the same: the statement's own condition says so."""
    hour = seen_at.replace(minute=0, second=0, microsecond=0)
    match sighting:
        case KeysFetched(client_pk, kids):
            names = {f"kid{number}": kid for number, kid in enumerate(sorted(kids))}
            execute(
                f"""
                INSERT INTO oauth_keysighting (client_id, key_id, first_at, last_at)
                SELECT c.id, k.kid, %(now)s, %(now)s FROM oauth_client c CROSS JOIN oauth_signingkey k
                WHERE c.id = %(client)s AND k.kid IN ({", ".join(f"%({name})s" for name in names)})
                ON CONFLICT (client_id, key_id) DO UPDATE SET last_at = excluded.last_at
                WHERE oauth_keysighting.last_at < %(hour)s
                """,
                {"client": client_pk, "now": seen_at, "hour": hour, **names},
            )
        case OldSecretUsed(client_pk, digest):
            execute(
                """
                UPDATE oauth_client SET old_secret_used_at = %(now)s
                WHERE id = %(client)s AND old_secret_digest = %(digest)s
                  AND (old_secret_used_at IS NULL OR old_secret_used_at < %(hour)s)
                """,
                {"client": client_pk, "now": seen_at, "hour": hour, "digest": digest},
            )


def _start() -> None:
    """Start the thread in this process, unless it runs here."""
    global _thread, _thread_pid
    with _starting:  # one only: two would take the same note from the queue
        if _thread is None or _thread_pid != os.getpid() or not _thread.is_alive():
            _thread_pid = os.getpid()
            _thread = threading.Thread(target=_run, name="sightings", daemon=True)
            _thread.start()


def _run() -> None:
    while True:
        _wake.wait()
        _wake.clear()
        close_old_connections()
        try:
            write_pending()
        except Error as problem:
            logger.warning("What clients were seen with could not be written: %s", problem)
