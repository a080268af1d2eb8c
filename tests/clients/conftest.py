"""Clients that nobody here wrote, against the tests' own service, and against `make run` as an outsider meets it."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.live import service
from tests.servers.make_run import Checkout
from tests.servers.person import Person

__all__ = ["service"]


@dataclass(frozen=True, slots=True)
class Provider:
    """A running provider: its issuer, a way to run `manage.py`, and a person for each of our tests' people."""

    issuer: str
    manage: Callable[..., Any]
    person: Callable[[str], Person]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A copy in which `make run` runs."""
    copy = Checkout(tmp_path_factory.mktemp("made"))
    with copy.running():
        yield copy


@pytest.fixture(scope="session")
def made_run(checkout: Checkout) -> Provider:
    """`make run`: no more is known of it than its command, its `var/demo.json` and `manage.py`."""
    demo = checkout.demo
    people = {one["username"]: one for one in demo["people"]}
    # Each once, since a code of a phone counts once; most of the sample has no second factor.
    names = itertools.chain(["sara", "omar", "amina"], (name for name in people if name.startswith("load")))

    def person(_: str) -> Person:
        one = people[next(names)]
        return Person(demo["issuer"], one["username"], one["password"], totp_secret=one["totp_secret"] or "")

    return Provider(demo["issuer"], checkout.manage, person)


@pytest.fixture(scope="session", params=["service", "make run"])
def provider(request: pytest.FixtureRequest) -> Provider:
    """Return one of the two."""
    if request.param == "make run":
        made: Provider = request.getfixturevalue("made_run")
        return made
    ours = request.getfixturevalue("service")
    return Provider(ours.issuer, ours.manage, lambda login: Person(ours.issuer, login))
