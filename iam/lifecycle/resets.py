"""A password that an administrator gives: shown once, good until the next sign-in, and then replaced by its person."""

import secrets
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from directory.service import Changed, Found, NotTaken, PasswordProblem, Unavailable, UnavailableReason
from directory.service import read as read_person
from directory.service import reset_password as set_in_directory
from iam.accounts import services as accounts
from iam.accounts.models import DirectoryLink, User
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action
from iam.errors import Conflict

# Without what is mistaken for something else when it is read aloud or from paper.
ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
GROUPS, LENGTH = 5, 4  # 100 bits


@dataclass(frozen=True, slots=True)
class Given:
    """The new password. Whoever has it can sign in once and must then choose another."""

    password: str


def reset_password(user: User, *, reason: str, actor: str, now: datetime) -> Given | NotTaken | Unavailable:
    """Give a person a password by the account that may, and end every session. The change itself is the directory's.

    Raises: Conflict when the person has no entry in a directory.
    """
    link = DirectoryLink.objects.filter(user=user, active=True).order_by("pk").first()
    if link is None:
        raise Conflict("The person has no entry in a directory.", code="no_directory_entry")
    found = read_person(link.source, link.entry_uuid, with_groups=False)
    if isinstance(found, Unavailable):
        return found
    if not isinstance(found, Found):
        return Unavailable(UnavailableReason.NONSENSE)
    password = "-".join("".join(secrets.choice(ALPHABET) for _ in range(LENGTH)) for _ in range(GROUPS))
    # Sessions end first: should the answer of the directory be lost, the safe half has happened.
    with transaction.atomic():
        accounts.end_sessions(user, reason="password_reset", now=now, actor=actor)
        _record(user, Outcome.SUCCESS, "begun", reason, actor, now)
    answer = set_in_directory(found.person, password)
    if isinstance(answer, Changed):
        return Given(password)
    with transaction.atomic():
        said = answer.problem if isinstance(answer, NotTaken) else answer.reason
        _record(user, Outcome.ERROR, said, reason, actor, now)
    return answer


def words_of(answer: NotTaken | Unavailable) -> str:
    """Say to an operator why no password was given, and what to do."""
    if isinstance(answer, NotTaken):
        if answer.problem is PasswordProblem.TOO_YOUNG:
            return "The directory does not let this password change again so soon. Try again later."
        return f"The directory refused the new password ({answer.problem}). Look at its policy of passwords."
    return (
        f"The directory did not do it ({answer.reason}). Look whether it answers (manage.py directory status) and"
        " whether IAM_LDAP_WRITER_DN may set passwords and pwdReset. Sessions were ended; the old password may"
        " still be good."
    )


def _record(user: User, outcome: Outcome, said: str, reason: str, actor: str, now: datetime) -> None:
    record(
        Event(
            Action.PASSWORD_RESET,
            outcome,
            actor=actor,
            now=now,
            object=f"person:{user.sub}",
            reason=said,
            details={"reason": reason} if reason else {},
        )
    )
