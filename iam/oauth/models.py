"""What the provider remembers: clients, codes, token families, consents, keys.

All six models of django-oauth-toolkit are swapped, because that cannot be done later
(docs/adr/0003). Four of them are used: Client, Grant (authorization codes), AccessToken (opaque
tokens) and DeviceGrant. RefreshToken and IDToken stay empty: a refresh token is a position in a
TokenFamily, and an ID token has no row.
"""

import secrets
import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from oauth2_provider.models import (
    AbstractAccessToken,
    AbstractApplication,
    AbstractDeviceGrant,
    AbstractGrant,
    AbstractIDToken,
    AbstractRefreshToken,
    ApplicationManager,
)

from .protocol.key_ring import Status


class ConsentMode(models.TextChoices):
    """Whether people are asked before this client receives their data."""

    ASK = "ask"
    TRUSTED = "trusted"


class Client(AbstractApplication):
    """A client of the provider, as RFC 7591 describes it, belonging to one application of the house.

    `client_secret` of the library stays empty: the secret is stored as a keyed digest, so that no
    slow hash stands in the way of a machine (docs/adr/0004).
    """

    objects = ApplicationManager()

    client_secret = models.CharField(max_length=255, blank=True, default="")
    hash_client_secret = models.BooleanField(default=False)
    secret_digest = models.CharField(max_length=64, blank=True, default="")
    # The secret before this one, while both are good (`client rotate-secret --overlap`), and its last use, by the hour.
    old_secret_digest = models.CharField(max_length=64, blank=True, default="")
    old_secret_expires_at = models.DateTimeField(null=True, blank=True)
    old_secret_used_at = models.DateTimeField(null=True, blank=True)
    application = models.ForeignKey(
        "access.Application", on_delete=models.PROTECT, related_name="clients", null=True, blank=True
    )
    enabled = models.BooleanField(default=True)
    trusted = models.BooleanField(default=False)
    token_endpoint_auth_method = models.CharField(max_length=32, default="client_secret_basic")
    grant_types = models.JSONField(default=list)
    redirect_uri_list = models.JSONField(default=list)
    post_logout_redirect_uri_list = models.JSONField(default=list)
    scope_list = models.JSONField(default=list)
    # Scopes that this client owns as a resource server; empty for a mere client.
    is_resource_server = models.BooleanField(default=False)
    owned_scopes = models.JSONField(default=list)
    id_token_signed_response_alg = models.CharField(max_length=8, default="ES256")
    default_max_age_seconds = models.PositiveIntegerField(null=True, blank=True)
    require_auth_time = models.BooleanField(default=False)
    default_acr_values = models.JSONField(default=list)
    initiate_login_uri = models.TextField(blank=True, default="")
    # Descriptive metadata of RFC 7591 that is shown or kept but decides nothing (client_uri, contacts…).
    description = models.JSONField(default=dict)
    # Named as the library's next release names them (docs/adr/0003).
    client_jwks = models.JSONField(null=True, blank=True)
    client_jwks_uri = models.TextField(blank=True, default="")
    require_pushed_authorization_requests = models.BooleanField(default=False)
    # Everything else that a client can be set to, as `ClientOptions.as_metadata` writes it.
    options = models.JSONField(default=dict)
    # Raised, it ends every access token of the client.
    generation = models.PositiveIntegerField(default=0)

    class Meta(AbstractApplication.Meta):
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(client_secret=""), name="client_secret_never_stored"),
            models.CheckConstraint(
                condition=Q(old_secret_digest="") | Q(old_secret_expires_at__isnull=False),
                name="client_old_secret_ends",
            ),
        ]


class InitialAccessToken(models.Model):
    """An invitation to register clients, and its bounds; the token itself is kept as a digest. Spec: RFC 7591 §3."""

    digest = models.CharField(max_length=64, unique=True)
    label = models.CharField(max_length=100)
    application = models.ForeignKey(
        "access.Application", on_delete=models.PROTECT, related_name="invitations"
    )
    grant_types = models.JSONField()
    scopes = models.JSONField()
    profile = models.CharField(max_length=16, default="standard")
    uses_left = models.PositiveIntegerField()
    created_by = models.CharField(max_length=160)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.label


class ClientRegistration(models.Model):
    """A client that registered itself. Without this row a client is the operators' alone. Spec: RFC 7592."""

    client = models.OneToOneField(Client, on_delete=models.CASCADE, related_name="registration")
    invitation = models.ForeignKey(InitialAccessToken, on_delete=models.PROTECT, related_name="registrations")
    access_digest = models.CharField(max_length=64, unique=True)
    issued_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.client_id)


