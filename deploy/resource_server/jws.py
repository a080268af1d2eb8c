"""Compact JWS and public keys, read strictly: everything that is not exactly what we expect is no token.

Only the compact form is read; the algorithm is one of an allow-list and must fit the key; no key, address or
extension named in a token's header is ever followed. Spec: RFC 7515 §5.2, RFC 7517, RFC 7518 §3, RFC 8725 §3.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

# The service makes tokens of a few KB; what is longer only burns our time.
TOKEN_LENGTH_MAX = 16_384
# Ed25519 is the name that RFC 9864 §2.2 gives to EdDSA with the one curve that is used here.
_EDWARDS = ("EdDSA", "Ed25519")
ALGORITHMS = ("ES256", "RS256", "PS256", *_EDWARDS)
RSA_BITS_MIN = 2048
RSA_BITS_MAX = 8192

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# Which members make up a key: what RFC 7638 §3.2 hashes.
_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
_FITS = {"EC": ("ES256",), "OKP": _EDWARDS, "RSA": ("PS256", "RS256")}
_SHA256 = hashes.SHA256()
_ECDSA = ec.ECDSA(_SHA256)
_PSS = padding.PSS(padding.MGF1(_SHA256), salt_length=32)


class BadToken(Exception):
    """The text is not an acceptable token; the reason is for a developer's eyes and holds nothing secret."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A compact JWS taken apart; nothing of it is believed yet."""

    header: Mapping[str, Any]  # Any: JSON
    unverified_payload: bytes
    signing_input: bytes
    signature: bytes


def split(token: str) -> Signed:
    """Take a compact JWS apart. Raises: BadToken."""
    if len(token) > TOKEN_LENGTH_MAX or token.count(".") != 2 or not token.isascii():
        raise BadToken("not a compact JWS")
    head, body, tail = token.split(".")
    header = read_object(decode(head))
    if "crit" in header or "b64" in header:
        raise BadToken("the header asks for an extension that is not understood")
    return Signed(header, decode(body), f"{head}.{body}".encode("ascii"), decode(tail))


def decode(text: str) -> bytes:
    """Read base64url without padding; two texts for the same bytes would be two tokens. Raises: BadToken."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as problem:
        raise BadToken("not base64url") from problem
    if encode(data) != text:
        raise BadToken("not canonical base64url")
    return data


def encode(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def read_object(data: bytes) -> dict[str, Any]:  # Any: JSON
    """Read a JSON object in which each name stands once. Raises: BadToken."""
    try:
        value = json.loads(data, object_pairs_hook=_each_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise BadToken("not JSON") from problem
    if not isinstance(value, dict):
        raise BadToken("not a JSON object")
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:  # Any: JSON
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, the algorithms that it may be used with, and its name."""

    kid: str
    algorithms: tuple[str, ...]
    public: PublicKey


def read_key(jwk: Any) -> Key:  # Any: JSON from outside
    """Read a public JWK for signatures. Raises: BadToken: private, weak, or of a kind that is not used here."""
    if not isinstance(jwk, dict) or _PRIVATE & jwk.keys():
        raise BadToken("not a public key")
    kty, kid, alg = jwk.get("kty"), jwk.get("kid", ""), jwk.get("alg")
    if not isinstance(kty, str) or kty not in _FITS or not isinstance(kid, str):
        raise BadToken("a key of another kind")
    if jwk.get("use", "sig") != "sig" or (alg is not None and alg not in _FITS[kty]):
        raise BadToken("a key for another use")
    try:
        fits = _FITS[kty] if alg is None or alg in _EDWARDS else (alg,)
        return Key(kid, fits, _public(kty, jwk))
    except (ValueError, TypeError, KeyError, AttributeError) as problem:
        raise BadToken("a key whose numbers cannot be read") from problem


def _public(kty: str, jwk: Mapping[str, Any]) -> PublicKey:
    if kty == "EC":
        x, y = decode(jwk["x"]), decode(jwk["y"])
        if jwk.get("crv") != "P-256" or len(x) != 32 or len(y) != 32:
            raise BadToken("not a key on P-256")
        return ec.EllipticCurvePublicNumbers(
            int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
        ).public_key()
    if kty == "OKP":
        if jwk.get("crv") != "Ed25519":
            raise BadToken("not a key on Ed25519")
        return ed25519.Ed25519PublicKey.from_public_bytes(decode(jwk["x"]))
    modulus, exponent = int.from_bytes(decode(jwk["n"]), "big"), int.from_bytes(decode(jwk["e"]), "big")
    if not RSA_BITS_MIN <= modulus.bit_length() <= RSA_BITS_MAX or exponent.bit_length() > 32:
        raise BadToken(f"an RSA key must have {RSA_BITS_MIN} to {RSA_BITS_MAX} bits and a small exponent")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def thumbprint(jwk: Mapping[str, Any]) -> str:  # Any: a JWK that `read_key` accepted
    """Return the SHA-256 thumbprint of a key. Spec: RFC 7638 §3."""
    required = {name: jwk[name] for name in _MEMBERS[str(jwk["kty"])]}
    text = json.dumps(required, separators=(",", ":"), sort_keys=True)
    return encode(hashlib.sha256(text.encode()).digest())


def check_signature(signed: Signed, key: Key, allowed: Collection[str]) -> dict[str, Any]:  # Any: JSON
    """Return the claims that `key` signed with an allowed algorithm. Raises: BadToken."""
    algorithm = signed.header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in allowed or algorithm not in key.algorithms:
        raise BadToken("the algorithm is not allowed, or not the key's")
    try:
        match key.public:
            case ec.EllipticCurvePublicKey():
                if len(signed.signature) != 64:
                    raise BadToken("a signature of the wrong length")
                r, s = (
                    int.from_bytes(signed.signature[:32], "big"),
                    int.from_bytes(signed.signature[32:], "big"),
                )
                key.public.verify(encode_dss_signature(r, s), signed.signing_input, _ECDSA)
            case rsa.RSAPublicKey():
                scheme = _PSS if algorithm == "PS256" else padding.PKCS1v15()
                key.public.verify(signed.signature, signed.signing_input, scheme, _SHA256)
            case ed25519.Ed25519PublicKey():
                key.public.verify(signed.signature, signed.signing_input)
    except InvalidSignature as problem:
        raise BadToken("the signature does not match") from problem
    return read_object(signed.unverified_payload)
