"""What the engine needs of the world, as types: the doors bring an implementation (`state.py`).

The engine, its endpoints and grants import these and never Django.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from iam.access.policy import Admitted, EffectiveAccess, Refused, Requirement

from .protocol.asked import NOTHING, Asked
from .protocol.authorization_details import DetailType
from .protocol.dynamic_registration import Invitation
from .protocol.jose import Key
from .protocol.messages import AuthorizationRequest, ClientFacts, Disclosure, Response, SessionFacts
from .protocol.registration import ClientMetadata
from .protocol.trusted_issuers import TrustedIssuerFacts

# An event of the audit that was made and is not written yet; nobody here looks into it.
Event = object


@dataclass(frozen=True, slots=True)
class PersonFacts:
    """A person as tokens may describe them; empty text where the directory says nothing."""

    user_id: UUID
    sub: str
    name_latin: str
    name_arabic: str
    email: str
    language: str
    login: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What access says of a person and a client at an instant."""

    access: EffectiveAccess
    admission: Admitted | Refused
    requirement: Requirement


@dataclass(frozen=True, slots=True)
class Context:
    """What a sign-in was worth when the code was made. Spec: OIDC Core §2."""

    acr: str
    amr: tuple[str, ...]
    auth_time: datetime


@dataclass(frozen=True, slots=True)
class CodeFacts:
    """A code that can be consumed now, or a device's code that just was."""

    family_id: UUID
    session_id: UUID
    scopes: tuple[str, ...]
    nonce: str
    context: Context
    asked: Asked = NOTHING


@dataclass(frozen=True, slots=True)
class Presentation:
    """A code as a client presents it: `challenge` is made of its verifier, `jkt` the key that it proved, or ""."""

    digest: str
    client: ClientFacts
    redirect_uri: str
    challenge: str
    jkt: str


@dataclass(frozen=True, slots=True)
class Joined:
    """A live session, and the name `sid` that a client knows it by; `noted` says that it and its use are written down."""

    session: SessionFacts
    sid: str
    noted: bool


@dataclass(frozen=True, slots=True)
class NewFamily:
    """A family of tokens that is to begin; `asked` is what was granted beyond scopes."""

    id: UUID
    scopes: tuple[str, ...]
    context: Context
    asked: Asked
    seed: bytes


@dataclass(frozen=True, slots=True)
class UsedCode:
    """A code that exists but could not be consumed. `used` says that it was consumed before: a replay."""

    family_id: UUID
    client_pk: int
    sub: str
    used: bool
    expired: bool


@dataclass(frozen=True, slots=True)
class FamilyFacts:
    """A token family, live or not."""

    id: UUID
    client_pk: int
    session_id: UUID
    sub: str
    scopes: tuple[str, ...]
    seed: bytes
    position: int
    rotated_at: datetime | None
    expires_at: datetime
    revoked: bool
    context: Context
    asked: Asked = NOTHING


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """What a device asks for, under the digests of the two codes that it gets. `address` is where it asked from."""

    device_digest: str
    user_code_digest: str
    scopes: tuple[str, ...]
    asked: Asked
    address: str


@dataclass(frozen=True, slots=True)
class WaitingDevice:
    """A device that waits for a person's word; only `user_id`, who typed its code, can give it."""

    pk: int
    user_id: UUID
    client_id: str
    scopes: tuple[str, ...]
    asked: Asked
    address: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Poll:
    """A device asked while its person has not answered; `interval` is what it must wait from now on, in seconds."""

    too_fast: bool
    interval: int


@dataclass(frozen=True, slots=True)
class DeviceAnswer:
    """A device code that exists but cannot be consumed. `sub` is "" as long as nobody claimed it."""

    family_id: UUID
    client_pk: int
    sub: str
    used: bool
    denied: bool
    expired: bool


