"""Every change of rights: what it writes, what it ends, what it refuses."""

from datetime import timedelta

import pytest
from django.db import transaction

from iam.access.models import Assignment, Office, OfficeState
from iam.access.selectors import effective_access
from iam.accounts.models import User
from iam.audit.models import AuditDetail, AuditEvent
from iam.errors import Conflict, NotKnown
from iam.lifecycle import assign_role, change_office_state, place_office, revoke_role
from iam.oauth.models import Installation
from tests.organisation import DAY, NOW, application, office, role, user

pytestmark = pytest.mark.django_db


@pytest.fixture
def person():
    office("NIM", office("GS"))
    application("mail")
    role("staff")
    role("mail.reader")
    return user()


def give(person, code="staff", where="NIM", **changes):
    return assign_role(
        **{
            "actor": "operator:root",
            "person": person,
            "role_code": code,
            "office_code": where,
            "now": NOW,
            **changes,
        }
    )


def take(person, code="staff", where="NIM", **changes):
    return revoke_role(
        **{
            "actor": "operator:root",
            "person": person,
            "role_code": code,
            "office_code": where,
            "now": NOW,
            **changes,
        }
    )


def held(person, now=NOW):
    return [grant.role for grant in effective_access(person.pk, now).grants]


def generation(person):
    return User.objects.get(pk=person.pk).generation


def test_role_that_is_given_is_held_from_that_instant_and_ends_no_token(person):
    give(person, "mail.reader", subtree=True, reason="cover for Omar", valid_until=NOW + DAY)

    (grant,) = effective_access(person.pk, NOW).grants
    assert (grant.role, grant.office, grant.subtree, grant.valid_until) == (
        "mail.reader",
        "NIM",
        True,
        NOW + DAY,
    )
    assert generation(person) == 0
    event = AuditEvent.objects.get()
    assert (event.action, event.outcome, event.actor) == (
        "administrator:role:assign",
        "success",
        "operator:root",
    )
    assert (event.object, event.office, event.application) == (f"person:{person.sub}", "NIM", "mail")
    assert "mail.reader" in event.method
    assert AuditDetail.objects.get(event_id=event.id).details["reason"] == "cover for Omar"


@pytest.mark.parametrize(
    ("code", "where", "error"),
    [
        ("nothing", "NIM", "role_not_known"),
        ("staff", "XXX", "office_not_known"),
        ("Staff", "NIM", "role_not_known"),
        ("staff", "nim", "office_not_known"),
    ],
)
def test_role_or_office_that_does_not_exist_is_refused(person, code, where, error):
    with pytest.raises(NotKnown) as caught:
        give(person, code, where)

    assert caught.value.code == error
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize(
    "times",
    [{"valid_until": NOW}, {"valid_until": NOW - DAY}, {"valid_from": NOW + DAY, "valid_until": NOW + DAY}],
    ids=["now", "past", "empty"],
)
def test_role_for_no_time_is_refused(person, times):
    with pytest.raises(Conflict):
        give(person, **times)

    assert not Assignment.objects.exists()


def test_role_that_overlaps_is_refused_and_leaves_the_transaction_usable(person):
    give(person)

    with pytest.raises(Conflict):
        give(person, valid_from=NOW + DAY)

    assert Assignment.objects.count() == 1
    assert AuditEvent.objects.count() == 1


def test_role_that_is_taken_is_gone_at_that_instant_with_the_access_tokens(person):
    give(person)

    ended = take(person, now=NOW + DAY, reason="moved")

    assert [row.role.code for row in ended] == ["staff"]
    assert held(person, NOW + DAY) == []
    assert held(person, NOW) == ["staff"]
    assert generation(person) == 1
    assert AuditEvent.objects.filter(action="administrator:role:revoke").count() == 1


def test_role_that_is_taken_twice_is_taken_once(person):
    give(person)
    take(person, now=NOW + DAY)

    assert take(person, now=NOW + 2 * DAY) == []
    assert Assignment.objects.get().valid_until == NOW + DAY
    assert generation(person) == 1


