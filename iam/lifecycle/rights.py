"""Who holds which role where: given and taken, with audit and revocation in the same transaction."""

from datetime import datetime

from django.db import transaction
from django.db.models import F

from iam.access import services as access
from iam.access.models import Assignment, Office, Role
from iam.accounts.models import User
from iam.audit.facts import NO_REQUEST, RequestFacts
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action
from iam.errors import Conflict, NotKnown


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
    record_right(Action.ROLE_ASSIGN, actor, person, assignment, reason, facts, now)
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
        record_right(Action.ROLE_REVOKE, actor, person, row, reason, facts, now)
    if ended:
        end_access_tokens(person)
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


def end_access_tokens(person: User) -> None:
    """Raise the counter that access tokens carry: those made before express what is no more."""
    User.objects.filter(pk=person.pk).update(generation=F("generation") + 1)


def record_right(
    action: Action,
    actor: str,
    person: User,
    assignment: Assignment,
    reason: str,
    facts: RequestFacts,
    now: datetime,
) -> None:
    """Write the event of a right that began or ended."""
    record(right_event(action, actor, person, assignment, reason, facts, now))


def right_event(
    action: Action,
    actor: str,
    person: User,
    assignment: Assignment,
    reason: str,
    facts: RequestFacts,
    now: datetime,
) -> Event:
    """Return the event of a right that began or ended."""
    role = assignment.role
    details = {"reason": reason, "address": facts.address, "until": str(assignment.valid_until or "")}
    return Event(
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
