"""The writes of access. Called by `iam.lifecycle` only, which records and revokes in the same transaction."""

from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import F, Q

from iam.accounts.models import User
from iam.errors import Conflict

from .models import Assignment, Office, Posting, Role


def in_force(now: datetime) -> Q:
    """Return the condition "holds now or will hold"; one that was revoked before it began is neither."""
    return Q(valid_until=None) | (Q(valid_until__gt=now) & Q(valid_until__gt=F("valid_from")))


def begin_assignment(
    person: User,
    role: Role,
    office: Office,
    *,
    subtree: bool,
    valid_from: datetime,
    valid_until: datetime | None,
    source: str,
    reason: str,
    now: datetime,
) -> Assignment:
    """Write an assignment.

    Raises: Conflict when one of the same (person, role, office, subtree, source) overlaps: the database says so.
    """
    try:
        with transaction.atomic():
            return Assignment.objects.create(
                person=person,
                role=role,
                office=office,
                subtree=subtree,
                valid_from=valid_from,
                valid_until=valid_until,
                source=source,
                reason=reason,
                created_at=now,
            )
    except IntegrityError as problem:
        if "assignment_no_overlap" not in str(problem):
            raise
        raise Conflict("An assignment of the same role there already covers part of that time.") from problem


def end_assignment(assignment: Assignment, now: datetime) -> bool:
    """End an assignment now, or before it begins; once. False when somebody ended it before."""
    end = max(now, assignment.valid_from)
    return bool(Assignment.objects.filter(pk=assignment.pk).filter(in_force(now)).update(valid_until=end))


def move_home(
    person: User, office: Office | None, source: str, now: datetime
) -> tuple[str | None, str | None] | None:
    """Make an office the person's home from now on; return (before, after), None when nothing changes."""
    current = (
        Posting.objects.select_related("office")
        .filter(person=person, kind=Posting.Kind.HOME, valid_until=None)
        .first()
    )
    before = current.office.code if current else None
    after = office.code if office else None
    if before == after:
        return None
    if current is not None:
        Posting.objects.filter(pk=current.pk, valid_until=None).update(valid_until=now)
    if office is not None:
        Posting.objects.create(
            person=person, office=office, kind=Posting.Kind.HOME, valid_from=now, source=source
        )
    return before, after
