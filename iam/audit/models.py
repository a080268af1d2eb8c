"""What happened, append-only; and beside it what may be forgotten one day.

The event's table has no foreign keys and refuses change in the database itself (migration 0001). Addresses,
names and free text are in AuditDetail, tied to the event by a salted commitment: erasing them later
leaves the event, and every hash over it, whole.
"""

from typing import ClassVar

from django.db import models


class AuditEvent(models.Model):
    """One thing that happened. Written by `record` only."""

    pk = models.CompositePrimaryKey("occurred_at", "id")
    occurred_at = models.DateTimeField()
    id = models.UUIDField()
    # Given by the database: the order of events, whatever the clocks say.
    sequence = models.BigIntegerField(unique=True)
    actor = models.CharField(max_length=160)
    on_behalf_of = models.CharField(max_length=160, blank=True)
    action = models.CharField(max_length=64)
    object = models.CharField(max_length=300, blank=True)
    outcome = models.CharField(max_length=16)
    reason = models.CharField(max_length=80, blank=True)
    method = models.CharField(max_length=300, blank=True)
    application = models.CharField(max_length=64, blank=True)
    office = models.CharField(max_length=64, blank=True)
    session = models.CharField(max_length=64, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    schema_version = models.PositiveSmallIntegerField()
    commitment = models.CharField(max_length=64, blank=True)
    canonical = models.BinaryField()

    class Meta:
        managed = False  # migration 0001 writes the table by hand, once per database
        db_table = "audit_auditevent"

    def __str__(self) -> str:
        return f"{self.sequence} {self.action} {self.outcome}"


class AuditDetail(models.Model):
    """Address, names and free text of one event; may be erased without touching it."""

    event_id = models.UUIDField(primary_key=True)
    occurred_at = models.DateTimeField()
    salt = models.BinaryField()
    details = models.JSONField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["occurred_at"], name="audit_detail_by_time")]

    def __str__(self) -> str:
        return str(self.event_id)


class RefusalTally(models.Model):
    """Refusals of somebody unknown, counted by minute, source, client and reason until the minute is over."""

    minute = models.DateTimeField()
    source = models.CharField(max_length=64)
    client = models.CharField(max_length=128, blank=True)
    reason = models.CharField(max_length=80)
    count = models.PositiveIntegerField(default=1)
    # Of the last one: who asks for help has this number.
    request_id = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["minute", "source", "client", "reason"], name="refusal_tally_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.minute} {self.reason} {self.count}"
