"""What the tests of second factors share: a key, a moment, a phone."""

from collections.abc import Callable
from datetime import UTC, datetime

import pyotp
import pytest
from pytest_django.fixtures import Settings

NOW = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _mfa_settings(settings: Settings) -> None:
    settings.MFA_ENCRYPTION_KEYS = {"2026": b"k" * 32}
    settings.MFA_ISSUER_NAME = "Secretariat"


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def phone() -> Callable[..., str]:
    """Return what a phone with a secret shows at a moment, `offset` steps off."""

    def show(secret: str, at: datetime = NOW, offset: int = 0) -> str:
        return pyotp.TOTP(secret).generate_otp(int(at.timestamp()) // 30 + offset)

    return show
