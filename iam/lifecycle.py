"""Joiner, mover, leaver: the only door through which a person's rights change.

Every function is one transaction: the change, its audit event, and whatever it revokes. A right that
shrinks raises the person's counter, so that the access tokens that express it end with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import F

from directory.service import AccountStatus, Person
from iam.access import services as access
from iam.access.models import Assignment, GroupMapping, Office, OfficeMapping, OfficeState, Role
from iam.accounts import services as accounts
from iam.accounts.models import DirectoryLink, User
from iam.audit.facts import NO_REQUEST, RequestFacts
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action
from iam.errors import Conflict, NotKnown
from iam.oauth.versions import touch


def directory_source(name: str) -> str:
    """Return what `source` of an assignment says when a directory's group gave it."""
    return f"directory:{name}"


# -- rights -------------------------------------------------------------------------------------------------


@transaction.atomic
def assign_role(
    *,
    actor: str,
    person: User,
    role_code: str,
    office_code: str,
    now: datetime,
    subtree: bool = False,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
    source: str = "manual",
    reason: str = "",
    facts: RequestFacts = NO_REQUEST,
) -> Assignment:
    """Give a person a role in an office. The next token carries it.

    Raises: NotKnown for a role or office, Conflict for an overlap or an end that is not after the beginning.
    """
    role, office = role_by_code(role_code), office_by_code(office_code)
    begins = valid_from or now
    if valid_until is not None and valid_until <= begins:
        raise Conflict("The end is not after the beginning.", code="ends_before_it_begins")
    assignment = access.begin_assignment(
        person,
        role,
        office,
        subtree=subtree,
        valid_from=begins,
        valid_until=valid_until,
        source=source,
        reason=reason,
        now=now,
    )
    _record_right(Action.ROLE_ASSIGN, actor, person, assignment, reason, facts, now)
    return assignment


@transaction.atomic
def revoke_role(
    *,
    actor: str,
    person: User,
    role_code: str,
    office_code: str,
    now: datetime,
    source: str | None = None,
    reason: str = "",
    facts: RequestFacts = NO_REQUEST,
) -> list[Assignment]:
    """End every assignment of a role in an office that holds or will hold; return those ended.

    `source` limits it to one source. Raises: NotKnown for a role or office.
    """
    role, office = role_by_code(role_code), office_by_code(office_code)
    rows = Assignment.objects.select_related("role", "office").filter(person=person, role=role, office=office)
    if source is not None:
        rows = rows.filter(source=source)
    ended = [row for row in rows.filter(access.in_force(now)) if access.end_assignment(row, now)]
    for row in ended:
        _record_right(Action.ROLE_REVOKE, actor, person, row, reason, facts, now)
    if ended:
        _end_access_tokens(person)
    return ended


def role_by_code(code: str) -> Role:
    """Return a role. Raises: NotKnown."""
    role = Role.objects.filter(code=code).first()
    if role is None:
        raise NotKnown(f"There is no role {code!r}.", code="role_not_known")
    return role


def office_by_code(code: str) -> Office:
    """Return an office. Raises: NotKnown."""
    office = Office.objects.filter(code=code).first()
    if office is None:
        raise NotKnown(f"There is no office {code!r}.", code="office_not_known")
    return office


def _end_access_tokens(person: User) -> None:
    User.objects.filter(pk=person.pk).update(generation=F("generation") + 1)


def _record_right(
    action: Action,
    actor: str,
    person: User,
    assignment: Assignment,
    reason: str,
    facts: RequestFacts,
    now: datetime,
) -> None:
    role = assignment.role
    details = {"reason": reason, "address": facts.address, "until": str(assignment.valid_until or "")}
    record(
        Event(
            action,
            Outcome.SUCCESS,
            actor=actor,
            now=now,
            object=f"person:{person.sub}",
            method=f"{role.code}{' with subtree' if assignment.subtree else ''}",
            reason=assignment.source,
            application=role.application.code if role.application else "",
            office=assignment.office.code,
            request_id=facts.request_id,
            details={name: value for name, value in details.items() if value},
        )
    )


