"""Directories: the one face of this package.

Everything a person can cause is a value. Nothing here raises for a directory that is down: that is
`Unavailable`, which is neither "wrong password" nor a pass.

`find` finds, `verify` tries a password, `read` reads by the immutable id. For a sign-in call
`find(login, with_groups=False)` and then `verify(person or None, password)`, with one `Budget` for both if they
happen in one request: then a name that exists costs as many round trips as one that does not.
"""

import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from django.conf import settings

from directory import entries
from directory.batch import Overtaken
from directory.brake import Brake, Holding, Removal
from directory.breaker import Reading
from directory.budget import Budget
from directory.changes import Effects, Happening, PersonEvent
from directory.config import Source
from directory.engine import NotApproved, Refused
from directory.entries import Group, Person
from directory.errors import DirectoryError, UnavailableReason
from directory.operation import (
    Planned,
    Status,
    approve,
    describe,
    has_ended,
    listen,
    metrics,
    place,
    restore,
    run,
    status,
)
from directory.plan import Wait
from directory.policy import NO_STATE, PasswordProblem, PasswordState, Refusal
from directory.servers import MODIFY_REPLACE, Change, Gateway
from directory.standing import AccountStatus, Standing
from directory.store import purge
from directory.wire import SUCCESS, Modification, is_sendable_password

__all__ = [
    "Accepted",
    "AccountStatus",
    "Ambiguous",
    "Brake",
    "Budget",
    "Changed",
    "Directory",
    "DirectoryError",
    "Effects",
    "Found",
    "Group",
    "Happening",
    "Holding",
    "NotApproved",
    "NotTaken",
    "Overtaken",
    "PasswordProblem",
    "PasswordState",
    "Person",
    "PersonEvent",
    "Planned",
    "Refusal",
    "Refused",
    "Rejected",
    "Removal",
    "Source",
    "Standing",
    "Status",
    "Unavailable",
    "UnavailableReason",
    "Unknown",
    "Wait",
    "approve",
    "describe",
    "find",
    "has_ended",
    "listen",
    "metrics",
    "place",
    "purge",
    "read",
    "restore",
    "run",
    "status",
    "verify",
]

LOGIN_MAX = entries.LOGIN_MAX
# Enough to say how many there are; more than one is a refusal anyway.
NAMESAKES_MAX = 10
# Members in one filter. A filter is one message: 50 names are some 5 kB.
MEMBERS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Found:
    """Exactly one person."""

    person: Person


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody."""


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """More than one person; none of them may come in by this name."""

    count: int


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No answer that can be believed."""

    reason: UnavailableReason


@dataclass(frozen=True, slots=True)
class Accepted:
    """The directory took the password; `person` was read afterwards, and may be DISABLED."""

    person: Person
    password: PasswordState = NO_STATE


@dataclass(frozen=True, slots=True)
class Rejected:
    """The directory did not take the password, or nobody may be tried with it.

    MUST_CHANGE and EXPIRED are said of right passwords only: `change_password` is what is left to do.
    """

    refusal: Refusal = Refusal.WRONG


@dataclass(frozen=True, slots=True)
class Changed:
    """The directory has the new password; `person` is as read before."""

    person: Person


@dataclass(frozen=True, slots=True)
class NotTaken:
    """The old password was right, and the directory does not want the new one."""

    problem: PasswordProblem


