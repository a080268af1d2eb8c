"""What the database itself refuses, on both databases, each by its name."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from iam.access.models import Assignment, GroupMapping, Office, OfficeMapping, Posting, Role
from tests.organisation import DAY, NAMES, NOW, application, office, role, state, user

pytestmark = pytest.mark.django_db


@pytest.fixture
def held():
    """One assignment for tomorrow and the day after."""
    person, where = user(), office("NIM")
    return Assignment.objects.create(
        person=person,
        role=role("staff"),
        office=where,
        valid_from=NOW,
        valid_until=NOW + 2 * DAY,
        created_at=NOW,
    )


def again(held: Assignment, begin: timedelta, end: timedelta | None, **changes: object) -> Assignment:
    fields = {
        "person": held.person, "role": held.role, "office": held.office, "subtree": held.subtree,
        "source": held.source, "valid_from": NOW + begin, "valid_until": None if end is None else NOW + end,
        "created_at": NOW, **changes,
    }  # fmt: skip
    return Assignment.objects.create(**fields)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        pytest.param(0 * DAY, 2 * DAY, id="the-same"),
        pytest.param(1 * DAY, 3 * DAY, id="end-overlaps"),
        pytest.param(-1 * DAY, 1 * DAY, id="beginning-overlaps"),
        pytest.param(-1 * DAY, 3 * DAY, id="around"),
        pytest.param(DAY / 2, DAY, id="inside"),
        pytest.param(-1 * DAY, None, id="open-end"),
        pytest.param(2 * DAY - timedelta(microseconds=1), None, id="one-microsecond"),
    ],
)
def test_assignment_that_overlaps_is_refused(held, begin, end):
    with pytest.raises(IntegrityError, match="assignment_no_overlap"), transaction.atomic():
        again(held, begin, end)


def test_assignment_that_overlaps_an_open_one_is_refused(held):
    Assignment.objects.filter(pk=held.pk).update(valid_until=None)

    with pytest.raises(IntegrityError, match="assignment_no_overlap"), transaction.atomic():
        again(held, 100 * DAY, 101 * DAY)


def test_assignment_moved_onto_another_is_refused(held):
    later = again(held, 3 * DAY, 4 * DAY)

    with pytest.raises(IntegrityError, match="assignment_no_overlap"), transaction.atomic():
        Assignment.objects.filter(pk=later.pk).update(valid_from=NOW + DAY)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        pytest.param(2 * DAY, None, id="begins-as-it-ends"),
        pytest.param(-1 * DAY, 0 * DAY, id="ends-as-it-begins"),
        pytest.param(DAY, DAY, id="empty-overlaps-nothing"),
    ],
)
def test_assignment_beside_another_is_kept(held, begin, end):
    again(held, begin, end)

    assert Assignment.objects.count() == 2


def test_assignment_over_an_empty_one_is_kept(held):
    Assignment.objects.filter(pk=held.pk).update(valid_until=NOW)

    again(held, -1 * DAY, None)

    assert Assignment.objects.count() == 2


def test_assignment_of_another_kind_at_the_same_time_is_kept(held):
    again(held, 0 * DAY, None, subtree=True)
    again(held, 0 * DAY, None, source="directory:hq")
    again(held, 0 * DAY, None, role=role("guest"))
    again(held, 0 * DAY, None, office=office("GVA"))
    again(held, 0 * DAY, None, person=user("omar", "entry-omar"))

    assert Assignment.objects.count() == 6


def test_assignment_changed_in_itself_is_kept(held):
    Assignment.objects.filter(pk=held.pk).update(valid_until=NOW + 9 * DAY, reason="longer")

    held.refresh_from_db()
    assert held.valid_until == NOW + 9 * DAY


def refused(name: str):
    """SQLite names a unique constraint's columns, not the constraint."""
    return pytest.raises(
        IntegrityError, match=name if connection.vendor == "postgresql" else f"{name}|UNIQUE"
    )


def test_assignment_that_ends_before_it_begins_is_refused(held):
    with pytest.raises(IntegrityError, match="assignment_ends_after"), transaction.atomic():
        again(held, 20 * DAY, 19 * DAY)


def test_posting_second_home_is_refused(held):
    Posting.objects.create(person=held.person, office=held.office, valid_from=NOW, source="test")

    with refused("posting_one_home"), transaction.atomic():
        Posting.objects.create(person=held.person, office=office("GVA"), valid_from=NOW, source="test")


def test_office_state_twice_at_an_instant_is_refused(held):
    state(held.office, "open", NOW)

    with refused("office_state_once"), transaction.atomic():
        state(held.office, "closed", NOW)


def test_office_that_is_its_own_parent_is_refused(held):
    with pytest.raises(IntegrityError, match="office_not_own_parent"), transaction.atomic():
        Office.objects.filter(pk=held.office_id).update(parent_id=held.office_id)


@pytest.mark.parametrize(("code", "owner"), [("mail.reader", None), ("reader", "mail")])
def test_role_whose_code_does_not_say_whose_it_is_is_refused(code, owner):
    whose = application("mail")

    with pytest.raises(IntegrityError, match="role_code_says_whose"), transaction.atomic():
        Role.objects.create(code=code, application=whose if owner else None, **NAMES)


def test_group_mapping_twice_is_refused(held):
    GroupMapping.objects.create(source="hq", group="clerks", role=held.role, office=held.office)

    with refused("group_mapping_once"), transaction.atomic():
        GroupMapping.objects.create(source="hq", group="clerks", role=held.role, office=held.office)


def test_group_mapping_to_the_home_office_twice_is_refused(held):
    GroupMapping.objects.create(source="hq", group="clerks", role=held.role)

    with refused("group_mapping_home_once"), transaction.atomic():
        GroupMapping.objects.create(source="hq", group="clerks", role=held.role)


def test_office_mapping_twice_is_refused(held):
    OfficeMapping.objects.create(source="hq", ou="NIM", office=held.office)

    with refused("office_mapping_once"), transaction.atomic():
        OfficeMapping.objects.create(source="hq", ou="NIM", office=held.office)


@pytest.mark.parametrize(
    "keys",
    [{"attribute": "employeeType"}, {"unit_id": "u"}, {"ou": "NIM", "attribute_value": "NIM"}],
    ids=["attribute-without-value", "id-without-name", "two-keys"],
)
def test_office_mapping_without_at_most_one_whole_key_is_refused(held, keys):
    with pytest.raises(IntegrityError, match="office_mapping_one_key"), transaction.atomic():
        OfficeMapping.objects.create(source="hq", office=held.office, **keys)


def test_second_default_of_a_directory_is_refused(held):
    OfficeMapping.objects.create(source="hq", office=held.office)

    with refused("office_mapping_once"), transaction.atomic():
        OfficeMapping.objects.create(source="hq", office=held.office)


@pytest.mark.parametrize(
    "code", ["", "a", "nim", "N", "NIM ", "NIM\n", "N\u0130M", "\u039dIM", "NI\u200bM", "-NIM", "N" * 17]
)
def test_office_code_that_could_look_like_another_is_invalid(code):
    with pytest.raises(ValidationError):
        Office(code=code, kind="political", **NAMES).full_clean()


@pytest.mark.parametrize(
    "code",
    [
        "",
        "Staff",
        "mail.",
        ".reader",
        "mail..reader",
        "mail.reader ",
        "mail.\u0440eader",
        "mail.re\u200dader",
        "a.b.c",
    ],
)
def test_role_code_that_could_look_like_another_is_invalid(code):
    """A58: look-alikes, case, marks without width."""
    with pytest.raises(ValidationError):
        Role(code=code, **NAMES).clean_fields()
