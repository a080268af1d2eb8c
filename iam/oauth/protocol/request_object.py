"""Open a signed request object: the parameters of an authorization request as the client itself wrote them. Pure.

Only what the client signed counts, and it counts for one client and one provider. An object is carried through
browsers, so it must be worth nothing anywhere else: with the client's own name as `sub` it could serve whoever
reads the browser's history as a client assertion (RFC 9101 §10.8).
Spec: RFC 9101 §4, §5, §6.2, §6.3; FAPI 2.0 Message Signing §5.3.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from .claims import is_for
from .errors import OAuthError
from .jose import FOREIGN_ALGORITHMS, BadToken, names_of, split
from .jwk import verify_with
from .messages import ClientFacts
from .parameters import REPEATABLE, Parameters
from .profiles import HIGH_FOREIGN_ALGORITHMS

REQUEST_OBJECT_TYP = "oauth-authz-req+jwt"
# What older clients write. A high client says what it signs (RFC 8725 §3.11).
_TYPES = {REQUEST_OBJECT_TYP, f"application/{REQUEST_OBJECT_TYP}", "jwt", ""}
_HIGH_TYPES = {REQUEST_OBJECT_TYP, f"application/{REQUEST_OBJECT_TYP}"}
# Claims of the envelope, no parameters of the request.
_ENVELOPE = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti"})
# How far a client's clock may be ahead; FAPI 2.0 §5.3.2.1 asks for 10 at least and 60 at most.
LEEWAY_SECONDS = 30
# FAPI 2.0 Message Signing §5.3.1: `nbf` at most so long ago, `exp` at most so long after it.
HIGH_LIFE_SECONDS = 3600
KeysFor = Callable[[str], Iterable[Mapping[str, Any]]]  # Any: public JWKs
_TIME_MAX = 10**11  # seconds; what is beyond is no time


def open_request_object(
    token: str, client: ClientFacts, keys_for: KeysFor, issuer: str, now: datetime
) -> Parameters:
    """Return the parameters that a client signed.

    In: `keys_for` finds the client's registered keys, told which one is looked for ("" for any).
    Raises: OAuthError invalid_request_object, which says why.
    """
    high = client.options.profile == "high"
    typ, claims = _signed_by(token, client, keys_for, high=high)
    if typ.lower() not in (_HIGH_TYPES if high else _TYPES):
        raise _refusal("typ", f"The object's typ must be {REQUEST_OBJECT_TYP}.")
    if claims.get("iss") != client.client_id or claims.get("client_id") != client.client_id:
        raise _refusal("issuer", "iss and client_id in the object must both be this client.")
    if not is_for(claims, issuer):
        raise _refusal("audience", "aud in the object must be this issuer.")
    if claims.get("sub") == client.client_id:
        raise _refusal("subject", "sub must not be the client: the object could serve as its authentication.")
    if "request" in claims or "request_uri" in claims:
        raise _refusal("nested", "An object must not name another one.")
    _check_times(claims, now.timestamp(), high=high)
    return Parameters(_pairs(claims))


def _signed_by(
    token: str, client: ClientFacts, keys_for: KeysFor, *, high: bool
) -> tuple[str, dict[str, Any]]:
    named = client.options.request_object_signing_alg
    every = HIGH_FOREIGN_ALGORITHMS if high else FOREIGN_ALGORITHMS
    allowed = [algorithm for algorithm in every if not named or algorithm in names_of(named)]
    if token.count(".") == 4:
        raise _refusal("encrypted", "Encrypted request objects are not supported.")
    try:
        header = split(token).header
        if header.get("alg") not in allowed:  # nobody's keys are fetched for it
            raise BadToken("algorithm is not allowed here")
        kid = header.get("kid")
        verified = verify_with(token, keys_for(kid if isinstance(kid, str) else ""), allowed)
    except BadToken as problem:
        raise _refusal(
            "signature", f"No registered key of this client signed the object with {' or '.join(allowed)}."
        ) from problem
    return verified.typ, verified.claims


def _check_times(claims: Mapping[str, Any], now: float, *, high: bool) -> None:  # Any: JSON
    exp, nbf, iat = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if exp is not None and exp <= now:
        raise _refusal("expired", "The object has expired.")
    if any(at is not None and at > now + LEEWAY_SECONDS for at in (nbf, iat)):
        raise _refusal("future", "The object is from the future: set the client's clock.")
    if not high:
        return
    if exp is None or nbf is None:
        raise _refusal("times", "This client's profile asks for exp and nbf in the object.")
    if nbf < now - HIGH_LIFE_SECONDS or exp > nbf + HIGH_LIFE_SECONDS:
        raise _refusal("times", "nbf must be at most an hour ago, and exp at most an hour after nbf.")


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """Spec: RFC 7519 §2 (NumericDate: a number, and `true` is none)."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_TIME_MAX < value < _TIME_MAX:
        raise _refusal("times", f"{name} in the object must be a number of seconds.")
    return float(value)


def _pairs(claims: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Write claims as parameters: text as it is, anything else as JSON. Spec: RFC 9101 §4."""
    pairs: list[tuple[str, str]] = []
    for name, value in claims.items():
        if name in _ENVELOPE:
            continue
        if name in REPEATABLE and isinstance(value, list):
            pairs += [(name, _text(name, item)) for item in value]
        else:
            pairs.append((name, _text(name, value)))
    return pairs


def _text(name: str, value: Any) -> str:
    if value is None:
        raise _refusal("null", f"{name[:40]} in the object is null; leave it out.")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _refusal(reason: str, description: str) -> OAuthError:
    return OAuthError("invalid_request_object", description, reason=f"object_{reason}")