class Directory:
    """The directories of an installation, asked as one. Safe for threads."""

    def __init__(self, sources: Sequence[Source]) -> None:
        names = [source.name for source in sources]
        if len(set(names)) != len(names):
            raise ValueError("Two directories have the same name.")
        self._gateways = {source.name: Gateway(source) for source in sources}

    def find(
        self, login: str, *, with_groups: bool = True, budget: Budget | None = None
    ) -> Found | Unknown | Ambiguous | Unavailable:
        """Find a person by login name in all directories; never binds as the person.

        A directory that is down makes the answer Unavailable even when another one knows the name: nobody can
        then say that it is the only one. No directory at all is Unavailable too.
        """
        if not is_possible_login(login):
            return Unknown()
        whole = budget or Budget.start(self._budget_seconds())
        people: list[tuple[Gateway, Person]] = []
        try:
            for position, gateway in enumerate(self._all()):
                share = whole.share(len(self._gateways) - position)
                people += [(gateway, person) for person in _search_login(gateway, login, share)]
            match people:
                case []:
                    return Unknown()
                case [(gateway, person)]:
                    return Found(_with_groups(gateway, person, whole) if with_groups else person)
                case _:
                    return Ambiguous(len(people))
        except DirectoryError as error:
            return Unavailable(error.reason)

    def verify(
        self, person: Person | None, password: str, *, budget: Budget | None = None
    ) -> Accepted | Rejected | Unavailable:
        """Try a password. None, for an unknown name, does the same work and is Rejected.

        After success the person is read again by id: Accepted carries the status and the groups of this moment.
        A password that is empty, only spaces, too long (1,024 code points) or has a NUL is Rejected before LDAP.
        """
        if not is_sendable_password(password):
            return Rejected()
        whole = budget or Budget.start(self._budget_seconds())
        try:
            if person is None:
                gateway = next(self._all())
                gateway.judge(_decoy_dn(gateway.source), password, whole)
                return Rejected()  # also when the decoy's password was guessed: nobody is not somebody
            gateway = self._one(person.source)
            judged = gateway.judge(person.dn, password, whole)
            if judged.refusal is not None:
                return Rejected(judged.refusal)
            fresh = _read(gateway, person.entry_uuid, whole)
            # Between finding and trying, the name may have been given to somebody else: whose password was that?
            if fresh is None or entries.dn_key(fresh.dn) != entries.dn_key(person.dn):
                return Rejected()
            return Accepted(_with_groups(gateway, fresh, whole), judged.state)
        except DirectoryError as error:
            return Unavailable(error.reason)

    def change_password(
        self, person: Person | None, old: str, new: str, *, budget: Budget | None = None
    ) -> Changed | NotTaken | Rejected | Unavailable:
        """Set a new password for who knows the old one. None, for an unknown name, does the same work and is Rejected.

        The directory compares, judges and stores; nothing is kept here. Spec: RFC 3062.
        """
        if not is_sendable_password(old):
            return Rejected()
        if not is_sendable_password(new):
            return NotTaken(PasswordProblem.TOO_SIMPLE)
        whole = budget or Budget.start(self._budget_seconds())
        try:
            if person is None:
                gateway = next(self._all())
                gateway.judge(_decoy_dn(gateway.source), old, whole)
                return Rejected()
            change = self._one(person.source).change_password(person.dn, old, new, whole)
        except DirectoryError as error:
            return Unavailable(error.reason)
        if change.refusal is not None:
            # Whatever it says of the old one, it did not take the new one: to the person that is one answer.
            return Rejected()
        return Changed(person) if change.problem is None else NotTaken(change.problem)

    def set_password(
        self, person: Person, new: str, *, budget: Budget | None = None
    ) -> Changed | NotTaken | Unavailable:
        """Set the password that its person chose, by the account that may do so: the caller knows who the person is."""
        return self._write_password(person, new, budget, lambda gateway: gateway.set_password)

    def reset_password(
        self, person: Person, new: str, *, budget: Budget | None = None
    ) -> Changed | NotTaken | Unavailable:
        """Set a password that its person must change at the next sign-in, by the account that may do so."""
        return self._write_password(person, new, budget, lambda gateway: gateway.reset_password)

    def _write_password(
        self,
        person: Person,
        new: str,
        budget: Budget | None,
        writer: Callable[[Gateway], Callable[[str, str, Budget], Change]],
    ) -> Changed | NotTaken | Unavailable:
        if not is_sendable_password(new):
            return NotTaken(PasswordProblem.TOO_SIMPLE)
        whole = budget or Budget.start(self._budget_seconds())
        try:
            change = writer(self._one(person.source))(person.dn, new, whole)
        except DirectoryError as error:
            return Unavailable(error.reason)
        return Changed(person) if change == Change() else NotTaken(change.problem or PasswordProblem.POLICY)

    def read(
        self, source: str, entry_uuid: str, *, with_groups: bool = True, budget: Budget | None = None
    ) -> Found | Unknown | Unavailable:
        """Read a person by immutable id."""
        try:
            gateway = self._one(source)
            whole = budget or Budget.start(gateway.source.budget_seconds)
            person = _read(gateway, entry_uuid, whole)
            if person is None:
                return Unknown()
            return Found(_with_groups(gateway, person, whole) if with_groups else person)
        except DirectoryError as error:
            return Unavailable(error.reason)

    def states(self) -> dict[str, dict[str, Reading]]:
        """Return what the breakers of all servers are, by directory and address."""
        return {name: gateway.states() for name, gateway in self._gateways.items()}

    def write(
        self, source: str, entry_uuid: str, values: Mapping[str, str], *, budget: Budget | None = None
    ) -> Found | Unknown | Unavailable:
        """Write what the service owns of a person, by the account that may; empty removes it.

        Raises ValueError for anything that the source does not leave to the service.
        """
        try:
            gateway = self._one(source)
            if set(values) - set(gateway.source.write_back):
                raise ValueError("this directory owns what was to be written")
            whole = budget or Budget.start(gateway.source.budget_seconds)
            person = _read(gateway, entry_uuid, whole)
            if person is None:
                return Unknown()
            changes = tuple(
                Modification(
                    MODIFY_REPLACE,
                    getattr(gateway.source.attributes, name)[0],
                    (value.encode("utf-8"),) if value else (),
                )
                for name, value in sorted(values.items())
            )
            done = gateway.modify(person.dn, changes, whole)
            if done.code != SUCCESS:
                raise DirectoryError(
                    UnavailableReason.REFUSED, f"a write ended with result {done.code}", may_try_next=False
                )
            return Found(person)
        except DirectoryError as error:
            return Unavailable(error.reason)

    def close(self) -> None:
        """Close all kept connections."""
        for gateway in self._gateways.values():
            gateway.close()

    def _all(self) -> Iterator[Gateway]:
        if not self._gateways:
            raise DirectoryError(UnavailableReason.UNREACHABLE, "no directory is configured")
        yield from self._gateways.values()

    def _one(self, source: str) -> Gateway:
        if source not in self._gateways:
            raise DirectoryError(UnavailableReason.UNREACHABLE, "this directory is not configured any more")
        return self._gateways[source]

    def _budget_seconds(self) -> float:
        return min((gateway.source.budget_seconds for gateway in self._gateways.values()), default=0.0)


