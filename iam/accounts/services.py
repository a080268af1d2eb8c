"""Sign-in sessions: opened, raised, found, ended. The secret is the browser's; here is only its digest."""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef
from django.utils.crypto import constant_time_compare, salted_hmac

from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action
from iam.errors import Conflict

from .endings import tell_witnesses
from .models import LoginSession, User
from .selectors import acting
from .use import unused_since

# Sessions that ran out and are ended in one round of the housekeeping.
_RAN_OUT_MAX = 2_000
# Writing at every request when a session was last seen would turn every read into a write.
SEEN_EVERY = timedelta(minutes=1)
SECRET_LENGTH_MAX = 128
# How long a browser may take to send a form again whose answer was lost: a time-out, and a person who reloads.
RETRY = timedelta(minutes=2)
_NO_RETRY: dict[str, Any] = {"secret_before": "", "factor_proof": "", "retry_until": None}


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def open_session(user: User, now: datetime, life: timedelta) -> tuple[LoginSession, str]:
    """Open a session for a person whose password was just accepted; return it and its 256-bit secret."""
    secret = secrets.token_urlsafe(32)
    session = LoginSession.objects.create(
        user=user,
        secret_digest=_digest(secret),
        created_at=now,
        seen_at=now,
        expires_at=now + life,
        password_at=now,
    )
    return session, secret


def mark_password(session: LoginSession, now: datetime) -> str:
    """Note that the password was given again; return the session's new secret.

    Raises: Conflict when the session ended in the meantime. Atomic.
    """
    return _rotate(session, now, {"password_at": now, **_NO_RETRY})


def mark_factor(session: LoginSession, kind: str, now: datetime, sent: str = "") -> str:
    """Note that a second factor was given; return the session's new secret.

    In: `sent` what was typed, which the same browser may send again (`find_session_before`); "" for never.
    Raises: Conflict when the session ended in the meantime. Atomic.
    """
    retry = {
        "secret_before": session.secret_digest,
        "factor_proof": _proof(session.secret_digest, sent),
        "retry_until": now + RETRY,
    }
    return _rotate(session, now, {"factor_at": now, "factor_kind": kind, **(retry if sent else _NO_RETRY)})


def find_session_before(secret: str, now: datetime) -> LoginSession | None:
    """Return the session whose secret this was until a code was right a moment ago, of a person who may act.

    The browser may not have heard of it. This secret opens nothing; with a code, the old or a new one, it gets another.
    """
    if not secret or len(secret) > SECRET_LENGTH_MAX:
        return None
    return (
        LoginSession.objects.select_related("user")
        .filter(
            acting(now, "user__"),
            secret_before=_digest(secret),
            retry_until__gt=now,
            ended_at=None,
            expires_at__gt=now,
        )
        .first()
    )


def is_sent_again(session: LoginSession, sent: str) -> bool:
    """Say whether this is what the browser sent when it was right."""
    proof = _proof(session.secret_before, sent)
    return bool(session.factor_proof) and constant_time_compare(proof, session.factor_proof)


def hand_out_again(session: LoginSession, now: datetime) -> str:
    """Give the session of `find_session_before` another secret, for the same browser; the one it never got ends.

    Raises: Conflict. Atomic.
    """
    kept = {name: getattr(session, name) for name in _NO_RETRY}
    return _rotate(session, now, kept)


def _proof(secret_digest: str, sent: str) -> str:
    return salted_hmac("iam.accounts.sent", f"{secret_digest}\0{sent}", algorithm="sha256").hexdigest()


def _rotate(session: LoginSession, now: datetime, changes: dict[str, Any]) -> str:  # Any: columns
    """A secret from before an authentication must be worth nothing after it (A45)."""
    secret = secrets.token_urlsafe(32)
    # No join: with one, Django updates by a sub-query, and PostgreSQL would not judge again, after waiting for
    # a parallel rotation, the conditions inside it. Both would win.
    active = User.objects.filter(acting(now), pk=OuterRef("user_id"))
    done = LoginSession.objects.filter(
        Exists(active), pk=session.pk, ended_at=None, expires_at__gt=now, secret_digest=session.secret_digest
    ).update(secret_digest=_digest(secret), seen_at=now, **changes)
    if not done:
        raise Conflict("The sign-in session ended, or another step was faster.", code="session_ended")
    session.refresh_from_db()
    return secret


