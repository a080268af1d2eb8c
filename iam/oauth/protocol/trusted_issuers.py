"""Issuers whose assertions stand for a client of ours: what is registered of one, and what it may vouch for. Pure.

Such an issuer is a platform that names its workloads in tokens it signs (a cluster, a build service). It never speaks
for people: a person's token needs a sign-in session (docs/adr/0024). Spec: RFC 7523 §2.1, §3.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import fields
from .assertions import EXPIRED_LEEWAY, LIFE_MAX, Assertion, BadAssertion, Expected
from .fields import MetadataError
from .jose import FOREIGN_ALGORITHMS
from .registered_proofs import check_key_address, check_keys

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# The typ of the revision of RFC 7523; "JWT" and none are what platforms write today.
ASSERTION_TYPES = frozenset({"authorization-grant+jwt"})
SUBJECTS_MAX = 200
SUBJECT_LENGTH_MAX = 500
MAX_LIFE_SECONDS = 300
_ISSUER = re.compile(r"[\x21-\x7E]{1,500}", re.ASCII)
_KNOWN = frozenset(
    {"issuer", "jwks", "jwks_uri", "algorithms", "subjects", "scope", "max_life", "enabled"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrustedIssuerFacts:
    """An issuer, checked. `subjects` maps what it calls a workload to the client that the workload is here."""

    issuer: str
    jwks: tuple[Mapping[str, Any], ...]  # Any: public JWKs
    jwks_uri: str
    algorithms: tuple[str, ...]
    subjects: Mapping[str, str]
    scopes: frozenset[str]
    max_life_seconds: int
    enabled: bool


def check_issuer(given: Any) -> TrustedIssuerFacts:  # Any: JSON from outside
    """Return a checked issuer; names that begin with `_` are comments. Raises: MetadataError."""
    if not isinstance(given, dict):
        raise MetadataError("each issuer must be a JSON object")
    value = {name: item for name, item in given.items() if not name.startswith("_")}
    for name in sorted(value.keys() - _KNOWN):
        raise MetadataError(f"{name} is not known")
    issuer = value.get("issuer")
    if not isinstance(issuer, str) or not _ISSUER.fullmatch(issuer):
        raise MetadataError("issuer must be the text that its tokens have in iss")
    keys, address = check_keys(value), check_key_address(value)
    if not keys and not address:
        raise MetadataError("jwks or jwks_uri is needed")
    scope = value.get("scope", "")
    if not isinstance(scope, str) or not scope.split():
        raise MetadataError(
            "scope must be text: the scopes that the issuer may vouch for, with a space between"
        )
    return TrustedIssuerFacts(
        issuer=issuer,
        jwks=keys,
        jwks_uri=address,
        algorithms=fields.strings(value, "algorithms", FOREIGN_ALGORITHMS) or FOREIGN_ALGORITHMS,
        subjects=_subjects(value.get("subjects")),
        scopes=frozenset(scope.split()),
        max_life_seconds=fields.number(
            value, "max_life", 30, int(LIFE_MAX.total_seconds()), MAX_LIFE_SECONDS
        ),
        enabled=fields.flag(value, "enabled", True),
    )


def _subjects(value: Any) -> dict[str, str]:  # Any: JSON
    if not isinstance(value, dict) or not 0 < len(value) <= SUBJECTS_MAX:
        raise MetadataError(
            f"subjects must name 1 to {SUBJECTS_MAX} subjects, each with the client_id it stands for"
        )
    for subject, client_id in value.items():
        if not 0 < len(subject) <= SUBJECT_LENGTH_MAX or "*" in subject:
            raise MetadataError(f"subjects: {subject[:64]!r} must be one subject, written out")
        if not isinstance(client_id, str):
            raise MetadataError(f"subjects: {subject[:64]!r} must stand for a client_id")
    return dict(value)


def expected(our_issuer: str) -> Expected:
    """Return what an assertion must say to be meant for us. Spec: RFC 7523 §3 (3: our issuer, or the token endpoint)."""
    return Expected(frozenset({our_issuer, our_issuer + "/token"}), ASSERTION_TYPES)


def judge_life(assertion: Assertion, issuer: TrustedIssuerFacts, now_seconds: float) -> None:
    """Refuse an assertion that was made to live longer than this issuer's may. Call it after `assertions.judge`.

    Raises: BadAssertion. Spec: RFC 7523 §3 (4: an unreasonably far exp may be rejected).
    """
    claims = assertion.unverified_claims
    begun = min(claims.get("iat", now_seconds), now_seconds)
    if claims["exp"] - begun > issuer.max_life_seconds + EXPIRED_LEEWAY.total_seconds():
        raise BadAssertion(
            "issuer_life", f"This issuer's assertions may live {issuer.max_life_seconds} seconds."
        )
