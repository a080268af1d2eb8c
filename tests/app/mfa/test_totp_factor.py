"""An authenticator is enrolled by a code, checked once per step, and belongs to one owner (US-05; A34)."""

import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from mfa import service
from mfa.models import RecoveryCode, TOTPDevice

pytestmark = pytest.mark.django_db

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
OTHER_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
Phone = Callable[..., str]


# -- enrolment --------------------------------------------------------------------------------------------


def test_begin_totp_shows_secret_address_and_picture(now: datetime) -> None:
    enrolment = service.begin_totp("owner", "a.benali", now)

    assert len(enrolment.secret) == 32
    assert enrolment.secret_grouped.replace(" ", "") == enrolment.secret
    assert enrolment.uri == (
        f"otpauth://totp/Secretariat:a.benali?secret={enrolment.secret}&issuer=Secretariat"
    )
    assert enrolment.qr_svg.startswith("<svg")


def test_begin_totp_reloaded_shows_the_same_enrolment(now: datetime) -> None:
    first = service.begin_totp("owner", "a.benali", now)

    assert service.begin_totp("owner", "a.benali", now + timedelta(minutes=59)) == first


def test_begin_totp_after_an_hour_makes_a_new_secret(now: datetime) -> None:
    first = service.begin_totp("owner", "a.benali", now)

    second = service.begin_totp("owner", "a.benali", now + timedelta(hours=1))

    assert second.secret != first.secret
    assert TOTPDevice.objects.count() == 1


def test_begin_totp_for_two_owners_makes_two_secrets(now: datetime) -> None:
    first = service.begin_totp("owner", "a", now)

    assert service.begin_totp("other", "b", now).secret != first.secret


def test_begin_totp_stores_no_readable_secret(now: datetime) -> None:
    secret = service.begin_totp("owner", "a", now).secret

    assert secret.encode() not in bytes(TOTPDevice.objects.get().secret)


def test_begin_totp_with_a_very_long_label_still_fits_a_picture(now: datetime) -> None:
    assert len(service.begin_totp("owner", "ا" * 5000, now).uri) < 600


def test_begin_totp_with_ten_devices_is_refused(now: datetime) -> None:
    for number in range(10):
        service.import_totp("owner", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ" + "ABCDEFGHIJ"[number], now)

    with pytest.raises(service.MFAError) as refusal:
        service.begin_totp("owner", "a", now)

    assert refusal.value.code == "mfa_too_many_devices"


def test_confirm_totp_right_code_activates_and_gives_ten_codes(now: datetime, phone: Phone) -> None:
    enrolment = service.begin_totp("owner", "a", now)
    pending = service.has_second_factor("owner")

    outcome = service.confirm_totp("owner", enrolment.id, phone(enrolment.secret), now)

    assert not pending
    assert isinstance(outcome, service.Confirmed)
    assert len(outcome.recovery_codes) == 10
    assert service.has_second_factor("owner")
    assert [factor.kind for factor in service.factors("owner")] == ["otp", "recovery"]


def test_confirm_totp_consumes_the_step(now: datetime, phone: Phone) -> None:
    enrolment = service.begin_totp("owner", "a", now)
    code = phone(enrolment.secret)
    service.confirm_totp("owner", enrolment.id, code, now)

    assert service.verify_totp("owner", code, now) == service.WrongCode()


def test_confirm_totp_twice_is_refused_and_keeps_the_first_codes(now: datetime, phone: Phone) -> None:
    enrolment = service.begin_totp("owner", "a", now)
    first = service.confirm_totp("owner", enrolment.id, phone(enrolment.secret), now)
    assert isinstance(first, service.Confirmed)

    second = service.confirm_totp("owner", enrolment.id, phone(enrolment.secret, offset=1), now)

    assert second == service.WrongCode()
    assert isinstance(service.verify_recovery("owner", first.recovery_codes[0], now), service.Verified)


@pytest.mark.parametrize("raw", ["", "000000x", "482_910", "+12345"])
def test_confirm_totp_malformed_code_is_wrong(raw: str, now: datetime) -> None:
    enrolment = service.begin_totp("owner", "a", now)

    assert service.confirm_totp("owner", enrolment.id, raw, now) == service.WrongCode()


def test_confirm_totp_wrong_clock_says_how_many_minutes(now: datetime, phone: Phone) -> None:
    enrolment = service.begin_totp("owner", "a", now)

    outcome = service.confirm_totp("owner", enrolment.id, phone(enrolment.secret, offset=-8), now)

    assert outcome == service.WrongCode(clock_minutes=4)
    assert not service.has_second_factor("owner")
    assert RecoveryCode.objects.count() == 0


def test_confirm_totp_of_another_owner_is_refused(now: datetime, phone: Phone) -> None:
    enrolment = service.begin_totp("owner", "a", now)

    outcome = service.confirm_totp("thief", enrolment.id, phone(enrolment.secret), now)

    assert outcome == service.WrongCode()
    assert not service.has_second_factor("owner")
    assert not service.has_second_factor("thief")


def test_confirm_totp_unknown_enrolment_is_refused(now: datetime) -> None:
    assert service.confirm_totp("owner", uuid.uuid4(), "482910", now) == service.WrongCode()


def test_pending_enrolment_is_no_factor(now: datetime, phone: Phone) -> None:
    enrolment = service.begin_totp("owner", "a", now)

    assert service.factors("owner") == ()
    assert service.verify_totp("owner", phone(enrolment.secret), now) == service.WrongCode()


# -- verification -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_verify_totp_within_one_step_is_verified(offset: int, now: datetime, phone: Phone) -> None:
    device = service.import_totp("owner", SECRET, now)

    outcome = service.verify_totp("owner", phone(SECRET, offset=offset), now)

    assert outcome == service.Verified(factor_id=device, kind=service.FactorKind.TOTP)
    assert service.factors("owner")[0].last_used_at == now


def test_verify_totp_in_arabic_digits_is_verified(now: datetime, phone: Phone) -> None:
    service.import_totp("owner", SECRET, now)
    code = phone(SECRET).translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))

    assert isinstance(
        service.verify_totp("owner", f"\u200f{code[:3]}\u00a0{code[3:]}", now), service.Verified
    )


