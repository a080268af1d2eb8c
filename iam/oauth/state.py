"""What a worker remembers, and for how long it may be stale.

| what | remembered | at most stale |
|---|---|---|
| clients, scopes, signing keys | whole, by the installation's version | CHECK_SECONDS behind a commit, or a retiring key's end |
| keys that clients publish at an address | by address | as `client_keys.py` says |
| sessions, people, rights, codes, families, counters, denylist | never: read in the request's own statements | not at all |

What writes a code or a token checks client, session and person in its own statement besides (store.py).
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings

from iam.access import policy, selectors
from iam.accounts.cookies import SESSION
from iam.accounts.models import LoginSession, User
from iam.accounts.services import end_session, find_live_session
from iam.audit.record import Event, Outcome, record, tally
from iam.audit.tags import Action

from . import client_authorities, client_keys, keyring, outbox, sightings
from .device_store import DatabaseDevices
from .facts import client_facts
from .models import Client, Consent, Installation
from .ports import Devices, PersonFacts, Registrar, Standing, Store
from .protocol.audience import audience_of
from .protocol.jose import Key, SigningUnavailable
from .protocol.messages import ClientFacts, SessionFacts
from .registrations import DatabaseRegistrar
from .secretbox import client_secret_digest, derived_key, user_code_digest
from .store import DatabaseStore

# How often a worker asks whether the version moved. SECURITY.md asks 60 s of a revocation; this is a thousandth.
CHECK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything remembered, of one version."""

    version: int
    generation: int
    clients: Mapping[str, ClientFacts]
    owners: Mapping[str, ClientFacts]
    servers: Mapping[str, ClientFacts]
    keys: Mapping[str, Key]
    active_keys: Mapping[str, Key]
    published: tuple[Key, ...]
    pairwise_salt: bytes
    ring: keyring.Ring


_memory: Memory | None = None
_checked_at = 0.0
_lock = threading.Lock()


def forget() -> None:
    """Drop what is remembered; for tests, and for a process that changed something itself."""
    global _memory, _checked_at
    with _lock:
        _memory, _checked_at = None, 0.0


def _remembered() -> Memory:
    """Return the memory, read again if the version moved since."""
    global _memory, _checked_at
    memory, now = _memory, time.monotonic()
    if memory is not None and now - _checked_at < CHECK_SECONDS:
        return memory
    with _lock:
        row = Installation.objects.values_list("version", "generation").get(pk=1)
        if _memory is None or (_memory.version, _memory.generation) != row or _has_ended(_memory.ring):
            _memory = _read(*row, before=_memory.ring if _memory else None)
        _checked_at = now
        return _memory


def _has_ended(ring: keyring.Ring) -> bool:
    """Say whether the time of a retiring key is over: no commit announces that."""
    return ring.until is not None and ring.until.timestamp() <= time.time()


def _read(version: int, generation: int, before: keyring.Ring | None) -> Memory:
    clients = {
        client.client_id: client_facts(client)
        for client in Client.objects.select_related("application").order_by("pk")
    }
    servers = {
        audience_of(facts): facts for facts in clients.values() if facts.enabled and facts.is_resource_server
    }
    owners = {scope: facts for facts in servers.values() for scope in facts.owned_scopes}
    ring = keyring.load(datetime.now(UTC), before)
    salt = bytes(Installation.objects.values_list("pairwise_salt", flat=True).get(pk=1))
    return Memory(
        version, generation, clients, owners, servers, ring.by_kid, ring.active, ring.published, salt, ring
    )


def session_value(session: LoginSession) -> SessionFacts:
    """Turn a session's row, with its person, into the value that the engine knows."""
    return SessionFacts(
        session.id,
        session.generation,
        session.user_id,
        session.user.sub,
        session.user.generation,
        session.password_at,
        session.factor_at,
        session.factor_kind,
        session.expires_at,
    )


