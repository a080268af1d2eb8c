"""Public keys of clients, and of issuers that we trust, that publish them at an address (`jwks_uri`): read, remembered, read again.

| what | bound |
|---|---|
| a set is read again, beside the requests that use it | once it is REFRESH_SECONDS old |
| a set is read again, and waited for | when a key is asked for that it does not have |
| one address is read at most once in | COOL_DOWN_SECONDS, whatever is asked: nobody can make us hammer it |
| a set that cannot be read again is still used | until it is STALE_SECONDS old |
| a request that holds a transaction | never waits here: it is told what must be read first (`attempts.py`) |

Each worker remembers for itself; what was read was checked (`protocol/jwk.check_key_set`).
Spec: OIDC Core §10.1.1 (rotation: a `kid` that is not known makes the set be read again).
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import outbound
from .protocol.jwk import BadKey, check_key_set

REFRESH_SECONDS = 600.0
COOL_DOWN_SECONDS = 30.0
# A client whose publishing is broken over a night still works in the morning. Longer would let somebody who has
# stolen a key, and can keep us from reading the set without it, go on using it.
STALE_SECONDS = 43_200.0
# Addresses come from registrations; a bound all the same.
ADDRESSES_MAX = 2_000

Keys = tuple[Mapping[str, Any], ...]  # Any: public JWKs
# How to come by the keys at an address, of which one may be looked for.
Published = Callable[[str, str], Keys]
logger = logging.getLogger(__name__)


class KeysNeeded(Exception):
    """A set must be read, and waited for, by somebody who holds no transaction."""

    def __init__(self, address: str, kid: str) -> None:
        super().__init__(f"the keys at {address} must be read")
        self.address, self.kid = address, kid


@dataclass(slots=True)
class _Entry:
    """What is known of one address. `lock` is held by whoever reads it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    keys: Keys = ()
    read_at: float = float("-inf")
    tried_at: float = float("-inf")


class KeySets:
    """The sets of a worker. `fetch` returns JSON or raises `outbound.Refused`; `clock` counts seconds."""

    def __init__(
        self,
        fetch: Callable[[str], Any] = outbound.get_json,
        clock: Callable[[], float] = time.monotonic,  # Any: JSON
    ) -> None:
        self._fetch, self._clock = fetch, clock
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def keys(self, address: str, kid: str) -> Keys:
        """Return the keys at an address, empty when they cannot be had; `kid` "" asks for no particular one."""
        entry = self._entry(address)
        found = self._at_once(address, kid, entry)
        if found is not None:
            return found
        with entry.lock:  # those who ask meanwhile wait for the one who reads
            if self._is_due(entry):
                self._read(address, entry)
        return self._known(entry)

    def at_hand(self, address: str, kid: str) -> Keys:
        """Return the same keys without waiting. Raises: KeysNeeded when they must be read, or are being read."""
        entry = self._entry(address)
        found = self._at_once(address, kid, entry)
        if found is not None:
            return found
        if self._is_due(entry) or entry.lock.locked():
            raise KeysNeeded(address, kid)
        return self._known(entry)

    def known(self, address: str, _kid: str) -> Keys:
        """Return what is known of an address, and ask nobody."""
        return self._known(self._entry(address))

    def forget(self) -> None:
        """Drop everything."""
        with self._lock:
            self._entries.clear()

    def _at_once(self, address: str, kid: str, entry: _Entry) -> Keys | None:
        """Return keys that can be used as they are, None when the set must be read first."""
        now, known = self._clock(), entry.keys
        if now - entry.read_at >= STALE_SECONDS or (kid and not _has(known, kid)):
            return None
        if now - entry.read_at >= REFRESH_SECONDS and self._is_due(entry):
            self._read_beside(address, entry)
        return known

    def _is_due(self, entry: _Entry) -> bool:
        return self._clock() - entry.tried_at >= COOL_DOWN_SECONDS

    def _known(self, entry: _Entry) -> Keys:
        return entry.keys if self._clock() - entry.read_at < STALE_SECONDS else ()

    def _entry(self, address: str) -> _Entry:
        with self._lock:
            entry = self._entries.get(address)
            if entry is None:
                if len(self._entries) >= ADDRESSES_MAX:
                    self._entries.pop(min(self._entries, key=lambda known: self._entries[known].tried_at))
                entry = self._entries[address] = _Entry()
            return entry

    def _read_beside(self, address: str, entry: _Entry) -> None:
        """Read again in a thread of its own; the request goes on with what is known."""
        if not entry.lock.acquire(blocking=False):
            return

        def read() -> None:
            try:
                self._read(address, entry)
            finally:
                entry.lock.release()

        threading.Thread(target=read, name="client-keys", daemon=True).start()

    def _read(self, address: str, entry: _Entry) -> None:
        """Read a set; what was known before stays when that fails. The caller holds the lock."""
        entry.tried_at = self._clock()
        try:
            keys = check_key_set(self._fetch(address))
        except (outbound.Refused, BadKey) as problem:
            logger.warning("client keys at %s could not be read: %s", address, problem)
            return
        entry.keys, entry.read_at = keys, self._clock()


def _has(keys: Keys, kid: str) -> bool:
    """Say whether the key is there; a key without a name might be any."""
    return any(key.get("kid", kid) == kid for key in keys)


_sets = KeySets()


def read(address: str, kid: str) -> Keys:
    """Return the keys at an address, read and waited for if need be; for who holds no transaction."""
    return _sets.keys(address, kid)


def at_hand(address: str, kid: str) -> Keys:
    """Return the keys at an address without waiting. Raises: KeysNeeded."""
    return _sets.at_hand(address, kid)


def known(address: str, kid: str) -> Keys:
    """Return what is known of an address, and ask nobody."""
    return _sets.known(address, kid)


def forget() -> None:
    """Drop what this worker knows; for tests."""
    _sets.forget()
