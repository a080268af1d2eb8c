"""What one request may know and do: the engine's State, made of the worker's memory and the database.

What is remembered, and how stale it may be, stands at the head of memory.py.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.db import transaction

from iam.access import policy, selectors
from iam.accounts.cookies import SESSION
from iam.accounts.models import LoginSession
from iam.accounts.services import end_session
from iam.audit.record import Event, Outcome, record_alone, tally
from iam.audit.tags import Action

from . import client_authorities, client_keys, memory, outbox, sightings
from .device_store import DatabaseDevices
from .models import Consent
from .ports import Devices, PersonFacts, Registrar, Standing, Store
from .protocol.authorization_details import DetailType
from .protocol.jose import Key, MemorySigner, SigningUnavailable
from .protocol.messages import ClientFacts, Disclosure, Response, SessionFacts
from .protocol.trusted_issuers import TrustedIssuerFacts
from .registrations import DatabaseRegistrar
from .secretbox import client_secret_digest, derived_key, user_code_digest
from .store import DatabaseStore


def session_value(session: LoginSession) -> SessionFacts:
    """Turn a session's row, with its person, into the value that the engine knows: over with the account at the latest."""
    ends = [session.expires_at, session.user.valid_until]
    return SessionFacts(
        session.id,
        session.generation,
        session.user_id,
        session.user.sub,
        session.user.generation,
        session.password_at,
        session.factor_at,
        session.factor_kind,
        min(end for end in ends if end is not None),
    )


forget = memory.forget


class Remembered:
    """What a worker knows without asking anybody."""

    def __init__(self, remembered: memory.Memory) -> None:
        self._memory = remembered
        self.issuer: str = settings.IAM_ISSUER
        self.generation = remembered.generation
        self.refresh_key = derived_key("refresh-token")
        self.has_certificates = bool(settings.IAM_TRUSTED_PROXIES)
        self.certificate_address: str = settings.IAM_CLIENT_CERTIFICATE_ADDRESS
        self.nonce_key = derived_key("dpop-nonce")
        self.pairwise_salt = remembered.pairwise_salt

    def client(self, client_id: str) -> ClientFacts | None:
        """Return a client, enabled or not."""
        return self._memory.clients.get(client_id)

    def scope_owner(self, scope: str) -> ClientFacts | None:
        """Return the enabled resource server that owns a scope."""
        return self._memory.owners.get(scope)

    def resource_server(self, audience: str) -> ClientFacts | None:
        """Return the enabled resource server that tokens name so."""
        return self._memory.servers.get(audience)

    def detail_type(self, name: str) -> DetailType | None:
        """Return a type of authorization details that may be asked for."""
        return self._memory.detail_types.get(name)

    def detail_types(self) -> tuple[str, ...]:
        """Return the names of all of them."""
        return tuple(self._memory.detail_types)

    def owned_scopes(self) -> frozenset[str]:
        """Return every scope that an enabled resource server owns."""
        return frozenset(self._memory.owners)

    def keys(self) -> Mapping[str, Key]:
        """Return the keys that verify."""
        return self._memory.keys

    def published_keys(self) -> tuple[Key, ...]:
        """Return the keys of the JWKS."""
        return self._memory.published

    def signing_key(self, algorithm: str) -> Key:
        """Return the active key. Raises: SigningUnavailable when there is none: nothing is issued then."""
        key = self._memory.active_keys.get(algorithm)
        if key is None:
            raise SigningUnavailable(
                f"there is no active key for {algorithm} that can be used; see `keys status`"
            )
        return key

    def note_keys_fetched(self, client: ClientFacts, kids: frozenset[str], now: datetime) -> None:
        """Remember that a client has these keys now."""
        sightings.note(sightings.KeysFetched(client.pk, kids), now)

    def note_old_secret(self, client: ClientFacts, now: datetime) -> None:
        """Remember that a client still uses its old secret."""
        sightings.note(sightings.OldSecretUsed(client.pk, client.old_secret_digest), now)

    def secret_digest(self, secret: str) -> str:
        """Return the keyed digest of a client secret."""
        return client_secret_digest(secret)

    def recall_client(self, authorization: str) -> ClientFacts | None:
        """Return whom a Basic header proved, since clients last changed."""
        return self._memory.proved.get(memory.digest_of_header(authorization))

    def remember_client(self, authorization: str, client: ClientFacts) -> None:
        """Remember whom a Basic header proves."""
        proved = self._memory.proved
        if len(proved) >= memory.PROVED_MAX:
            proved.clear()
        proved[memory.digest_of_header(authorization)] = client

    def trusted_issuer(self, issuer: str) -> TrustedIssuerFacts | None:
        """Return an issuer of assertions that is registered and switched on."""
        return self._memory.issuers.get(issuer)

    def user_code_digest(self, user_code: str) -> str:
        """Return the keyed digest of a user code."""
        return user_code_digest(user_code)


