"""Who acts for whom: the `act` claim. Pure. Spec: RFC 8693 §4.1.

`sub` stays whoever is acted for; `act` says who acts, the newest outermost. Here is the one place that builds and
reads it, whoever the actor is: today a client that exchanged a token for another one (`grants/token_exchange.py`,
by its client id); a colleague who stands in for somebody (US-19) will be one by `sub`. A client id never looks like
a person's `sub` (registration refuses it), so the two cannot be taken for each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_KIND = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 -- a kind's name

# However a client is set: more hands than this, and nobody knows any more for whom something was done (A56).
ACTORS_MAX = 3


@dataclass(frozen=True, slots=True)
class Delegation:
    """That a token is used by somebody else than it was issued to.

    `origin` is the client that the first token of the chain was issued to, its counter then, and when that was: when the
    client is switched off or its counter raised, what was made of its tokens ends too; no right that came later is added.
    """

    act: Mapping[str, Any]  # Any: JSON
    ends_at: datetime
    origin: Mapping[str, Any]  # Any: JSON

    def as_claims(self) -> dict[str, Any]:  # Any: JSON
        """Return the claims that a token carries of it."""
        return {"act": dict(self.act), "origin": dict(self.origin)}


def build_act(actor: str, before: Mapping[str, Any] | None) -> dict[str, Any]:  # Any: JSON
    """Return the `act` claim of a token that `actor` uses, in front of those who acted before."""
    return {"sub": actor, **({"act": dict(before)} if before else {})}


def actors(claims: Mapping[str, Any]) -> tuple[str, ...]:  # Any: JSON
    """Return who acts, the newest first; () for a token that nobody passed on.

    Raises: ValueError for a chain that is malformed, or longer than any that is made here.
    """
    found: list[str] = []
    act = claims.get("act")
    while act is not None:
        if not isinstance(act, dict) or not isinstance(act.get("sub"), str) or len(found) == ACTORS_MAX:
            raise ValueError("the act claim is none of ours")
        found.append(act["sub"])
        act = act.get("act")
    return tuple(found)
