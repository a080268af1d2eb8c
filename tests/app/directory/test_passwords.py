"""Passwords on a real slapd with a policy: changed by their owner, reset by an administrator, judged by the directory."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from deploy.demo import slapd
from directory.service import (
    Accepted,
    Changed,
    Directory,
    Found,
    NotTaken,
    PasswordProblem,
    Refusal,
    Rejected,
    Unavailable,
)
from tests.app.directory.secretariat import BASE, CABINET, change, frozen, password_of, secretariat, source_of

WRITER, WRITER_PASSWORD = f"cn=passwords,ou=services,{BASE}", "writer-of-the-tests"
NEW = "ثلاثة أحصنة خضراء 7"


@pytest.fixture(scope="module")
def ruled() -> Iterator[slapd.Server]:
    """A server with a policy of passwords."""
    with secretariat(writer_dn=WRITER, writer_password=WRITER_PASSWORD) as running:
        yield running


@pytest.fixture
def directory(ruled: slapd.Server) -> Iterator[Directory]:
    directory = Directory([source_of(ruled, writer_dn=WRITER, writer_password=WRITER_PASSWORD)])
    yield directory
    directory.close()


def person(directory: Directory, login: str):
    found = directory.find(login, with_groups=False)
    assert isinstance(found, Found)
    return found.person


def modify(server: slapd.Server, dn: str, *lines: str) -> None:
    change(server, f"dn: {dn}\nchangetype: modify\n" + "\n".join(lines) + "\n")


def test_person_changes_the_password_and_only_the_new_one_is_right(directory):
    alice = person(directory, "alice")

    assert directory.change_password(alice, password_of("alice"), NEW) == Changed(alice)

    assert isinstance(directory.verify(alice, NEW), Accepted)
    assert isinstance(directory.verify(alice, password_of("alice")), Rejected)
    assert directory.change_password(alice, NEW, password_of("alice") + "-longer") == Changed(alice)


def test_wrong_old_password_changes_nothing(directory):
    fatima = person(directory, "fatima")

    assert directory.change_password(fatima, "not it at all", NEW) == Rejected()
    assert isinstance(directory.verify(fatima, password_of("fatima")), Accepted)


def test_unknown_name_is_rejected_and_does_the_same_work(directory):
    assert directory.change_password(None, "anything", NEW) == Rejected()


@pytest.mark.parametrize("old", ["", "   ", "a\0b", "x" * 1025])
def test_old_password_that_cannot_be_sent_is_rejected(directory, old):
    assert directory.change_password(person(directory, "fatima"), old, NEW) == Rejected()


@pytest.mark.parametrize("new", ["", "   ", "a\0b", "x" * 1025, "\ud800 is half a letter"])
def test_new_password_that_cannot_be_sent_is_not_taken(directory, new):
    answer = directory.change_password(person(directory, "fatima"), password_of("fatima"), new)

    assert answer == NotTaken(PasswordProblem.TOO_SIMPLE)


def test_too_short_is_the_directorys_own_reason(directory):
    answer = directory.change_password(person(directory, "fatima"), password_of("fatima"), "short 1")

    assert answer == NotTaken(PasswordProblem.TOO_SHORT)


def test_used_before_is_the_directorys_own_reason(directory):
    karim = person(directory, "karim")
    first, second = "the first long one", "the second long one"
    directory.change_password(karim, password_of("karim"), first)
    directory.change_password(karim, first, second)

    assert directory.change_password(karim, second, first) == NotTaken(PasswordProblem.IN_HISTORY)


def test_too_young_is_the_directorys_own_reason(directory, ruled):
    modify(ruled, f"cn=default,{BASE}", "replace: pwdMinAge", "pwdMinAge: 3600")
    try:
        spacey = person(directory, "spacey")
        directory.change_password(spacey, password_of("spacey"), "one that is long enough")
        answer = directory.change_password(spacey, "one that is long enough", "another one, long enough")
    finally:
        modify(ruled, f"cn=default,{BASE}", "delete: pwdMinAge")
    assert answer == NotTaken(PasswordProblem.TOO_YOUNG)


def test_person_who_may_not_change_it_is_told_so(directory, ruled):
    modify(ruled, f"cn=default,{BASE}", "replace: pwdAllowUserChange", "pwdAllowUserChange: FALSE")
    try:
        answer = directory.change_password(person(directory, "longpass"), password_of("longpass"), NEW)
    finally:
        modify(ruled, f"cn=default,{BASE}", "replace: pwdAllowUserChange", "pwdAllowUserChange: TRUE")
    assert answer == NotTaken(PasswordProblem.NOT_ALLOWED)


def test_reset_password_must_be_changed_at_once_and_then_is_good(directory):
    odd = person(directory, "odd")

    assert directory.reset_password(odd, "given at the desk") == Changed(odd)

    seen = directory.verify(odd, "given at the desk")
    assert isinstance(seen, Accepted)
    assert seen.password.must_change
    assert seen.person.standing.must_change_password
    assert directory.change_password(odd, "given at the desk", NEW) == Changed(odd)
    after = directory.verify(odd, NEW)
    assert isinstance(after, Accepted)
    assert not after.password.must_change
    assert not after.person.standing.must_change_password


def test_expired_password_is_said_to_be_expired_only_to_who_knows_it(directory, ruled):
    alice_dn = f"uid=alice,{CABINET}"
    alice = person(directory, "alice")
    directory.reset_password(alice, "a password that ages")
    directory.change_password(alice, "a password that ages", "a password that is old")
    modify(ruled, f"cn=default,{BASE}", "replace: pwdMaxAge", "pwdMaxAge: 1")
    try:
        change(
            ruled,
            f"dn: {alice_dn}\nchangetype: modify\nreplace: description\ndescription: waits\n",
        )
        time.sleep(2.1)  # the policy counts whole seconds
        right = directory.verify(alice, "a password that is old")
        wrong = directory.verify(alice, "something else altogether")
        changed = directory.change_password(alice, "a password that is old", "a password for tomorrow")
        guessed = directory.change_password(alice, "not it at all", "a password for yesterday")
    finally:
        modify(ruled, f"cn=default,{BASE}", "delete: pwdMaxAge")
    assert right == Rejected(Refusal.EXPIRED)
    assert wrong == Rejected(Refusal.WRONG)
    assert changed == Changed(alice)
    assert guessed == Rejected()
    assert isinstance(directory.verify(alice, "a password for tomorrow"), Accepted)


def test_password_that_ends_soon_says_when(directory, ruled):
    fatima = person(directory, "fatima")
    directory.change_password(fatima, password_of("fatima"), "فاطمة وثلاث نخلات")
    modify(
        ruled, f"cn=default,{BASE}",
        "replace: pwdMaxAge", "pwdMaxAge: 86400", "-", "replace: pwdExpireWarning", "pwdExpireWarning: 86000",
    )  # fmt: skip
    try:
        time.sleep(2.1)  # slapd counts whole seconds: one that has just passed may not have passed for it
        modify(ruled, f"cn=default,{BASE}", "replace: pwdExpireWarning", "pwdExpireWarning: 86399")
        seen = directory.verify(fatima, "فاطمة وثلاث نخلات")
    finally:
        modify(ruled, f"cn=default,{BASE}", "delete: pwdMaxAge", "-", "delete: pwdExpireWarning")
        directory.change_password(fatima, "فاطمة وثلاث نخلات", password_of("fatima"))
    assert isinstance(seen, Accepted)
    assert seen.password.expires_in is not None
    assert timedelta(hours=23) < seen.password.expires_in < timedelta(hours=24)


def test_without_a_writing_account_nothing_is_reset(ruled):
    directory = Directory([source_of(ruled)])
    try:
        assert isinstance(directory.reset_password(person(directory, "odd"), NEW), Unavailable)
    finally:
        directory.close()


def test_writing_account_cannot_read_people_nor_write_their_names(ruled):
    """Least privilege: whoever steals this account learns nobody's data."""
    reader = replace(source_of(ruled), bind_dn=WRITER, bind_password=WRITER_PASSWORD)
    directory = Directory([reader])
    try:
        assert not isinstance(directory.find("alice"), Found)
    finally:
        directory.close()


def test_directory_that_is_frozen_is_not_a_wrong_password(own_server):
    directory = Directory([source_of(own_server, budget_seconds=1.0, connect_seconds=0.5)])
    try:
        alice = person(directory, "alice")
        with frozen(own_server):
            assert isinstance(directory.change_password(alice, password_of("alice"), NEW), Unavailable)
    finally:
        directory.close()
