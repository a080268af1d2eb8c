"""What the sign-in remembers between two requests: failures."""

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
