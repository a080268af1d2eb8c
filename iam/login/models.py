"""What the sign-in remembers between two requests: failures, and which steps were answered already."""

from typing import ClassVar

from django.db import models


class ThrottleCounter(models.Model):
    """Failures of one account or one source with one kind of secret.

    Times are milliseconds since 1970, so that one statement with arithmetic in it means the same on both
    databases. Names that were typed are in `key` only as a digest: people type passwords into name fields.
    """

    key = models.CharField(max_length=160, primary_key=True)
    failures = models.PositiveIntegerField()
    blocked_until = models.BigIntegerField(default=0)
    last_at = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.key[:24]}: {self.failures}"


class StepReceipt(models.Model):
    """A step that was answered, for a browser that may not have received the answer and asks again.

    `answer_mac` ties it to what was typed: a retry is the same form once more, nothing else is.
    """

    key = models.CharField(max_length=64, primary_key=True)
    session_id = models.UUIDField()
    answer_mac = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["at"], name="step_receipt_by_time")]

    def __str__(self) -> str:
        return self.key[:8]
