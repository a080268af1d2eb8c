"""What is held, read from the database: validity is a condition of the query, never a job that may be late."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import OuterRef, Q, Subquery

from .models import Application, Assignment, OfficeState, Posting
from .policy import (
    NO_APPLICATION,
    Admits,
    ApplicationPolicy,
    EffectiveAccess,
    Grant,
    OfficePolicy,
    SecondFactor,
)

# Deeper trees than this are a mistake in the data (a cycle), not an organisation.
OFFICE_DEPTH_MAX = 32
# In these states an office has no rights to express; one that is evacuated still works, from elsewhere.
_WITHOUT_RIGHTS = (OfficeState.State.CLOSED, OfficeState.State.PLANNED)
# One statement however deep the tree is: this is asked at every token.
_CHAIN = """
    WITH RECURSIVE chain (code, second_factor, parent_id, depth) AS (
        SELECT code, second_factor, parent_id, 1 FROM access_office WHERE code = %s
        UNION ALL
        SELECT above.code, above.second_factor, above.parent_id, chain.depth + 1
        FROM access_office above JOIN chain ON above.id = chain.parent_id WHERE chain.depth < %s
    )
    SELECT code, second_factor FROM chain ORDER BY depth
"""


def effective_access(person_id: UUID, now: datetime) -> EffectiveAccess:
    """Return what a person holds at an instant: home office, those above it, and every grant in force.

    An assignment in an office that is closed, or not open yet, expresses nothing; one in an office whose
    closing is known ends with it.
    """
    home = home_office(person_id, now)
    rows = (
        Assignment.objects.filter(person_id=person_id, valid_from__lte=now)
        .filter(Q(valid_until=None) | Q(valid_until__gt=now))
        .annotate(state=_state_at(now), closes_at=_next_closing(now))
        .filter(Q(state=None) | ~Q(state__in=_WITHOUT_RIGHTS))
        .select_related("role", "role__application", "office")
    )
    grants = [
        Grant(
            role=row.role.code,
            office=row.office.code,
            subtree=row.subtree,
            application=row.role.application.code if row.role.application else None,
            valid_until=min(
                (end for end in (row.valid_until, row.closes_at) if end is not None), default=None
            ),
            is_staff=row.role.is_staff,
            second_factor=row.role.second_factor,
        )
        for row in rows
    ]
    offices = tuple(policy.code for policy in office_chain(home))
    ordered = sorted(grants, key=lambda grant: (grant.role, grant.office, grant.subtree))
    return EffectiveAccess(home, offices, tuple(ordered))


def _state_at(now: datetime) -> Subquery:
    states = OfficeState.objects.filter(office=OuterRef("office"), since__lte=now)
    return Subquery(states.order_by("-since").values("state")[:1])


def _next_closing(now: datetime) -> Subquery:
    states = OfficeState.objects.filter(office=OuterRef("office"), since__gt=now, state__in=_WITHOUT_RIGHTS)
    return Subquery(states.order_by("since").values("since")[:1])


def home_office(person_id: UUID, now: datetime) -> str | None:
    """Return the code of the office where a person works, None when the directory named none that we know."""
    posting = (
        Posting.objects.filter(person_id=person_id, kind=Posting.Kind.HOME, valid_from__lte=now)
        .filter(Q(valid_until=None) | Q(valid_until__gt=now))
        .select_related("office")
        .order_by("-valid_from")
        .first()
    )
    return posting.office.code if posting else None


def office_chain(code: str | None) -> tuple[OfficePolicy, ...]:
    """Return an office and those above it, nearest first; empty for None."""
    if code is None:
        return ()
    with connection.cursor() as cursor:
        cursor.execute(_CHAIN, [code, OFFICE_DEPTH_MAX])
        return tuple(OfficePolicy(above, SecondFactor(said)) for above, said in cursor.fetchall())


def application_policy(code: str | None) -> ApplicationPolicy:
    """Return what an application asks; a client of no application asks for what the organisation asks."""
    if code is None:
        return NO_APPLICATION
    application = Application.objects.get(code=code)
    age = application.factor_max_age_seconds
    return ApplicationPolicy(
        code=application.code,
        admits=Admits(application.admits),
        admitted_roles=frozenset(application.admitted_roles.values_list("code", flat=True)),
        second_factor=application.second_factor,
        factor_max_age=timedelta(seconds=age) if age is not None else None,
    )


def applications(codes: Sequence[str] | None = None) -> list[Application]:
    """Return applications by code, all when none is named."""
    rows = Application.objects.order_by("code")
    return list(rows if codes is None else rows.filter(code__in=codes))
