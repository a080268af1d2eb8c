"""What was read of the directories: entries by their immutable id, links of groups, and what waits for approval.

Written by `directory.store` only. No password, nor anything of one, is ever among the attributes.
"""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from directory.changes import Kind
from directory.plan import Wait


class SourceState(models.Model):
    """How far a directory was followed. `version` rises with each batch: whoever planned on an older one plans again."""

    source = models.CharField(max_length=64, primary_key=True)
    version = models.BigIntegerField(default=0)
    cookie = models.BinaryField(default=b"")
    # The entry at the base: another one there is another directory behind the same address.
    base_id = models.CharField(max_length=64, blank=True, default="")
    heard_at = models.DateTimeField(null=True)  # the directory said: you know everything
    applied_at = models.DateTimeField(null=True)  # the last batch that changed something
    completed_at = models.DateTimeField(null=True)  # the last whole comparison
    drift = models.JSONField(default=dict)  # what that comparison repaired
    sizes = models.JSONField(default=dict)  # of the last plan
    leader = models.CharField(max_length=200, blank=True, default="")
    # Why the last reading was not believed, and how many people it would have cost; empty when all is well.
    refusal = models.TextField(blank=True, default="")
    refused_people = models.PositiveIntegerField(default=0)
    refused_base = models.CharField(max_length=64, blank=True, default="")
    accepted_people = models.PositiveIntegerField(null=True)  # an administrator said that it may cost so many
    refused_at = models.DateTimeField(null=True)
    findings = models.JSONField(default=list)  # what is wrong with the set-up of the server
    trouble = models.TextField(blank=True, default="")  # what the directory or we could not do, in a sentence
    trouble_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.source


class Entry(models.Model):
    """A person, group or unit. Its name is its own RDN and its parent: a unit that is renamed is one row.

    Rows of people stay for ever: an immutable id that comes back is the same person. `attributes` holds the raw
    values that are mapped; it is emptied when a person was gone for thirty days.
    """

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=64)
    entry_id = models.CharField(max_length=64)
    kind = models.CharField(max_length=8, choices=[(item.value, item.name) for item in Kind])
    parent_id = models.BigIntegerField(null=True)  # not a foreign key: entries come in any order
    rdn = models.TextField()  # all of the DN where the parent is not known
    rdn_key = models.CharField(max_length=32)
    digest = models.BinaryField()
    name = models.CharField(
        max_length=256, blank=True, default=""
    )  # a person's login, folded; a group's name
    acts = models.BooleanField(default=False)  # the directory lets this person act, as far as the entry says
    ends_at = models.DateTimeField(null=True)  # from then on it does not
    office = models.CharField(max_length=16, blank=True, default="")
    attributes = models.TextField(default="{}")
    batch = models.BigIntegerField(default=0)  # the version of the source that wrote this last
    gone_at = models.DateTimeField(null=True)
    kept_at = models.DateTimeField(null=True)  # an administrator restored it: absence concludes nothing

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "entry_id"], name="entry_once"),
            models.CheckConstraint(condition=~Q(parent_id=F("id")), name="entry_not_own_parent"),
            models.CheckConstraint(condition=Q(kind="person") | Q(gone_at=None), name="entry_gone_is_person"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["parent_id", "rdn_key"], name="entry_by_name"),
            models.Index(fields=["source", "name"], condition=~Q(name=""), name="entry_by_own_name"),
            models.Index(fields=["source"], condition=Q(kind="group"), name="entry_groups"),
            models.Index(fields=["gone_at"], condition=Q(gone_at__isnull=False), name="entry_by_gone"),
            models.Index(
                fields=["ends_at"], condition=Q(acts=True, ends_at__isnull=False), name="entry_by_end"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source}:{self.entry_id}"


class Edge(models.Model):
    """A member of a group, by their rows. `given` is the number of the name that said so (`names.given`)."""

    id = models.BigAutoField(primary_key=True)
    group_id = models.BigIntegerField()
    member_id = models.BigIntegerField()
    given = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["group_id", "member_id"], name="edge_once"),
        ]
        indexes: ClassVar = [models.Index(fields=["member_id", "group_id"], name="edge_by_member")]

    def __str__(self) -> str:
        return f"{self.member_id} in {self.group_id}"


class Unresolved(models.Model):
    """A member whose name is nobody's yet; `member_key` is the key of the name (`names.key`)."""

    id = models.BigAutoField(primary_key=True)
    group_id = models.BigIntegerField()
    member_key = models.BinaryField()
    given = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["group_id", "given"], name="unresolved_once"),
        ]
        indexes: ClassVar = [models.Index(fields=["member_key"], name="unresolved_by_key")]

    def __str__(self) -> str:
        return f"somebody in {self.group_id}"


class Above(models.Model):
    """A group above another one, over any number of steps."""

    id = models.BigAutoField(primary_key=True)
    group_id = models.BigIntegerField()
    above_id = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["group_id", "above_id"], name="above_once")]
        indexes: ClassVar = [models.Index(fields=["above_id"], name="above_by_above")]

    def __str__(self) -> str:
        return f"{self.above_id} above {self.group_id}"


class Held(models.Model):
    """What a brake holds until an administrator approves it by repeating the number, or the directory takes it back."""

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=64)
    entry_id = models.CharField(max_length=64)
    wait = models.CharField(max_length=8, choices=[(item.value, item.name) for item in Wait])
    is_inferred = models.BooleanField(default=False)
    office = models.CharField(max_length=16, blank=True, default="")
    scope = models.CharField(max_length=16, blank=True, default="")
    reason = models.CharField(max_length=300)
    seen_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["source", "entry_id"], name="held_once")]

    def __str__(self) -> str:
        return f"{self.wait} of {self.source}:{self.entry_id}"


class Removal(models.Model):
    """Who lost access when: what the brakes count, `restore` looks for, and latencies are made of."""

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=64)
    entry_id = models.CharField(max_length=64)
    office = models.CharField(max_length=16, blank=True, default="")
    happening = models.CharField(max_length=16)
    is_inferred = models.BooleanField()
    is_approved = models.BooleanField(default=False)  # by an administrator: the brakes do not count it
    seen_at = models.DateTimeField()
    applied_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["source", "applied_at"], name="removal_by_time")]

    def __str__(self) -> str:
        return f"{self.happening} of {self.source}:{self.entry_id}"


class Recheck(models.Model):
    """People below a unit that was renamed or moved, to be described to the service again; `after_id` is how far that is."""

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=64)
    unit_id = models.BigIntegerField()
    after_id = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["source", "unit_id"], name="recheck_once")]

    def __str__(self) -> str:
        return f"people below {self.unit_id}"


class Population(models.Model):
    """How many people a source has in an office, those of no office under the empty code: what shares are taken of."""

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=64)
    office = models.CharField(max_length=16, blank=True, default="")
    people = models.IntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "office"], name="population_once"),
        ]

    def __str__(self) -> str:
        return f"{self.people} in {self.office or 'no office'}"