# -- the organisation ---------------------------------------------------------------------------------------


@transaction.atomic
def place_office(
    *, actor: str, code: str, parent_code: str | None, now: datetime, facts: RequestFacts = NO_REQUEST
) -> Office:
    """Put an office under another one, or at the top. Workers read offices again; rights follow the tree at once.

    Raises: NotKnown, Conflict when the office would stand below itself.
    """
    # All of them, in one order: two moves at once could otherwise close a circle that neither sees.
    offices = {office.code: office for office in Office.objects.select_for_update().order_by("pk")}
    if code not in offices or (parent_code is not None and parent_code not in offices):
        raise NotKnown(
            f"There is no office {code if code not in offices else parent_code!r}.", code="office_not_known"
        )
    office = offices[code]
    parent = offices[parent_code] if parent_code is not None else None
    by_id = {one.pk: one for one in offices.values()}
    above = parent
    while above is not None:
        if above.pk == office.pk:
            raise Conflict(
                f"{code} cannot stand below {parent_code}, which stands below it.", code="office_circle"
            )
        above = by_id[above.parent_id] if above.parent_id else None
    if office.parent_id == (parent.pk if parent else None):
        return office
    before = by_id[office.parent_id].code if office.parent_id else "top"
    office.parent = parent
    office.save(update_fields=["parent"])
    touch()
    record(
        Event(
            Action.OFFICE_CHANGE,
            Outcome.SUCCESS,
            actor=actor,
            now=now,
            object=f"office:{code}",
            office=code,
            method=f"parent {before} to {parent_code or 'top'}",
            request_id=facts.request_id,
        )
    )
    return office


@transaction.atomic
def change_office_state(
    *,
    actor: str,
    office_code: str,
    state: OfficeState.State,
    since: datetime,
    now: datetime,
    reason: str = "",
    facts: RequestFacts = NO_REQUEST,
) -> OfficeState:
    """Say from when on an office is in a state. Rights in a closed one express nothing, from that instant on.

    Raises: NotKnown, Conflict when a state begins at that very instant already.
    """
    office = office_by_code(office_code)
    if OfficeState.objects.filter(office=office, since=since).exists():
        raise Conflict(f"{office_code} already changes its state at that instant.", code="office_state_taken")
    row = OfficeState.objects.create(office=office, state=state, since=since, reason=reason)
    touch()
    if state == OfficeState.State.CLOSED and since <= now:
        holders = Assignment.objects.filter(access.in_force(now), office=office).values("person")
        User.objects.filter(pk__in=holders).update(generation=F("generation") + 1)
    record(
        Event(
            Action.OFFICE_CHANGE,
            Outcome.SUCCESS,
            actor=actor,
            now=now,
            object=f"office:{office_code}",
            office=office_code,
            method=f"{state} since {since.isoformat()}",
            request_id=facts.request_id,
            details={"reason": reason} if reason else {},
        )
    )
    return row


# -- people ---------------------------------------------------------------------------------------------------


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
        _deactivate(user, "disabled_in_directory", actor, now, facts)
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
            _end_access_tokens(user)
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
        _deactivate(holder.user, "entry_replaced", actor, now, facts)


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
            _record_right(Action.ROLE_REVOKE, actor, user, row, "", facts, now)
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
        _record_right(Action.ROLE_ASSIGN, actor, user, assignment, "", facts, now)
    if shrunk:
        _end_access_tokens(user)


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
    _deactivate(link.user, "disabled_in_directory", f"system:{source}", now, facts)
    link.user.refresh_from_db()
    return link.user


@transaction.atomic
def deactivate(
    user: User, *, reason: str, actor: str, now: datetime, facts: RequestFacts = NO_REQUEST
) -> None:
    """End a person's access at once: no sign-in, no session, no token. Idempotent."""
    _deactivate(user, reason, actor, now, facts)


def _deactivate(user: User, reason: str, actor: str, now: datetime, facts: RequestFacts) -> None:
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
