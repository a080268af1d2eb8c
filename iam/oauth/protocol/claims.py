"""Build the claims of tokens and answers. Pure.

Spec: RFC 9068 §2.2, OIDC Core §2, §5.1, RFC 7662 §2.2. `exp`, `iat`, `auth_time` are whole seconds.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from iam.access.policy import EffectiveAccess, access_claim, expresses, flat_roles

ACCESS_TOKEN_LIFE = timedelta(minutes=5)  # the house rule: everywhere, without exception
ID_TOKEN_LIFE = timedelta(minutes=5)
CODE_LIFE = timedelta(seconds=60)  # FAPI 2.0 §5.3.2.1; ASVS 10.4.3

# Scopes that describe a person. A machine never gets one (A57).
PERSON_SCOPES = ("openid", "profile", "email", "roles", "offline_access")

# What is told of a person, and the scope that stands for it. Spec: OIDC Core §5.4.
CLAIM_SCOPES = {
    "name": "profile", "name#ar": "profile", "preferred_username": "profile", "locale": "profile",
    "email": "email", "office": "roles", "access": "roles", "roles": "roles",
}  # fmt: skip

ACCESS_TOKEN_TYP = "at+jwt"  # noqa: S105 -- RFC 9068 §2.1
ID_TOKEN_TYP = "JWT"  # noqa: S105 -- OIDC Core §2
SUPPORTED_CLAIMS = (
    "iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid", "at_hash",
    *CLAIM_SCOPES,
)  # fmt: skip


def seconds(at: datetime) -> int:
    """Return whole seconds since 1970. Spec: RFC 7519 §2 (NumericDate)."""
    return int(at.timestamp())


def generation_claim(installation: int, subject: int, client: int, session: int) -> str:
    """Return the one private claim that carries the four counters."""
    return f"{installation}.{subject}.{client}.{session}"


def parse_generation(value: Any) -> tuple[int, ...] | None:  # Any: a claim
    """Read the counters back; None when it is not what we write."""
    if not isinstance(value, str):
        return None
    parts = value.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) < 12 for part in parts):
        return None
    return tuple(int(part) for part in parts)


def access_claims(access: EffectiveAccess | None, audience_applications: frozenset[str]) -> dict[str, Any]:
    """Return `office`, `access`, `roles` for an audience: its own roles and the organisation's. Never absent."""
    if access is None:
        return {"office": None, "access": [], "roles": []}
    expressed = access_claim(access.grants, audience_applications)
    return {
        "office": access.office,
        "access": [{"role": g.role, "office": g.office, "subtree": g.subtree} for g in expressed],
        "roles": list(flat_roles(access.grants, audience_applications)),
    }


def bounded_end(
    life: timedelta, access: EffectiveAccess | None, audience_applications: frozenset[str], now: datetime
) -> datetime:
    """Return when a token must end: its life, or earlier with an assignment that it expresses."""
    ends = [now + life]
    if access is not None:
        ends += [
            grant.valid_until
            for grant in access.grants
            if grant.valid_until is not None and expresses(grant, audience_applications)
        ]
    return min(ends)


def released_claims(
    scopes: tuple[str, ...], asked: Iterable[str], registered: frozenset[str]
) -> frozenset[str]:
    """Return which claims may be told: those of the granted scopes, and those asked for by name.

    In: `registered` the scopes of the client as they are now; what was taken from it is not told. Spec: OIDC Core §5.4, §5.5.
    """
    named = frozenset(asked)
    return frozenset(
        name
        for name, scope in CLAIM_SCOPES.items()
        if scope in scopes or (name in named and scope in registered)
    )


def person_claims(
    names: frozenset[str], *, name_latin: str, name_arabic: str, email: str, language: str, login: str
) -> dict[str, str]:
    """Return the standard claims that may be told; an empty one is left out. Spec: OIDC Core §5.1, §5.2, §5.3.2."""
    known = {
        "name": name_latin or name_arabic,
        "name#ar": name_arabic,
        "preferred_username": login,
        "locale": language,
        "email": email,
    }
    return {name: value for name, value in known.items() if value and name in names}


def token_hash(token: str, algorithm: str) -> str:
    """Return at_hash for an ID token signed with `algorithm`: the left half of the hash that it signs with.

    Ed25519 signs with SHA-512 (RFC 8032 §5.1). Spec: OIDC Core §3.1.3.6.
    """
    whole = (hashlib.sha512 if algorithm == "EdDSA" else hashlib.sha256)(token.encode()).digest()
    return base64.urlsafe_b64encode(whole[: len(whole) // 2]).rstrip(b"=").decode()


def granted_scopes(scopes: tuple[str, ...]) -> tuple[str, ...]:
    """Return what is really given: `offline_access` is understood but grants nothing.

    Refresh tokens end with the sign-in session whatever is asked. Spec: OIDC Core §11.
    """
    return tuple(scope for scope in scopes if scope != "offline_access")


def is_for(claims: Mapping[str, Any], audience: str) -> bool:  # Any: JSON
    """Say whether `audience` is among a token's audiences. Spec: RFC 7519 §4.1.3."""
    aud = claims.get("aud")
    return audience in aud if isinstance(aud, list) else aud == audience
