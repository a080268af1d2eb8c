"""Second factors: the one face of this package.

`owner` is an opaque name of at most 64 characters; the caller decides who that is, counts failures and writes
the audit. Everything a person can cause is a value; MFAError means that a factor cannot be judged at all and
that the caller must refuse.

Every act is one conditional statement whose row count is checked, or one transaction that joins the
caller's. If the caller's transaction is undone after an answer of Verified, the code was never used.
"""

import base64
import logging
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from mfa import recovery, totp
from mfa.errors import MFAError
from mfa.models import DeviceState, RecoveryCode, RecoverySet, TOTPDevice
from mfa.qr import build_qr_svg
from mfa.secrets import Place, SealedSecret, current_key_id, open_secret, seal_secret

__all__ = [
    "Confirmed",
    "Factor",
    "FactorKind",
    "MFAError",
    "TOTPEnrolment",
    "Verified",
    "WrongCode",
    "begin_totp",
    "confirm_totp",
    "factors",
    "has_second_factor",
    "import_totp",
    "reencrypt",
    "remaining_recovery_codes",
    "remove_factor",
    "replace_recovery_codes",
    "verify_recovery",
    "verify_totp",
]

logger = logging.getLogger(__name__)

# A reload within this time shows the same secret; later a new one, so that what somebody saw (or asked for)
# on an abandoned page is not what the person enrols next week.
PENDING_LIFE = timedelta(hours=1)
# One check opens every device of the owner; nobody carries more, and a number must bound it.
DEVICES_MAX = 10
# 160 bits, what RFC 4226 §4 R6 recommends and HMAC-SHA-1 can use.
SECRET_BYTES = 20
SECRET_BYTES_MIN = 16  # RFC 4226 §4 R6, for imported ones
LABEL_LENGTH_MAX = 64


class FactorKind(StrEnum):
    """What a second factor is; the value is what `amr` is made from (RFC 8176 registers `otp`)."""

    TOTP = "otp"
    RECOVERY = "recovery"


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor of one owner, as it may be listed."""

    kind: FactorKind
    id: uuid.UUID
    created_at: datetime
    last_used_at: datetime | None
    label: str


@dataclass(frozen=True, slots=True)
class TOTPEnrolment:
    """What the enrolment page shows. Secret: show it to its owner, store and log nothing of it."""

    id: uuid.UUID
    secret: str
    secret_grouped: str
    uri: str
    qr_svg: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The authenticator is active. The codes are shown now and never again."""

    recovery_codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """The code was right and is used up."""

    factor_id: uuid.UUID
    kind: FactorKind


@dataclass(frozen=True, slots=True)
class WrongCode:
    """The code was wrong, used before, or malformed.

    `clock_minutes` is set where the code would have been right on a clock that is off by about so much.
    """

    clock_minutes: int | None = None


# -- what there is ----------------------------------------------------------------------------------------


def factors(owner: str) -> tuple[Factor, ...]:
    """Return the confirmed factors of an owner, oldest first; recovery codes, if any are left, last."""
    devices = _active(owner)
    found = [
        Factor(FactorKind.TOTP, device.id, device.created_at, device.last_used_at, device.label)
        for device in devices
    ]
    sheet = RecoverySet.objects.filter(owner=owner).first()
    if sheet is not None and remaining_recovery_codes(owner):
        found.append(Factor(FactorKind.RECOVERY, sheet.set_id, sheet.created_at, sheet.last_used_at, ""))
    return tuple(found)


def has_second_factor(owner: str) -> bool:
    """Say whether an owner has a confirmed second factor; recovery codes alone are none."""
    return TOTPDevice.objects.filter(owner=owner, state=DeviceState.ACTIVE).exists()


def remaining_recovery_codes(owner: str) -> int:
    """Return how many unused recovery codes an owner has."""
    return RecoveryCode.objects.filter(
        owner=owner, used_at__isnull=True, set_id__in=RecoverySet.objects.filter(owner=owner).values("set_id")
    ).count()


