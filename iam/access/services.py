"""The writes of access. Called by `iam.lifecycle` only, which records and revokes in the same transaction."""

from collections.abc import Sequence
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Greatest

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


def begin_assignments(assignments: Sequence[Assignment]) -> None:
    """Write many assignments. Raises: IntegrityError when one overlaps another of its kind."""
    Assignment.objects.bulk_create(assignments, batch_size=1000)


def end_assignments(assignments: Sequence[Assignment], now: datetime) -> None:
    """End assignments that hold now, or before they begin."""
    ids = [row.pk for row in assignments]
    if ids:
        Assignment.objects.filter(in_force(now), pk__in=ids).update(
            valid_until=Greatest(F("valid_from"), now)
        )


def home(person: User, office: Office, source: str, now: datetime) -> Posting:
    """Return, unwritten, that an office is a person's home from now on."""
    return Posting(person=person, office=office, kind=Posting.Kind.HOME, valid_from=now, source=source)


def move_homes(ended: Sequence[int], begun: Sequence[Posting], now: datetime) -> None:
    """End homes by their keys, and write new ones."""
    if ended:
        Posting.objects.filter(pk__in=ended, valid_until=None).update(valid_until=now)
    Posting.objects.bulk_create(begun, batch_size=1000)
