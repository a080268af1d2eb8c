"""Which applications must still be told that a session ended: written with the end, claimed and settled afterwards.

Nothing here speaks to the network (backchannel.py does). A delivery is claimed by one conditional statement, the
same text for PostgreSQL and SQLite; the claim is a lease, so that nothing is lost with the process that held it.
Spec: OIDC Back-Channel Logout §2.5, §2.8; docs/adr/0032.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from django.db.models import Count, Max, Min, Q, QuerySet

from .models import LogoutDelivery, SessionClient
from .sql import one

# Longer than any attempt can take (outbound.py bounds one), so that no two ever run at once.
LEASE = timedelta(seconds=30)
# The first tries come quickly, for a receiver that is just being restarted; the later ones must not be a burden.
FIRST_DELAY = timedelta(seconds=2)
DELAY_MAX = timedelta(minutes=10)
GIVE_UP_AFTER = timedelta(hours=24)
# What a told application may still be asked about, and what the signed-out page reads.
KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is ours until its lease ends. `claim` proves it when the result is written."""

    id: int
    claim: str
    session_id: UUID
    client_pk: int
    client_id: str
    attempts: int
    created_at: datetime


class Progress(StrEnum):
    """How far the telling of an application has come."""

    TOLD = "told"
    BEING_TOLD = "being_told"  # not tried yet, or just being tried
    NOT_REACHED = "not_reached"  # tried without success; tried again until it is given up


@dataclass(frozen=True, slots=True)
class Telling:
    """One application of an ended session, and how far the telling has come."""

    client_id: str
    progress: Progress


# -- in the transaction that ends a session ---------------------------------------------------------------------


def write_deliveries(session_id: UUID, now: datetime) -> None:
    """Note every client of the session that wants to be told. Idempotent.

    Called by the end itself (accounts/endings.py). Whoever issues in a session holds its row, so a client that
    joined it is seen here, and none joins afterwards (docs/adr/0012).
    """
    joined = SessionClient.objects.filter(
        session_id=session_id, client__options__has_key="backchannel_logout_uri"
    )
    LogoutDelivery.objects.bulk_create(
        [
            LogoutDelivery(session_id=session_id, client_id=client, created_at=now, due_at=now)
            for client in joined.order_by("pk").values_list("client_id", flat=True)
        ],
        ignore_conflicts=True,
    )


# -- by who delivers --------------------------------------------------------------------------------------------

_OPEN = "{row}told_at IS NULL AND {row}given_up_at IS NULL AND {row}due_at <= %(now)s"
_CLAIM = f"""
    UPDATE oauth_logoutdelivery SET due_at = %(lease_ends)s, claim = %(claim)s, attempts = attempts + 1
    WHERE id = (
        SELECT d.id FROM oauth_logoutdelivery d WHERE {_OPEN.format(row="d.")} {{but}} ORDER BY d.due_at, d.id LIMIT 1
    ) AND {_OPEN.format(row="")}
    RETURNING id
"""


def claim(now: datetime, lease: timedelta = LEASE, but: Collection[int] = ()) -> Claimed | None:
    """Claim the delivery that has been due longest, none of the clients `but` (primary keys); None when there is none.

    Any number of processes may claim at once: the row's own condition decides, judged again by the database
    after it waited for another's claim. None also when another was faster: ask again.
    """
    skipped = {f"but{number}": client for number, client in enumerate(but)}
    names = ", ".join(f"%({name})s" for name in skipped)
    mark = secrets.token_hex(16)
    values = {"now": now, "lease_ends": now + lease, "claim": mark, **skipped}
    found = one(_CLAIM.format(but=f"AND d.client_id NOT IN ({names})" if names else ""), values)
    if found is None:
        return None
    row = LogoutDelivery.objects.select_related("client").get(pk=found[0])
    return Claimed(
        row.pk, mark, row.session_id, row.client.pk, row.client.client_id, row.attempts, row.created_at
    )


def is_due(now: datetime, but: Collection[int] = ()) -> bool:
    """Say whether there is anything to claim: a read, so that waiting for work locks nobody out (SQLite)."""
    rows = LogoutDelivery.objects.filter(told_at=None, given_up_at=None, due_at__lte=now)
    return rows.exclude(client_id__in=list(but)).exists()


def settle_told(claimed: Claimed, now: datetime) -> bool:
    """Note that the client was told. False when the lease was over and another had claimed it."""
    return bool(_held(claimed).update(told_at=now, failure=""))


def settle_failed(claimed: Claimed, reason: str, retry_at: datetime | None, now: datetime) -> bool:
    """Note why an attempt failed and when the next one is due, None to give up. False when the lease was over."""
    if retry_at is None:
        return bool(_held(claimed).update(given_up_at=now, failure=reason))
    return bool(_held(claimed).update(due_at=retry_at, failure=reason))


def _held(claimed: Claimed) -> QuerySet[LogoutDelivery]:
    return LogoutDelivery.objects.filter(pk=claimed.id, claim=claimed.claim, told_at=None, given_up_at=None)


def decide_retry(attempts: int, created_at: datetime, now: datetime, spread: float) -> datetime | None:
    """Return when to try again after `attempts` failures, None to give up.

    In: `spread` from 0 to 1, random: receivers that come back are not met by everything at once.
    """
    delay = min(FIRST_DELAY * 2 ** min(attempts - 1, 20), DELAY_MAX) * (0.8 + 0.4 * spread)
    at = now + delay
    return at if at < created_at + GIVE_UP_AFTER else None


# -- for the signed-out page ------------------------------------------------------------------------------------


def tellings(session_id: UUID) -> tuple[Telling, ...]:
    """Return every application that must be told of the end of a session, and how far it has come."""
    rows = LogoutDelivery.objects.filter(session_id=session_id).select_related("client").order_by("pk")
    return tuple(Telling(row.client.client_id, _progress(row)) for row in rows)


def front_channel_clients(session_id: UUID) -> tuple[tuple[str, str, str], ...]:
    """Return (client id, address, sid) of the applications that only the browser can tell."""
    joined = SessionClient.objects.filter(
        session_id=session_id, client__enabled=True, client__options__has_key="frontchannel_logout_uri"
    ).select_related("client")
    return tuple(
        (row.client.client_id, row.client.options["frontchannel_logout_uri"], row.sid)
        for row in joined.order_by("pk")
    )


def is_anyone_to_tell(session_id: UUID, but: str = "") -> bool:
    """Say whether an application other than the client `but` must learn of the end of a session."""
    return any(one.client_id != but for one in tellings(session_id)) or any(
        client_id != but for client_id, _, _ in front_channel_clients(session_id)
    )


def _progress(row: LogoutDelivery) -> Progress:
    if row.told_at is not None:
        return Progress.TOLD
    return Progress.NOT_REACHED if row.failure else Progress.BEING_TOLD


# -- for operators ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Backlog:
    """What one client was not told: deliveries that wait, and those given up in the days that are kept."""

    client_id: str
    waiting: int
    given_up: int
    oldest: datetime
    failure: str


def backlog() -> tuple[Backlog, ...]:
    """Return what is not told, a line a client."""
    open_rows = (
        LogoutDelivery.objects.filter(told_at=None)
        .values("client__client_id")
        .annotate(
            waiting=Count("pk", filter=Q(given_up_at=None)),
            given_up=Count("pk", filter=Q(given_up_at__isnull=False)),
            oldest=Min("created_at"),
            failure=Max("failure"),
        )
        .order_by("client__client_id")
    )
    return tuple(
        Backlog(row["client__client_id"], row["waiting"], row["given_up"], row["oldest"], row["failure"])
        for row in open_rows
    )
