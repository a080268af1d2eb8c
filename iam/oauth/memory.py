"""What a worker remembers, and for how long it may be stale.

| what | PostgreSQL, listener up | PostgreSQL, listener down | SQLite |
|---|---|---|---|
| clients, scopes, trusted issuers, keys, salts | until the NOTIFY of a commit (milliseconds) | not at all: one look-up a request | not at all: one look-up a request |
| access tokens that were good (for userinfo and introspection) | the same; the token's own end and the next change of rights by date end it too | not used | as above |
| keys that clients publish at an address | as `client_keys.py` says | | |
| offices, their states, roles | used while the statement that reads what a person holds finds the same version | the same | the same |
| sessions, people, what they hold, codes, families, for whatever is issued | never remembered: the writing statement asks | never | never |

A lost connection is noticed within LOST_SECONDS (changes.py); that long, at worst, a memory may be stale.
Nothing here is the only home of anything: losing it all costs time only.
"""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from iam import sql
from iam.access.held import Organisation, organisation

from . import detail_types, keyring
from .changes import EVERYTHING, Listener
from .facts import client_facts, issuer_facts
from .models import Client, TrustedIssuer
from .protocol.audience import audience_of
from .protocol.authorization_details import DetailType
from .protocol.jose import Key
from .protocol.messages import ClientFacts
from .protocol.trusted_issuers import TrustedIssuerFacts

# A remembered token takes about 4 KB with its two answers; so many are 80 MB at the very most.
TOKENS_MAX = 20_000
PROVED_MAX = 5_000
# Of this process alone: what is remembered of a secret is worth nothing anywhere else.
_PROVED_KEY = secrets.token_bytes(32)

_ROW = "SELECT version, generation, changes FROM oauth_installation WHERE id = 1"


@dataclass(frozen=True, slots=True)
class Memory:
    """What administrators set, of one version. `documents` keeps what is made of nothing else, by name."""

    version: int
    generation: int
    clients: Mapping[str, ClientFacts]
    owners: Mapping[str, ClientFacts]
    servers: Mapping[str, ClientFacts]
    detail_types: Mapping[str, DetailType]
    issuers: Mapping[str, TrustedIssuerFacts]
    keys: Mapping[str, Key]
    active_keys: Mapping[str, Key]
    published: tuple[Key, ...]
    pairwise_salt: bytes
    ring: keyring.Ring
    organisation: Organisation
    documents: dict[str, Any] = field(default_factory=dict)  # Any: an answer, a policy
    # Whom a Basic header proved, by its keyed digest: forgotten with this, so that no change of a client is missed.
    proved: dict[bytes, ClientFacts] = field(default_factory=dict, repr=False)

    def is_of(self, version: int, generation: int) -> bool:
        """Say whether this is what those numbers stand for, and no key's time is over."""
        return (self.version, self.generation) == (version, generation) and not self.has_ended()

    def has_ended(self) -> bool:
        """Say whether the time of a retiring key is over: no commit announces that."""
        return self.ring.until is not None and self.ring.until.timestamp() <= time.time()


