"""The running service, one for each test process; made at the first test that asks for it."""

from collections.abc import Iterator

import pytest

from tests.servers.service import Service, running


@pytest.fixture(scope="session")
def service(pytestconfig: pytest.Config) -> Iterator[Service]:
    """The whole service on real parts, on the chosen database."""
    with running(pytestconfig.getoption("--database")) as live:
        yield live
