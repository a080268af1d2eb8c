"""Public keys that others give us, and tokens that others signed. Pure.

A key counts only from a set that the client registered, or inside a DPoP proof where it is what is proved;
`jku`, `x5u`, `jwk` and `x5c` of a header are never followed (A11). Spec: RFC 7517 §4, §5; RFC 7638 §3; RFC 8725 §3.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from .jose import (
    BadToken,
    Key,
    PublicKey,
    Signed,
    Verified,
    decode_segment,
    encode_segment,
    names_of,
    split,
)

RSA_BITS_MIN = 2048
RSA_BITS_MAX = 8192  # a longer one only burns our time (A14)
KEYS_MAX = 20
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# Which members make up a key, and in which order RFC 7638 §3.2 hashes them.
_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
_ALGORITHMS_OF = {"EC": ("ES256",), "OKP": ("EdDSA", "Ed25519"), "RSA": ("PS256", "RS256")}


class BadKey(Exception):
    """A JWK that we cannot or must not use; the text says why, for its owner."""


def read_key(jwk: Any, algorithm: str = "") -> Key:  # Any: JSON from outside
    """Return the verification key of a public JWK.

    In: `algorithm` as the token's header names it, where the key itself does not say.
    Raises: BadKey: private, too weak, of an unknown kind, or not for that algorithm.
    """
    if not isinstance(jwk, dict):
        raise BadKey("a key must be a JSON object")
    if _PRIVATE & jwk.keys():
        raise BadKey("the key is private or symmetric: give the public half only")
    kty = jwk.get("kty")
    if not isinstance(kty, str) or kty not in _ALGORITHMS_OF:
        raise BadKey("kty must be EC, OKP or RSA")
    possible = _ALGORITHMS_OF[kty]
    named = jwk.get("alg", algorithm) or possible[0]
    if named not in possible or (algorithm and algorithm not in names_of(named)):
        raise BadKey("alg does not fit the key")
    if jwk.get("use", "sig") != "sig":
        raise BadKey("use is not sig")
    kid = jwk.get("kid", "")
    if not isinstance(kid, str) or len(kid) > 200:
        raise BadKey("kid must be short text")
    try:
        return Key(kid, algorithm or str(named), _public(kty, jwk))
    except (BadToken, ValueError, TypeError, KeyError) as problem:
        raise BadKey("the key's numbers cannot be read") from problem


def _public(kty: str, jwk: Mapping[str, Any]) -> PublicKey:
    if kty == "EC":
        if jwk.get("crv") != "P-256":
            raise BadKey("crv must be P-256")
        return _elliptic(jwk["x"], jwk["y"])
    if kty == "OKP":
        if jwk.get("crv") != "Ed25519":
            raise BadKey("crv must be Ed25519")
        return _edwards(jwk["x"])
    return _rsa(jwk["n"], jwk["e"])


# A client proves itself with the same key again and again, and making a key of its numbers (a check that the point
# is on the curve among it) costs as much as a signature's verification. Bounded: a stranger's keys push out others.
_KEYS_REMEMBERED = 1024


@lru_cache(_KEYS_REMEMBERED)
def _elliptic(x_text: str, y_text: str) -> ec.EllipticCurvePublicKey:
    x, y = decode_segment(x_text), decode_segment(y_text)
    if len(x) != 32 or len(y) != 32:
        raise BadKey("x and y must be 32 bytes")
    return ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
    ).public_key()


@lru_cache(_KEYS_REMEMBERED)
def _edwards(x_text: str) -> ed25519.Ed25519PublicKey:
    return ed25519.Ed25519PublicKey.from_public_bytes(decode_segment(x_text))


@lru_cache(_KEYS_REMEMBERED)
def _rsa(modulus_text: str, exponent_text: str) -> rsa.RSAPublicKey:
    modulus, exponent = decode_segment(modulus_text), decode_segment(exponent_text)
    if not RSA_BITS_MIN <= int.from_bytes(modulus, "big").bit_length() <= RSA_BITS_MAX or len(exponent) > 4:
        raise BadKey(f"an RSA key must have {RSA_BITS_MIN} to {RSA_BITS_MAX} bits and a small exponent")
    return rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")).public_key()


def check_key_set(jwks: Any) -> tuple[dict[str, Any], ...]:  # Any: JSON from outside
    """Return the keys of a JWK Set that are usable for signatures or encryption.

    Raises: BadKey, when it is no set, has a private key, or nothing usable. Spec: RFC 7517 §5 (others are ignored).
    """
    if not isinstance(jwks, dict) or not isinstance(jwks.get("keys"), list):
        raise BadKey('a key set must be {"keys": […]}')
    keys = jwks["keys"]
    if len(keys) > KEYS_MAX:
        raise BadKey(f"a key set may have at most {KEYS_MAX} keys")
    usable = []
    for key in keys:
        if isinstance(key, dict) and _PRIVATE & key.keys():
            raise BadKey("the set has a private or symmetric key: give public halves only")
        if isinstance(key, dict) and key.get("use") == "enc" and key.get("kty") in {"EC", "RSA"}:
            usable.append(key)
            continue
        try:
            read_key(key)
        except BadKey:
            continue
        usable.append(key)
    if not usable:
        raise BadKey("the set has no usable key (EC P-256, Ed25519, or RSA of 2048 bits and more)")
    return tuple(usable)


def thumbprint(jwk: Mapping[str, Any]) -> str:  # Any: a JWK that `read_key` accepted
    """Return the SHA-256 thumbprint of a key, base64url. Spec: RFC 7638 §3."""
    names = _MEMBERS[str(jwk["kty"])]
    return _thumbprint(names, tuple(jwk[name] for name in names))


@lru_cache(_KEYS_REMEMBERED)
def _thumbprint(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    required = dict(zip(names, values, strict=True))
    text = json.dumps(required, separators=(",", ":"), sort_keys=True)
    return encode_segment(hashlib.sha256(text.encode()).digest())


def verify_with(token: str, jwks: Iterable[Mapping[str, Any]], algorithms: Sequence[str]) -> Verified:
    """Return type and claims of a token that one of these keys signed with one of these algorithms.

    In: `jwks` public JWKs of the one party that may have signed it. Raises: BadToken. Spec: RFC 7515 §5.2, §4.1.4.
    """
    signed = split(token)
    check_signed(signed, jwks, algorithms)
    return signed.verified()


def check_signed(signed: Signed, jwks: Iterable[Mapping[str, Any]], algorithms: Sequence[str]) -> None:
    """Raise BadToken unless one of these keys signed, with one of these algorithms."""
    algorithm = signed.header.get("alg")
    if algorithm not in algorithms:
        raise BadToken("algorithm is not allowed here")
    kid = signed.header.get("kid")
    for jwk in list(jwks)[:KEYS_MAX]:
        if isinstance(kid, str) and jwk.get("kid", kid) != kid:
            continue
        try:
            read_key(jwk, str(algorithm)).verify(signed.signature, signed.signing_input)
        except (BadKey, BadToken):
            continue
        return
    raise BadToken("no key of the set signed this")


def check_signature(signed: Signed, key: Key) -> Verified:
    """Return type and claims if `key` signed. Raises: BadToken."""
    if signed.header.get("alg") != key.algorithm:
        raise BadToken("algorithm is not the key's")
    key.verify(signed.signature, signed.signing_input)
    return signed.verified()