class Tokens:
    """Access tokens that were good a moment ago, with what may be said of them. Forgotten by what they depend on.

    `epoch` moves whenever something is forgotten: what was read from the database before that is not kept.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._lock = threading.Lock()
        self._tokens: OrderedDict[str, tuple[float, Any, tuple[str, ...]]] = OrderedDict()
        self._by_key: dict[str, set[str]] = {}

    def recall(self, token: str, now: datetime) -> Any:  # Any: the gate's BearerToken
        """Return what was kept for a token, None when nothing was or its time is over."""
        kept = self._tokens.get(token)
        if kept is None or kept[0] <= now.timestamp():
            return None
        return kept[1]

    def keep(self, token: str, value: Any, until: datetime, keys: tuple[str, ...], epoch: int) -> None:
        """Keep what is known of a token until an instant, unless something was forgotten since `epoch`."""
        with self._lock:
            if epoch != self.epoch:
                return
            self._drop(token)
            self._tokens[token] = (until.timestamp(), value, keys)
            for key in keys:
                self._by_key.setdefault(key, set()).add(token)
            if len(self._tokens) > TOKENS_MAX:
                self._drop(next(iter(self._tokens)))

    def forget(self, key: str) -> None:
        """Forget every token that depends on `key`: "s", "u" or "t" and an identifier; all of them for EVERYTHING."""
        with self._lock:
            self.epoch += 1
            if key == EVERYTHING:
                self._tokens.clear()
                self._by_key.clear()
                return
            for token in tuple(self._by_key.get(key, ())):
                self._drop(token)

    def _drop(self, token: str) -> None:
        kept = self._tokens.pop(token, None)
        for key in kept[2] if kept else ():
            tokens = self._by_key.get(key)
            if tokens is not None:
                tokens.discard(token)
                if not tokens:
                    del self._by_key[key]


def digest_of_header(authorization: str) -> bytes:
    """Return under which name a Basic header is remembered; it holds a secret, which is not kept."""
    return hashlib.blake2b(
        authorization.encode("utf-8", "surrogatepass"), key=_PROVED_KEY, digest_size=32
    ).digest()


tokens = Tokens()
_memory: Memory | None = None
_moved = True  # PostgreSQL only: something that the memory is made of changed since it was read
_changes = -1  # SQLite only: the change up to which `tokens` is right
_lock = threading.Lock()
_listener: Listener | None = None


def listen() -> None:
    """Begin to listen for changes, once a process; on SQLite there is nothing to listen to."""
    global _listener
    if _listener is not None or connection.vendor != "postgresql":
        return  # without the lock: on SQLite who holds it reads the database, and the server's loop asks this
    with _lock:
        if _listener is None:
            _listener = Listener(_told)
            _listener.start()


def forget() -> None:
    """Drop everything that is remembered."""
    global _memory, _moved, _changes
    with _lock:
        _memory, _moved, _changes = None, True, -1
    tokens.forget(EVERYTHING)


def _told(message: str) -> None:
    global _moved
    if message == EVERYTHING:
        _moved = True
    tokens.forget(message)


def remembers_tokens() -> bool:
    """Say whether a token that was good may be believed to be good still: only while every change is heard."""
    return connection.vendor == "sqlite" or (_listener is not None and _listener.hears)


def current() -> Memory:
    """Return the memory as the database stands now (see the table above).

    Raises: django.db.Error when it has to be read and cannot.
    """
    if connection.vendor == "sqlite":
        return _current_of_sqlite()
    return fresh() or _reread()


def fresh() -> Memory | None:
    """Return the memory if it is surely what the database says now, None when that has to be asked.

    Never blocks: only where every change is heard can there be an answer.
    """
    memory = _memory
    if (
        memory is not None
        and not _moved
        and _listener is not None
        and _listener.hears
        and not memory.has_ended()
    ):
        return memory
    return None


def _reread() -> Memory:
    """Look at the version, and read everything if it is another one than we know."""
    global _memory, _moved
    with _lock:
        _moved = False  # first: what changes while we read moves it again
        try:
            version, generation, _ = _installation()
            if _memory is None or not _memory.is_of(version, generation):
                _memory = _read(version, generation, _memory)
        except BaseException:
            _moved = True
            raise
        return _memory


def _current_of_sqlite() -> Memory:
    """Look at one small row, each time: `PRAGMA data_version` was seen standing still after a commit (docs/adr/0043)."""
    global _memory, _changes
    version, generation, changes = _installation()
    with _lock:
        if _memory is None or not _memory.is_of(version, generation):
            _memory = _read(version, generation, _memory)
        moved, _changes = changes != _changes, changes
        memory = _memory
    if moved:
        tokens.forget(EVERYTHING)
    return memory


def _installation() -> tuple[int, int, int]:
    row = sql.one(_ROW, {})
    if row is None:
        raise LookupError("the row of the installation is missing: run the migrations")
    return row[0], row[1], row[2]


def _read(version: int, generation: int, before: Memory | None) -> Memory:
    clients = {
        client.client_id: client_facts(client)
        for client in Client.objects.select_related("application").order_by("pk")
    }
    servers = {
        audience_of(facts): facts for facts in clients.values() if facts.enabled and facts.is_resource_server
    }
    owners = {scope: facts for facts in servers.values() for scope in facts.owned_scopes}
    issuers = {row.issuer: issuer_facts(row) for row in TrustedIssuer.objects.filter(enabled=True)}
    ring = keyring.load(datetime.now(UTC), before.ring if before else None)
    salt = sql.one("SELECT pairwise_salt FROM oauth_installation WHERE id = 1", {})
    if salt is None:
        raise LookupError("the row of the installation is missing: run the migrations")
    if before is not None and before.has_ended():
        tokens.forget(EVERYTHING)  # one that a forger made with that key could say that it lives for years
    keys = (ring.by_kid, ring.active, ring.published)
    types = detail_types.load(servers)
    offices_and_roles = organisation()
    return Memory(
        version,
        generation,
        clients,
        owners,
        servers,
        types,
        issuers,
        *keys,
        bytes(salt[0]),
        ring,
        offices_and_roles,
    )
