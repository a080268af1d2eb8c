"""A secret opens with its key, in its row, undamaged, or not at all."""

from collections.abc import Callable
from datetime import datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from mfa import service
from mfa.errors import MFAError
from mfa.models import TOTPDevice
from mfa.secrets import Place, SealedSecret, open_secret, seal_secret

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
PLACE = Place(table="table", row_id="row", owner="owner")
OLD = {"2026": b"k" * 32}
NEW = {"2027": b"n" * 32}


def test_seal_secret_opens_in_its_place() -> None:
    assert open_secret(seal_secret(SECRET, PLACE), PLACE) == SECRET


def test_seal_secret_twice_differs() -> None:
    assert seal_secret(SECRET, PLACE).sealed != seal_secret(SECRET, PLACE).sealed


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(Place("other", "row", "owner"), id="other-table"),
        pytest.param(Place("table", "other", "owner"), id="other-row"),
        pytest.param(Place("table", "row", "other"), id="other-owner"),
        pytest.param(Place("table", "rowo", "wner"), id="shifted-parts"),
    ],
)
def test_open_secret_in_another_place_is_refused(place: Place) -> None:
    with pytest.raises(MFAError) as refusal:
        open_secret(seal_secret(SECRET, PLACE), place)

    assert refusal.value.code == "mfa_damaged_secret"


@pytest.mark.parametrize("length", [0, 5, 12, 20, 59])
def test_open_secret_cut_short_is_refused(length: int) -> None:
    sealed = seal_secret(SECRET, PLACE)

    with pytest.raises(MFAError):
        open_secret(SealedSecret(sealed.key_id, sealed.sealed[:length]), PLACE)


@pytest.mark.parametrize("position", [0, 11, 12, 30, -1])
def test_open_secret_with_one_bit_changed_is_refused(position: int) -> None:
    sealed = seal_secret(SECRET, PLACE)
    damaged = bytearray(sealed.sealed)
    damaged[position] ^= 1

    with pytest.raises(MFAError):
        open_secret(SealedSecret(sealed.key_id, bytes(damaged)), PLACE)


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        pytest.param({}, "mfa_no_key", id="no-key"),
        pytest.param(NEW, "mfa_unknown_key", id="key-removed"),
        pytest.param({"2026": b"x" * 32}, "mfa_damaged_secret", id="key-value-changed"),
        pytest.param({"2026": b"short"}, "mfa_bad_key", id="key-too-short"),
    ],
)
def test_open_secret_without_its_key_is_refused(
    keys: dict[str, bytes], code: str, settings: Settings
) -> None:
    sealed = seal_secret(SECRET, PLACE)
    settings.MFA_ENCRYPTION_KEYS = keys

    with pytest.raises(MFAError) as refusal:
        open_secret(sealed, PLACE)

    assert refusal.value.code == code
    assert SECRET not in refusal.value.hint


def test_open_secret_under_another_key_id_is_refused(settings: Settings) -> None:
    sealed = seal_secret(SECRET, PLACE)
    settings.MFA_ENCRYPTION_KEYS = {"2026": b"k" * 32, "alias": b"k" * 32}

    with pytest.raises(MFAError):
        open_secret(SealedSecret("alias", sealed.sealed), PLACE)


@pytest.mark.django_db
def test_rotation_new_key_first_reads_old_and_writes_new(
    settings: Settings, now: datetime, phone: Callable[..., str]
) -> None:
    service.import_totp("owner", SECRET, now)
    settings.MFA_ENCRYPTION_KEYS = NEW | OLD
    service.import_totp("other", SECRET, now)

    assert isinstance(service.verify_totp("owner", phone(SECRET), now), service.Verified)
    assert TOTPDevice.objects.get(owner="other").key_id == "2027"


@pytest.mark.django_db
def test_reencrypt_command_makes_the_old_key_unnecessary(
    settings: Settings, now: datetime, phone: Callable[..., str]
) -> None:
    service.import_totp("owner", SECRET, now)
    service.begin_totp("other", "b", now)
    settings.MFA_ENCRYPTION_KEYS = NEW | OLD
    output = StringIO()

    call_command("mfa", "reencrypt", stdout=output)

    settings.MFA_ENCRYPTION_KEYS = NEW
    assert output.getvalue().startswith("2 secrets")
    assert isinstance(service.verify_totp("owner", phone(SECRET), now), service.Verified)


@pytest.mark.django_db
def test_reencrypt_in_batches_ends_and_is_idempotent(settings: Settings, now: datetime) -> None:
    for owner in "abc":
        service.import_totp(owner, SECRET, now)
    settings.MFA_ENCRYPTION_KEYS = NEW | OLD

    assert [service.reencrypt(batch=2) for _ in range(3)] == [2, 1, 0]


@pytest.mark.django_db
def test_reencrypt_command_without_the_old_key_fails_and_changes_nothing(
    settings: Settings, now: datetime
) -> None:
    service.import_totp("owner", SECRET, now)
    settings.MFA_ENCRYPTION_KEYS = NEW

    with pytest.raises(CommandError, match="2026"):
        call_command("mfa", "reencrypt")

    assert TOTPDevice.objects.get().key_id == "2026"
