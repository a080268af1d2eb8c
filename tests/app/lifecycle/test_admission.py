"""Joiner, mover, leaver: what the directory says becomes an account, and nothing more than it says."""

from datetime import timedelta

import pytest

from directory.service import AccountStatus, Standing
from iam.access.models import Assignment, GroupMapping, OfficeMapping, Posting
from iam.access.selectors import effective_access
from iam.accounts.models import DirectoryLink, LoginSession, User
from iam.accounts.services import open_session
from iam.audit.facts import RequestFacts
from iam.audit.models import AuditEvent
from iam.lifecycle import admit_from_directory, deactivate, refuse_disabled
from tests.organisation import NOW, application, entry, office, role

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(hours=1)


@pytest.fixture
def house():
    """Offices and roles, with the mappings of directory `hq`."""
    top = office("GS")
    for code in ("NIM", "GVA"):
        OfficeMapping.objects.create(source="hq", ou=code, office=office(code, top))
    OfficeMapping.objects.create(source="hq", attribute_value="GVA-1", office=top.children.get(code="GVA"))
    application("mail")
    GroupMapping.objects.create(source="hq", group="staff", role=role("staff"))
    GroupMapping.objects.create(
        source="hq", group="clerks", role=role("mail.clerk"), office=top, subtree=True
    )
    return {one.code: one for one in (top, *top.children.all())}


def actions(since=0):
    rows = AuditEvent.objects.order_by("sequence").values_list("action", flat=True)
    return list(rows)[since:]


def roles_of(user, now=LATER):
    return [(grant.role, grant.office, grant.subtree) for grant in effective_access(user.pk, now).grants]


# -- joiner -----------------------------------------------------------------------------------------------


def test_first_sign_in_makes_the_account_the_directory_describes(house):
    user = admit_from_directory(entry(groups=("staff", "clerks", "choir")), NOW, RequestFacts("q-1"))

    assert (user.name_latin, user.name_arabic) == ("Amina Diallo", "أمينة ديالو")
    assert (user.email, user.language, user.is_active) == ("amina@example.org", "fr", True)
    link = user.links.get()
    assert (link.source, link.entry_uuid, link.login, link.active) == ("hq", "entry-amina", "amina", True)
    assert effective_access(user.pk, NOW).office == "NIM"
    assert roles_of(user) == [("mail.clerk", "GS", True), ("staff", "NIM", False)]
    assert set(Assignment.objects.values_list("source", flat=True)) == {"directory:hq"}
    assert actions() == [
        "directory:person:create",
        "directory:posting:change",
        "administrator:role:assign",
        "administrator:role:assign",
    ]
    assert set(AuditEvent.objects.values_list("request_id", flat=True)) == {"q-1"}


def test_subject_is_never_made_of_what_the_directory_says(house):
    user = admit_from_directory(entry(), NOW)

    assert len(user.sub) == 40
    assert user.sub not in {"amina", "entry-amina", str(user.pk), user.pk.hex}


def test_next_sign_in_that_finds_nothing_new_writes_only_when_it_looked(house):
    said = entry(groups=("staff",))
    user = admit_from_directory(said, NOW)
    before = len(actions())

    again = admit_from_directory(said, LATER)

    assert (again.pk, again.generation) == (user.pk, 0)
    assert actions(before) == []
    assert user.links.get().checked_at == LATER


@pytest.mark.parametrize(
    ("units", "attribute", "home"),
    [
        pytest.param(("NIM", "offices"), "", "NIM", id="unit"),
        pytest.param(("nim",), "", "NIM", id="unit-in-other-case"),
        pytest.param(("Logistics", "GVA", "NIM"), "", "GVA", id="nearest-mapped-unit"),
        pytest.param(("NIM",), "GVA-1", "NIM", id="unit-before-attribute"),
        pytest.param(("people",), "gva-1", "GVA", id="attribute"),
        pytest.param(("people",), "NIM", None, id="attribute-that-is-only-a-unit"),
        pytest.param(("GVA-1",), "", None, id="unit-that-is-only-an-attribute"),
        pytest.param((), "", None, id="nothing"),
    ],
)
def test_home_office_is_what_the_mapping_says(house, units, attribute, home):
    user = admit_from_directory(entry(ou_path=units, office_attribute=attribute), NOW)

    assert effective_access(user.pk, NOW).office == home


