"""Offices: where they stand in the tree, and from when on they are in which state."""

from datetime import datetime

from django.db import transaction
from django.db.models import F

from iam.access import services as access
from iam.access.models import Assignment, Office, OfficeState
from iam.accounts.models import User
from iam.audit.facts import NO_REQUEST, RequestFacts
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action
from iam.errors import Conflict, NotKnown
from iam.oauth.versions import touch

from .rights import office_by_code


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
