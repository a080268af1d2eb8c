"""The service's public keys, fetched when they are needed and kept a short while.

One thread fetches at a time; the others go on with what is there. A key that nobody knows makes us look again, but not
more often than the cool-down allows, or a stranger with made-up keys could make us hammer the service. When the
service does not answer, what was fetched before is good a while longer.
"""

import logging
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from .jws import BadToken, Key, read_key, read_object

KEYS_MAX = 50
ANSWER_SIZE_MAX = 262_144
TIMEOUT_SECONDS = 5.0  # without a sign of life
ANSWER_SECONDS_MAX = 10.0  # for all of it, however slowly it drips

Fetch = Callable[[str], bytes]
logger = logging.getLogger("resource_server")


class Unavailable(Exception):
    """The keys cannot be had, and there are none that are young enough: nothing can be verified now."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An address that was configured is meant; an answer does not get to choose another."""

    def redirect_request(self, *_: Any) -> None:
        """Follow nothing."""


_opener = urllib.request.build_opener(_NoRedirect)


def fetch(url: str) -> bytes:
    """Return the body of a 200 answer, bounded in size and time. Raises: Unavailable."""
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    until, body = time.monotonic() + ANSWER_SECONDS_MAX, b""
    try:
        with _opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            status: int = answer.status
            while part := answer.read1(65_536):
                body += part
                if len(body) > ANSWER_SIZE_MAX or time.monotonic() > until:
                    raise Unavailable(f"{url}: the answer is too long, or too slow")
    except (OSError, HTTPException, ValueError) as problem:  # URLError is an OSError
        raise Unavailable(f"{url}: {problem}") from problem
    if status != 200:
        raise Unavailable(f"{url}: status {status}")
    return body


def check_address(url: str) -> str:
    """Return the address of a machine: https, or http on this very machine. Raises: ValueError."""
    parts = urlsplit(url)
    loopback = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise ValueError(f"{url!r} must be an https address")
    if not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{url!r} must be an address without user, query and fragment")
    return url


@dataclass(frozen=True, slots=True)
class _Held:
    keys: Mapping[str, Key]
    fetched_at: float


class KeySource:
    """The keys of one issuer. Safe to share between threads; every process has its own."""

    def __init__(
        self,
        issuer: str,
        jwks_uri: str = "",
        *,
        fresh_seconds: float = 60,  # a key that was withdrawn in an emergency is forgotten this soon
        cool_down_seconds: float = 10,
        stale_seconds: float = 3600,
        fetch: Fetch = fetch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Fetch nothing yet. `jwks_uri` "" means: as the issuer's metadata says."""
        self._issuer = check_address(issuer)
        self._jwks_uri = check_address(jwks_uri) if jwks_uri else ""
        self._fresh, self._cool_down, self._stale = fresh_seconds, cool_down_seconds, stale_seconds
        self._fetch, self._clock = fetch, clock
        self._held: _Held | None = None
        self._tried_at = float("-inf")
        self._lock = threading.Lock()

    def key(self, kid: str) -> Key | None:
        """Return the key of a name, None when the issuer has none of that name.

        Raises: Unavailable, when there are no keys at all that are young enough.
        """
        held = self._held
        if held is None or self._is_due(held, kid):
            held = self._look(kid)
        if held is None or self._clock() - held.fetched_at > self._fresh + self._stale:
            raise Unavailable("the service's keys cannot be fetched")
        return held.keys.get(kid)

    def _is_due(self, held: _Held, kid: str) -> bool:
        now = self._clock()
        old = kid not in held.keys or now - held.fetched_at >= self._fresh
        return old and now - self._tried_at >= self._cool_down

    def _look(self, kid: str) -> _Held | None:
        """Fetch, unless somebody else just did or is about to and there is something to go on with."""
        if not self._lock.acquire(blocking=self._held is None or kid not in self._held.keys):
            return self._held
        try:
            held = self._held
            if held is not None and not self._is_due(held, kid):
                return held
            if held is None and self._clock() - self._tried_at < self._cool_down:
                return None
            self._tried_at = self._clock()
            try:
                self._held = _Held(self._read(), self._clock())
            except (Unavailable, BadToken) as problem:
                logger.warning("the keys of %s cannot be fetched: %s", self._issuer, problem)
            return self._held
        finally:
            self._lock.release()

    def _read(self) -> Mapping[str, Key]:
        document = read_object(self._fetch(self._address()))
        listed = document.get("keys")
        if not isinstance(listed, list) or len(listed) > KEYS_MAX:
            raise BadToken("not a key set")
        found: dict[str, Key] = {}
        for jwk in listed:
            try:
                key = read_key(jwk)
            except BadToken:
                continue  # keys for other uses, and kinds of a later day (RFC 7517 §5)
            if key.kid in found:
                raise BadToken("two keys of one name")
            found[key.kid] = key
        return found

    def _address(self) -> str:
        """Return where the keys are. Spec: RFC 8414 §3.3 (the metadata's issuer must be exactly ours)."""
        if not self._jwks_uri:
            parts = urlsplit(self._issuer)
            path = "/.well-known/oauth-authorization-server" + parts.path.rstrip("/")
            document = read_object(self._fetch(parts._replace(path=path).geturl()))
            address = document.get("jwks_uri")
            if document.get("issuer") != self._issuer or not isinstance(address, str):
                raise BadToken("the metadata is another issuer's")
            try:
                self._jwks_uri = check_address(address)
            except ValueError as problem:
                raise BadToken("the metadata names an unsafe address") from problem
        return self._jwks_uri
