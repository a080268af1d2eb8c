"""Commands as an operator runs them, against a real slapd."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from deploy.demo import slapd
from directory.service import installed
from iam.access.models import GroupMapping, OfficeMapping
from tests.app.directory.secretariat import secretariat, source_of
from tests.organisation import application, office, role


@dataclass(frozen=True)
class Ran:
    """What a command said, and with which sentence it failed."""

    out: str
    err: str
    failure: str = ""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def call(*arguments: str) -> Ran:
        failure = ""
        try:
            call_command(*arguments)
        except CommandError as problem:
            failure = str(problem)
        said = capsys.readouterr()
        return Ran(said.out, said.err, failure)

    return call


@pytest.fixture(scope="session")
def server() -> Iterator[slapd.Server]:
    with secretariat() as running:
        yield running


@pytest.fixture
def house(db, settings, server) -> Iterator[Settings]:
    """The small Secretariat: its offices, two roles, and a directory that answers."""
    settings.DIRECTORY_SOURCES = (source_of(server),)
    top = office("GS")
    geneva = office("GVA", top)
    OfficeMapping.objects.create(source="hq", ou="Geneva", office=geneva)
    OfficeMapping.objects.create(source="hq", ou="Cabinet", office=top)
    application("mail")
    GroupMapping.objects.create(source="hq", group="staff", role=role("staff"))
    role("mail.reader")
    yield settings
    installed().close()


@pytest.fixture
def cut_off(house, server) -> Callable[[], None]:
    """Return what makes the directory unreachable: nobody listens where it was."""

    def cut() -> None:
        installed().close()
        house.DIRECTORY_SOURCES = (source_of(server, urls=(f"ldaps://localhost:{slapd.free_port()}",)),)

    return cut
