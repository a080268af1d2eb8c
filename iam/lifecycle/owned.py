"""What a person chooses here and the directory is told: language and telephone, where a directory leaves them to us.

Off by default. What was chosen counts at once; the directory hears of it when it answers, by the account that may
write, and until then the debt stands in the row of the link, whatever is restarted.
"""

from datetime import datetime

from django.db import transaction

from directory.service import Found, Unavailable, Unknown, owned_by_the_service, write
from iam.accounts.models import DirectoryLink, User
from iam.audit.facts import NO_REQUEST, RequestFacts
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action


@transaction.atomic
def choose(
    user: User, name: str, value: str, *, actor: str, now: datetime, facts: RequestFacts = NO_REQUEST
) -> bool:
    """Keep what a person chose of what is owned here; False when the directory owns it. Idempotent."""
    links = [
        link
        for link in DirectoryLink.objects.select_for_update(of=("self",))
        .filter(user=user, active=True)
        .order_by("pk")
        if name in owned_by_the_service(link.source)
    ]
    if not links:
        return False
    if getattr(user, name) == value:
        return True
    User.objects.filter(pk=user.pk).update(**{name: value})
    setattr(user, name, value)
    for link in links:
        owed = sorted({*link.owed.split(), name})
        DirectoryLink.objects.filter(pk=link.pk).update(owed=" ".join(owed))
    record(
        Event(
            Action.PERSON_CHOOSE,
            Outcome.SUCCESS,
            actor=actor,
            now=now,
            object=f"person:{user.sub}",
            method=name,
            request_id=facts.request_id,
        )
    )
    return True


def settle_debts(limit: int = 50) -> int:
    """Tell directories what they do not know yet; return how many links are settled now. Safe beside itself."""
    settled = 0
    for link in DirectoryLink.objects.select_related("user").exclude(owed="").order_by("pk")[:limit]:
        values = {name: str(getattr(link.user, name)) for name in link.owed.split()}
        match write(link.source, link.entry_uuid, values):
            case Unavailable():
                continue
            case Unknown() | Found():
                # Only what was written is settled: who chose again in the meantime owes again.
                settled += DirectoryLink.objects.filter(
                    pk=link.pk, owed=link.owed, **{f"user__{name}": value for name, value in values.items()}
                ).update(owed="")
    return settled