class SessionClient(models.Model):
    """A client that was used in a sign-in session, with the `sid` that this client alone knows it by."""

    session = models.ForeignKey("accounts.LoginSession", on_delete=models.CASCADE, related_name="clients")
    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="session_clients")
    sid = models.CharField(max_length=43, unique=True)
    created_at = models.DateTimeField()
    # When it was last given tokens: a session that its browser left is in use as long as its applications use it.
    used_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["session", "client"], name="session_client_once"),
        ]

    def __str__(self) -> str:
        return self.sid


class LogoutDelivery(models.Model):
    """A client that must be told that a session of its ended: written in the transaction that ends it.

    `due_at` is when it is tried next. Who claims a row moves it to the end of the claim's lease, so that what a
    killed process had claimed falls due again by itself; `claim` says whose result counts (docs/adr/0032).
    """

    session = models.ForeignKey("accounts.LoginSession", on_delete=models.CASCADE, related_name="deliveries")
    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="deliveries")
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    claim = models.CharField(max_length=32, blank=True, default="")
    attempts = models.PositiveIntegerField(default=0)
    # Why the last attempt failed, a stable word; "" while none has.
    failure = models.CharField(max_length=64, blank=True, default="")
    # One of them ends the trying: the client was told, or it was given up.
    told_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["session", "client"], name="delivery_once"),
            models.CheckConstraint(
                condition=Q(told_at=None) | Q(given_up_at=None), name="delivery_told_or_given_up"
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["due_at"], condition=Q(told_at=None, given_up_at=None), name="delivery_open_by_due"
            ),
            models.Index(fields=["created_at"], name="delivery_by_creation"),
        ]

    def __str__(self) -> str:
        return f"{self.session_id}:{self.client_id}"


def new_seed() -> bytes:
    """Return 256 random bits."""
    return secrets.token_bytes(32)


