"""`access grant|revoke|show`: works for who never came, says one clear sentence when it cannot."""

from datetime import UTC, datetime, timedelta

import pytest

from iam.access.models import Assignment
from iam.accounts.models import DirectoryLink, User
from iam.audit.models import AuditEvent
from iam.lifecycle import admit_from_directory
from tests.organisation import entry, office

TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
LATER = (datetime.now(UTC) + timedelta(days=2)).isoformat(timespec="seconds")


def test_grant_to_somebody_who_never_came_makes_the_account_from_the_directory(house, run):
    ran = run("access", "grant", "fatima", "mail.reader", "--office", "GVA", "--reason", "asked by the head")

    assert ran.failure == ""
    assert "fatima holds mail.reader in GVA" in ran.out
    user = User.objects.get()
    assert user.name_arabic == "فاطمة الزهراء بن علي"
    assert set(user.assignments.values_list("role__code", "source")) == {
        ("mail.reader", "manual"),
        ("staff", "directory:hq"),
    }
    event = AuditEvent.objects.get(action="administrator:role:assign", reason="manual")
    assert event.actor.startswith("operator:")


def test_grant_twice_is_done_once_and_says_so(house, run):
    run("access", "grant", "fatima", "mail.reader", "--office", "GVA")
    ran = run("access", "grant", "fatima", "mail.reader", "--office", "GVA", "--until", TOMORROW)

    assert ran.failure == ""
    assert "already holds mail.reader in GVA" in ran.out
    assert Assignment.objects.filter(role__code="mail.reader").count() == 1


def test_grant_for_longer_than_what_is_held_is_refused(house, run):
    run("access", "grant", "fatima", "mail.reader", "--office", "GVA", "--until", TOMORROW)
    ran = run("access", "grant", "fatima", "mail.reader", "--office", "GVA", "--until", LATER)

    assert "covers part of that time only" in ran.failure
    assert Assignment.objects.filter(role__code="mail.reader").count() == 1


def test_grant_that_follows_what_is_held_is_given(house, run):
    run("access", "grant", "fatima", "mail.reader", "--office", "GVA", "--until", TOMORROW)
    ran = run("access", "grant", "fatima", "mail.reader", "--office", "GVA", "--from", TOMORROW, "--subtree")
    again = run("access", "grant", "fatima", "mail.reader", "--office", "GVA", "--from", TOMORROW)

    assert (ran.failure, again.failure) == ("", "")
    assert Assignment.objects.filter(role__code="mail.reader").count() == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(["nobody", "staff", "--office", "GVA"], "no person 'nobody'", id="unknown-person"),
        pytest.param(["twin", "staff", "--office", "GVA"], "means 2 entries", id="ambiguous-person"),
        pytest.param(["*", "staff", "--office", "GVA"], "no person '*'", id="wildcard"),
        pytest.param(["", "staff", "--office", "GVA"], "no person ''", id="empty"),
        pytest.param(["fatima", "boss", "--office", "GVA"], "no role 'boss'", id="unknown-role"),
        pytest.param(["fatima", "staff", "--office", "XXX"], "no office 'XXX'", id="unknown-office"),
        pytest.param(
            ["fatima", "staff", "--office", "GVA", "--until", "tomorrow"], "not a time", id="no-time"
        ),
        pytest.param(
            ["fatima", "staff", "--office", "GVA", "--until", "2099-01-01T00:00:00"],
            "time zone",
            id="naive-time",
        ),
        pytest.param(
            ["fatima", "staff", "--office", "GVA", "--until", "2020-01-01T00:00:00Z"],
            "over already",
            id="past",
        ),
        pytest.param(
            ["fatima", "staff", "--office", "GVA", "--from", LATER, "--until", TOMORROW],
            "not after",
            id="backwards",
        ),
    ],
)
def test_grant_that_cannot_be_says_why_and_leaves_nothing_behind(house, run, arguments, sentence):
    ran = run("access", "grant", *arguments)

    assert sentence in ran.failure
    assert ran.failure.endswith((".", "+03:00."))
    assert "\n" not in ran.failure
    assert not User.objects.exists()
    assert not AuditEvent.objects.exists()