class DatabaseState:
    """The engine's State for one request."""

    def __init__(self) -> None:
        self._memory = _remembered()
        self.issuer: str = settings.IAM_ISSUER
        self.generation = self._memory.generation
        self.refresh_key = derived_key("refresh-token")
        self.nonce_key = derived_key("dpop-nonce")
        self.pairwise_salt = self._memory.pairwise_salt
        self.store: Store = DatabaseStore()
        self.registrar: Registrar = DatabaseRegistrar()
        self.devices: Devices = DatabaseDevices()

    # -- remembered -------------------------------------------------------------------------------------

    def client(self, client_id: str) -> ClientFacts | None:
        """Return a client, enabled or not."""
        return self._memory.clients.get(client_id)

    def scope_owner(self, scope: str) -> ClientFacts | None:
        """Return the enabled resource server that owns a scope."""
        return self._memory.owners.get(scope)

    def resource_server(self, audience: str) -> ClientFacts | None:
        """Return the enabled resource server that tokens name so."""
        return self._memory.servers.get(audience)

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

    def secret_digest(self, secret: str) -> str:
        """Return the keyed digest of a client secret."""
        return client_secret_digest(secret)

    def client_keys(self, client: ClientFacts, kid: str) -> tuple[Mapping[str, Any], ...]:  # Any: public JWKs
        """Return a client's public keys; see client_keys.py for how old they may be."""
        return client_keys.keys_of(client, kid)

    def trusts_certificate(self, certificate: str, now: datetime) -> bool:
        """Say whether an authority of clients issued a certificate."""
        return client_authorities.is_trusted(certificate, now)

    def client_auth_methods(self) -> tuple[str, ...]:
        """Return the ways in which clients can authenticate as things are configured."""
        return client_authorities.switched_on_methods()

    def user_code_digest(self, user_code: str) -> str:
        """Return the keyed digest of a user code."""
        return user_code_digest(user_code)

    # -- read each time -----------------------------------------------------------------------------------

    def browser_session(self, cookies: Mapping[str, str], now: datetime) -> SessionFacts | None:
        """Return the live session of a browser."""
        secret = cookies.get(SESSION)
        if not secret or not secret.isascii():  # ours are; a lone surrogate could not even be digested
            return None
        session = find_live_session(secret, now, timedelta(minutes=settings.IAM_SESSION_IDLE_MINUTES))
        return session_value(session) if session else None

    def standing(self, client: ClientFacts, user_id: UUID, now: datetime) -> Standing:
        """Ask access what a person may do with a client's application."""
        access = selectors.effective_access(user_id, now)
        application = selectors.application_policy(client.application)
        return Standing(
            access,
            policy.decide_admission(application, access),
            policy.decide_requirement(selectors.office_chain(access.office), access.grants, application),
        )

    def own_requirement(self, user_id: UUID, now: datetime) -> policy.Requirement:
        """Return what our own pages ask of a person."""
        access = selectors.effective_access(user_id, now)
        return policy.decide_requirement(
            selectors.office_chain(access.office), access.grants, selectors.application_policy(None)
        )

    def access(self, user_id: UUID, now: datetime) -> policy.EffectiveAccess:
        """Return what a person holds now."""
        return selectors.effective_access(user_id, now)

    def person(self, user_id: UUID) -> PersonFacts:
        """Read a person's names."""
        user = User.objects.get(pk=user_id)
        link = user.links.filter(active=True).order_by("pk").first()
        return PersonFacts(
            user.pk,
            user.sub,
            user.name_latin,
            user.name_arabic,
            user.email,
            user.language,
            link.login if link else "",
        )

    def agreed_scopes(self, user_id: UUID, client: ClientFacts) -> frozenset[str]:
        """Return what a person agreed to."""
        consent = Consent.objects.filter(user_id=user_id, client_id=client.pk).first()
        return frozenset(consent.scopes) if consent else frozenset()

    # -- written ------------------------------------------------------------------------------------------

    def end_session(self, session_id: UUID, reason: str, request_id: str, source: str, now: datetime) -> bool:
        """End a session."""
        return end_session(session_id, reason=reason, now=now, request_id=request_id, source=source)

    def others_to_tell(self, session_id: UUID, client: ClientFacts) -> bool:
        """Say whether another application must learn of the end of a session."""
        return outbox.is_anyone_to_tell(session_id, client.client_id)

    def record(
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
    ) -> None:
        """Write one audit event; the address goes to the side table."""
        record(
            Event(
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
        )

    def tally(self, source: str, client_id: str, reason: str, now: datetime) -> None:
        """Count a refusal of somebody unknown."""
        tally(source, client_id, reason, now)
