"""People as this service knows them, the directory entries behind them, and their sign-in sessions."""

import secrets
import uuid
from typing import ClassVar

from django.contrib.auth.models import AbstractBaseUser
from django.db import models
from django.db.models import Q


def new_sub() -> str:
    """Return a subject identifier: 160 random bits, never derived from a person's data, never reused."""
    return secrets.token_hex(20)


class User(AbstractBaseUser):
    """A person. Known to applications by `sub` only; what they are called elsewhere is a DirectoryLink."""

    # Passwords live in the directory. A column that could hold one is a column that one day will.
    password = None  # type: ignore[assignment]
    last_login = None

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    sub = models.CharField(max_length=64, unique=True, default=new_sub, editable=False)
    name_latin = models.CharField(max_length=200, blank=True)
    name_arabic = models.CharField(max_length=200, blank=True)
    email = models.CharField(max_length=254, blank=True)
    language = models.CharField(max_length=2, blank=True)
    telephone = models.CharField(max_length=200, blank=True, default="")
    title_ar = models.CharField(max_length=200, blank=True, default="")
    title_fr = models.CharField(max_length=200, blank=True, default="")
    title_en = models.CharField(max_length=200, blank=True, default="")
    is_active = models.BooleanField(default=True)
    # Why it is closed: what a directory closed, it may open again (`lifecycle.people`).
    inactive_reason = models.CharField(max_length=64, blank=True, default="")
    # An account that ends by date, and one that may not be used before an instant (`selectors.ACTING`, docs/adr/0042).
    valid_until = models.DateTimeField(null=True)
    locked_until = models.DateTimeField(null=True)
    # Compared as an integer with what a token carries: raised, it ends every access token of the person.
    generation = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()

    USERNAME_FIELD = "sub"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=~Q(sub=""), name="user_sub_present")]
        indexes: ClassVar = [
            models.Index(
                fields=["valid_until"], condition=Q(valid_until__isnull=False), name="user_by_account_end"
            ),
        ]

    def __str__(self) -> str:
        return self.name_latin or self.name_arabic or self.sub

    def set_password(self, raw_password: str | None) -> None:
        """Refuse: nothing here may ever store a password."""
        raise NotImplementedError("passwords live in the directory")

    def check_password(self, raw_password: str | None) -> bool:
        """Refuse: only the directory can say whether a password is right."""
        raise NotImplementedError("passwords live in the directory")


class DirectoryLink(models.Model):
    """One directory entry of one person. The entry's immutable id joins; the login name only finds.

    A login name may be given to somebody else one day, so it is unique among the *active* links
    of one source only.
    """

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="links")
    source = models.CharField(max_length=64)
    entry_uuid = models.CharField(max_length=64)
    login = models.CharField(max_length=256)
    dn = models.TextField()
    active = models.BooleanField(default=True)
    # Since when the entry is no longer in the directory; 30 days later only the `sub` is left of the person.
    gone_at = models.DateTimeField(null=True)
    # What the service owns of the person and the directory was not told yet: names with spaces between.
    owed = models.CharField(max_length=64, blank=True, default="")
    # The end of the account as the directory said it last; the account's own is `User.valid_until`.
    ends_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    checked_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "entry_uuid"], name="link_entry_once"),
            models.UniqueConstraint(
                fields=["source", "login"], condition=Q(active=True), name="link_login_once"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=~Q(owed=""), name="link_owing"),
        ]

    def __str__(self) -> str:
        return f"{self.source}:{self.login}"


class LoginSession(models.Model):
    """The only sign-in session. The browser holds a secret; only its digest is here.

    When the password was given and when the second factor was given are kept apart: each can be
    too old for an application while the other is fresh.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sessions")
    secret_digest = models.CharField(max_length=64, unique=True)
    generation = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=64, blank=True)
    password_at = models.DateTimeField()
    factor_at = models.DateTimeField(null=True)
    factor_kind = models.CharField(max_length=16, blank=True)
    # For a browser that never heard that its code was right: the secret that it still has, what it sent, and until when
    # that helps (docs/adr/0061).
    secret_before = models.CharField(max_length=64, blank=True, db_default="")
    factor_proof = models.CharField(max_length=64, blank=True, db_default="")
    retry_until = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["user"], condition=Q(ended_at=None), name="session_live_by_user"),
            models.Index(fields=["expires_at"], name="session_by_end"),
            models.Index(fields=["expires_at"], condition=Q(ended_at=None), name="session_live_by_end"),
            models.Index(fields=["seen_at"], condition=Q(ended_at=None), name="session_live_by_seen"),
            models.Index(fields=["secret_before"], condition=~Q(secret_before=""), name="session_by_before"),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(factor_at=None, factor_kind="")
                | (Q(factor_at__isnull=False) & ~Q(factor_kind="")),
                name="session_factor_whole",
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)