@dataclass(frozen=True, slots=True)
class Bearer:
    """The person (None for a machine) behind an access token whose counters are still the current ones."""

    session: SessionFacts | None
    person: PersonFacts | None


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A sign-in session that is over, as one of its clients knew it by `sid`."""

    user_id: UUID
    sid: str


@dataclass(frozen=True, slots=True)
class Registered:
    """A client as it is registered now. `new_secret` only when one was made just now: it is not kept."""

    client_id: str
    issued_at: datetime
    described: Mapping[str, Any]  # Any: JSON
    new_secret: str | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """A registered client, and the invitation whose bounds hold for it as long as it lives."""

    registered: Registered
    invitation: Invitation
    secret_digest: str


class Registrar(Protocol):
    """Clients that register themselves: each step that may happen once is one conditional statement."""

    def invitation(self, digest: str, now: datetime) -> Invitation | None:
        """Return an initial access token that has a use left and has not expired."""

    def register(
        self, digest: str, invitation: Invitation, metadata: ClientMetadata, access_digest: str,
        request_id: str, source: str, now: datetime,
    ) -> Registered | None:  # fmt: skip
        """Use the invitation up and make the client; None when no use is left. Raises: MetadataError, nothing done."""

    def registration(self, client_id: str, access_digest: str) -> Registration | None:
        """Return an enabled client's registration, if the token is its current one."""

    def change(
        self, access_digest: str, metadata: ClientMetadata, new_access_digest: str,
        request_id: str, source: str, now: datetime,
    ) -> Registered | None:  # fmt: skip
        """Replace the metadata and the token; None when another came first. Raises: MetadataError, nothing done."""

    def end(self, client_id: str, access_digest: str, request_id: str, source: str, now: datetime) -> bool:
        """Switch the client off and end all that it was given; False when another came first."""


class Store(Protocol):
    """The few statements that make, consume and rotate one-time values."""

    def insert_code(
        self,
        digest: str,
        client: ClientFacts,
        session: SessionFacts,
        request: AuthorizationRequest,
        context: Context,
        family_id: UUID,
        expires_at: datetime,
        event: Event,
        now: datetime,
    ) -> bool:
        """Store a code with its event, if session, person and client are still good in that very statement."""

    def push_request(
        self, digest: str, client: ClientFacts, parameters: Mapping[str, Any], expires_at: datetime
    ) -> None:  # Any: JSON
        """Keep a pushed authorization request until it is taken or has expired."""

    def take_pushed(self, digest: str, client: ClientFacts, now: datetime) -> dict[str, Any] | None:
        """Take a client's pushed request away: what was kept for the first of any number of callers, else None."""

    def presented_code(self, code: Presentation, now: datetime) -> tuple[CodeFacts, Joined] | None:
        """Read a code that can be consumed now. Nothing is: an answer may leave after `redeem_code` only."""

    def redeem_code(
        self, code: Presentation, joined: Joined, family: NewFamily | None, event: Event, now: datetime
    ) -> bool:
        """Consume a code, once, with all that belongs to it: every condition stands in the one statement."""

    def discard_code(self, code: Presentation, now: datetime) -> None:
        """Consume a code that gives nothing."""

    def used_code(self, digest: str, now: datetime) -> UsedCode | None:
        """Say why a code could not be consumed."""

    def open_family(
        self, client: ClientFacts, joined: Joined, family: NewFamily, event: Event, now: datetime
    ) -> bool:
        """Begin a token family with its event; False when the session is not as it was read."""

    def presented_family(
        self, family_id: UUID, client: ClientFacts, now: datetime
    ) -> tuple[FamilyFacts, Joined | None] | None:
        """Read a family, and its session while that is live, for its own client."""

    def family(self, family_id: UUID) -> FamilyFacts | None:
        """Read a family."""

    def rotate_family(
        self, family_id: UUID, client: ClientFacts, joined: Joined, number: int, event: Event, now: datetime
    ) -> bool:
        """Move a live family of a live session from `number` to the next position, once, with its event."""

    def hold_family(
        self, family_id: UUID, client: ClientFacts, joined: Joined, number: int, event: Event, now: datetime
    ) -> bool:
        """Say whether a live family of a live session stands at `number`, and write the event if so."""

    def issue_again(self, client: ClientFacts, joined: Joined, event: Event, now: datetime) -> bool:
        """Write the event of one more answer; False when the session is not as it was read."""

    def revoke_family(self, family_id: UUID, reason: str, now: datetime) -> None:
        """End a family, its refresh tokens and its access tokens. Idempotent."""

    def insert_opaque(
        self,
        digest: str,
        client: ClientFacts,
        user_id: UUID | None,
        claims: Mapping[str, Any],
        expires_at: datetime,
        now: datetime,
    ) -> None:  # Any: JSON
        """Store an opaque access token's digest, and what it stands for."""

    def opaque_claims(self, digest: str) -> Mapping[str, Any] | None:  # Any: JSON
        """Return what an opaque access token stands for, expired or not."""

    def revoke_token(self, jti: str, expires_at: datetime) -> None:
        """End one access token."""

    def use_once(self, purpose: str, identifier: str, expires_at: datetime) -> bool:
        """Use up a `jti`: True for the first of any number of callers, False for every other."""

    def session(self, session_id: UUID, now: datetime) -> SessionFacts | None:
        """Read a session that is not ended, of a person who is active."""

    def session_of_browser(self, secret: str, now: datetime, idle: timedelta) -> SessionFacts | None:
        """Read the live session of a browser by the secret of its cookie; note now and then that it was seen."""

    def person(self, user_id: UUID) -> PersonFacts:
        """Read a person's names, unless they came with a session in this request. Raises: LookupError."""

    def hold_session(self, session_id: UUID, now: datetime) -> SessionFacts | None:
        """Read it for an issue: it cannot end, nor its person be disabled, before the issue is committed."""

    def sid(self, session_id: UUID, client: ClientFacts, now: datetime) -> str:
        """Return the client's own stable name of a session."""

    def ended_session(self, session_id: UUID, client: ClientFacts) -> EndedSession | None:
        """Read a session that has ended and that the client had joined; None for any other."""

    def session_of_sid(self, sid: str, client: ClientFacts) -> UUID | None:
        """Return the session that a client knows by `sid`, ended or not."""

    def sub_of_sid(self, sid: str, client: ClientFacts) -> str:
        """Return whose session a client knows by `sid`; "" when there is none."""

    def bearer(
        self, claims: Mapping[str, Any], client: ClientFacts, now: datetime
    ) -> Bearer | None:  # Any: JSON
        """Return who is behind a token, or None when any counter moved, or it or its family was revoked."""


