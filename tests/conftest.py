"""What every test may count on."""

import itertools
import sys
from collections.abc import Iterator
from functools import lru_cache
from unittest import mock

import pytest

from iam.oauth.protocol import jose


@pytest.fixture(autouse=True)
def _forget_memory() -> Iterator[None]:
    """A worker's memory outlives a rolled-back transaction; a test must not see the one before it."""
    yield
    if "iam.oauth.state" in sys.modules:
        sys.modules["iam.oauth.state"].forget()
        sys.modules["iam.oauth.sightings"].forget()


@pytest.fixture(scope="session", autouse=True)
def _few_rsa_keys() -> Iterator[None]:
    """Make a few RSA keys a run and hand them out in turn: each takes a tenth of a second, and every test needs some."""
    make = jose.generate
    made = lru_cache(lambda _: make("RS256"))
    keys = map(made, itertools.cycle(range(9)))

    def generate(algorithm: str) -> jose.PrivateKey:
        return next(keys) if algorithm in {"RS256", "PS256"} else make(algorithm)

    with mock.patch.object(jose, "generate", generate):
        yield
