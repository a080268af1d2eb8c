"""Find the person whom a command names, in the directory first: login names are given again, so the local
name alone could mean somebody else by now.
"""

import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.core.management.base import CommandError
from django.db import transaction

from directory.service import Ambiguous, Found, Unavailable, Unknown, find
from iam.accounts.models import DirectoryLink, User
from iam.lifecycle import admit_from_directory, has_ended


def operator() -> str:
    """Return who runs this command, for the audit."""
    try:
        return f"operator:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user without a name
        return f"operator:uid-{os.getuid()}"


@dataclass(frozen=True, slots=True)
class Named:
    """Whom a command means. `created` says that the account was made just now."""

    user: User
    created: bool = False


def person_named(login: str, now: datetime, warn: Callable[[str], None]) -> Named:
    """Return the person of a login name, admitted from the directory when we do not know the entry yet.

    An entry that is linked already is left as it is: roles and names are read again at every sign-in.
    Raises: CommandError with one sentence when nobody, or more than one person, is meant.
    """
    if "\x00" in login:  # no database takes it
        raise CommandError(f"There is no person {login!r}, neither in the directory nor here.")
    links = list(DirectoryLink.objects.select_related("user").filter(login=login, active=True)[:3])
    match find(login):
        case Found(person):
            for link in links:
                if (link.source, link.entry_uuid) == (person.source, person.entry_uuid):
                    return Named(link.user)
            known = User.objects.filter(
                links__source=person.source, links__entry_uuid=person.entry_uuid
            ).first()
            with transaction.atomic():
                # A copy that lags still shows who has left; a look at somebody must not let them in again.
                if known is not None and has_ended(person):
                    warn(
                        f"{login!r} has left, or is held, as the directory's stream says; nothing was read again."
                    )
                    return Named(known)
                return Named(admit_from_directory(person, now), created=known is None)
        case Ambiguous(count):
            raise CommandError(f"{login!r} means {count} entries of the directory; nothing was done.")
        case Unknown():
            if not links:
                raise CommandError(f"There is no person {login!r}, neither in the directory nor here.")
            warn(f"{login!r} is no longer in the directory; going on with the account of before.")
        case Unavailable(reason):
            if not links:
                raise CommandError(
                    f"{login!r} has never signed in, and the directory does not answer ({reason}); try again later."
                )
            warn(f"The directory does not answer ({reason}); going on with what was known before.")
    if len({link.user_id for link in links}) > 1:
        raise CommandError(f"{login!r} means a person in each of {len(links)} directories; nothing was done.")
    return Named(links[0].user)


def instant(text: str, option: str) -> datetime:
    """Read a time with its offset from UTC. Raises: CommandError that says what is wrong with it."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError as problem:
        raise CommandError(
            f"{option}: {text!r} is not a time; write it like 2027-01-31T18:00:00+03:00."
        ) from problem
    if value.tzinfo is None:
        raise CommandError(
            f"{option}: {text!r} does not say in which time zone; write it like 2027-01-31T18:00:00+03:00."
        )
    return value
