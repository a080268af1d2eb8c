"""Build the claims of a logout token, and the address of a front-channel logout. Pure.

Spec: OIDC Back-Channel Logout §2.4, §4; OIDC Front-Channel Logout §2, §3.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from .claims import seconds

LOGOUT_TOKEN_TYP = "logout+jwt"  # noqa: S105 -- Back-Channel Logout §2.4: no other kind of token can pass for one
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
# "at most two minutes in the future, to prevent captured Logout Tokens from being replayable" (§4)
LOGOUT_TOKEN_LIFE = timedelta(minutes=2)


def build_logout_claims(
    *, issuer: str, client_id: str, sub: str, sid: str, jti: str, now: datetime
) -> Mapping[str, Any]:  # Any: JSON
    """Return the claims that say to one client that one session ended.

    Both `sub` and `sid`, so that the client ends this session and no other one of the person. Never a `nonce`:
    that makes it impossible to take it for an ID token. Spec: Back-Channel Logout §2.4.
    """
    return {
        "iss": issuer,
        "sub": sub,
        "aud": client_id,
        "iat": seconds(now),
        "exp": seconds(now + LOGOUT_TOKEN_LIFE),
        "jti": jti,
        "sid": sid,
        "events": {LOGOUT_EVENT: {}},
    }


def front_channel_address(registered: str, issuer: str, sid: str) -> str:
    """Return the address that a browser loads to end an application's session.

    Both `iss` and `sid`, whether the client requires them or not; a query of its own is kept as it is.
    Spec: Front-Channel Logout §2, §3.
    """
    joint = "" if registered.endswith(("?", "&")) else "&" if "?" in registered else "?"
    return f"{registered}{joint}{urlencode({'iss': issuer, 'sid': sid})}"
