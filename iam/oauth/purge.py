"""Delete what nothing reads any more, in small batches: no lock is held longer than one of them.

A code's row and its family stay as long as the session could live, so that a replay is recognised;
a denylist entry stays until every token that it denies has expired.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from iam.accounts.models import LoginSession

from . import outbox
from .models import (
    AccessToken,
    DeviceGrant,
    Grant,
    KeySighting,
    LogoutDelivery,
    ParkedRequest,
    PushedRequest,
    RevokedToken,
    TokenFamily,
    UsedIdentifier,
)
from .protocol.key_ring import Status

BATCH = 500
BATCHES_MAX = 200  # one round; the next one goes on
# So long a device that asks again is told that its code has expired, and not that nobody knows it.
DEVICE_GRANTS_KEPT = timedelta(hours=1)
# Ended sessions are kept a while for the person's own list and for questions.
SESSIONS_KEPT = timedelta(days=30)


def purge(now: datetime) -> int:
    """Delete expired rows; return how many. Idempotent, safe beside itself."""
    return sum(
        _in_batches(rows)
        for rows in (
            ParkedRequest.objects.filter(expires_at__lt=now),
            PushedRequest.objects.filter(expires_at__lt=now),
            RevokedToken.objects.filter(expires_at__lt=now),
            UsedIdentifier.objects.filter(expires_at__lt=now),
            LogoutDelivery.objects.filter(created_at__lt=now - outbox.KEPT),
            KeySighting.objects.filter(key__status=Status.RETIRED),
            AccessToken.objects.filter(expires__lt=now),
            Grant.objects.filter(session__expires_at__lt=now),
            DeviceGrant.objects.filter(session=None, expires__lt=now - DEVICE_GRANTS_KEPT),
            DeviceGrant.objects.filter(session__expires_at__lt=now),
            TokenFamily.objects.filter(expires_at__lt=now),
            # One that was never ended is left for `end_sessions_that_ran_out`: its applications do not know yet.
            LoginSession.objects.filter(expires_at__lt=now - SESSIONS_KEPT, ended_at__isnull=False),
        )
    )


def _in_batches(rows: QuerySet[Any]) -> int:
    deleted = 0
    for _ in range(BATCHES_MAX):
        keys = list(rows.order_by().values_list("pk", flat=True)[:BATCH])
        if not keys:
            break
        deleted += rows.model.objects.filter(pk__in=keys).delete()[0]
    return deleted
