"""Joiner, mover, leaver, as the directory says: accounts, homes and roles follow its entries."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, transaction

from directory.service import AccountStatus, Person
from iam.access import services as access
from iam.access.models import Assignment, GroupMapping, Office, OfficeMapping, Role
from iam.accounts.models import DirectoryLink, User
from iam.audit.facts import NO_REQUEST, RequestFacts
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action

from .people import close_account
from .rights import end_access_tokens, record_right


def directory_source(name: str) -> str:
    """Return what `source` of an assignment says when a directory's group gave it."""
    return f"directory:{name}"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A right that the directory's groups give."""

    role_id: int
    office_id: int
    subtree: bool


@transaction.atomic
def admit_from_directory(person: Person, now: datetime, facts: RequestFacts = NO_REQUEST) -> User:
    """Make the account of a directory entry what the directory says now: names, office, roles.

    Joined by (source, entry id) and nothing else. A login name that another entry had is released from it
    first: the new holder is another person and inherits nothing. Somebody whom the directory does not let act
    has an account, but a disabled one. Writes nothing but the time of the look when nothing changed. Idempotent.
    """
    source = directory_source(person.source)
    actor = f"system:{source}"
    user = _linked_user(person, actor, now, facts)
    if person.status is not AccountStatus.ACTIVE:
        close_account(user, "disabled_in_directory", actor, now, facts)
        user.refresh_from_db()
        return user
    _describe(user, person, actor, now, facts)
    office = home_office_of(person)
    moved = access.move_home(user, office, source, now)
    if moved is not None:
        record(
            Event(
                Action.POSTING_CHANGE,
                Outcome.SUCCESS,
                actor=actor,
                now=now,
                object=f"person:{user.sub}",
                office=moved[1] or "",
                method=f"{moved[0] or 'none'} to {moved[1] or 'none'}",
                request_id=facts.request_id,
            )
        )
        if moved[0] is not None:
            end_access_tokens(user)
    if office is None and (moved is not None or user.created_at == now):
        record(
            Event(
                Action.OFFICE_MISSING,
                Outcome.ERROR,
                actor=actor,
                now=now,
                object=f"person:{user.sub}",
                reason="no_mapping",
                request_id=facts.request_id,
            )
        )
    _reconcile_roles(user, person, office, source, actor, now, facts)
    user.refresh_from_db()
    return user


def _linked_user(person: Person, actor: str, now: datetime, facts: RequestFacts) -> User:
    link = (
        DirectoryLink.objects.select_for_update(of=("self",))
        .select_related("user")
        .filter(source=person.source, entry_uuid=person.entry_uuid)
        .first()
    )
    if link is None or link.login != person.login or not link.active:
        _release_login(person, actor, now, facts)
    if link is not None:
        if (link.login, link.dn, link.active) != (person.login, person.dn, True):
            link.login, link.dn, link.active = person.login, person.dn, True
        link.checked_at = now
        link.save()
        return link.user
    try:
        with transaction.atomic():
            user = _create_linked_user(person, now)
    except IntegrityError:
        # A parallel first sign-in of the same entry was faster; its account is the account.
        return (
            DirectoryLink.objects.select_related("user")
            .get(source=person.source, entry_uuid=person.entry_uuid)
            .user
        )
    record(
        Event(
            Action.PERSON_CREATE,
            Outcome.SUCCESS,
            actor=actor,
            now=now,
            object=f"person:{user.sub}",
            request_id=facts.request_id,
            details={"login": person.login, "name": person.name_latin or person.name_arabic},
        )
    )
    return user


def _create_linked_user(person: Person, now: datetime) -> User:
    user = User.objects.create(created_at=now)
    DirectoryLink.objects.create(
        user=user,
        source=person.source,
        entry_uuid=person.entry_uuid,
        login=person.login,
        dn=person.dn,
        created_at=now,
        checked_at=now,
    )
    return user


def _release_login(person: Person, actor: str, now: datetime, facts: RequestFacts) -> None:
    """Take the name from whoever had it: names are given again, identities are not (A25)."""
    holders = DirectoryLink.objects.select_related("user").filter(
        source=person.source, login=person.login, active=True
    )
    for holder in holders.exclude(entry_uuid=person.entry_uuid):
        DirectoryLink.objects.filter(pk=holder.pk).update(active=False)
        record(
            Event(
                Action.LOGIN_RELEASE,
                Outcome.SUCCESS,
                actor=actor,
                now=now,
                object=f"person:{holder.user.sub}",
                reason="name_given_to_another_entry",
                request_id=facts.request_id,
                details={"login": person.login},
            )
        )
        close_account(holder.user, "entry_replaced", actor, now, facts)