class TokenFamily(models.Model):
    """What one authorization code was exchanged for, and everything that followed from it.

    A refresh token is the family's id, a position and a MAC over both and `seed` (docs/adr/0005), so
    one row per family is enough to tell the current token, the one before it, and a replay apart.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # No constraints (docs/adr/0045): the statement that makes the row holds its session and asks for its client; each
    # constraint would look again, and lock the row of a client that all its people share.
    session = models.ForeignKey(
        "accounts.LoginSession", on_delete=models.CASCADE, related_name="families", db_constraint=False
    )
    client = models.ForeignKey(
        Client, on_delete=models.CASCADE, related_name="families", db_constraint=False, db_index=False
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="families", db_constraint=False,
        db_index=False,
    )  # fmt: skip
    scope = models.TextField()
    # What the sign-in was worth when the code was made; a refreshed ID token says the same (OIDC Core §12.2).
    auth_time = models.DateTimeField()
    acr = models.CharField(max_length=16)
    amr = models.JSONField(default=list)
    # What was granted beyond scopes, and the key that it is bound to (protocol/asked.py).
    asked = models.JSONField(default=dict)
    seed = models.BinaryField(default=new_seed)
    position = models.PositiveIntegerField(default=0)
    rotated_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    revoke_reason = models.CharField(max_length=64, blank=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="family_by_end")]

    def __str__(self) -> str:
        return str(self.id)


class Grant(AbstractGrant):
    """An authorization code: `code` holds its digest. The row outlives its use, so that a replay is seen."""

    # As those of a family: no constraints, and no index but for what housekeeping asks.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="codes", db_constraint=False,
        db_index=False,
    )  # fmt: skip
    application = models.ForeignKey(
        Client, on_delete=models.CASCADE, related_name="codes", db_constraint=False, db_index=False
    )
    session = models.ForeignKey(
        "accounts.LoginSession", on_delete=models.CASCADE, related_name="codes", db_constraint=False
    )
    # The family is named when the code is made: a replay revokes it whether or not the first exchange ended.
    family_id = models.UUIDField(default=uuid.uuid4)
    used_at = models.DateTimeField(null=True)
    auth_time = models.DateTimeField()
    acr = models.CharField(max_length=16)
    amr = models.JSONField(default=list)
    # What was asked beyond scopes: resources, claims, authorization_details, dpop_jkt (protocol/asked.py).
    asked = models.JSONField(default=dict)

    class Meta(AbstractGrant.Meta):
        indexes: ClassVar = [models.Index(fields=["expires"], name="grant_by_end")]


class AccessToken(AbstractAccessToken):
    """An opaque access token: its digest in `token_checksum`, and what a JWT would say. A JWT access token has no row.

    `token` of the library stays empty: whoever reads the table, or a page of it, must not be able to use one (A20).
    """

    claims = models.JSONField(default=dict)

    class Meta(AbstractAccessToken.Meta):
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(token=""), name="access_token_never_stored"),
        ]
        indexes: ClassVar = [models.Index(fields=["expires"], name="access_token_by_end")]


class RefreshToken(AbstractRefreshToken):
    """Always empty: see TokenFamily."""


class IDToken(AbstractIDToken):
    """Always empty: an ID token has no row."""


class DeviceGrant(AbstractDeviceGrant):
    """A device's request for a person: `device_code` and `user_code` hold digests. Kept after its use, as a code is.

    `user` is who typed the code: from then on nobody else can answer it (A48).
    """

    client_id = models.CharField(max_length=128)  # the library's own column, by name; ours is `application`
    application = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="device_grants")
    session = models.ForeignKey(
        "accounts.LoginSession", on_delete=models.CASCADE, related_name="device_grants", null=True
    )
    family_id = models.UUIDField(default=uuid.uuid4)
    created_at = models.DateTimeField()
    # Where the request came from, for the person to see.
    address = models.CharField(max_length=45, blank=True)
    decided_at = models.DateTimeField(null=True)
    used_at = models.DateTimeField(null=True)
    auth_time = models.DateTimeField(null=True)
    acr = models.CharField(max_length=16, blank=True)
    amr = models.JSONField(default=list)
    asked = models.JSONField(default=dict)
    # Milliseconds since 1970, so that one statement with arithmetic in it means the same on both databases.
    next_poll_ms = models.BigIntegerField(default=0)
    too_fast = models.BooleanField(default=False)

    class Meta(AbstractDeviceGrant.Meta):
        constraints: ClassVar = [
            *AbstractDeviceGrant.Meta.constraints,  # the device code once
            models.UniqueConstraint(fields=["user_code"], name="device_user_code_once"),
            models.CheckConstraint(
                condition=~Q(status="authorized")
                | Q(user__isnull=False, session__isnull=False, auth_time__isnull=False),
                name="device_authorized_by_somebody",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires"], name="device_by_end"),
            models.Index(
                fields=["application", "address"],
                condition=Q(status="authorization-pending"),
                name="device_waiting",
            ),
        ]


class TrustedIssuer(models.Model):
    """Somebody whose assertions stand for clients of ours: `subjects` maps their `sub` to our client_id (docs/adr/0024)."""

    issuer = models.CharField(max_length=500, unique=True)
    jwks = models.JSONField(null=True, blank=True)
    jwks_uri = models.TextField(blank=True, default="")
    algorithms = models.JSONField(default=list)
    subjects = models.JSONField(default=dict)
    scopes = models.JSONField(default=list)
    max_life_seconds = models.PositiveIntegerField()
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(jwks__isnull=True, jwks_uri__gt="") | Q(jwks__isnull=False, jwks_uri=""),
                name="trusted_issuer_keys_in_one_place",
            ),
        ]

    def __str__(self) -> str:
        return self.issuer


class AuthorizationDetailType(models.Model):
    """A type of `authorization_details` that a resource server understands (RFC 9396); `detail_types.py` writes it."""

    name = models.CharField(max_length=128, primary_key=True)
    owner = models.ForeignKey(Client, on_delete=models.PROTECT, related_name="detail_types")
    enabled = models.BooleanField(default=True)
    schema = models.JSONField()
    # What the person reads on the consent page.
    description_ar = models.CharField(max_length=300)
    description_fr = models.CharField(max_length=300)
    description_en = models.CharField(max_length=300)
    # What members are called there, by path and language.
    labels = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=~Q(description_ar="") & ~Q(description_fr="") & ~Q(description_en=""),
                name="detail_type_described",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Consent(models.Model):
    """What a person agreed that a client receives: these scopes and single claims, and no others."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="consents")
    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="consents")
    scopes = models.JSONField(default=list)
    claims = models.JSONField(default=list)
    given_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "client"], name="consent_once")]

    def __str__(self) -> str:
        return f"{self.user_id}:{self.client_id}"