# -- enrolment --------------------------------------------------------------------------------------------


def begin_totp(owner: str, account_label: str, now: datetime) -> TOTPEnrolment:
    """Return the pending enrolment of an owner, made now if there is none from the last hour.

    Idempotent within that hour: a reload, or two at once, show one secret. `account_label` is what the phone
    shows beside the issuer. Raises MFAError if the owner has DEVICES_MAX authenticators already.
    """
    expired = TOTPDevice.objects.filter(
        owner=owner, state=DeviceState.PENDING, created_at__lte=now - PENDING_LIFE
    )
    expired.delete()
    device = _pending(owner)
    if device is None:
        if TOTPDevice.objects.filter(owner=owner).count() >= DEVICES_MAX:
            raise MFAError("mfa_too_many_devices", f"an owner has {DEVICES_MAX} authenticators already")
        secret = base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()
        try:
            with transaction.atomic():
                device = _store(owner, secret, DeviceState.PENDING, now)
        except IntegrityError:  # the same page loaded twice at once: both must show what was stored first
            device = TOTPDevice.objects.get(owner=owner, state=DeviceState.PENDING)
    secret = _open(device)
    uri = totp.build_uri(secret, account_label[:LABEL_LENGTH_MAX], settings.MFA_ISSUER_NAME)
    return TOTPEnrolment(
        id=device.id,
        secret=secret,
        secret_grouped=totp.group_secret(secret),
        uri=uri,
        qr_svg=build_qr_svg(uri),
    )


def confirm_totp(owner: str, enrolment_id: uuid.UUID, raw_code: str, now: datetime) -> Confirmed | WrongCode:
    """Activate a pending enrolment by one right code and make the owner's ten recovery codes. Atomic.

    The code is used up by it. Older recovery codes stop working. An enrolment that is unknown, somebody
    else's or already active is a wrong code.
    """
    device = TOTPDevice.objects.filter(id=enrolment_id, owner=owner, state=DeviceState.PENDING).first()
    if device is None:
        return WrongCode()
    code = totp.normalise_code(raw_code, device.digits)
    if code is None:
        return WrongCode()
    secret = _open(device)
    step = totp.matching_step(secret, code, now, shape=_shape(device))
    if step is None:
        return WrongCode(_clock_help(device, secret, code, now))
    set_id = uuid.uuid4()
    codes = recovery.make_codes(owner, str(set_id))
    with transaction.atomic():
        activated = TOTPDevice.objects.filter(
            id=device.id, owner=owner, state=DeviceState.PENDING, last_step__lt=step
        ).update(state=DeviceState.ACTIVE, confirmed_at=now, last_used_at=now, last_step=step)
        if activated != 1:
            return WrongCode()
        _store_recovery_codes(owner, set_id, codes, now)
    return Confirmed(recovery_codes=codes.shown)


def import_totp(owner: str, secret_base32: str, now: datetime) -> uuid.UUID:
    """Store a secret that exists elsewhere as an active authenticator, without recovery codes; return its id.

    For sample people and moves from another system. Idempotent: a secret the owner already has is left as
    it is, with the steps it has used. Raises MFAError for a secret that is no base32 or under 128 bits.
    """
    secret = "".join(secret_base32.split()).upper().rstrip("=")
    try:
        length = len(base64.b32decode(secret + "=" * (-len(secret) % 8)))
    except ValueError as error:
        raise MFAError("mfa_bad_secret", "the secret to import is no base32") from error
    if length < SECRET_BYTES_MIN:
        raise MFAError("mfa_bad_secret", f"the secret to import has fewer than {SECRET_BYTES_MIN} bytes")
    for device in _active(owner):
        if secrets.compare_digest(_open(device), secret):
            return device.id
    return _store(owner, secret, DeviceState.ACTIVE, now).id


