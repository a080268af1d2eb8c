"""How an application learns that a session ended elsewhere: it verifies the service's logout token and forgets.

To an integrating developer this file is the guide to OIDC Back-Channel Logout §2.6 and §2.7. What is over is kept in
this process only: what began before the process did counts as over too, so that a restart forgets nobody's end.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

EVENT = "http://schemas.openid.net/event/backchannel-logout"
# Longer than any session of the service (24 hours) and any logout token (2 minutes).
KEPT_SECONDS = 86_400
CLOCK_SECONDS = 30
# Whoever sends nonsense must not make us read the service's keys again and again.
KEYS_EVERY_SECONDS = 30


class NotALogoutToken(Exception):
    """The text is not a logout token for this application; the service gets 400 and tries again."""


class EndedSessions:
    """The sessions that are over. `keys` returns the service's JWKS, read anew when it is asked to be."""

    def __init__(self, issuer: str, client_id: str, keys: Callable[[bool], Mapping[str, Any]]) -> None:
        self._issuer, self._client_id, self._keys = issuer, client_id, keys
        self._began = time.time()
        self._over: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._keys_read_at = 0.0

    def includes(self, sid: str, since: float) -> bool:
        """Say whether a session that this application opened at `since` is over."""
        return sid in self._over or since < self._began

    def take(self, token: str) -> None:
        """End the session that a logout token names. Raises: NotALogoutToken. Spec: Back-Channel Logout §2.6."""
        claims, now = self._verified(token), time.time()
        sid, jti = claims.get("sid"), claims.get("jti")
        if not isinstance(sid, str) or not isinstance(jti, str):
            raise NotALogoutToken("sid or jti is missing")
        if jti in self._seen:
            raise NotALogoutToken("seen before")
        for kept in (self._over, self._seen):
            for name in [name for name, at in kept.items() if at < now - KEPT_SECONDS]:
                del kept[name]
        self._over[sid] = self._seen[jti] = now

    def _verified(self, token: str) -> dict[str, Any]:
        decoded = self._decoded(token)
        claims, now = decoded.claims, time.time()
        exp, iat = claims.get("exp"), claims.get("iat")
        good = (
            decoded.header.get("typ") == "logout+jwt"
            and claims.get("iss") == self._issuer
            and claims.get("aud") in (self._client_id, [self._client_id])
            and isinstance(exp, int)
            and isinstance(iat, int)
            and iat - CLOCK_SECONDS <= now < exp + CLOCK_SECONDS
            and isinstance(claims.get("events"), dict)
            and isinstance(claims["events"].get(EVENT), dict)
            and "nonce" not in claims  # an ID token has one, a logout token never
        )
        if not good:
            raise NotALogoutToken("signed by the service, but no logout token for us")
        return dict(claims)

    def _decoded(self, token: str) -> jwt.Token:
        try:
            return self._decoded_with(token, anew=False)
        except NotALogoutToken:
            if time.time() - self._keys_read_at < KEYS_EVERY_SECONDS:
                raise
            self._keys_read_at = time.time()
        return self._decoded_with(token, anew=True)  # the service may have begun to use another key

    def _decoded_with(self, token: str, *, anew: bool) -> jwt.Token:
        try:
            return jwt.decode(token, KeySet.import_key_set(dict(self._keys(anew))), algorithms=["ES256"])  # type: ignore[arg-type]
        except (JoseError, ValueError) as problem:
            raise NotALogoutToken("not signed by the service") from problem
