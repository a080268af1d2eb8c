"""What every test may count on."""

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


@pytest.fixture(scope="session", autouse=True)
def _few_rsa_keys() -> Iterator[None]:
    """Make each kind of RSA key once a run: it takes a tenth of a second, and every test begins without keys."""
    make, once = jose.generate, lru_cache(jose.generate)
    with mock.patch.object(
        jose, "generate", lambda alg: once(alg) if alg in {"RS256", "PS256"} else make(alg)
    ):
        yield
