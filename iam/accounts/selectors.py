"""People and their links, read."""

from datetime import datetime
from uuid import UUID

from django.db.models import Q

from .models import DirectoryLink, User

# Whether a person may act at %(now)s, beside `accounts_user u`: for statements that issue, make or consume something.
ACTING = (
    "u.is_active AND (u.valid_until IS NULL OR u.valid_until > %(now)s)"
    " AND (u.locked_until IS NULL OR u.locked_until <= %(now)s)"
)
# When a session is over at the latest, beside `accounts_loginsession s` and its `accounts_user u`: with its account.
SESSION_END = "CASE WHEN u.valid_until < s.expires_at THEN u.valid_until ELSE s.expires_at END"


def acting(now: datetime, prefix: str = "") -> Q:
    """Return the same condition as `ACTING`; `prefix` leads from another model to the person."""
    return (
        Q(**{f"{prefix}is_active": True})
        & (Q(**{f"{prefix}valid_until": None}) | Q(**{f"{prefix}valid_until__gt": now}))
        & (Q(**{f"{prefix}locked_until": None}) | Q(**{f"{prefix}locked_until__lte": now}))
    )


def reason_not_to_act(user: User, now: datetime) -> str:
    """Return why a person may not act now, as one stable word; "" when they may."""
    if not user.is_active:
        return "account_disabled"
    if user.valid_until is not None and user.valid_until <= now:
        return "account_expired"
    if user.locked_until is not None and user.locked_until > now:
        return "account_locked"
    return ""


def person_by_login(login: str) -> User | None:
    """Return the person whom exactly one active link knows by this login name."""
    links = list(DirectoryLink.objects.filter(login=login, active=True).select_related("user")[:2])
    return links[0].user if len(links) == 1 else None


def login_of(person_id: UUID) -> str:
    """Return the login name of a person, "" when no active link has one."""
    link = DirectoryLink.objects.filter(user_id=person_id, active=True).order_by("pk").first()
    return link.login if link else ""