def test_role_that_was_to_begin_never_begins_and_is_taken_once(person):
    give(person, valid_from=NOW + 5 * DAY)

    assert len(take(person)) == 1
    assert take(person) == []

    row = Assignment.objects.get()
    assert row.valid_until == row.valid_from
    assert held(person, NOW + 6 * DAY) == []


def test_role_from_every_source_is_taken(person):
    give(person)
    give(person, source="directory:hq")
    give(person, subtree=True)

    assert len(take(person)) == 3
    assert held(person) == []


def test_role_in_another_office_of_another_person_or_of_another_name_stays(person):
    other = user("omar", "entry-omar")
    give(person, where="GS")
    give(person, "mail.reader")
    give(other)

    assert take(person) == []
    assert held(person) == ["mail.reader", "staff"]
    assert held(other) == ["staff"]
    assert generation(person) == 0


def test_role_can_be_given_again_after_it_was_taken(person):
    give(person)
    take(person, now=NOW + DAY)

    give(person, now=NOW + DAY)

    assert held(person, NOW + DAY) == ["staff"]


def test_change_whose_transaction_is_undone_leaves_neither_right_nor_event(person):
    with transaction.atomic():
        give(person)
        transaction.set_rollback(True)

    assert not Assignment.objects.exists()
    assert not AuditEvent.objects.exists()


# -- offices ----------------------------------------------------------------------------------------------


def version():
    return Installation.objects.get(pk=1).version


def test_office_that_is_closed_ends_what_is_held_there(person):
    give(person)
    before = version()

    change_office_state(
        actor="operator:root", office_code="NIM", state=OfficeState.State.CLOSED, since=NOW, now=NOW
    )

    assert held(person) == []
    assert generation(person) == 1
    assert version() != before
    assert AuditEvent.objects.get(action="administrator:office:change").office == "NIM"


def test_office_that_will_close_bounds_what_is_held_there(person):
    give(person)

    change_office_state(
        actor="operator:root", office_code="NIM", state=OfficeState.State.CLOSED, since=NOW + DAY, now=NOW
    )

    assert effective_access(person.pk, NOW).grants[0].valid_until == NOW + DAY
    assert held(person, NOW + DAY) == []


def test_office_state_at_an_instant_that_is_taken_is_refused(person):
    change_office_state(
        actor="operator:root", office_code="NIM", state=OfficeState.State.OPEN, since=NOW, now=NOW
    )

    with pytest.raises(Conflict):
        change_office_state(
            actor="operator:root", office_code="NIM", state=OfficeState.State.CLOSED, since=NOW, now=NOW
        )


def test_office_moves_under_another_and_workers_hear_of_it(person):
    office("AFR", Office.objects.get(code="GS"))
    before = version()

    place_office(actor="operator:root", code="NIM", parent_code="AFR", now=NOW)

    assert Office.objects.get(code="NIM").parent.code == "AFR"
    assert version() != before
    assert AuditEvent.objects.get(action="administrator:office:change").method == "parent GS to AFR"


@pytest.mark.parametrize("below", ["GS", "NIM", "NIM-LOG"])
def test_office_below_itself_is_refused(person, below):
    office("NIM-LOG", Office.objects.get(code="NIM"))

    with pytest.raises(Conflict):
        place_office(actor="operator:root", code="GS", parent_code=below, now=NOW)

    assert Office.objects.get(code="GS").parent is None


def test_office_that_stays_where_it_is_writes_nothing(person):
    before = version()

    place_office(actor="operator:root", code="NIM", parent_code="GS", now=NOW)

    assert version() == before
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize(("code", "parent"), [("XXX", "GS"), ("NIM", "XXX")])
def test_office_or_parent_that_does_not_exist_is_refused(person, code, parent):
    with pytest.raises(NotKnown, match="XXX"):
        place_office(actor="operator:root", code=code, parent_code=parent, now=NOW + timedelta(0))
