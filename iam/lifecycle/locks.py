"""An account that may not be used for a while, and one that ends by date (docs/adr/0042)."""

from datetime import datetime

from django.db import transaction
from django.db.models import F

from iam.accounts import services as accounts
from iam.accounts.models import User
from iam.audit.facts import NO_REQUEST, RequestFacts
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action


@transaction.atomic
def lock(
    user: User, until: datetime, *, reason: str, actor: str, now: datetime, facts: RequestFacts = NO_REQUEST
) -> None:
    """Let a person do nothing before an instant: sessions and tokens end now, a sign-in is refused until then."""
    User.objects.filter(pk=user.pk).update(locked_until=until, generation=F("generation") + 1)
    _record_person(
        Action.PERSON_LOCK, user, actor, now, facts, method=f"until {until.isoformat()}", why=reason
    )
    accounts.end_sessions(user, reason="account_locked", now=now, actor=actor, request_id=facts.request_id)


@transaction.atomic
def release(user: User, *, reason: str, actor: str, now: datetime, facts: RequestFacts = NO_REQUEST) -> bool:
    """Lift a lock before its time; what ended with it stays ended. False when there was none."""
    if not User.objects.filter(pk=user.pk, locked_until__gt=now).update(locked_until=None):
        return False
    _record_person(Action.PERSON_RELEASE, user, actor, now, facts, why=reason)
    return True


@transaction.atomic
def set_account_end(
    user: User,
    valid_until: datetime | None,
    *,
    reason: str,
    actor: str,
    now: datetime,
    facts: RequestFacts = NO_REQUEST,
) -> None:
    """Say when an account ends, None for never. At that instant everything of it ends by itself.

    Access tokens of before say a later end to whoever reads them offline: the counter ends those here, and five
    minutes everywhere.
    """
    User.objects.filter(pk=user.pk).update(valid_until=valid_until, generation=F("generation") + 1)
    _record_person(
        Action.PERSON_EXPIRY, user, actor, now, facts, method=f"{valid_until or 'never'}", why=reason
    )
    if valid_until is not None and valid_until <= now:
        accounts.end_sessions(
            user, reason="account_expired", now=now, actor=actor, request_id=facts.request_id
        )


def _record_person(
    action: Action, user: User, actor: str, now: datetime, facts: RequestFacts, *, why: str, method: str = ""
) -> None:
    record(
        Event(
            action,
            Outcome.SUCCESS,
            actor=actor,
            now=now,
            object=f"person:{user.sub}",
            method=method,
            request_id=facts.request_id,
            details={"reason": why} if why else {},
        )
    )
