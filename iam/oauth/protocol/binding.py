"""The key that a token can be used with. Pure.

A token that is bound to a key is worth nothing to a thief who has only the token: whoever uses it proves the key,
by a DPoP proof or by the certificate of the connection. Spec: RFC 7800 §3.1, RFC 8705 §3.1, RFC 9449 §6.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .jose import FOREIGN_ALGORITHMS

# What a DPoP proof may be signed with: FAPI 2.0 §5.4.1. RS256 would only keep PKCS#1 v1.5 alive; ES256 is what
# every library does unasked.
DPOP_ALGORITHMS = tuple(algorithm for algorithm in FOREIGN_ALGORITHMS if algorithm != "RS256")


@dataclass(frozen=True, slots=True)
class Binding:
    """The keys that a sender proved, or that a token asks for: thumbprints, "" for none. Both may be there."""

    jkt: str = ""  # of a DPoP key (RFC 9449 §6.1)
    x5t: str = ""  # of a client certificate (RFC 8705 §3.1)

    def __bool__(self) -> bool:
        """Say whether there is any key at all."""
        return bool(self.jkt or self.x5t)

    @property
    def confirmation(self) -> dict[str, str]:
        """Return the value of `cnf`; {} when there is no key."""
        named = {"jkt": self.jkt, "x5t#S256": self.x5t}
        return {name: value for name, value in named.items() if value}

    @property
    def token_type(self) -> str:
        """Return how a client must present the token. Spec: RFC 9449 §5 (a certificate leaves it at Bearer)."""
        return "DPoP" if self.jkt else "Bearer"

    def is_met_by(self, proved: "Binding") -> bool:
        """Say whether somebody who proved these keys may use what is bound so. A key too many does no harm."""
        return self.jkt in {"", proved.jkt} and self.x5t in {"", proved.x5t}

    @classmethod
    def of(cls, confirmation: Any) -> "Binding":  # Any: the claim `cnf` of a token of ours, or None
        """Read `cnf` back.

        Raises: ValueError for a key that is not understood: to leave it out would be to take the lock away.
        """
        if confirmation is None:
            return UNBOUND
        if not isinstance(confirmation, Mapping) or not confirmation.keys() <= {"jkt", "x5t#S256"}:
            raise ValueError("cnf names a key of an unknown kind")
        return cls(str(confirmation.get("jkt", "")), str(confirmation.get("x5t#S256", "")))


UNBOUND = Binding()