def replace_recovery_codes(owner: str, now: datetime) -> tuple[str, ...]:
    """Make ten new recovery codes, to be shown once; every older one stops working. Atomic."""
    set_id = uuid.uuid4()
    codes = recovery.make_codes(owner, str(set_id))
    _store_recovery_codes(owner, set_id, codes, now)
    return codes.shown


def remove_factor(owner: str, factor_id: uuid.UUID) -> bool:
    """Remove an authenticator, or the sheet of recovery codes, of this owner; say whether it was there."""
    removed, _ = TOTPDevice.objects.filter(id=factor_id, owner=owner).delete()
    if removed:
        return True
    with transaction.atomic():
        removed, _ = RecoverySet.objects.filter(set_id=factor_id, owner=owner).delete()
        RecoveryCode.objects.filter(set_id=factor_id, owner=owner).delete()
    return removed > 0


# -- verification -----------------------------------------------------------------------------------------


def verify_totp(owner: str, raw_code: str, now: datetime) -> Verified | WrongCode:
    """Check a code against every authenticator of an owner and use it up.

    One step of drift each way; a step is accepted once, and none before it afterwards, also in parallel.
    A device that cannot be opened does not stop the others; if none takes the code, MFAError is raised.
    Spec: RFC 6238 §5.2
    """
    broken: MFAError | None = None
    minutes: int | None = None
    for device in _active(owner):
        code = totp.normalise_code(raw_code, device.digits)
        if code is None:
            continue
        try:
            secret = _open(device)
        except MFAError as error:
            logger.error("second factor refused: %s", error.hint)  # noqa: TRY400 -- the hint says all
            broken = error
            continue
        step = totp.matching_step(secret, code, now, shape=_shape(device))
        if step is None:
            minutes = _clock_help(device, secret, code, now) or minutes
        elif _consume_step(device, step, now):
            return Verified(factor_id=device.id, kind=FactorKind.TOTP)
    if broken is not None:
        raise broken
    return WrongCode(minutes)


def verify_recovery(owner: str, raw_code: str, now: datetime) -> Verified | WrongCode:
    """Check a recovery code of an owner and use it up, once, also in parallel.

    Any well-formed guess costs exactly one slow hash, whether that owner or line of the sheet exists or not.
    """
    typed = recovery.parse_code(raw_code)
    if typed is None:
        return WrongCode()
    row = RecoveryCode.objects.filter(
        owner=owner, index=typed.index, set_id__in=RecoverySet.objects.filter(owner=owner).values("set_id")
    ).first()
    if row is None:
        recovery.is_match(typed, recovery.absent_code(typed.index), place=owner)
        return WrongCode()
    stored = recovery.HashedCode(index=row.index, salt=bytes(row.salt), hash=bytes(row.hash))
    place = recovery.code_place(owner, str(row.set_id), row.index)
    try:
        matches = recovery.is_match(typed, stored, place=place, scheme=row.scheme)
    except ValueError as error:
        hint = f"recovery code {row.pk} has the unknown scheme {row.scheme!r}"
        raise MFAError("mfa_unknown_scheme", hint) from error
    if not matches:
        return WrongCode()
    with transaction.atomic():
        used = RecoveryCode.objects.filter(
            id=row.pk,
            owner=owner,
            used_at__isnull=True,
            set_id__in=RecoverySet.objects.filter(owner=owner).values("set_id"),
        ).update(used_at=now)
        if used != 1:
            return WrongCode()
        RecoverySet.objects.filter(owner=owner, set_id=row.set_id).update(last_used_at=now)
    return Verified(factor_id=row.set_id, kind=FactorKind.RECOVERY)


# -- keys -------------------------------------------------------------------------------------------------