def require_current(session: LoginSession) -> None:
    """Raise Conflict if the session ended, or was authenticated by another request, since it was read."""
    if not LoginSession.objects.filter(
        pk=session.pk, secret_digest=session.secret_digest, ended_at=None
    ).exists():
        raise Conflict("Another step was faster.", code="session_ended")


def find_live_session(secret: str, now: datetime, idle: timedelta) -> LoginSession | None:
    """Return the session of a secret: not ended, not too old, not idle, of a person who may act."""
    if not secret or len(secret) > SECRET_LENGTH_MAX:
        return None
    session = (
        LoginSession.objects.select_related("user")
        .filter(acting(now, "user__"), secret_digest=_digest(secret), ended_at=None, expires_at__gt=now)
        .first()
    )
    if session is None or now - session.seen_at > idle:
        return None
    if now - session.seen_at > SEEN_EVERY:
        LoginSession.objects.filter(pk=session.pk, seen_at__lt=now).update(seen_at=now)
    return session


@transaction.atomic
def end_session(
    session_id: UUID,
    *,
    reason: str,
    now: datetime,
    request_id: str = "",
    source: str = "",
    actor: str = "",
    unseen_since: datetime | None = None,
) -> bool:
    """End one session, once; its counter ends every token of it, its applications are told. False when it had ended.

    In: `unseen_since` leaves a session alone whose browser came back since then. The only way in which a session ends. Atomic.
    """
    live = LoginSession.objects.filter(pk=session_id, ended_at=None)
    if unseen_since is not None:
        live = live.filter(seen_at__lt=unseen_since)
    done = live.update(ended_at=now, end_reason=reason, generation=F("generation") + 1)
    if not done:
        return False
    tell_witnesses(session_id, now)
    session = LoginSession.objects.select_related("user").get(pk=session_id)
    person = f"person:{session.user.sub}"
    record(
        Event(
            Action.SESSION_END,
            Outcome.SUCCESS,
            actor=actor or person,
            now=now,
            object=person,
            reason=reason,
            session=str(session_id),
            request_id=request_id,
            details={"address": source} if source else {},
        )
    )
    return True


def end_sessions(user: User, *, reason: str, now: datetime, actor: str, request_id: str = "") -> int:
    """End every live session of a person; return how many."""
    ids = list(LoginSession.objects.filter(user=user, ended_at=None).values_list("pk", flat=True))
    return sum(
        end_session(session_id, reason=reason, now=now, request_id=request_id, actor=actor)
        for session_id in ids
    )


def end_sessions_that_ran_out(now: datetime) -> int:
    """End sessions whose life, or whose person's account, is over, so that applications are told; return how many.

    Each in a transaction of its own: no lock is held longer than one takes. Idempotent, safe beside itself.
    """
    live = LoginSession.objects.filter(ended_at=None)
    over = {
        "ran_out": live.filter(expires_at__lte=now).order_by("expires_at"),
        "account_expired": live.filter(user__valid_until__lte=now).order_by("expires_at"),
    }
    return sum(
        end_session(session_id, reason=reason, now=now, actor="system:housekeeping")
        for reason, rows in over.items()
        for session_id in list(rows.values_list("pk", flat=True)[:_RAN_OUT_MAX])
    )


def end_idle_sessions(now: datetime, idle: timedelta) -> int:
    """End sessions that neither a browser nor an application used for so long, so that applications are told; return how many.

    In: `idle` the same as for `find_live_session`. As `end_sessions_that_ran_out` for everything else.
    """
    since = now - idle
    rows = LoginSession.objects.filter(ended_at=None, seen_at__lt=since).order_by("seen_at")
    return sum(
        end_session(session_id, reason="idle", now=now, actor="system:housekeeping", unseen_since=since)
        for session_id in list(unused_since(rows, since).values_list("pk", flat=True)[:_RAN_OUT_MAX])
    )
