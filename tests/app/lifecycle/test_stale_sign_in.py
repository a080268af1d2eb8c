"""A sign-in that was answered before the stream said otherwise, or by a copy of the directory that lags."""

import pytest

from directory.engine import Engine
from directory.policy import NO_STATE
from directory.service import Accepted
from iam.accounts.models import DirectoryLink, LoginSession, User
from iam.audit.facts import NO_REQUEST
from iam.lifecycle import DirectoryEffects
from iam.login import steps
from tests.app.directory.synthetic import Clock, Directory

pytestmark = pytest.mark.django_db


class House:
    """A directory of some people, followed with the real effects."""

    def __init__(self) -> None:
        self.directory = Directory()
        self.directory.unit("u-gva", "GVA")
        for number in range(10):
            self.directory.person(f"g{number}", "u-gva")
        self.clock = Clock()
        self.engine = Engine(self.directory.source, DirectoryEffects(), self.clock)
        self.cookie = b""
        self.poll()

    def poll(self) -> None:
        since = self.cookie
        outcome = self.engine.take(self.directory.poll(since), self.directory, since)
        self.cookie = outcome.cookie

    def sign_in(self, person):
        return steps.accept(Accepted(person, NO_STATE), person.login, None, NO_REQUEST, self.clock.now)


@pytest.fixture
def house() -> House:
    return House()


def user() -> User:
    return User.objects.get(links__entry_uuid="g3")


def test_a23_a_leaver_is_not_let_in_again_by_an_answer_from_before(house):
    before = house.engine.describe("g3")[0]
    house.directory.delete("g3")
    house.poll()

    assert isinstance(house.sign_in(before), steps.Disabled)
    assert not user().is_active
    assert DirectoryLink.objects.get(entry_uuid="g3").gone_at is not None
    assert not LoginSession.objects.exists()


def test_a23_who_was_disabled_is_not_opened_by_an_answer_from_before(house):
    before = house.engine.describe("g3")[0]
    house.directory.disable("g3")
    house.poll()

    assert isinstance(house.sign_in(before), steps.Disabled)
    assert not user().is_active


def test_a23_who_waits_for_an_administrator_may_not_sign_in(house):
    before = house.engine.describe("g3")[0]
    for number in (0, 1, 2, 4, 5, 6, 7, 8, 3):
        house.directory.disable(f"g{number}")
    house.poll()

    assert isinstance(house.sign_in(before), steps.Disabled)


def test_who_is_enabled_again_signs_in_as_before(house):
    house.directory.disable("g3")
    house.poll()
    house.directory.change("g3", orgaccountstatus=["active"])
    house.poll()

    assert isinstance(house.sign_in(house.engine.describe("g3")[0]), steps.SignedIn)
