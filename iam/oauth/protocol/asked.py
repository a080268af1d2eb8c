"""What a request asks for, and a grant gives, beyond scopes. Pure.

One value travels the whole way: authorization request → parked request → code → token family → token.
Spec: RFC 8707 §2 (resources), OIDC Core §5.5 (claims), RFC 9396 §2 (authorization_details), RFC 9449 §10
(dpop_jkt), RFC 7800 §3, RFC 8705 §3.1, RFC 9449 §6.1 (cnf).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class RequestedClaim:
    """One claim asked for by name. `values`: those that would do, in order of preference; () says any.

    Spec: OIDC Core §5.5.1 (`value` is `values` with one member, null is a voluntary claim with any value).
    """

    essential: bool = False
    values: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any] | None:  # Any: JSON
        """Return it as the `claims` parameter writes it."""
        written: dict[str, Any] = {"essential": True} if self.essential else {}
        if self.values:
            written["values"] = list(self.values)
        return written or None


@dataclass(frozen=True, slots=True)
class RequestedClaims:
    """The claims asked for in each place, by name. Spec: OIDC Core §5.5."""

    id_token: Mapping[str, RequestedClaim] = field(default_factory=dict)
    userinfo: Mapping[str, RequestedClaim] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:  # Any: JSON
        """Return it as the `claims` parameter writes it; {} when nothing is asked."""
        places = {"id_token": self.id_token, "userinfo": self.userinfo}
        return {
            place: {name: claim.as_json() for name, claim in claims.items()}
            for place, claims in places.items()
            if claims
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "RequestedClaims":  # Any: JSON
        """Read what `as_json` wrote."""
        return cls(_claims(value.get("id_token", {})), _claims(value.get("userinfo", {})))


def _claims(value: Mapping[str, Any]) -> dict[str, RequestedClaim]:  # Any: JSON
    return {
        name: RequestedClaim(bool((given or {}).get("essential")), tuple((given or {}).get("values", ())))
        for name, given in value.items()
    }


@dataclass(frozen=True, slots=True)
class Asked:
    """Everything asked for, or granted, beyond scopes.

    `resources` holds audiences, as tokens name them (`protocol/audience.py`). `dpop_jkt` is the thumbprint that
    an authorization request binds its code to; `cnf` is what tokens are bound to: {"jkt": …} or {"x5t#S256": …}.
    """

    resources: tuple[str, ...] = ()
    claims: RequestedClaims = RequestedClaims()
    authorization_details: tuple[Mapping[str, Any], ...] = ()  # Any: JSON
    dpop_jkt: str = ""
    cnf: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:  # Any: JSON
        """Return a form that survives JSON, without what is empty; `from_json` reads it back."""
        whole: dict[str, Any] = {
            "resources": list(self.resources),
            "claims": self.claims.as_json(),
            "authorization_details": [dict(detail) for detail in self.authorization_details],
            "dpop_jkt": self.dpop_jkt,
            "cnf": dict(self.cnf),
        }
        return {name: value for name, value in whole.items() if value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Asked":  # Any: JSON
        """Read what `as_json` wrote; what is not there was empty."""
        if not value:
            return NOTHING
        return cls(
            resources=tuple(value.get("resources", ())),
            claims=RequestedClaims.from_json(value.get("claims", {})),
            authorization_details=tuple(value.get("authorization_details", ())),
            dpop_jkt=value.get("dpop_jkt", ""),
            cnf=value.get("cnf", {}),
        )


NOTHING = Asked()