def is_possible_login(login: str) -> bool:
    """Say whether a name can be anybody's: not empty, at most 256 characters, no control characters, real text."""
    if len(login) > LOGIN_MAX or not login.strip() or not all(c.isprintable() or c.isspace() for c in login):
        return False
    return login.isascii() or not any("\ud800" <= c <= "\udfff" for c in login)


def _search_login(gateway: Gateway, login: str, budget: Budget) -> list[Person]:
    source = gateway.source
    answer = gateway.search(
        source.base_dn,
        entries.build_user_filter(source.user_filter, login),
        entries.wanted_person_attributes(source),
        NAMESAKES_MAX,
        budget,
    )
    return [entries.build_person(source, entry, login) for entry in answer.entries]


def _read(gateway: Gateway, entry_uuid: str, budget: Budget) -> Person | None:
    source = gateway.source
    try:
        condition = entries.build_entry_filter(source, entry_uuid)
    except ValueError:
        return None
    answer = gateway.search(source.base_dn, condition, entries.wanted_person_attributes(source), 2, budget)
    if len(answer.entries) > 1:
        raise DirectoryError(UnavailableReason.NONSENSE, "two entries have the same immutable id")
    return entries.build_person(source, answer.entries[0]) if answer.entries else None


def _with_groups(gateway: Gateway, person: Person, budget: Budget) -> Person:
    """Add every group of which the person is a member through any number of groups.

    Level by level from the person upwards; a group is followed once, so a circle ends. We ask for `member`,
    not for memberOf: servers compute that late, partly or not at all.
    """
    source = gateway.source
    found: dict[str, Group] = {}
    level = [person.dn]
    while level:
        above: dict[str, Group] = {}
        for start in range(0, len(level), MEMBERS_AT_ONCE):
            answer = gateway.search(
                source.group_base,
                entries.build_member_filter(source, level[start : start + MEMBERS_AT_ONCE]),
                entries.wanted_group_attributes(source),
                source.groups_max + 1,
                budget,
            )
            for entry in answer.entries:
                group = entries.build_group(source, entry)
                if group.entry_uuid not in found:
                    above[group.entry_uuid] = group
            if len(found) + len(above) > source.groups_max:
                raise DirectoryError(
                    UnavailableReason.REFUSED, f"more than {source.groups_max} groups of one person"
                )
        found |= above
        level = [group.dn for group in above.values()]
    groups = sorted(found.values(), key=lambda group: (group.name, group.entry_uuid))
    return replace(person, groups=tuple(groups))