def reencrypt(batch: int = 500) -> int:
    """Encrypt at most `batch` secrets anew that are not under the first key; return how many. Idempotent.

    Raises MFAError at the first secret that cannot be opened: its old key must not be thrown away.
    """
    stale = TOTPDevice.objects.exclude(key_id=current_key_id()).order_by("id")[:batch]
    done = 0
    for device in stale:
        sealed = seal_secret(_open(device), _place(device.id, device.owner))
        # Conditional on the old key: a second run at the same time must not undo anything.
        done += TOTPDevice.objects.filter(id=device.id, key_id=device.key_id).update(
            secret=sealed.sealed, key_id=sealed.key_id
        )
    return done


# -- inside -----------------------------------------------------------------------------------------------


def _place(device_id: uuid.UUID, owner: str) -> Place:
    return Place(table="mfa_totpdevice", row_id=str(device_id), owner=owner)


def _open(device: TOTPDevice) -> str:
    stored = SealedSecret(key_id=device.key_id, sealed=bytes(device.secret))
    return open_secret(stored, _place(device.id, device.owner))


def _shape(device: TOTPDevice) -> totp.CodeShape:
    return totp.CodeShape(digits=device.digits, period_seconds=device.period_seconds)


def _active(owner: str) -> QuerySet[TOTPDevice]:
    return TOTPDevice.objects.filter(owner=owner, state=DeviceState.ACTIVE).order_by("created_at", "id")


def _pending(owner: str) -> TOTPDevice | None:
    return TOTPDevice.objects.filter(owner=owner, state=DeviceState.PENDING).first()


def _store(owner: str, secret: str, state: DeviceState, now: datetime) -> TOTPDevice:
    device_id = uuid.uuid4()
    sealed = seal_secret(secret, _place(device_id, owner))
    return TOTPDevice.objects.create(
        id=device_id,
        owner=owner,
        secret=sealed.sealed,
        key_id=sealed.key_id,
        state=state,
        created_at=now,
        confirmed_at=now if state == DeviceState.ACTIVE else None,
    )


def _store_recovery_codes(owner: str, set_id: uuid.UUID, codes: recovery.NewCodes, now: datetime) -> None:
    with transaction.atomic():
        # Locks the owner's row, or waits for who makes it: of two replacements exactly one sheet is left.
        RecoverySet.objects.update_or_create(
            owner=owner, defaults={"set_id": set_id, "created_at": now, "last_used_at": None}
        )
        RecoveryCode.objects.filter(owner=owner).exclude(set_id=set_id).delete()
        RecoveryCode.objects.bulk_create(_recovery_rows(owner, set_id, codes, now))


def _recovery_rows(
    owner: str, set_id: uuid.UUID, codes: recovery.NewCodes, now: datetime
) -> Iterator[RecoveryCode]:
    for code in codes.hashed:
        yield RecoveryCode(
            owner=owner,
            set_id=set_id,
            index=code.index,
            scheme=recovery.SCHEME,
            salt=code.salt,
            hash=code.hash,
            created_at=now,
        )


def _consume_step(device: TOTPDevice, step: int, now: datetime) -> bool:
    taken = (
        TOTPDevice.objects.filter(id=device.id, state=DeviceState.ACTIVE, last_step__lt=step)
        .filter(~Q(hinted_step=step))
        .update(last_step=step, last_used_at=now)
    )
    return taken == 1


def _clock_help(device: TOTPDevice, secret: str, code: str, now: datetime) -> int | None:
    """Return by how many minutes the clock behind a wrong code is off, and make sure that code stays wrong.

    Without the second half a guess with any code of the next five minutes would be answered with "come back
    later", which makes guessing several times as good.
    """
    step = totp.drifted_step(secret, code, now, shape=_shape(device))
    if step is None or step <= device.last_step:  # an old code that was used says nothing about a clock
        return None
    if step != device.hinted_step:
        TOTPDevice.objects.filter(id=device.id).update(hinted_step=step)
    return totp.clock_offset_minutes(step, now, _shape(device))