class DatabaseState(Remembered):
    """The engine's State for one request. In: `published` says how to come by keys that others publish."""

    def __init__(self, published: client_keys.Published = client_keys.read) -> None:
        self._published = published
        self._epoch = memory.tokens.epoch  # before anything is read
        super().__init__(memory.current())
        self._standings: dict[tuple[str | None, UUID, datetime], Standing] = {}
        self._store = DatabaseStore(self._memory.organisation, self._memory.version)
        self.store: Store = self._store
        self.registrar: Registrar = DatabaseRegistrar()
        self.devices: Devices = DatabaseDevices()

    def client_keys(self, client: ClientFacts, kid: str) -> tuple[Mapping[str, Any], ...]:  # Any: public JWKs
        """Return a client's public keys; see client_keys.py for how old they may be."""
        return self._published(client.jwks_uri, kid) if client.jwks_uri else client.jwks

    def issuer_keys(
        self, issuer: TrustedIssuerFacts, kid: str
    ) -> tuple[Mapping[str, Any], ...]:  # Any: public JWKs
        """Return an issuer's public keys; read and remembered as a client's are."""
        return self._published(issuer.jwks_uri, kid) if issuer.jwks_uri else issuer.jwks

    def trusts_certificate(self, certificate: str, now: datetime) -> bool:
        """Say whether an authority of clients issued a certificate."""
        return client_authorities.is_trusted(certificate, now)

    def client_auth_methods(self) -> tuple[str, ...]:
        """Return the ways in which clients can authenticate as things are configured."""
        return client_authorities.switched_on_methods()

    def document(self, name: str, build: Callable[[], Response]) -> Response:
        """Return an answer that is made of what administrators set and nothing else: built once, then remembered."""
        found = self._memory.documents.get(name)
        if found is None:
            found = self._memory.documents[name] = build()
        return cast("Response", found)

    def remember(
        self, token: str, bearer: Any, until: datetime, depends_on: tuple[str, ...]
    ) -> None:  # Any: as above
        """Remember an access token that was judged in this request."""
        if memory.remembers_tokens():
            memory.tokens.keep(token, bearer, until, depends_on, self._epoch)

    def next_change(self, user_id: UUID, now: datetime) -> datetime | None:
        """Return when a person's rights change next by date alone."""
        return selectors.next_change(user_id, now)

    def recall(self, token: str, now: datetime) -> Any:  # Any: the gate's BearerToken
        """Return what the gate remembered of an access token, while it may be believed."""
        return memory.tokens.recall(token, now) if memory.remembers_tokens() else None

    # -- read each time -----------------------------------------------------------------------------------

    def browser_session(self, cookies: Mapping[str, str], now: datetime) -> SessionFacts | None:
        """Return the live session of a browser."""
        secret = cookies.get(SESSION)
        if not secret or not secret.isascii():  # ours are; a lone surrogate could not even be digested
            return None
        return self.store.session_of_browser(
            secret, now, timedelta(minutes=settings.IAM_SESSION_IDLE_MINUTES)
        )

    def standing(self, client: ClientFacts, user_id: UUID, now: datetime) -> Standing:
        """Ask access what a person may do with a client's application; once a request."""
        known = self._standings.get((client.application, user_id, now))
        if known is None:
            access = self.access(user_id, now)
            application = self._policy_of(client.application)
            known = self._standings[client.application, user_id, now] = Standing(
                access,
                policy.decide_admission(application, access),
                policy.decide_requirement(access.chain, access.grants, application),
            )
        return known

    def _policy_of(self, application: str | None) -> policy.ApplicationPolicy:
        name = f"policy of {application or ''}"
        found = self._memory.documents.get(name)
        if found is None:
            found = self._memory.documents[name] = selectors.application_policy(application)
        return cast("policy.ApplicationPolicy", found)

    def own_requirement(self, user_id: UUID, now: datetime) -> policy.Requirement:
        """Return what our own pages ask of a person."""
        access = self.access(user_id, now)
        return policy.decide_requirement(access.chain, access.grants, selectors.application_policy(None))

    def access(self, user_id: UUID, now: datetime) -> policy.EffectiveAccess:
        """Return what a person holds now; what came with the session in this request is not read again."""
        known = self._store.rights.get(user_id)
        return selectors.effective_access(user_id, now) if known is None else known

    def person(self, user_id: UUID) -> PersonFacts:
        """Read a person's names; what came with the session in this request is not read again."""
        return self.store.person(user_id)

    def agreed(self, user_id: UUID, client: ClientFacts) -> Disclosure:
        """Return what a person agreed to."""
        consent = Consent.objects.filter(user_id=user_id, client_id=client.pk).first()
        return Disclosure(tuple(consent.scopes), tuple(consent.claims)) if consent else Disclosure()

    # -- written ------------------------------------------------------------------------------------------

    def end_session(self, session_id: UUID, reason: str, request_id: str, source: str, now: datetime) -> bool:
        """End a session."""
        return end_session(session_id, reason=reason, now=now, request_id=request_id, source=source)

    def others_to_tell(self, session_id: UUID, client: ClientFacts) -> bool:
        """Say whether another application must learn of the end of a session."""
        return outbox.is_anyone_to_tell(session_id, client.client_id)

    def together(self) -> AbstractContextManager[object]:
        """Return a transaction, or a part of the one that there is."""
        return transaction.atomic()

    def event(
        self,
        action: str,
        outcome: str,
        *,
        actor: str,
        now: datetime,
        request_id: str,
        source: str,
        object: str = "",  # noqa: A002 -- the audit's word
        reason: str = "",
        method: str = "",
        application: str = "",
        office: str = "",
        session: str = "",
        details: Mapping[str, str] | None = None,
    ) -> Event:
        """Return one audit event; the address goes to the side table."""
        return Event(
            Action(action),
            Outcome(outcome),
            actor=actor,
            now=now,
            object=object,
            reason=reason,
            method=method,
            application=application,
            office=office,
            session=session,
            request_id=request_id,
            details={"address": source, **(details or {})} if source else dict(details or {}),
        )

    def record(self, action: str, outcome: str, **said: Any) -> None:  # Any: as `event` says
        """Write one audit event."""
        record_alone(self.event(action, outcome, **said))

    def tally(self, source: str, client_id: str, reason: str, now: datetime, request_id: str = "") -> None:
        """Count a refusal of somebody unknown."""
        tally(source, client_id, reason, now, request_id)


class NotInMemory(Exception):
    """What was asked for is not, or not surely, in memory: it has to be waited for."""


class MemoryState(Remembered):
    """The State of a request that is answered at once or not at all: whatever is not in memory raises NotInMemory.

    It serves any number of requests, as long as `of` is what the worker remembers.
    """

    def __init__(self, of: memory.Memory) -> None:
        super().__init__(of)
        self.of = of

    def document(self, name: str, build: Callable[[], Response]) -> Response:
        """Return an answer that was built before."""
        found = self._memory.documents.get(name)
        if found is None:
            raise NotInMemory(name)
        return cast("Response", found)

    def recall(self, token: str, now: datetime) -> Any:  # Any: the gate's BearerToken
        """Return what the gate remembered of an access token."""
        found = memory.tokens.recall(token, now) if memory.remembers_tokens() else None
        if found is None:
            raise NotInMemory("token")
        return found

    def signing_key(self, algorithm: str) -> Key:
        """Return the active key if it is in this process: a device is waited for."""
        key = super().signing_key(algorithm)
        if not isinstance(key.signer, MemorySigner):
            raise NotInMemory(algorithm)
        return key

    def __getattr__(self, name: str) -> Any:  # Any: it never returns
        raise NotInMemory(name)
