"""Offices, roles, applications, and who holds what where, from when to when."""

import re
from typing import ClassVar

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import F, Q

from .policy import Admits, SecondFactor

OFFICE_CODE = r"[A-Z][A-Z0-9-]{1,15}"
APPLICATION_CODE = r"[a-z][a-z0-9-]{1,31}"
ROLE_CODE = rf"({APPLICATION_CODE}\.)?[a-z][a-z0-9_-]{{1,47}}"


def _matches(pattern: str) -> RegexValidator:
    return RegexValidator(rf"\A{pattern}\Z", flags=re.ASCII)


class Names(models.Model):
    """A name in the three official languages."""

    name_ar = models.CharField(max_length=200)
    name_fr = models.CharField(max_length=200)
    name_en = models.CharField(max_length=200)

    class Meta:
        abstract = True

    def name_in(self, language: str) -> str:
        """Return the name in a language, Arabic where the language is none of ours."""
        return str(getattr(self, f"name_{language}", "") or self.name_ar)


class Office(Names):
    """A place or unit of the organisation. The code stays when names change."""

    class Kind(models.TextChoices):
        HEADQUARTERS = "headquarters"
        DEPARTMENT = "department"
        POLITICAL = "political"
        HUMANITARIAN = "humanitarian"
        PARTNER = "partner"
        DELEGATION = "delegation"
        TEST = "test"

    code = models.CharField(max_length=16, unique=True, validators=[_matches(OFFICE_CODE)])
    parent = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="children"
    )
    kind = models.CharField(max_length=16, choices=Kind)
    time_zone = models.CharField(max_length=64, default="Asia/Riyadh")
    second_factor = models.CharField(
        max_length=8, blank=True, default="", choices=[(item.value, item.name) for item in SecondFactor]
    )

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(parent=None) | ~Q(parent=F("id")), name="office_not_own_parent"
            ),
        ]

    def __str__(self) -> str:
        return self.code


class OfficeState(models.Model):
    """From when on an office is in which state; the latest one in the past counts."""

    class State(models.TextChoices):
        PLANNED = "planned"
        OPEN = "open"
        LIMITED = "limited"
        EVACUATED = "evacuated"
        CLOSED = "closed"

    office = models.ForeignKey(Office, on_delete=models.CASCADE, related_name="states")
    state = models.CharField(max_length=16, choices=State)
    since = models.DateTimeField()
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["office", "since"], name="office_state_once"),
        ]

    def __str__(self) -> str:
        return f"{self.office_id} {self.state}"


class Role(Names):
    """Something a person may be, in an office. `application.role`, or a bare code for the organisation's."""

    code = models.CharField(max_length=80, unique=True, validators=[_matches(ROLE_CODE)])
    application = models.ForeignKey(
        "Application", on_delete=models.PROTECT, null=True, blank=True, related_name="roles"
    )
    is_staff = models.BooleanField(default=False)
    second_factor = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(application=None) & ~Q(code__contains=".")
                | Q(application__isnull=False) & Q(code__contains="."),
                name="role_code_says_whose",
            ),
        ]

    def __str__(self) -> str:
        return self.code


class Application(Names):
    """A system that delegates its sign-in here, and whom it lets in."""

    code = models.CharField(max_length=32, unique=True, validators=[_matches(APPLICATION_CODE)])
    owner_contact = models.CharField(max_length=200, blank=True)
    url = models.CharField(max_length=500, blank=True)
    admits = models.CharField(
        max_length=8, default=Admits.EVERYONE.value, choices=[(item.value, item.name) for item in Admits]
    )
    admitted_roles = models.ManyToManyField(Role, blank=True, related_name="admitted_by")
    second_factor = models.BooleanField(default=False)
    factor_max_age_seconds = models.PositiveIntegerField(null=True, blank=True)

    def __str__(self) -> str:
        return self.code


class Assignment(models.Model):
    """A person holds a role in an office (and below it) from one instant to another.

    Two of the same person, role, office, subtree and source cannot overlap: the database says so
    (exclusion constraint on PostgreSQL, triggers on SQLite; migration 0002). A revoked one ends, and stays.
    """

    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="assignments")
    role = models.ForeignKey(Role, on_delete=models.PROTECT, related_name="assignments")
    office = models.ForeignKey(Office, on_delete=models.PROTECT, related_name="assignments")
    subtree = models.BooleanField(default=False)
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField(null=True, blank=True)
    source = models.CharField(max_length=80, default="manual")
    reason = models.CharField(max_length=200, blank=True)
    ticket = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["person", "valid_until"], name="assignment_by_person"),
            models.Index(fields=["role", "office"], name="assignment_by_role"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(valid_until=None) | Q(valid_until__gte=F("valid_from")),
                name="assignment_ends_after",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role_id} in {self.office_id}"


class Posting(models.Model):
    """Where a person works. One home at a time; other kinds come with the access issue."""

    class Kind(models.TextChoices):
        HOME = "home"

    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="postings")
    office = models.ForeignKey(Office, on_delete=models.PROTECT, related_name="postings")
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.HOME)
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField(null=True, blank=True)
    source = models.CharField(max_length=80)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["person"], condition=Q(kind="home", valid_until=None), name="posting_one_home"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.person_id} at {self.office_id}"


_GROUP_KEY = ("source", "group", "ou", "attribute", "attribute_value", "role", "subtree")


class GroupMapping(models.Model):
    """Members of directory groups hold a role: in a fixed office, or in their home office when none is named.

    `group` is a name, a DN or an immutable id, and may have wildcards, as may `ou` and `attribute_value`, which
    narrow the rule to entries below such a unit, or with such a value (`access.placement`).
    """

    source = models.CharField(max_length=64)
    group = models.CharField(max_length=256)
    ou = models.CharField(max_length=200, blank=True, default="")
    attribute = models.CharField(max_length=64, blank=True, default="")
    attribute_value = models.CharField(max_length=200, blank=True, default="")
    role = models.ForeignKey(Role, on_delete=models.PROTECT, related_name="group_mappings")
    office = models.ForeignKey(
        Office, on_delete=models.PROTECT, null=True, blank=True, related_name="group_mappings"
    )
    subtree = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=[*_GROUP_KEY, "office"], name="group_mapping_once"),
            models.UniqueConstraint(
                fields=_GROUP_KEY,
                condition=Q(office=None),
                name="group_mapping_home_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.group} -> {self.role_id}"


class OfficeMapping(models.Model):
    """Which office a directory's unit, or the value of an attribute, stands for; with neither, the default.

    `unit_id` is learnt as soon as exactly one unit has the name `ou`: from then on a new name moves nobody.
    """

    source = models.CharField(max_length=64)
    unit_id = models.CharField(max_length=64, blank=True, default="")
    ou = models.CharField(max_length=200, blank=True)
    attribute = models.CharField(max_length=64, blank=True, default="")
    attribute_value = models.CharField(max_length=200, blank=True)
    office = models.ForeignKey(Office, on_delete=models.PROTECT, related_name="directory_mappings")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["source", "ou", "attribute", "attribute_value"], name="office_mapping_once"
            ),
            models.CheckConstraint(
                condition=~Q(ou="") & Q(attribute="", attribute_value="")
                | Q(ou="", unit_id="") & (~Q(attribute_value="") | Q(attribute="")),
                name="office_mapping_one_key",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.ou or self.attribute_value or 'default'} -> {self.office_id}"