def test_verify_totp_same_code_twice_is_refused_a34(now: datetime, phone: Phone) -> None:
    service.import_totp("owner", SECRET, now)
    code = phone(SECRET)
    service.verify_totp("owner", code, now)

    again = [service.verify_totp("owner", code, now + timedelta(seconds=wait)) for wait in (0, 5, 30, 300)]

    assert again == [service.WrongCode()] * 4


def test_verify_totp_after_success_older_steps_are_refused_a34(now: datetime, phone: Phone) -> None:
    service.import_totp("owner", SECRET, now)
    service.verify_totp("owner", phone(SECRET, offset=1), now)

    older = [service.verify_totp("owner", phone(SECRET, offset=offset), now) for offset in (-1, 0, 1)]

    assert older == [service.WrongCode()] * 3


def test_verify_totp_next_code_after_success_is_verified(now: datetime, phone: Phone) -> None:
    service.import_totp("owner", SECRET, now)
    service.verify_totp("owner", phone(SECRET), now)
    later = now + timedelta(seconds=30)

    assert isinstance(service.verify_totp("owner", phone(SECRET, later), later), service.Verified)


@pytest.mark.parametrize(
    ("offset", "minutes"), [(2, 1), (-3, 2), (10, 5), (-10, 5), (11, None), (-300, None)]
)
def test_verify_totp_beyond_drift_is_refused_with_help_a34(
    offset: int, minutes: int | None, now: datetime, phone: Phone
) -> None:
    service.import_totp("owner", SECRET, now)

    assert service.verify_totp("owner", phone(SECRET, offset=offset), now) == service.WrongCode(minutes)


def test_verify_totp_code_that_got_help_stays_wrong_when_its_time_comes(now: datetime, phone: Phone) -> None:
    service.import_totp("owner", SECRET, now)
    code = phone(SECRET, offset=4)
    service.verify_totp("owner", code, now)
    then = now + timedelta(seconds=120)

    outcome = service.verify_totp("owner", code, then)

    assert outcome == service.WrongCode()
    assert isinstance(service.verify_totp("owner", phone(SECRET, then, 1), then), service.Verified)


def test_verify_totp_help_is_given_again_for_the_same_code(now: datetime, phone: Phone) -> None:
    service.import_totp("owner", SECRET, now)
    code = phone(SECRET, offset=4)
    first = service.verify_totp("owner", code, now)

    assert service.verify_totp("owner", code, now) == first == service.WrongCode(2)


def test_verify_totp_of_another_owner_is_refused_a34(now: datetime, phone: Phone) -> None:
    service.import_totp("owner", SECRET, now)
    service.import_totp("thief", OTHER_SECRET, now)

    assert service.verify_totp("thief", phone(SECRET), now) == service.WrongCode()
    assert isinstance(service.verify_totp("owner", phone(SECRET), now), service.Verified)


def test_verify_totp_of_nobody_is_refused(now: datetime) -> None:
    assert service.verify_totp("nobody", "482910", now) == service.WrongCode()


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET], ids=["first-device", "second-device"])
def test_verify_totp_with_two_devices_takes_either(secret: str, now: datetime, phone: Phone) -> None:
    devices = {name: service.import_totp("owner", name, now) for name in (SECRET, OTHER_SECRET)}

    outcome = service.verify_totp("owner", phone(secret), now)

    assert outcome == service.Verified(factor_id=devices[secret], kind=service.FactorKind.TOTP)