def _decoy_dn(source: Source) -> str:
    return source.decoy_dn or entries.build_impossible_dn(source.base_dn, secrets.token_hex(16))


# -- the installation's own -----------------------------------------------------------------------------------

_lock = threading.Lock()
_current: tuple[int, tuple[Source, ...], Directory] | None = None


def installed() -> Directory:
    """Return the directory of the settings, one in each process: connections must not cross a fork."""
    global _current
    sources = tuple(settings.DIRECTORY_SOURCES)
    with _lock:
        if _current is None or _current[0] != os.getpid() or _current[1] != sources:
            if _current is not None and _current[0] == os.getpid():
                _current[2].close()
            _current = (os.getpid(), sources, Directory(sources))
        return _current[2]


def find(
    login: str, *, with_groups: bool = True, budget: Budget | None = None
) -> Found | Unknown | Ambiguous | Unavailable:
    """Find a person by login name; see Directory.find."""
    return _placed(installed().find(login, with_groups=with_groups, budget=budget))


def verify(
    person: Person | None, password: str, *, budget: Budget | None = None
) -> Accepted | Rejected | Unavailable:
    """Try a password; see Directory.verify."""
    return _placed(installed().verify(person, password, budget=budget))


def read(
    source: str, entry_uuid: str, *, with_groups: bool = True, budget: Budget | None = None
) -> Found | Unknown | Unavailable:
    """Read a person by immutable id; see Directory.read."""
    return _placed(installed().read(source, entry_uuid, with_groups=with_groups, budget=budget))


def change_password(
    person: Person | None, old: str, new: str, *, budget: Budget | None = None
) -> Changed | NotTaken | Rejected | Unavailable:
    """Set a new password for who knows the old one; see Directory.change_password."""
    return installed().change_password(person, old, new, budget=budget)


def set_password(
    person: Person, new: str, *, budget: Budget | None = None
) -> Changed | NotTaken | Unavailable:
    """Set the password that its person chose; see Directory.set_password."""
    return installed().set_password(person, new, budget=budget)


def write(source: str, entry_uuid: str, values: Mapping[str, str]) -> Found | Unknown | Unavailable:
    """Write what the service owns of a person; see Directory.write."""
    return installed().write(source, entry_uuid, values)


def owned_by_the_service(source: str) -> frozenset[str]:
    """Return what of a person the service owns and writes back to a directory."""
    return frozenset(
        name for one in settings.DIRECTORY_SOURCES if one.name == source for name in one.write_back
    )


def can_set_passwords() -> bool:
    """Say whether some directory has an account that may set passwords."""
    return any(source.writer_dn for source in settings.DIRECTORY_SOURCES)


def reset_password(
    person: Person, new: str, *, budget: Budget | None = None
) -> Changed | NotTaken | Unavailable:
    """Set a password that must be changed at once; see Directory.reset_password."""
    return installed().reset_password(person, new, budget=budget)


Answer = TypeVar("Answer")


def _placed(answer: Answer) -> Answer:
    """Add the ids of the units above to whoever was found: rules about units outlive the names of units."""
    if isinstance(answer, Found | Accepted):
        return replace(answer, person=place(answer.person))
    return answer
