"""An account is closed: no sign-in, no session, no token."""

from datetime import datetime

from django.db import transaction
from django.db.models import F

from iam.accounts import services as accounts
from iam.accounts.models import User
from iam.audit.facts import NO_REQUEST, RequestFacts
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action


@transaction.atomic
def deactivate(
    user: User, *, reason: str, actor: str, now: datetime, facts: RequestFacts = NO_REQUEST
) -> None:
    """End a person's access at once: no sign-in, no session, no token. Idempotent."""
    close_account(user, reason, actor, now, facts)


def close_account(user: User, reason: str, actor: str, now: datetime, facts: RequestFacts) -> None:
    """End an account once: its sessions and tokens with it. For callers inside the transaction of the reason."""
    done = User.objects.filter(pk=user.pk, is_active=True).update(
        is_active=False, generation=F("generation") + 1
    )
    if not done:
        return
    record(
        Event(
            Action.PERSON_DEACTIVATE,
            Outcome.SUCCESS,
            actor=actor,
            now=now,
            object=f"person:{user.sub}",
            reason=reason,
            request_id=facts.request_id,
        )
    )
    accounts.end_sessions(user, reason=reason, now=now, actor=actor, request_id=facts.request_id)
