"""Second factors at rest. `owner` is an opaque name given by the caller; nothing here knows people or roles.

Each kind of factor has a table of its own: what consumes a TOTP step, a recovery code or a passkey's
challenge has little in common but the owner.
"""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import Q


class DeviceState(models.TextChoices):
    """Whether a device has shown by one code that it holds the secret."""

    PENDING = "pending"
    ACTIVE = "active"


class TOTPDevice(models.Model):
    """One authenticator that shows time-based codes. Counts as a factor only once it is active."""

    # The id is chosen before the row exists: it is part of what authenticates the ciphertext.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.CharField(max_length=64, db_index=True)
    label = models.CharField(max_length=64, blank=True)
    secret = models.BinaryField()
    key_id = models.CharField(max_length=64)
    digits = models.PositiveSmallIntegerField(default=6)
    period_seconds = models.PositiveSmallIntegerField(default=30)
    state = models.CharField(max_length=8, choices=DeviceState.choices, default=DeviceState.PENDING)
    # The latest step that was ever accepted; only later ones are.
    last_step = models.BigIntegerField(default=-1)
    # A step for which the person was told that their clock is off. It might come true minutes later, and a
    # guess that was answered with that sentence must not be good then.
    hinted_step = models.BigIntegerField(default=-1)
    created_at = models.DateTimeField()
    confirmed_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["owner"], condition=Q(state=DeviceState.PENDING), name="totp_one_pending"
            ),
            models.CheckConstraint(
                condition=Q(state=DeviceState.PENDING, confirmed_at__isnull=True)
                | Q(state=DeviceState.ACTIVE, confirmed_at__isnull=False),
                name="totp_active_is_confirmed",
            ),
            models.CheckConstraint(condition=~Q(owner=""), name="totp_owner_present"),
        ]

    def __str__(self) -> str:
        return f"totp {self.id}"


class RecoverySet(models.Model):
    """The sheet of codes that is valid for one owner now; its row is what two replacements queue for."""

    owner = models.CharField(primary_key=True, max_length=64)
    set_id = models.UUIDField(unique=True)
    created_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"recovery codes {self.set_id}"


class RecoveryCode(models.Model):
    """One code of one sheet, by its hash. A used code stays until the sheet is replaced."""

    owner = models.CharField(max_length=64, db_index=True)
    set_id = models.UUIDField()
    # 1 to 10 as printed; a replacement of a used code takes the next free number, so that what is crossed
    # out on paper never becomes valid again.
    index = models.PositiveSmallIntegerField()
    scheme = models.CharField(max_length=32)
    salt = models.BinaryField()
    hash = models.BinaryField()
    created_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["owner", "set_id", "index"], name="recovery_index_once"),
            models.CheckConstraint(condition=Q(index__gte=1, index__lte=99), name="recovery_index_range"),
        ]

    def __str__(self) -> str:
        return f"recovery code {self.set_id} {self.index}"
