"""Replace a client's secret, at once or with an overlap in which the old one is still good (US-33)."""

import secrets
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F

from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action
from iam.errors import Conflict, NotKnown

from .models import Client
from .protocol.client_auth import SECRET_METHODS
from .secretbox import client_secret_digest
from .versions import touch

# Long enough for a change that waits for a weekend; an old secret that lives longer is forgotten and stays.
OVERLAP_MAX = timedelta(days=7)


def rotate_secret(client_id: str, overlap: timedelta | None, now: datetime, actor: str) -> str:
    """Give a client a new secret and return it; it is stored as a digest and cannot be shown again.

    In: without `overlap` the old secret, and every access token that was got with it, end with this commit; with
    one the old secret stays good for so long (at most OVERLAP_MAX), and an older one ends at once.
    Raises: NotKnown, Conflict when the client has no secret, or got another one at this moment.
    """
    if overlap is not None and not timedelta(0) < overlap <= OVERLAP_MAX:
        raise ValueError(f"the overlap must be at most {OVERLAP_MAX.days} days")
    client = Client.objects.select_related("application").filter(client_id=client_id).first()
    if client is None:
        raise NotKnown(f"There is no client {client_id!r}; `client list` names them.")
    if client.token_endpoint_auth_method not in SECRET_METHODS:
        raise Conflict(f"{client_id} has no secret: it authenticates by {client.token_endpoint_auth_method}.")
    secret = secrets.token_urlsafe(32)
    values = {
        "secret_digest": client_secret_digest(secret),
        "old_secret_digest": client.secret_digest if overlap else "",
        "old_secret_expires_at": now + overlap if overlap else None,
        "old_secret_used_at": None,
        # Who leaked a secret leaked what was got with it.
        "generation": F("generation") + (0 if overlap else 1),
    }
    with transaction.atomic():
        # Of two at once one wins: the other's secret must not be shown as if it were good.
        if not Client.objects.filter(pk=client.pk, secret_digest=client.secret_digest).update(**values):
            raise Conflict(f"{client_id} got another secret at this moment; nothing was changed.")
        touch()
        record(
            Event(
                Action.SECRET_ROTATE,
                Outcome.SUCCESS,
                actor=actor,
                now=now,
                object=f"client:{client_id}",
                application=client.application.code if client.application else "",
                method="overlap" if overlap else "at_once",
            )
        )
    return secret


def end_old_secret(client_id: str, now: datetime, actor: str) -> bool:
    """End an old secret before its time; False when there is none. Idempotent."""
    with transaction.atomic():
        found = Client.objects.filter(client_id=client_id).exclude(old_secret_digest="")
        if not found.update(old_secret_digest="", old_secret_expires_at=None):
            return False
        touch()
        record(
            Event(
                Action.SECRET_ROTATE, Outcome.SUCCESS, actor=actor, now=now, object=f"client:{client_id}",
                method="end_overlap",
            )
        )  # fmt: skip
    return True


def forget_old_secrets(now: datetime) -> int:
    """Empty old secrets whose time is over; they were refused from that second on. Idempotent."""
    return (
        Client.objects.filter(old_secret_expires_at__lte=now)
        .exclude(old_secret_digest="")
        .update(old_secret_digest="", old_secret_expires_at=None)
    )
