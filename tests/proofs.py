"""DPoP proofs as a client makes them, and as nobody should."""

import json
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from iam.oauth.protocol.dpop import access_token_hash
from iam.oauth.protocol.jose import Key, encode_segment, generate, load_private, private_bytes
from iam.oauth.protocol.jwk import thumbprint


def private_key(algorithm: str = "ES256", kid: str = "") -> Key:
    """Return a fresh key of a client."""
    return load_private(kid, algorithm, private_bytes(generate(algorithm)))


def public_jwk(key: Key) -> dict[str, str]:
    """Return the public half as a proof's header carries it: the numbers and nothing else."""
    return {name: value for name, value in key.jwk().items() if name not in {"kid", "alg", "use"}}


def signed(key: Key, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Return a compact JWS with any header, signed by `key`."""
    head, body = (encode_segment(json.dumps(value).encode()) for value in (header, claims))
    return f"{head}.{body}.{encode_segment(key._signature(f'{head}.{body}'.encode()))}"


@dataclass
class Prover:
    """A client's DPoP key. `nonce` is put into every proof."""

    key: Key = field(default_factory=private_key)
    nonce: str = ""

    @property
    def jkt(self) -> str:
        return thumbprint(public_jwk(self.key))

    def proof(
        self,
        method: str,
        address: str,
        now: datetime,
        access_token: str = "",
        header: dict[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """Return a proof; `changes` and `header` replace members, None takes one out."""
        claims = {
            "jti": secrets.token_urlsafe(12), "htm": method, "htu": address, "iat": int(now.timestamp()),
            "ath": access_token_hash(access_token) if access_token else None, "nonce": self.nonce or None, **changes,
        }  # fmt: skip
        head = {"typ": "dpop+jwt", "alg": self.key.algorithm, "jwk": public_jwk(self.key), **(header or {})}
        return signed(self.key, without_none(head), without_none(claims))


def without_none(value: dict[str, Any]) -> dict[str, Any]:
    """Return a mapping without the members that are None."""
    return {name: item for name, item in value.items() if item is not None}
