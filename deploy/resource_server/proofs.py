"""Proofs that the sender of a token holds its key: DPoP, and the certificate of the connection.

Spec: RFC 9449 §4.3, §7, §8, §9; RFC 8705 §3.
"""

import base64
import hashlib
import hmac
import re
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote, urlsplit

from .jws import BadToken, check_signature, decode, encode, read_key, split, thumbprint

PROOF_TYP = "dpop+jwt"
PROOF_SECONDS = 60  # how old a proof may be; its identifier is remembered that long
_CERTIFICATE_LENGTH_MAX = 16_384


class BadProof(Exception):
    """The proof is not acceptable; the reason is for a developer's eyes."""


class ReplayStore(Protocol):
    """Remembers identifiers that were used. It must be one for all processes that answer for the same address."""

    def use(self, identifier: str, seconds: float) -> bool:
        """Use an identifier up for so many seconds: True for the first of any number of callers, False for the others."""


class MemoryReplayStore:
    """For an application of one process. When it is full it takes no more: a flood never makes room for a replay."""

    def __init__(self, size_max: int = 100_000) -> None:
        """Hold at most `size_max` identifiers."""
        self._size_max = size_max
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def use(self, identifier: str, seconds: float) -> bool:
        """See ReplayStore."""
        now = time.monotonic()
        with self._lock:
            if self._until.get(identifier, 0.0) > now:
                return False
            if len(self._until) >= self._size_max:
                self._until = {name: until for name, until in self._until.items() if until > now}
            if len(self._until) >= self._size_max:
                return False
            self._until[identifier] = now + seconds
            return True


class Nonces:
    """Nonces that need no memory: a time and its keyed digest. Processes that share the key take each other's."""

    def __init__(self, key: bytes, life_seconds: int = 300) -> None:
        """Raise ValueError for a key that could be guessed."""
        if len(key) < 32:
            raise ValueError("the key of the nonces must have at least 32 bytes")
        self._key, self._life = key, life_seconds

    def issue(self, now: float) -> str:
        """Return a nonce."""
        stamp = int(now).to_bytes(8, "big")
        return encode(stamp + self._mark(stamp))

    def accepts(self, nonce: str, now: float) -> bool:
        """Say whether a nonce is ours and young enough."""
        try:
            data = decode(nonce)
        except BadToken:
            return False
        stamp, mark = data[:8], data[8:]
        if not hmac.compare_digest(mark, self._mark(stamp)):
            return False
        return 0 <= now - int.from_bytes(stamp, "big") <= self._life

    def _mark(self, stamp: bytes) -> bytes:
        return hmac.new(self._key, b"dpop-nonce" + stamp, hashlib.sha256).digest()[:16]


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof whose signature and claims are right; whether it was used before is still to be asked."""

    jkt: str
    jti: str
    nonce: str


def read_proof(
    proof: str, *, method: str, url: str, token: str, algorithms: Collection[str], leeway: float, now: float
) -> Proof:
    """Check a DPoP proof against the request that it came with.

    Raises: BadProof. Spec: RFC 9449 §4.3 (numbers 1 to 9, 11, 12); the key and the nonce are the caller's to compare.
    """
    try:
        signed = split(proof)  # two headers arrive joined by a comma, and are no compact JWS
        if signed.header.get("typ") != PROOF_TYP:
            raise BadToken(f"typ must be {PROOF_TYP}")
        jwk = signed.header.get("jwk")
        key = read_key(jwk)
        claims = check_signature(signed, key, algorithms)
    except BadToken as problem:
        raise BadProof(str(problem)) from problem
    if not isinstance(jwk, dict):  # pragma: no cover -- read_key refused it
        raise BadProof("no key")
    jti, iat, nonce = claims.get("jti"), claims.get("iat"), claims.get("nonce", "")
    if not isinstance(jti, str) or not 1 <= len(jti) <= 256 or not isinstance(nonce, str):
        raise BadProof("jti is missing or too long")
    if claims.get("htm") != method:
        raise BadProof("htm is another method")
    htu, here = claims.get("htu"), normal_address(url)
    if not isinstance(htu, str) or not here or normal_address(htu) != here:
        raise BadProof("htu is another address")
    if isinstance(iat, bool) or not isinstance(iat, int | float) or not -PROOF_SECONDS <= iat - now <= leeway:
        raise BadProof("iat is too old or in the future")
    if claims.get("ath") != encode(hashlib.sha256(token.encode("ascii")).digest()):
        raise BadProof("ath is not this token's hash")
    return Proof(thumbprint(jwk), jti, nonce)


def normal_address(url: str) -> str:
    """Return an address without query and fragment, written in the one way in which equal addresses are equal.

    "" for what is none: it equals nothing that is asked for. Spec: RFC 9449 §4.3 (9), RFC 3986 §6.2.2, §6.2.3.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if scheme not in {"http", "https"} or not host or parts.username is not None or len(url) > 4_096:
        return ""
    host = f"[{host}]" if ":" in host else host
    place = host if port in {None, 443 if scheme == "https" else 80} else f"{host}:{port}"
    return f"{scheme}://{place}{_ESCAPE.sub(_normal_escape, parts.path or '/')}"


_ESCAPE = re.compile("%[0-9A-Fa-f]{2}", re.ASCII)
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def _normal_escape(found: "re.Match[str]") -> str:
    character = chr(int(found[0][1:], 16))
    return character if character in _UNRESERVED else found[0].upper()


def read_certificate(text: str) -> bytes:
    """Return the DER of a certificate as proxies hand it on: `:base64:` (RFC 9440) or escaped PEM (nginx); b"" for none.

    Only for a header that your own proxy sets, and removes from what clients send.
    """
    text = text.strip()
    if not text or len(text) > _CERTIFICATE_LENGTH_MAX:
        return b""
    if text.startswith(":") and text.endswith(":"):
        inner = text[1:-1]
    else:
        plain = unquote(text, errors="replace").strip()
        begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        if not plain.startswith(begin) or not plain.endswith(end):
            return b""
        inner = "".join(plain[len(begin) : -len(end)].split())
    try:
        return base64.b64decode(inner, validate=True)
    except ValueError:
        return b""


def certificate_thumbprint(der: bytes) -> str:
    """Return `x5t#S256`. Spec: RFC 8705 §3.1."""
    return encode(hashlib.sha256(der).digest())