def test_grant_when_the_directory_is_down_is_refused_for_who_never_came(cut_off, run):
    cut_off()

    ran = run("access", "grant", "fatima", "mail.reader", "--office", "GVA")

    assert "has never signed in, and the directory does not answer" in ran.failure
    assert not User.objects.exists()


def test_grant_when_the_directory_is_down_goes_on_for_who_is_known(cut_off, run):
    run("access", "grant", "fatima", "mail.reader", "--office", "GVA")
    cut_off()

    ran = run("access", "grant", "fatima", "mail.reader", "--office", "GS")

    assert ran.failure == ""
    assert "does not answer" in ran.err
    assert "fatima holds mail.reader in GS" in ran.out


def test_grant_to_a_name_that_another_entry_has_now_goes_to_the_new_person(house, run):
    """The account that had the name before must not receive the right."""
    old = admit_from_directory(entry("fatima", "entry-of-before"), datetime.now(UTC))

    run("access", "grant", "fatima", "mail.reader", "--office", "GVA")

    holder = Assignment.objects.get(role__code="mail.reader").person
    assert holder.pk != old.pk
    assert holder.links.get().login == "fatima"
    assert not DirectoryLink.objects.get(user=old).active


def test_grant_to_somebody_disabled_gives_no_access_and_says_so(house, run):
    ran = run("access", "grant", "omar", "mail.reader", "--office", "GVA")

    assert ran.failure == ""
    assert "omar is disabled" in ran.err
    assert not User.objects.get().is_active


def test_grant_to_somebody_gone_from_the_directory_warns(house, run):
    admit_from_directory(entry("amina", "entry-gone"), datetime.now(UTC))

    ran = run("access", "grant", "amina", "mail.reader", "--office", "GVA")

    assert ran.failure == ""
    assert "no longer in the directory" in ran.err


def test_revoke_takes_the_role_now(house, run):
    run("access", "grant", "fatima", "mail.reader", "--office", "GVA")
    ran = run("access", "revoke", "fatima", "mail.reader", "--office", "GVA")

    assert (ran.failure, ran.err) == ("", "")
    assert "no longer holds mail.reader in GVA" in ran.out
    assert User.objects.get().generation == 1


def test_revoke_of_what_a_group_gives_warns_that_it_comes_back(house, run):
    run("person", "show", "fatima")
    ran = run("access", "revoke", "fatima", "staff", "--office", "GVA")

    assert ran.failure == ""
    assert "the next sign-in gives it again" in ran.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fatima", "mail.reader", "--office", "GVA"], "does not hold mail.reader in GVA"),
        (["nobody", "mail.reader", "--office", "GVA"], "no person"),
        (["fatima", "boss", "--office", "GVA"], "no role"),
        (["fatima", "staff", "--office", "gva"], "no office"),
    ],
)
def test_revoke_that_cannot_be_says_why(house, run, arguments, sentence):
    ran = run("access", "revoke", *arguments)

    assert sentence in ran.failure
    assert not AuditEvent.objects.filter(action="administrator:role:revoke").exists()


def test_show_says_what_is_held_at_an_instant(house, run):
    run("access", "grant", "fatima", "mail.reader", "--office", "GVA", "--subtree", "--until", TOMORROW)

    now, then = run("access", "show", "fatima"), run("access", "show", "fatima", "--at", LATER)

    assert "home office: GVA" in now.out
    assert "mail.reader in GVA and below, until" in now.out
    assert "staff in GVA\n" in now.out
    assert "mail.reader" not in then.out
    assert "staff in GVA\n" in then.out


def test_office_of_the_same_letters_in_another_script_is_another_office(house, run):
    office("GVB")

    ran = run("access", "grant", "fatima", "staff", "--office", "GV\u0392")  # Greek capital beta

    assert "no office" in ran.failure
