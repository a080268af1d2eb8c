"""An account is closed: no sign-in, no session, no token."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import F

from iam.accounts import services as accounts
from iam.accounts.models import LoginSession, User
from iam.audit.facts import NO_REQUEST, RequestFacts
from iam.audit.record import Event, Outcome, record_all
from iam.audit.tags import Action

# What a directory closed, it may open again; what a person here closed, it may not.
DIRECTORY_REASONS = frozenset(
    {"disabled_in_directory", "left_directory", "missing_in_directory", "entry_replaced"}
)


@transaction.atomic
def deactivate(
    user: User, *, reason: str, actor: str, now: datetime, facts: RequestFacts = NO_REQUEST
) -> None:
    """End a person's access at once: no sign-in, no session, no token. Idempotent."""
    close_accounts([user], reason=reason, actor=actor, now=now, facts=facts)


def close_accounts(
    users: Sequence[User], *, reason: str, actor: str, now: datetime, facts: RequestFacts
) -> None:
    """Close accounts, each once: sessions and tokens end with them, applications will be told.

    For callers inside the transaction of the reason. What a directory closed and somebody here closes too is
    from then on closed by that somebody.
    """
    ids = [user.pk for user in users]
    if not ids:
        return
    # Not the key: whoever issues holds a session and then writes rows that name the person. Waiting for each other,
    # both would fail (docs/adr/0012).
    open_ids = set(
        User.objects.select_for_update(no_key=True)
        .filter(pk__in=ids, is_active=True)
        .values_list("pk", flat=True)
    )
    if reason not in DIRECTORY_REASONS:
        User.objects.filter(pk__in=ids, is_active=False).update(inactive_reason=reason)
    if not open_ids:
        return
    User.objects.filter(pk__in=open_ids).update(
        is_active=False, inactive_reason=reason, generation=F("generation") + 1
    )
    record_all(
        Event(
            Action.PERSON_DEACTIVATE,
            Outcome.SUCCESS,
            actor=actor,
            now=now,
            object=f"person:{user.sub}",
            reason=reason,
            request_id=facts.request_id,
        )
        for user in users
        if user.pk in open_ids
    )
    for user in users:
        if user.pk in open_ids:
            user.is_active, user.inactive_reason = False, reason
    sessions = LoginSession.objects.filter(user__in=open_ids, ended_at=None).values_list("pk", flat=True)
    for session_id in list(sessions):
        accounts.end_session(session_id, reason=reason, now=now, request_id=facts.request_id, actor=actor)
