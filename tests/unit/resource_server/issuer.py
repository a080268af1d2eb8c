"""An issuer in miniature: signs whatever a test wants, and serves its keys from memory."""

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from deploy.resource_server import KeySource, Unavailable, Verifier
from iam.oauth.protocol.jose import Key, MemorySigner, encode_segment, generate

ISSUER = "https://signin.test.example"
AUDIENCE = "finance-api"
RESOURCE = "https://finance.test.example/api"
URL = RESOURCE + "/payments"
NOW = 1_800_000_000.0


def new_key(algorithm: str = "ES256", kid: str = "k1") -> Key:
    private = generate(algorithm)
    return Key(kid, algorithm, private.public_key(), MemorySigner(algorithm, private))


@dataclass
class Issuer:
    """Its keys by kid, and a clock that a test moves."""

    keys: dict[str, Key] = field(default_factory=lambda: {"k1": new_key()})
    now: float = NOW
    fetched: list[str] = field(default_factory=list)
    down: bool = False

    def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        if self.down:
            raise Unavailable("down")
        if url == f"{ISSUER}/.well-known/oauth-authorization-server":
            return json.dumps({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks"}).encode()
        assert url == f"{ISSUER}/jwks"
        return json.dumps({"keys": [key.jwk() for key in self.keys.values()]}).encode()

    def source(self, **more: Any) -> KeySource:
        return KeySource(ISSUER, fetch=self.fetch, clock=lambda: self.now, **more)

    def verifier(self, **more: Any) -> Verifier:
        return Verifier(
            ISSUER, AUDIENCE, RESOURCE, **{"keys": self.source(), "clock": lambda: self.now, **more}
        )

    def claims(self, **changes: Any) -> dict[str, Any]:
        claims = {
            "iss": ISSUER, "sub": "a" * 40, "aud": [AUDIENCE, ISSUER], "client_id": "finance", "scope": "openid payments.read",
            "iat": int(self.now), "exp": int(self.now) + 300, "jti": "f.1", "gen": "0.0.0.0", "sid": "s",
            "auth_time": int(self.now) - 60, "acr": "aal2", "amr": ["pwd", "otp", "mfa"], "office": "NIM",
            "access": [
                {"role": "finance.payer", "office": "NIM", "subtree": False},
                {"role": "staff", "office": "AFR", "subtree": True},
            ],
            "roles": ["finance.payer", "staff"], **changes,
        }  # fmt: skip
        return {name: value for name, value in claims.items() if value is not ...}

    def token(self, typ: str = "at+jwt", kid: str = "k1", **changes: Any) -> str:
        return self.keys[kid].sign(typ, self.claims(**changes))


def raw(header: dict[str, Any] | bytes, payload: dict[str, Any] | bytes, signature: bytes = b"") -> str:
    """Put a token together as an attacker would."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    return ".".join(encode_segment(part) for part in (*parts, signature))


def signed(key: Key, header: dict[str, Any], payload: dict[str, Any] | bytes) -> str:
    """Sign any header with a key of ours."""
    unsigned = raw(header, payload).rpartition(".")[0]
    return f"{unsigned}.{encode_segment(key._signature(unsigned.encode()))}"


@dataclass
class Holder:
    """A client with a DPoP key."""

    key: Key = field(default_factory=lambda: new_key(kid="dpop"))

    @property
    def jwk(self) -> dict[str, str]:
        return {
            name: value
            for name, value in self.key.jwk().items()
            if name in {"kty", "crv", "x", "y", "n", "e"}
        }

    @property
    def jkt(self) -> str:
        members = {name: self.jwk[name] for name in sorted(self.jwk)}
        return encode_segment(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())

    def proof(self, token: str, now: float = NOW, method: str = "GET", url: str = URL, **changes: Any) -> str:
        header = {"typ": "dpop+jwt", "alg": self.key.algorithm, "jwk": self.jwk, **changes.pop("header", {})}
        claims = {
            "jti": secrets.token_urlsafe(12), "htm": method, "htu": url, "iat": int(now),
            "ath": encode_segment(hashlib.sha256(token.encode()).digest()), **changes,
        }  # fmt: skip
        return signed(self.key, header, {name: value for name, value in claims.items() if value is not ...})
