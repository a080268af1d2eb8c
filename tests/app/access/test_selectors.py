"""What is in force at an instant."""

from datetime import timedelta

import pytest

from iam import sql
from iam.access import held, selectors
from iam.access.models import Application, Assignment, Posting
from iam.access.policy import NO_APPLICATION, Admits, OfficePolicy, SecondFactor
from iam.access.selectors import application_policy
from tests.organisation import DAY, NOW, application, office, role, state, user

pytestmark = pytest.mark.django_db


def effective_access(person_id, now):
    """Ask both ways: by one statement over everything, and by what a person holds in a remembered organisation."""
    found = selectors.effective_access(person_id, now)
    rows = sql.rows(held.HELD.format(person="%(person)s"), {"person": person_id, "now": now})
    assert held.access_of(rows, held.organisation(), now) == found
    return found


@pytest.fixture
def person():
    return user()


@pytest.fixture
def niamey():
    return office("NIM", office("GS"))


def hold(person, code, where, begin=-DAY, end=None, **fields):
    return Assignment.objects.create(
        person=person, role=role(code), office=where, valid_from=NOW + begin,
        valid_until=None if end is None else NOW + end, created_at=NOW, **fields,
    )  # fmt: skip


def roles_at(person, now=NOW):
    return [grant.role for grant in effective_access(person.pk, now).grants]


def test_effective_access_of_nobody_is_empty(person):
    access = effective_access(person.pk, NOW)

    assert (access.office, access.offices, access.grants) == (None, (), ())


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        pytest.param(timedelta(microseconds=1), None, id="not-yet"),
        pytest.param(-DAY, timedelta(0), id="ends-at-this-instant"),
        pytest.param(-DAY, -timedelta(microseconds=1), id="over"),
        pytest.param(DAY, DAY, id="revoked-before-it-began"),
    ],
)
def test_effective_access_outside_the_time_of_an_assignment_is_empty(person, niamey, begin, end):
    hold(person, "staff", niamey, begin, end)

    assert roles_at(person) == []


def test_effective_access_begins_at_the_very_instant(person, niamey):
    hold(person, "staff", niamey, timedelta(0), timedelta(microseconds=1))

    assert roles_at(person) == ["staff"]


def test_effective_access_is_of_this_person_only(person, niamey):
    hold(user("omar", "entry-omar"), "staff", niamey)

    assert roles_at(person) == []


@pytest.mark.parametrize("closed", ["closed", "planned"])
def test_effective_access_in_an_office_that_is_not_open_is_empty(person, niamey, closed):
    hold(person, "staff", niamey)
    state(niamey, "open", NOW - 3 * DAY)
    state(niamey, closed, NOW)

    assert roles_at(person) == []
    assert roles_at(person, NOW - timedelta(seconds=1)) == ["staff"]


@pytest.mark.parametrize("still", ["open", "limited", "evacuated"])
def test_effective_access_in_an_office_that_works_is_kept(person, niamey, still):
    hold(person, "staff", niamey)
    state(niamey, "closed", NOW - 3 * DAY)
    state(niamey, still, NOW - DAY)

    assert roles_at(person) == ["staff"]


def test_effective_access_in_an_office_without_a_recorded_state_is_kept(person, niamey):
    hold(person, "staff", niamey)

    assert roles_at(person) == ["staff"]


def test_grant_ends_with_the_known_closing_of_its_office(person, niamey):
    hold(person, "staff", niamey, end=9 * DAY)
    state(niamey, "closed", NOW + 2 * DAY)

    (grant,) = effective_access(person.pk, NOW).grants

    assert grant.valid_until == NOW + 2 * DAY


def test_grant_says_everything_that_decisions_need(person, niamey):
    application("mail")
    hold(person, "mail.reader", niamey, end=DAY, subtree=True)
    hold(person, "staff", niamey)
    person.assignments.get(role__code="staff").role.__class__.objects.filter(code="staff").update(
        is_staff=True, second_factor=True
    )

    mail, staff = effective_access(person.pk, NOW).grants

    assert (mail.role, mail.office, mail.subtree, mail.application) == ("mail.reader", "NIM", True, "mail")
    assert mail.valid_until == NOW + DAY
    assert (staff.application, staff.is_staff, staff.second_factor, staff.valid_until) == (
        None,
        True,
        True,
        None,
    )


def test_home_office_is_the_posting_in_force(person, niamey):
    geneva = office("GVA")
    Posting.objects.create(
        person=person, office=geneva, valid_from=NOW - 9 * DAY, valid_until=NOW - DAY, source="test"
    )
    Posting.objects.create(person=person, office=niamey, valid_from=NOW - DAY, source="test")

    access = effective_access(person.pk, NOW)

    assert (access.office, access.offices) == ("NIM", ("NIM", "GS"))
    assert effective_access(person.pk, NOW - 2 * DAY).office == "GVA"


def test_home_office_before_the_posting_is_none(person, niamey):
    Posting.objects.create(person=person, office=niamey, valid_from=NOW + DAY, source="test")

    assert effective_access(person.pk, NOW).office is None


def test_effective_access_says_what_each_office_above_says(person, niamey):
    child = office("NIM-LOG", niamey, second_factor="optional")
    Posting.objects.create(person=person, office=child, valid_from=NOW - DAY, source="test")

    access = effective_access(person.pk, NOW)

    assert access.chain == (
        OfficePolicy("NIM-LOG", SecondFactor.OPTIONAL),
        OfficePolicy("NIM", SecondFactor.INHERIT),
        OfficePolicy("GS", SecondFactor.INHERIT),
    )
    assert access.offices == ("NIM-LOG", "NIM", "GS")


def test_effective_access_in_a_circle_of_offices_ends(person, niamey):
    """The database cannot hold a circle away; a request must end nevertheless."""
    top = niamey.parent
    type(top).objects.filter(pk=top.pk).update(parent=niamey)
    Posting.objects.create(person=person, office=niamey, valid_from=NOW - DAY, source="test")

    assert len(effective_access(person.pk, NOW).chain) == 32


def test_application_policy_says_what_the_application_asks():
    mail = application("mail", admits="roles", second_factor=True, factor_max_age_seconds=300)
    mail.admitted_roles.add(role("mail.reader"), role("staff"))

    policy = application_policy("mail")

    assert (policy.code, policy.admits, policy.second_factor) == ("mail", Admits.ROLES, True)
    assert policy.admitted_roles == {"mail.reader", "staff"}
    assert policy.factor_max_age == timedelta(minutes=5)


def test_application_policy_of_no_application_is_the_organisations():
    assert application_policy(None) == NO_APPLICATION


def test_application_policy_of_an_unknown_application_is_an_error():
    """No policy, no token: never a pass."""
    with pytest.raises(Application.DoesNotExist):
        application_policy("nothing")


def test_policy_of_an_application_costs_one_statement(niamey, django_assert_num_queries):
    application("mail", admits="roles").admitted_roles.add(role("mail.reader"), role("staff"))

    with django_assert_num_queries(1):
        application_policy("mail")


def test_effective_access_costs_one_statement_however_much_is_held(person, niamey, django_assert_num_queries):
    Posting.objects.create(person=person, office=niamey, valid_from=NOW - DAY, source="test")
    for number in range(10):
        hold(person, f"role{number}", niamey)

    with django_assert_num_queries(1):
        selectors.effective_access(person.pk, NOW)