def test_mapping_of_another_directory_gives_nothing(house):
    OfficeMapping.objects.update(source="field")
    GroupMapping.objects.update(source="field")

    user = admit_from_directory(entry(groups=("staff", "clerks")), NOW)

    assert effective_access(user.pk, NOW).office is None
    assert roles_of(user) == []


def test_entry_that_fits_no_office_is_noted_once(house):
    said = entry(ou_path=("elsewhere",), groups=("staff",))

    user = admit_from_directory(said, NOW)
    admit_from_directory(said, LATER)

    assert actions().count("directory:office:missing") == 1
    assert roles_of(user) == []  # the group's role is meant for the home office, and there is none


def test_group_is_known_by_its_dn_as_well(house):
    GroupMapping.objects.filter(group="staff").update(group="CN=staff,ou=Groups,dc=example")

    user = admit_from_directory(entry(groups=("staff",)), NOW)

    assert [role for role, _, _ in roles_of(user)] == ["staff"]


# -- mover ------------------------------------------------------------------------------------------------


def test_what_the_directory_changed_is_changed_here_with_one_event(house):
    user = admit_from_directory(entry(), NOW)
    before = len(actions())

    admit_from_directory(entry(name_latin="Amina Keita", email="ak@example.org", login="akeita"), LATER)

    user.refresh_from_db()
    assert (user.name_latin, user.email, user.links.get().login) == (
        "Amina Keita",
        "ak@example.org",
        "akeita",
    )
    assert "directory:person:change" in actions(before)
    assert user.generation == 0


def test_personal_data_stands_in_the_side_table_only(house):
    admit_from_directory(entry(), NOW)
    admit_from_directory(entry(name_latin="Amina Keita", email="ak@example.org", login="akeita"), LATER)

    for event in AuditEvent.objects.all():
        for word in ("Amina", "Keita", "example.org", "akeita"):
            assert word.encode() not in bytes(event.canonical)


def test_group_that_is_left_ends_its_role_and_the_access_tokens(house):
    user = admit_from_directory(entry(groups=("staff", "clerks")), NOW)
    before = len(actions())

    after = admit_from_directory(entry(groups=("staff",)), LATER)

    assert roles_of(user) == [("staff", "NIM", False)]
    assert after.generation == 1
    assert actions(before) == ["administrator:role:revoke"]
    assert Assignment.objects.get(role__code="mail.clerk").valid_until == LATER


def test_group_that_is_joined_adds_its_role_and_ends_nothing(house):
    user = admit_from_directory(entry(groups=("staff",)), NOW)

    after = admit_from_directory(entry(groups=("staff", "clerks")), LATER)

    assert len(roles_of(user)) == 2
    assert after.generation == 0


def test_group_that_is_left_and_joined_again_gives_its_role_again(house):
    user = admit_from_directory(entry(groups=("staff",)), NOW)
    admit_from_directory(entry(), NOW + timedelta(minutes=1))

    admit_from_directory(entry(groups=("staff",)), LATER)

    assert roles_of(user) == [("staff", "NIM", False)]
    assert Assignment.objects.count() == 2


def test_role_from_another_source_survives_what_the_directory_says(house):
    user = admit_from_directory(entry(groups=("staff",)), NOW)
    Assignment.objects.create(
        person=user, role=role("guest"), office=house["GVA"], valid_from=NOW, source="manual", created_at=NOW
    )

    after = admit_from_directory(entry(), LATER)

    assert roles_of(user) == [("guest", "GVA", False)]
    assert after.generation == 1


def test_transfer_moves_home_and_what_is_held_there(house):
    user = admit_from_directory(entry(groups=("staff", "clerks")), NOW)

    after = admit_from_directory(entry(ou_path=("GVA",), groups=("staff", "clerks")), LATER)

    assert effective_access(user.pk, LATER).office == "GVA"
    assert roles_of(user) == [("mail.clerk", "GS", True), ("staff", "GVA", False)]
    assert after.generation > 0
    assert list(Posting.objects.order_by("valid_from").values_list("office__code", "valid_until")) == [
        ("NIM", LATER),
        ("GVA", None),
    ]


# -- names are given again --------------------------------------------------------------------------------


def test_login_name_given_to_another_entry_is_another_person_and_inherits_nothing(house):
    """A25."""
    old = admit_from_directory(entry(groups=("staff", "clerks")), NOW)
    session, _ = open_session(old, NOW, timedelta(hours=12))

    new = admit_from_directory(entry(entry_uuid="entry-other", name_latin="Amina Other"), LATER)

    old.refresh_from_db()
    session.refresh_from_db()
    assert new.pk != old.pk
    assert new.sub != old.sub
    assert roles_of(new) == []
    assert old.links.get().active is False
    assert (old.is_active, old.generation, session.ended_at) == (False, 1, LATER)
    assert DirectoryLink.objects.get(login="amina", active=True).user == new
    assert "directory:login:release" in actions()


