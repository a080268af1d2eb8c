"""What every test may count on."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _forget_memory() -> Iterator[None]:
    """A worker's memory outlives a rolled-back transaction; a test must not see the one before it."""
    yield
    if "iam.oauth.state" in sys.modules:
        sys.modules["iam.oauth.state"].forget()
