"""A recovery code is good once, for one person, and a guess costs one slow hash (US-09; A37)."""

import hashlib
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType

import pytest
from django.db import IntegrityError, transaction

from mfa import service
from mfa.models import RecoveryCode, RecoverySet

pytestmark = pytest.mark.django_db

WELL_FORMED = "-BCDF-GHJK-MNPQ-RSTV"


@pytest.fixture
def codes(now: datetime) -> tuple[str, ...]:
    return service.replace_recovery_codes("owner", now)


@contextmanager
def counted_hashes() -> Iterator[list[str]]:
    """Count real calls of the slow hash, without standing in for it."""
    calls: list[str] = []

    def watch(_frame: FrameType, event: str, argument: object) -> None:
        if event == "c_call" and argument is hashlib.scrypt:
            calls.append("scrypt")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def test_verify_recovery_right_code_is_verified_and_counted(codes: tuple[str, ...], now: datetime) -> None:
    outcome = service.verify_recovery("owner", codes[2], now)

    sheet = RecoverySet.objects.get()
    assert outcome == service.Verified(factor_id=sheet.set_id, kind=service.FactorKind.RECOVERY)
    assert sheet.last_used_at == now
    assert service.remaining_recovery_codes("owner") == 9


def test_verify_recovery_last_line_of_the_sheet_is_verified(codes: tuple[str, ...], now: datetime) -> None:
    assert isinstance(service.verify_recovery("owner", codes[9], now), service.Verified)


def test_verify_recovery_written_otherwise_is_verified(codes: tuple[str, ...], now: datetime) -> None:
    typed = "٥" + codes[4][1:].lower().replace("-", " ")

    assert isinstance(service.verify_recovery("owner", typed, now), service.Verified)


@pytest.mark.parametrize("rewrite", [str, str.lower, lambda code: code.replace("-", "")])
def test_verify_recovery_used_code_is_refused_however_written_a37(
    rewrite: type[str], codes: tuple[str, ...], now: datetime
) -> None:
    service.verify_recovery("owner", codes[0], now)

    assert service.verify_recovery("owner", rewrite(codes[0]), now) == service.WrongCode()


def test_verify_recovery_of_another_account_is_refused_a37(codes: tuple[str, ...], now: datetime) -> None:
    service.replace_recovery_codes("thief", now)

    assert service.verify_recovery("thief", codes[0], now) == service.WrongCode()
    assert service.remaining_recovery_codes("owner") == 10
    assert service.remaining_recovery_codes("thief") == 10


def test_verify_recovery_under_another_index_is_refused_a37(codes: tuple[str, ...], now: datetime) -> None:
    assert service.verify_recovery("owner", "2" + codes[0][1:], now) == service.WrongCode()


def test_verify_recovery_row_copied_to_another_owner_is_refused(
    codes: tuple[str, ...], now: datetime
) -> None:
    RecoverySet.objects.update(owner="thief")
    RecoverySet.objects.filter(owner="owner").delete()
    RecoveryCode.objects.update(owner="thief")

    assert service.verify_recovery("thief", codes[0], now) == service.WrongCode()


def test_replace_recovery_codes_ends_the_older_sheet(codes: tuple[str, ...], now: datetime) -> None:
    newer = service.replace_recovery_codes("owner", now)

    assert service.verify_recovery("owner", codes[0], now) == service.WrongCode()
    assert isinstance(service.verify_recovery("owner", newer[0], now), service.Verified)
    assert RecoveryCode.objects.count() == 10


def test_recovery_codes_alone_are_no_second_factor(codes: tuple[str, ...]) -> None:
    assert not service.has_second_factor("owner")
    assert [factor.kind for factor in service.factors("owner")] == ["recovery"]


def test_recovery_codes_used_up_are_no_longer_listed(codes: tuple[str, ...], now: datetime) -> None:
    RecoveryCode.objects.update(used_at=now)

    assert service.factors("owner") == ()


def test_recovery_codes_are_stored_by_hash_only(codes: tuple[str, ...]) -> None:
    stored = b"".join(bytes(row.salt) + bytes(row.hash) for row in RecoveryCode.objects.all())

    assert not any(code.split("-", 1)[1].replace("-", "").encode() in stored for code in codes)


@pytest.mark.parametrize(
    ("owner", "raw"),
    [
        pytest.param("owner", f"3{WELL_FORMED}", id="wrong-code"),
        pytest.param("owner", f"11{WELL_FORMED}", id="unknown-index"),
        pytest.param("nobody", f"3{WELL_FORMED}", id="unknown-owner"),
    ],
)
def test_verify_recovery_guess_costs_one_slow_hash_a37(
    owner: str, raw: str, codes: tuple[str, ...], now: datetime
) -> None:
    with counted_hashes() as calls:
        outcome = service.verify_recovery(owner, raw, now)

    assert outcome == service.WrongCode()
    assert len(calls) == 1


def test_verify_recovery_used_and_right_codes_cost_one_slow_hash(
    codes: tuple[str, ...], now: datetime
) -> None:
    with counted_hashes() as first:
        service.verify_recovery("owner", codes[0], now)
    with counted_hashes() as second:
        service.verify_recovery("owner", codes[0], now)

    assert (len(first), len(second)) == (1, 1)


@pytest.mark.parametrize("raw", ["", "482910", "BCDF-GHJK-MNPQ-RSTV", "3" * 1_000_000, "\x00"])
def test_verify_recovery_malformed_costs_no_hash(raw: str, codes: tuple[str, ...], now: datetime) -> None:
    with counted_hashes() as calls:
        outcome = service.verify_recovery("owner", raw, now)

    assert outcome == service.WrongCode()
    assert calls == []


def test_verify_recovery_unknown_scheme_raises(codes: tuple[str, ...], now: datetime) -> None:
    RecoveryCode.objects.update(scheme="scrypt-1-1-1")

    with pytest.raises(service.MFAError) as refusal:
        service.verify_recovery("owner", codes[0], now)

    assert refusal.value.code == "mfa_unknown_scheme"


def test_remove_factor_of_a_sheet_removes_every_code(codes: tuple[str, ...], now: datetime) -> None:
    sheet = service.factors("owner")[0].id

    assert not service.remove_factor("thief", sheet)
    assert service.remove_factor("owner", sheet)
    assert RecoveryCode.objects.count() == 0
    assert service.verify_recovery("owner", codes[0], now) == service.WrongCode()


@pytest.mark.parametrize("index", [0, 1, 100], ids=["below", "recovery_index_once", "above"])
def test_recovery_code_constraint_trips(index: int, codes: tuple[str, ...], now: datetime) -> None:
    sheet = RecoverySet.objects.get()

    with pytest.raises(IntegrityError), transaction.atomic():
        RecoveryCode.objects.create(
            owner="owner", set_id=sheet.set_id, index=index, scheme="x", salt=b"", hash=b"", created_at=now
        )


def test_recovery_set_constraint_two_owners_cannot_share_one(codes: tuple[str, ...], now: datetime) -> None:
    sheet = RecoverySet.objects.get()

    with pytest.raises(IntegrityError), transaction.atomic():
        RecoverySet.objects.create(owner="thief", set_id=sheet.set_id, created_at=now)


def test_remove_factor_unknown_is_false() -> None:
    assert not service.remove_factor("owner", uuid.uuid4())