class Devices(Protocol):
    """The few statements of the device grant."""

    def insert(self, request: DeviceRequest, client: ClientFacts, family_id: UUID, now: datetime) -> bool:
        """Store a request. False when too many wait, the client is switched off, or a code is taken."""

    def poll(self, device_digest: str, client: ClientFacts, now: datetime) -> Poll | None:
        """Note that a device asked; None when nothing waits under this code for this client."""

    def consume(self, device_digest: str, client: ClientFacts, now: datetime) -> CodeFacts | None:
        """Consume a code that a person confirmed, once."""

    def answer(self, device_digest: str, now: datetime) -> DeviceAnswer | None:
        """Say why a code could not be consumed."""


class State(Protocol):
    """What a request may know: what the worker remembers, and the database."""

    issuer: str
    generation: int
    refresh_key: bytes
    pairwise_salt: bytes
    nonce_key: bytes
    # Whether connections can have client certificates at all, and the address that is kept for them ("": the issuer).
    has_certificates: bool
    certificate_address: str
    store: Store
    registrar: Registrar
    devices: Devices

    def client(self, client_id: str) -> ClientFacts | None:
        """Return an enabled or disabled client."""

    def scope_owner(self, scope: str) -> ClientFacts | None:
        """Return the enabled resource server that owns a scope."""

    def resource_server(self, audience: str) -> ClientFacts | None:
        """Return the enabled resource server that tokens name so (`audience_of`)."""

    def detail_type(self, name: str) -> DetailType | None:
        """Return an enabled type of authorization details whose resource server is enabled."""

    def detail_types(self) -> tuple[str, ...]:
        """Return the names of all of them, sorted."""

    def owned_scopes(self) -> frozenset[str]:
        """Return every scope that some enabled resource server owns."""

    def keys(self) -> Mapping[str, Key]:
        """Return every key that may verify, by kid."""

    def published_keys(self) -> tuple[Key, ...]:
        """Return the keys of the JWKS: active, next and retiring."""

    def signing_key(self, algorithm: str) -> Key:
        """Return the active key for an algorithm. Raises: SigningUnavailable, which denies."""

    def note_keys_fetched(self, client: ClientFacts, kids: frozenset[str], now: datetime) -> None:
        """Remember that a client has these keys now. Never blocks, never fails."""

    def document(self, name: str, build: Callable[[], Response]) -> Response:
        """Return an answer that is made of what administrators set and nothing else: built once, then remembered."""

    def recall(self, token: str, now: datetime) -> Any:  # Any: the gate's BearerToken
        """Return what the gate remembered of an access token, None when it must be judged anew."""

    def remember(
        self,
        token: str,
        bearer: Any,
        until: datetime,
        depends_on: tuple[str, ...],  # Any: as above
    ) -> None:
        """Remember a judged access token until an instant, or until something that it depends on changes."""

    def next_change(self, user_id: UUID, now: datetime) -> datetime | None:
        """Return when a person's rights change next by date alone."""

    def note_old_secret(self, client: ClientFacts, now: datetime) -> None:
        """Remember that a client still uses its old secret. Never blocks, never fails."""

    def secret_digest(self, secret: str) -> str:
        """Return the keyed digest under which a client secret is stored."""

    def recall_client(self, authorization: str) -> ClientFacts | None:
        """Return whom this very Basic header proved, if nothing of any client changed since; None when it must be judged."""

    def remember_client(self, authorization: str, client: ClientFacts) -> None:
        """Remember whom a Basic header with a present secret proves, until anything of any client changes."""

    def client_keys(self, client: ClientFacts, kid: str) -> tuple[Mapping[str, Any], ...]:  # Any: public JWKs
        """Return a client's registered public keys, by value or from its `jwks_uri`; empty when there are none.

        `kid` is the key that is looked for, "" for any: one that is not known yet makes the address be read again,
        but not more often than `client_keys.py` allows.
        """

    def trusted_issuer(self, issuer: str) -> TrustedIssuerFacts | None:
        """Return an issuer of assertions that is registered and switched on."""

    def issuer_keys(
        self, issuer: TrustedIssuerFacts, kid: str
    ) -> tuple[Mapping[str, Any], ...]:  # Any: public JWKs
        """Return an issuer's public keys, empty when they cannot be had; `kid` as for `client_keys`."""

    def trusts_certificate(self, certificate: str, now: datetime) -> bool:
        """Say whether an authority that we trust for clients issued a certificate, and it is valid now."""

    def client_auth_methods(self) -> tuple[str, ...]:
        """Return the ways in which clients can authenticate here, of those that are built."""

    def user_code_digest(self, user_code: str) -> str:
        """Return the keyed digest under which a device's user code is stored."""

    def browser_session(self, cookies: Mapping[str, str], now: datetime) -> SessionFacts | None:
        """Return the live session of the browser that sent these cookies."""

    def standing(self, client: ClientFacts, user_id: UUID, now: datetime) -> Standing:
        """Ask access about a person and a client."""

    def access(self, user_id: UUID, now: datetime) -> EffectiveAccess:
        """Return what a person holds now."""

    def person(self, user_id: UUID) -> PersonFacts:
        """Read a person's names."""

    def agreed(self, user_id: UUID, client: ClientFacts) -> Disclosure:
        """Return what a person agreed to for a client, and that lasts: scopes and claims."""

    def end_session(self, session_id: UUID, reason: str, request_id: str, source: str, now: datetime) -> bool:
        """End a session and everything issued in it, with its audit event. False when it had ended before."""

    def others_to_tell(self, session_id: UUID, client: ClientFacts) -> bool:
        """Say whether an application other than this client's must learn of the end of a session."""

    def together(self) -> AbstractContextManager[object]:
        """Return what makes the writes inside it one: all of them or none."""

    def event(
        self,
        action: str,
        outcome: str,
        *,
        actor: str,
        now: datetime,
        request_id: str,
        source: str,
        object: str = "",
        reason: str = "",
        method: str = "",
        application: str = "",
        office: str = "",
        session: str = "",
        details: Mapping[str, str] | None = None,
    ) -> Event:
        """Return an audit event, for the write of the store that it goes with."""

    def record(
        self,
        action: str,
        outcome: str,
        *,
        actor: str,
        now: datetime,
        request_id: str,
        source: str,
        object: str = "",
        reason: str = "",
        method: str = "",
        application: str = "",
        office: str = "",
        session: str = "",
        details: Mapping[str, str] | None = None,
    ) -> None:
        """Write one audit event: in the current transaction, or as one when it goes with no other write."""

    def tally(self, source: str, client_id: str, reason: str, now: datetime, request_id: str = "") -> None:
        """Count a refusal of somebody unknown."""
