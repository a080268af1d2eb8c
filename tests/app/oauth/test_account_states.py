"""Accounts that are locked, or end by date: what happens at once, what happens by itself, and what comes back (A22)."""

from datetime import timedelta

import pytest

from iam import lifecycle
from iam.accounts.models import LoginSession, User
from iam.accounts.selectors import acting, reason_not_to_act
from iam.accounts.services import end_sessions_that_ran_out
from iam.audit.models import AuditEvent
from iam.oauth import state

from .conftest import World

pytestmark = pytest.mark.django_db

BY = {"reason": "a laptop was stolen", "actor": "operator:test"}


def person(world: World) -> User:
    return User.objects.get(pk=world.person.pk)


def issued(world: World) -> str:
    return world.tokens("web", scope="openid demo.read")["access_token"]


def test_lock_ends_sessions_and_tokens_at_once_and_is_audited(world: World) -> None:
    session = world.sign_in()
    token = issued(world)

    lifecycle.lock(person(world), world.now + timedelta(hours=1), now=world.now, **BY)

    assert not world.introspect(token)["active"]
    ended = LoginSession.objects.get(pk=session.pk)
    assert (ended.ended_at, ended.end_reason) == (world.now, "account_locked")
    event = AuditEvent.objects.get(action="administrator:person:lock")
    assert (event.actor, event.object) == ("operator:test", f"person:{world.person.sub}")


def test_after_a_lock_a_person_may_sign_in_again_and_nothing_of_before_comes_back(world: World) -> None:
    world.sign_in()
    token = issued(world)
    lifecycle.lock(person(world), world.now + timedelta(minutes=2), now=world.now, **BY)

    world.later(minutes=2)

    assert reason_not_to_act(person(world), world.now) == ""
    assert not world.introspect(token)["active"]
    world.sign_in()
    assert world.introspect(issued(world))["active"]


def test_release_lifts_a_lock_once(world: World) -> None:
    lifecycle.lock(person(world), world.now + timedelta(days=1), now=world.now, **BY)

    assert lifecycle.release(person(world), now=world.now, **BY)
    assert not lifecycle.release(person(world), now=world.now, **BY)

    assert reason_not_to_act(person(world), world.now) == ""
    assert AuditEvent.objects.filter(action="administrator:person:release").count() == 1


def test_account_that_ends_by_date_ends_by_itself_and_its_applications_are_told(world: World) -> None:
    end = world.now + timedelta(hours=1)
    lifecycle.set_account_end(person(world), end, now=world.now, **BY)
    session = world.sign_in()
    issued(world)
    assert state.session_value(LoginSession.objects.get(pk=session.pk)).expires_at == end

    assert end_sessions_that_ran_out(end - timedelta(seconds=1)) == 0
    assert end_sessions_that_ran_out(end) == 1

    assert LoginSession.objects.get(pk=session.pk).end_reason == "account_expired"


def test_account_that_ended_already_ends_its_sessions_now(world: World) -> None:
    session = world.sign_in()

    lifecycle.set_account_end(person(world), world.now, now=world.now, **BY)

    assert LoginSession.objects.get(pk=session.pk).end_reason == "account_expired"
    assert reason_not_to_act(person(world), world.now) == "account_expired"


def test_account_whose_end_was_taken_away_goes_on(world: World) -> None:
    lifecycle.set_account_end(person(world), world.now, now=world.now, **BY)

    lifecycle.set_account_end(person(world), None, now=world.now, **BY)

    world.sign_in()
    assert world.introspect(issued(world))["active"]


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("valid", [None, -1, 0, 1])
@pytest.mark.parametrize("locked", [None, -1, 0, 1])
def test_statement_condition_and_reason_say_the_same(
    active: bool, valid: int | None, locked: int | None, world: World
) -> None:
    """The three ways in which the condition is written: SQL, Django, and the word for the audit."""
    moved = {
        name: None if seconds is None else world.now + timedelta(seconds=seconds)
        for name, seconds in (("valid_until", valid), ("locked_until", locked))
    }
    session = world.sign_in()
    User.objects.filter(pk=world.person.pk).update(is_active=active, **moved)

    may = reason_not_to_act(person(world), world.now) == ""

    assert User.objects.filter(acting(world.now), pk=world.person.pk).exists() is may
    assert (state.DatabaseState().store.session(session.pk, world.now) is not None) is may
    assert may is (active and valid in {None, 1} and locked in {None, -1, 0})