class ParkedRequest(models.Model):
    """A validated authorization request that waits for its person; the browser holds only the handle.

    `browser_digest` ties it to one browser: a flow that somebody else began cannot be finished here.
    """

    handle_digest = models.CharField(max_length=64, unique=True)
    browser_digest = models.CharField(max_length=64)
    client = models.ForeignKey(Client, on_delete=models.CASCADE, null=True)
    parameters = models.JSONField()
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    # Who agreed in this flow, and to what: scopes, and beyond them claims and authorization details.
    consented_scopes = models.JSONField(null=True)
    consented_beyond = models.JSONField(default=dict)
    consented_by = models.UUIDField(null=True)
    # Who chose to go on with the account that was signed in.
    chosen_by = models.UUIDField(null=True)
    # When it was answered, and in which session: the answer may have been lost on its way (docs/adr/0061).
    finished_at = models.DateTimeField(null=True)
    finished_by = models.UUIDField(null=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="parked_by_end")]

    def __str__(self) -> str:
        return self.handle_digest[:8]


class PushedRequest(models.Model):
    """An authorization request that a client sent us itself, until it is used once or has expired. Spec: RFC 9126 §2.2."""

    digest = models.CharField(max_length=64, primary_key=True)
    # The row lives 90 seconds and is taken with its client's row in the statement; a constraint would lock that row.
    client = models.ForeignKey(
        Client, on_delete=models.CASCADE, related_name="pushed_requests", db_constraint=False, db_index=False
    )
    # The parameters as they were sent, or as a signed object held them; they are checked again when they are used.
    parameters = models.JSONField()
    expires_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="pushed_by_end")]

    def __str__(self) -> str:
        return self.digest[:8]


class RevokedToken(models.Model):
    """An access token (`jti`) or a whole family of them that must not be accepted, until it has expired anyway."""

    key = models.CharField(max_length=64, primary_key=True)
    expires_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="revoked_by_end")]

    def __str__(self) -> str:
        return self.key


class UsedIdentifier(models.Model):
    """A `jti` of a client assertion or a DPoP proof that was accepted once, until it could not be anyway."""

    key = models.CharField(max_length=64, primary_key=True)
    expires_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="used_by_end")]

    def __str__(self) -> str:
        return self.key


class Installation(models.Model):
    """One row: the counter that ends every token there is, and the version of what workers remember."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    generation = models.PositiveIntegerField(default=0)
    # Raised in the transaction that changes a client, a key, a role, an application or an office.
    version = models.PositiveBigIntegerField(default=0)
    # SQLite only: another number after every change that a worker's memory depends on (changes.py).
    changes = models.PositiveBigIntegerField(default=0)
    # What pairwise names are made with. It must last as long as the names do, so no setting and no rotation touches it.
    pairwise_salt = models.BinaryField(default=new_seed, editable=False)

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=Q(id=1), name="installation_single")]

    def __str__(self) -> str:
        return f"generation {self.generation}"


class SigningKey(models.Model):
    """A signing key. Its private half is sealed here under a key of the environment, or stays in a PKCS#11 token.

    `encrypted_private` seals the private key, or for a token's key its address and public half, so that nobody
    who can only write to the database can slip in a key of their own. It is emptied when the key is retired.
    """

    kid = models.CharField(max_length=64, primary_key=True)
    algorithm = models.CharField(max_length=8)
    status = models.CharField(
        max_length=16, choices=[(status.value, status.name.title()) for status in Status], default=Status.NEXT
    )
    public_jwk = models.JSONField()
    encrypted_private = models.BinaryField()
    encryption_key_id = models.CharField(max_length=64)
    # Where the private half is, if not here (RFC 7512); the sealed copy is the one that is believed.
    pkcs11_uri = models.TextField(blank=True, default="")
    created_at = models.DateTimeField()
    activated_at = models.DateTimeField(null=True)
    # While it is retiring: when it stops to verify, whether or not housekeeping runs.
    retires_at = models.DateTimeField(null=True)
    retired_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["algorithm"], condition=Q(status="active"), name="signing_key_one_active"
            ),
            models.UniqueConstraint(
                fields=["algorithm"], condition=Q(status="next"), name="signing_key_one_next"
            ),
        ]

    def __str__(self) -> str:
        return self.kid


class KeySighting(models.Model):
    """A client fetched a key at its own address (`/jwks/CLIENT_ID`): it can verify what this key signs."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="key_sightings")
    key = models.ForeignKey(SigningKey, on_delete=models.CASCADE, related_name="sightings")
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["client", "key"], name="key_sighting_once"),
        ]

    def __str__(self) -> str:
        return f"{self.client_id}:{self.key_id}"
