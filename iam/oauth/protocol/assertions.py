"""JWT assertions: read one, judge what it says, check who signed it. Pure.

Two things are assertions, and both go the same road, so both are judged here: what a client proves itself with
(`client_auth.py`; RFC 7523 §2.2, OIDC Core §9) and what stands for a grant (the JWT bearer grant; RFC 7523 §2.1).
The road is `read`, `judge`, `verify`, and then `store.use_once` with the `jti` until `use_until`, in the transaction
of the request: an assertion that nobody signed must not use up the `jti` of one that somebody did.
Nothing in the header leads to a key: `jku`, `x5u`, `jwk` and `x5c` are never looked at (A11).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from .jose import FOREIGN_ALGORITHMS, BadToken, Signed, split
from .jwk import check_signed

# How far ahead `exp` may be: a longer life only means that a stolen one is worth more, and that we remember longer.
# Authlib makes them for an hour unless told otherwise; a jti is remembered as long as its assertion could be used.
LIFE_MAX = timedelta(minutes=60)
# A clock that is behind ours, or ahead. FAPI 2.0 §5.3.2.1 asks that 10 s ahead pass and that more than 60 s do not.
EXPIRED_LEEWAY = timedelta(seconds=10)
AHEAD_LEEWAY = timedelta(seconds=60)
JTI_LENGTH_MAX = 256
# An end before the year 2000 or after 2200 is no time that we could work with.
_TIME_MIN, _TIME_MAX = 946_684_800, 7_258_118_400


class BadAssertion(Exception):
    """An assertion that must be refused: `reason` is a word for the audit, the text is for the developer."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Assertion:
    """A compact JWS of a JSON object, taken apart; nothing in it is believed until `verify`."""

    signed: Signed
    unverified_claims: Mapping[str, Any]  # Any: JSON

    @property
    def unverified_issuer(self) -> str:
        """Return `iss`, "" when it is no text."""
        return _text(self.unverified_claims.get("iss"))

    @property
    def unverified_subject(self) -> str:
        """Return `sub`, "" when it is no text."""
        return _text(self.unverified_claims.get("sub"))

    @property
    def kid(self) -> str:
        """Return the name that the header gives its key; only ever compared with the names of a registered set."""
        return _text(self.signed.header.get("kid"))


@dataclass(frozen=True, slots=True)
class Expected:
    """What an assertion of one kind must say. `types`: the `typ` of this use, in lower case, beside "JWT" and none."""

    audiences: frozenset[str]
    types: frozenset[str]
    # Whether `aud` may be a list, of one element and never more: a second audience could use the assertion too.
    list_allowed: bool = True
    jti_needed: bool = True


def read(text: str) -> Assertion:
    """Take an assertion apart.

    Raises: BadAssertion when it is no signed compact JWT of an algorithm of this house.
    Spec: RFC 7515 §5.2, RFC 8725 §3.1, §3.2 (no `none`, no shared secrets).
    """
    try:
        signed = split(text)
        claims = signed.unverified_json()
    except BadToken as problem:
        raise BadAssertion("bad_assertion", f"The assertion cannot be read: {problem}.") from problem
    if signed.header.get("alg") not in FOREIGN_ALGORITHMS:
        raise BadAssertion(
            "assertion_algorithm", f"The assertion's alg must be one of {', '.join(FOREIGN_ALGORITHMS)}."
        )
    if not isinstance(signed.header.get("kid", ""), str):
        raise BadAssertion("bad_assertion", "The assertion's kid is no text.")
    return Assertion(signed, claims)


def judge(assertion: Assertion, expected: Expected, now: datetime) -> None:
    """Judge type, audience and times; who it is from and about is the caller's to judge.

    Raises: BadAssertion. Spec: RFC 7523 §3; RFC 7519 §4.1; FAPI 2.0 §5.3.2.1; RFC 8725 §3.8, §3.11.
    """
    typ = assertion.signed.header.get("typ", "jwt")
    if not isinstance(typ, str) or typ.lower() not in expected.types | {"jwt"}:
        raise BadAssertion("assertion_type", "The assertion's typ is not for this use.")
    claims = assertion.unverified_claims
    _judge_audience(claims.get("aud"), expected)
    _judge_times(claims, now)
    jti = claims.get("jti")
    if jti is None and not expected.jti_needed:
        return
    if not isinstance(jti, str) or not 0 < len(jti) <= JTI_LENGTH_MAX:
        raise BadAssertion(
            "assertion_jti", f"The assertion needs a jti of 1 to {JTI_LENGTH_MAX} characters, new each time."
        )


def _judge_audience(aud: Any, expected: Expected) -> None:  # Any: JSON
    if isinstance(aud, list) and expected.list_allowed and len(aud) == 1:
        aud = aud[0]
    if not isinstance(aud, str) or aud not in expected.audiences:
        named = " or ".join(sorted(expected.audiences))
        raise BadAssertion("assertion_audience", f"The assertion's aud must be {named}, and nothing else.")


def _judge_times(claims: Mapping[str, Any], now: datetime) -> None:  # Any: JSON
    end = _moment(claims, "exp")
    if end is None:
        raise BadAssertion("assertion_time", "The assertion has no exp.")
    if end + EXPIRED_LEEWAY <= now:
        raise BadAssertion("assertion_expired", "The assertion has expired.")
    if end > now + LIFE_MAX + EXPIRED_LEEWAY:
        raise BadAssertion(
            "assertion_time", f"The assertion's exp is more than {LIFE_MAX.seconds // 60} minutes ahead."
        )
    for name in ("iat", "nbf"):
        begin = _moment(claims, name)
        if begin is not None and begin > now + AHEAD_LEEWAY:
            raise BadAssertion("assertion_time", f"The assertion's {name} is in the future.")


def verify(
    assertion: Assertion, jwks: Iterable[Mapping[str, Any]], algorithms: Sequence[str]
) -> Mapping[str, Any]:  # Any: JSON
    """Return the claims if one of these keys signed them with one of these algorithms.

    In: `jwks` the public keys of the one party that may have signed it. Raises: BadAssertion. Spec: RFC 7523 §3 (9).
    """
    try:
        check_signed(assertion.signed, jwks, algorithms)
    except BadToken as problem:
        raise BadAssertion("assertion_signature", "No registered key signed this assertion.") from problem
    return assertion.unverified_claims


def use_until(claims: Mapping[str, Any]) -> datetime:  # Any: JSON that `judge` passed
    """Return until when a `jti` must be remembered: longer than its assertion could be accepted again."""
    return datetime.fromtimestamp(float(claims["exp"]), UTC) + EXPIRED_LEEWAY + timedelta(seconds=30)


def _moment(claims: Mapping[str, Any], name: str) -> datetime | None:  # Any: JSON
    """Return a NumericDate. Raises: BadAssertion when it is none. Spec: RFC 7519 §2."""
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or not _TIME_MIN <= value <= _TIME_MAX:  # true is 1, and too early
        raise BadAssertion("assertion_time", f"The assertion's {name} is no time in seconds.")
    return datetime.fromtimestamp(value, UTC)


def _text(value: Any) -> str:  # Any: JSON
    return value if isinstance(value, str) else ""