def test_same_entry_under_the_same_mail_is_never_joined_to_another(house):
    first = admit_from_directory(entry("amina", "entry-1", email="shared@example.org"), NOW)
    second = admit_from_directory(entry("omar", "entry-2", email="shared@example.org"), NOW)

    assert first.pk != second.pk


def test_same_entry_id_in_another_directory_is_another_person(house):
    first = admit_from_directory(entry(), NOW)
    second = admit_from_directory(entry(source="field"), NOW)

    assert first.pk != second.pk
    assert first.links.get().active


def test_old_holder_of_a_name_who_comes_back_under_a_new_one_is_the_old_person(house):
    old = admit_from_directory(entry(), NOW)
    admit_from_directory(entry(entry_uuid="entry-other"), NOW + timedelta(minutes=1))

    back = admit_from_directory(entry("amina2"), LATER)

    assert (back.pk, back.is_active) == (old.pk, True)
    assert "directory:person:reactivate" in actions()


def test_two_who_exchange_their_names_stay_who_they_are(house):
    one, two = (
        admit_from_directory(entry("a", "entry-1"), NOW),
        admit_from_directory(entry("b", "entry-2"), NOW),
    )

    swapped = [
        admit_from_directory(entry("b", "entry-1"), LATER),
        admit_from_directory(entry("a", "entry-2"), LATER),
    ]

    assert [user.pk for user in swapped] == [one.pk, two.pk]
    assert list(
        DirectoryLink.objects.filter(active=True).order_by("entry_uuid").values_list("login", flat=True)
    ) == [
        "b",
        "a",
    ]


# -- leaver -----------------------------------------------------------------------------------------------


def test_entry_that_is_disabled_ends_everything_at_once(house):
    user = admit_from_directory(entry(groups=("staff",)), NOW)
    session, _ = open_session(user, NOW, timedelta(hours=12))
    before = len(actions())

    refused = refuse_disabled(entry(standing=Standing(AccountStatus.DISABLED)), LATER)

    session.refresh_from_db()
    assert (refused.pk, refused.is_active, refused.generation) == (user.pk, False, 1)
    assert (session.ended_at, session.end_reason) == (LATER, "disabled_in_directory")
    assert actions(before) == ["directory:person:deactivate", "person:session:end"]


def test_entry_that_is_disabled_twice_is_one_event(house):
    admit_from_directory(entry(), NOW)
    refuse_disabled(entry(standing=Standing(AccountStatus.DISABLED)), LATER)
    before = len(actions())

    refuse_disabled(entry(standing=Standing(AccountStatus.DISABLED)), LATER)

    assert actions(before) == []


def test_entry_that_is_disabled_and_never_came_makes_no_account(house):
    assert refuse_disabled(entry(standing=Standing(AccountStatus.DISABLED)), NOW) is None
    assert not User.objects.exists()


def test_entry_that_is_disabled_is_never_admitted_as_active(house):
    """Whoever calls admission with a disabled entry gets an account that cannot act."""
    user = admit_from_directory(entry(standing=Standing(AccountStatus.DISABLED), groups=("staff",)), NOW)

    assert not user.is_active
    assert roles_of(user) == []


def test_entry_that_is_active_again_comes_back_with_an_event(house):
    user = admit_from_directory(entry(groups=("staff",)), NOW)
    refuse_disabled(entry(standing=Standing(AccountStatus.DISABLED)), NOW)

    back = admit_from_directory(entry(groups=("staff",)), LATER)

    assert (back.pk, back.is_active) == (user.pk, True)
    assert back.generation == 1  # nothing from before counts again
    assert not LoginSession.objects.filter(user=user, ended_at=None).exists()
    assert "directory:person:reactivate" in actions()


def test_deactivation_by_somebody_says_who_and_why(house):
    user = admit_from_directory(entry(), NOW)

    deactivate(user, reason="left", actor="operator:root", now=LATER)
    deactivate(user, reason="left", actor="operator:root", now=LATER)

    event = AuditEvent.objects.get(action="directory:person:deactivate")
    assert (event.actor, event.object, event.reason) == ("operator:root", f"person:{user.sub}", "left")