def test_verify_totp_for_an_eight_digit_device_wants_eight(now: datetime, phone: Phone) -> None:
    service.import_totp("owner", SECRET, now)
    TOTPDevice.objects.update(digits=8)

    assert service.verify_totp("owner", phone(SECRET), now) == service.WrongCode()


# -- damaged rows -------------------------------------------------------------------------------------------


def test_verify_totp_damaged_secret_raises(now: datetime, phone: Phone) -> None:
    service.import_totp("owner", SECRET, now)
    device = TOTPDevice.objects.get()
    TOTPDevice.objects.update(secret=bytes(device.secret)[:-1] + bytes([bytes(device.secret)[-1] ^ 1]))

    with pytest.raises(service.MFAError) as refusal:
        service.verify_totp("owner", phone(SECRET), now)

    assert refusal.value.code == "mfa_damaged_secret"


def test_verify_totp_ciphertext_of_another_row_raises_for_both(now: datetime, phone: Phone) -> None:
    service.import_totp("owner", SECRET, now)
    service.import_totp("thief", OTHER_SECRET, now)
    sealed = {device.owner: bytes(device.secret) for device in TOTPDevice.objects.all()}
    TOTPDevice.objects.filter(owner="owner").update(secret=sealed["thief"])
    TOTPDevice.objects.filter(owner="thief").update(secret=sealed["owner"])

    for owner, secret in (("owner", OTHER_SECRET), ("thief", SECRET)):
        with pytest.raises(service.MFAError):
            service.verify_totp(owner, phone(secret), now)


def test_verify_totp_row_given_to_another_owner_raises(now: datetime, phone: Phone) -> None:
    service.import_totp("thief", SECRET, now)
    TOTPDevice.objects.update(owner="owner")

    with pytest.raises(service.MFAError):
        service.verify_totp("owner", phone(SECRET), now)


def test_verify_totp_one_damaged_device_does_not_stop_the_other(
    now: datetime, phone: Phone, caplog: pytest.LogCaptureFixture
) -> None:
    broken = service.import_totp("owner", SECRET, now)
    service.import_totp("owner", OTHER_SECRET, now + timedelta(seconds=1))
    TOTPDevice.objects.filter(id=broken).update(secret=b"")

    with caplog.at_level(logging.ERROR):
        outcome = service.verify_totp("owner", phone(OTHER_SECRET), now)

    assert isinstance(outcome, service.Verified)
    assert str(broken) in caplog.text
    assert SECRET not in caplog.text


# -- import and removal ---------------------------------------------------------------------------------------


def test_import_totp_twice_is_one_device_that_remembers_its_steps(now: datetime, phone: Phone) -> None:
    first = service.import_totp("owner", SECRET, now)
    code = phone(SECRET)
    service.verify_totp("owner", code, now)

    second = service.import_totp("owner", "gezd gnbv gy3t qojq gezd gnbv gy3t qojq", now)

    assert second == first
    assert service.verify_totp("owner", code, now) == service.WrongCode()


@pytest.mark.parametrize("secret", ["", "not base32!", "AAAA", "GEZDGNBVGY3TQOJQGEZDGNB1", "أحمد"])
def test_import_totp_unusable_secret_is_refused(secret: str, now: datetime) -> None:
    with pytest.raises(service.MFAError) as refusal:
        service.import_totp("owner", secret, now)

    assert refusal.value.code == "mfa_bad_secret"
    assert TOTPDevice.objects.count() == 0


def test_remove_factor_of_its_owner_is_gone(now: datetime, phone: Phone) -> None:
    device = service.import_totp("owner", SECRET, now)

    removed = service.remove_factor("owner", device)

    assert removed
    assert not service.has_second_factor("owner")
    assert service.verify_totp("owner", phone(SECRET), now) == service.WrongCode()


def test_remove_factor_of_another_owner_is_refused(now: datetime) -> None:
    device = service.import_totp("owner", SECRET, now)

    assert not service.remove_factor("thief", device)
    assert service.has_second_factor("owner")


# -- what the database refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "state", "confirmed"),
    [
        pytest.param("owner", "pending", False, id="totp_one_pending"),
        pytest.param("new", "active", False, id="totp_active_is_confirmed"),
        pytest.param("new", "pending", True, id="totp_active_is_confirmed-pending"),
        pytest.param("new", "locked", True, id="totp_active_is_confirmed-unknown-state"),
        pytest.param("", "active", True, id="totp_owner_present"),
    ],
)
def test_totp_device_constraint_trips(owner: str, state: str, confirmed: bool, now: datetime) -> None:
    service.begin_totp("owner", "a", now)

    with pytest.raises(IntegrityError), transaction.atomic():
        TOTPDevice.objects.create(
            owner=owner,
            state=state,
            secret=b"",
            key_id="2026",
            created_at=now,
            confirmed_at=now if confirmed else None,
        )
