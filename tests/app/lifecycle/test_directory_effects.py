"""What the service does when a directory's stream says something."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from directory.service import AccountStatus, Happening, PersonEvent, Standing
from iam.access.models import Assignment, GroupMapping, OfficeMapping
from iam.access.selectors import effective_access
from iam.accounts.models import DirectoryLink, User
from iam.accounts.services import open_session
from iam.audit.models import AuditEvent
from iam.lifecycle import DirectoryEffects, admit_from_directory, deactivate
from tests.organisation import NOW, application, entry, office, role

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(hours=1)


@pytest.fixture(autouse=True)
def house():
    top = office("GS")
    for code in ("NIM", "GVA"):
        OfficeMapping.objects.create(source="hq", ou=code, office=office(code, top))
    application("mail")
    GroupMapping.objects.create(source="hq", group="staff", role=role("staff"))
    GroupMapping.objects.create(
        source="hq", group="clerks", role=role("mail.clerk"), office=top, subtree=True
    )


def happened(happening, person=None, entry_id="", **changes):
    return PersonEvent(happening, "hq", person.entry_uuid if person else entry_id, person, **changes)


def apply(*events, now=LATER):
    DirectoryEffects().apply(events, now)


def person_of(entry_id):
    return User.objects.get(links__entry_uuid=entry_id)


def roles_of(user, now=LATER):
    return [(grant.role, grant.office) for grant in effective_access(user.pk, now).grants]


def test_people_who_join_together_get_accounts_homes_and_roles():
    people = [entry(f"p{n}", f"entry-{n}", groups=("staff",) if n % 2 else ()) for n in range(40)]

    apply(*(happened(Happening.JOINED, person) for person in people))

    assert User.objects.count() == DirectoryLink.objects.count() == 40
    assert roles_of(person_of("entry-1")) == [("staff", "NIM")]
    assert roles_of(person_of("entry-2")) == []
    assert Assignment.objects.count() == 20
    assert AuditEvent.objects.filter(action="directory:person:create").count() == 40


def test_statements_do_not_grow_with_the_people_of_whom_nothing_changed():
    def cost(people):
        apply(*(happened(Happening.JOINED, person) for person in people))
        with CaptureQueriesContext(
            connection,
        ) as captured:
            apply(*(happened(Happening.CHANGED, person) for person in people))
        return len(captured)

    few = cost([entry(f"a{n}", f"entry-a{n}", groups=("staff",)) for n in range(2)])
    many = cost([entry(f"b{n}", f"entry-b{n}", groups=("staff",)) for n in range(60)])

    assert many == few


def test_the_same_news_twice_changes_nothing():
    person = entry(groups=("staff", "clerks"))
    apply(happened(Happening.JOINED, person))
    before = AuditEvent.objects.count()

    apply(happened(Happening.JOINED, person), now=LATER + timedelta(minutes=1))

    assert AuditEvent.objects.count() == before
    assert person_of("entry-amina").generation == 0


def test_leaver_is_out_at_once_and_can_come_back_as_the_same_person():
    user = admit_from_directory(entry(groups=("staff",)), NOW)
    session, _ = open_session(user, NOW, timedelta(hours=12))

    apply(happened(Happening.LEFT, entry_id="entry-amina"))

    user.refresh_from_db()
    session.refresh_from_db()
    assert (user.is_active, user.inactive_reason, user.generation) == (False, "left_directory", 1)
    assert (session.ended_at, session.end_reason) == (LATER, "left_directory")
    link = user.links.get()
    assert (link.active, link.gone_at) == (False, LATER)

    apply(happened(Happening.RETURNED, entry(groups=("staff",))), now=LATER + timedelta(days=1))

    user.refresh_from_db()
    assert (user.is_active, user.inactive_reason) == (True, "")
    assert user.links.get().gone_at is None
    assert roles_of(user) == [("staff", "NIM")]


def test_inferred_leave_says_so_in_the_audit():
    admit_from_directory(entry(), NOW)

    apply(happened(Happening.LEFT, entry_id="entry-amina", is_inferred=True))

    event = AuditEvent.objects.get(action="directory:person:deactivate")
    assert event.reason == "missing_in_directory"


def test_leave_of_somebody_unknown_is_nothing():
    apply(happened(Happening.LEFT, entry_id="never-heard-of"))

    assert not User.objects.exists()


def test_leaves_come_before_joins_so_that_a_name_can_be_given_on():
    old = admit_from_directory(entry(), NOW)

    apply(
        happened(Happening.JOINED, entry(entry_uuid="entry-other")),
        happened(Happening.LEFT, entry_id="entry-amina"),
    )

    new = person_of("entry-other")
    old.refresh_from_db()
    assert new.pk != old.pk
    assert old.inactive_reason == "left_directory"
    assert new.links.get().active


def test_two_who_exchange_their_names_in_one_batch_lose_nothing():
    one, two = (
        admit_from_directory(entry("a", "entry-1"), NOW),
        admit_from_directory(entry("b", "entry-2"), NOW),
    )
    session, _ = open_session(one, NOW, timedelta(hours=12))

    apply(
        happened(Happening.CHANGED, entry("b", "entry-1")),
        happened(Happening.CHANGED, entry("a", "entry-2")),
    )

    session.refresh_from_db()
    assert session.ended_at is None
    assert {link.user_id: link.login for link in DirectoryLink.objects.filter(active=True)} == {
        one.pk: "b",
        two.pk: "a",
    }


def test_disabled_closes_and_enabled_opens_again():
    person = entry(groups=("staff",))
    apply(happened(Happening.JOINED, person))

    apply(happened(Happening.DISABLED, entry(standing=Standing(AccountStatus.DISABLED), groups=("staff",))))
    assert person_of("entry-amina").inactive_reason == "disabled_in_directory"

    apply(happened(Happening.ENABLED, person))
    assert person_of("entry-amina").is_active


def test_lock_that_passes_ends_nothing():
    """Whoever can guess wrongly three times must not be able to sign a minister out."""
    user = admit_from_directory(entry(), NOW)
    session, _ = open_session(user, NOW, timedelta(hours=12))

    apply(happened(Happening.CHANGED, entry(standing=Standing(AccountStatus.LOCKED))))

    session.refresh_from_db()
    assert session.ended_at is None
    assert person_of("entry-amina").is_active


def test_what_somebody_here_closed_no_directory_opens():
    user = admit_from_directory(entry(), NOW)
    deactivate(user, reason="investigation", actor="operator:x", now=NOW)

    apply(happened(Happening.ENABLED, entry()))
    again = admit_from_directory(entry(), LATER)

    assert (again.is_active, again.inactive_reason) == (False, "investigation")


def test_what_the_directory_closed_and_somebody_here_too_stays_closed():
    user = admit_from_directory(entry(), NOW)
    apply(happened(Happening.DISABLED, entry(standing=Standing(AccountStatus.DISABLED))))
    deactivate(user, reason="investigation", actor="operator:x", now=LATER)

    apply(happened(Happening.ENABLED, entry()))

    assert not person_of("entry-amina").is_active


def test_unit_with_another_name_moves_nobody_once_its_id_is_known():
    effects = DirectoryEffects()
    effects.know_units("hq", {"nim": frozenset({"u-1"}), "gva": frozenset({"u-2", "u-3"})})

    assert OfficeMapping.objects.get(ou="NIM").unit_id == "u-1"
    assert (
        OfficeMapping.objects.get(ou="GVA").unit_id == ""
    )  # two units have that name: only the name can mean both
    renamed = entry(ou_path=("Niamey", "offices"), unit_ids=("u-1", "u-0"))
    assert effects.office_of(renamed) == "NIM"


def test_default_office_is_given_with_an_alarm():
    OfficeMapping.objects.create(source="hq", office=office("TMP"))

    apply(happened(Happening.JOINED, entry(ou_path=("elsewhere",))))

    assert effective_access(person_of("entry-amina").pk, LATER).office == "TMP"
    assert AuditEvent.objects.get(action="directory:office:missing").reason == "default_office"


def test_titles_and_telephone_are_what_the_directory_says():
    apply(happened(Happening.JOINED, entry(telephone="+966 12 600 0000", title_fr="Cheffe de cabinet")))

    user = person_of("entry-amina")
    assert (user.telephone, user.title_fr) == ("+966 12 600 0000", "Cheffe de cabinet")


def test_contract_end_of_the_directory_is_the_end_of_the_account():
    end = LATER + timedelta(days=10)
    apply(happened(Happening.JOINED, entry(standing=Standing(ends_at=end))))
    user = person_of("entry-amina")
    assert user.valid_until == end
    session, _ = open_session(user, LATER, timedelta(hours=12))

    apply(happened(Happening.CHANGED, entry(standing=Standing(ends_at=LATER))), now=LATER)

    session.refresh_from_db()
    assert person_of("entry-amina").valid_until == LATER
    assert (session.ended_at, session.end_reason) == (LATER, "account_expired")


def test_end_that_was_set_here_stays_until_the_directory_says_another():
    end = LATER + timedelta(days=10)
    said = entry(standing=Standing(ends_at=end))
    apply(happened(Happening.JOINED, said))
    User.objects.update(valid_until=LATER + timedelta(days=1))

    apply(happened(Happening.CHANGED, said))
    assert person_of("entry-amina").valid_until == LATER + timedelta(days=1)

    apply(happened(Happening.CHANGED, entry(standing=Standing())))
    assert person_of("entry-amina").valid_until is None