def _describe(user: User, person: Person, actor: str, now: datetime, facts: RequestFacts) -> None:
    said = {
        "name_latin": person.name_latin,
        "name_arabic": person.name_arabic,
        "email": person.email,
        "language": person.language or user.language,
    }
    changed = [name for name, value in said.items() if getattr(user, name) != value]
    if changed:
        for name in changed:
            setattr(user, name, said[name])
        user.save(update_fields=changed)
        if user.created_at != now:
            record(
                Event(
                    Action.PERSON_CHANGE,
                    Outcome.SUCCESS,
                    actor=actor,
                    now=now,
                    object=f"person:{user.sub}",
                    method=", ".join(changed),
                    request_id=facts.request_id,
                )
            )
    if not user.is_active:
        User.objects.filter(pk=user.pk).update(is_active=True)
        record(
            Event(
                Action.PERSON_REACTIVATE,
                Outcome.SUCCESS,
                actor=actor,
                now=now,
                object=f"person:{user.sub}",
                reason="active_in_directory",
                request_id=facts.request_id,
            )
        )


def home_office_of(person: Person) -> Office | None:
    """Return the office that an entry stands for: its nearest mapped OU, else its office attribute, else none."""
    mappings = OfficeMapping.objects.select_related("office").filter(source=person.source)
    by_ou = {row.ou.casefold(): row.office for row in mappings if row.ou}
    for ou in person.ou_path:
        if ou.casefold() in by_ou:
            return by_ou[ou.casefold()]
    by_value = {row.attribute_value.casefold(): row.office for row in mappings if row.attribute_value}
    return by_value.get(person.office_attribute.casefold()) if person.office_attribute else None


def _reconcile_roles(
    user: User,
    person: Person,
    office: Office | None,
    source: str,
    actor: str,
    now: datetime,
    facts: RequestFacts,
) -> None:
    """Begin what the groups newly give, end what they no longer give; touch nothing of another source."""
    wanted = _wanted(person, office)
    held = list(
        Assignment.objects.select_related("role", "role__application", "office")
        .filter(person=user, source=source)
        .filter(access.in_force(now))
    )
    shrunk = False
    for row in held:
        key = _Wanted(row.role_id, row.office_id, row.subtree)
        if key in wanted:
            wanted.discard(key)
        elif access.end_assignment(row, now):
            record_right(Action.ROLE_REVOKE, actor, user, row, "", facts, now)
            shrunk = True
    roles = Role.objects.select_related("application").in_bulk([key.role_id for key in wanted])
    offices = Office.objects.in_bulk([key.office_id for key in wanted])
    for key in sorted(wanted, key=lambda one: (one.role_id, one.office_id, one.subtree)):
        assignment = access.begin_assignment(
            user,
            roles[key.role_id],
            offices[key.office_id],
            subtree=key.subtree,
            valid_from=now,
            valid_until=None,
            source=source,
            reason="",
            now=now,
        )
        record_right(Action.ROLE_ASSIGN, actor, user, assignment, "", facts, now)
    if shrunk:
        end_access_tokens(user)


def _wanted(person: Person, office: Office | None) -> set[_Wanted]:
    groups = _group_names(person)
    wanted = set()
    for mapping in GroupMapping.objects.filter(source=person.source):
        if mapping.group.casefold() not in groups:
            continue
        office_id = mapping.office_id or (office.pk if office else None)
        if office_id is not None:
            wanted.add(_Wanted(mapping.role_id, office_id, mapping.subtree))
    return wanted


def _group_names(person: Person) -> frozenset[str]:
    """Return the names and DNs by which a mapping may mean the entry's groups."""
    names: Iterable[str] = (
        text for group in person.groups for text in (group.name, group.dn, group.entry_uuid)
    )
    return frozenset(name.casefold() for name in names if name)


@transaction.atomic
def refuse_disabled(person: Person, now: datetime, facts: RequestFacts = NO_REQUEST) -> User | None:
    """Disable the account of an entry that the directory no longer lets act; return it, None when there is none."""
    link = (
        DirectoryLink.objects.select_related("user")
        .filter(source=person.source, entry_uuid=person.entry_uuid)
        .first()
    )
    if link is None:
        return None
    source = directory_source(person.source)
    close_account(link.user, "disabled_in_directory", f"system:{source}", now, facts)
    link.user.refresh_from_db()
    return link.user
