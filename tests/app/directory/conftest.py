"""A real slapd, shared or of a test's own, and directories connected to it."""

from collections.abc import Callable, Iterator

import pytest

from deploy.demo import slapd
from directory.config import Source
from directory.service import Directory
from tests.app.directory.secretariat import secretariat, source_of


@pytest.fixture(scope="session")
def server() -> Iterator[slapd.Server]:
    """The good server, shared: who changes an entry puts it back."""
    with secretariat() as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[slapd.Server]:
    """A server of this test's own, to stop, freeze and change."""
    with secretariat() as running:
        yield running


@pytest.fixture(params=["ldaps", "starttls"])
def either(request: pytest.FixtureRequest, server: slapd.Server) -> Iterator[Directory]:
    """The good server over both kinds of TLS."""
    directory = Directory(
        [source_of(server, urls=(server.url if request.param == "ldaps" else server.starttls_url,))]
    )
    yield directory
    directory.close()


@pytest.fixture
def directory(server: slapd.Server) -> Iterator[Directory]:
    """The good server over ldaps."""
    directory = Directory([source_of(server)])
    yield directory
    directory.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Directory]]:
    """Build directories that are closed after the test."""
    made: list[Directory] = []

    def build(*sources: Source) -> Directory:
        made.append(Directory(sources))
        return made[-1]

    yield build
    for directory in made:
        directory.close()
