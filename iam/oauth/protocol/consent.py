"""What a person is asked to agree to, and whether they did. Pure.

An agreement counts for what was shown and nothing else (A10). Scopes and claims are remembered; the details of a rich
authorization request never: the next payment is another payment. Spec: OIDC Core §3.1.2.4, RFC 9396 §13.
"""

import hashlib

from .bounded_json import canonical
from .claims import CLAIM_SCOPES, granted_scopes
from .messages import NO_DISCLOSURE, AuthorizationRequest, Disclosure


def asked_disclosure(request: AuthorizationRequest) -> Disclosure:
    """Return everything that a request would disclose or allow; a claim of a scope asked for is not named twice."""
    asked, scopes = request.asked, granted_scopes(request.scopes)
    names = dict.fromkeys([*asked.claims.id_token, *asked.claims.userinfo])
    claims = tuple(name for name in names if name in CLAIM_SCOPES and CLAIM_SCOPES[name] not in scopes)
    return Disclosure(scopes, claims, asked.authorization_details)


def unagreed(
    wanted: Disclosure, before: Disclosure, here: Disclosure, *, trusted: bool, anew: bool
) -> Disclosure:
    """Return what is to be shown: all that is wanted if any of it was not agreed to, else nothing.

    In: `before` what was agreed to in the past, `here` in this very flow, each by the person who is signed in now;
    `trusted` says that the client needs no consent, `anew` that it asked for one nevertheless (`prompt=consent`).
    """
    agreed = here if anew or wanted.details else _joined(before, here)
    if (trusted and not anew) or _covers(agreed, wanted):
        return NO_DISCLOSURE
    return wanted


def _joined(one: Disclosure, other: Disclosure) -> Disclosure:
    return Disclosure(one.scopes + other.scopes, one.claims + other.claims, other.details)


def _covers(agreed: Disclosure, wanted: Disclosure) -> bool:
    details = [canonical(detail) for detail in agreed.details]
    return (
        set(wanted.scopes) <= set(agreed.scopes)
        and all(name in agreed.claims or CLAIM_SCOPES[name] in agreed.scopes for name in wanted.claims)
        and all(canonical(detail) in details for detail in wanted.details)
    )


def disclosure_digest(shown: Disclosure) -> str:
    """Return a digest of what was shown, the same for the same content."""
    content = [sorted(shown.scopes), sorted(shown.claims), [dict(detail) for detail in shown.details]]
    return hashlib.sha256(canonical(content).encode()).hexdigest()
