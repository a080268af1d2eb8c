"""People and their links, read."""

from uuid import UUID

from .models import DirectoryLink, User


def person_by_login(login: str) -> User | None:
    """Return the person whom exactly one active link knows by this login name."""
    links = list(DirectoryLink.objects.filter(login=login, active=True).select_related("user")[:2])
    return links[0].user if len(links) == 1 else None


def login_of(person_id: UUID) -> str:
    """Return the login name of a person, "" when no active link has one."""
    link = DirectoryLink.objects.filter(user_id=person_id, active=True).order_by("pk").first()
    return link.login if link else ""
