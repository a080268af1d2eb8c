"""Sign and verify compact JWS with the few algorithms of this house. Pure.

`cryptography` directly: 28 µs for an ES256 signature where a general library takes several times that.
Only the compact form is read (A12), only a key of our own ring, named by `kid`, and only with the
algorithm that this key was made for (A11). Spec: RFC 7515 §5, RFC 7518 §3.3, §3.4, RFC 8725 §3.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

# The longest token we make is a few KB; anything longer is not ours (A14).
TOKEN_LENGTH_MAX = 16_384
ALGORITHMS = ("ES256", "RS256", "PS256", "EdDSA")
# What others may sign with: RFC 9864 §2.2 calls EdDSA with the one curve that is used here Ed25519, and newer libraries
# write that. We go on writing EdDSA, which every library reads.
FOREIGN_ALGORITHMS = (*ALGORITHMS, "Ed25519")
_EDWARDS = ("EdDSA", "Ed25519")

_ES256 = ec.ECDSA(hashes.SHA256())
_RS256 = padding.PKCS1v15()
_SHA256 = hashes.SHA256()
_PS256 = padding.PSS(padding.MGF1(_SHA256), salt_length=32)
_RSA_PADDING: dict[str, padding.AsymmetricPadding] = {"RS256": _RS256, "PS256": _PS256}

_URL_SAFE = bytes.maketrans(b"+/", b"-_")
# Made once: `json.dumps` makes another one at each call that asks for anything unusual.
_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

# Header parameters that are text wherever they are given (RFC 7515 §4.1.1, §4.1.4, §4.1.9, §4.1.10).
_TEXTS = ("alg", "kid", "typ", "cty")

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


class BadToken(Exception):
    """The text is not a token that one of our keys signed. The text of the error is for logs only."""


def encode_segment(data: bytes) -> str:
    """Return base64url without padding. Spec: RFC 7515 §2."""
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=").decode("ascii")


def decode_segment(text: str) -> bytes:
    """Read base64url without padding, strictly.

    Raises: BadToken. Two texts for the same bytes would let a denylist be walked around, so the text
    must be the one that encoding gives back.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as problem:
        raise BadToken("not base64url") from problem
    if encode_segment(data) != text:
        raise BadToken("not canonical base64url")
    return data


class SigningUnavailable(LookupError):
    """Nothing can sign now: there is no key, it cannot be read, or the device that keeps it does not answer. It denies.

    The text is for logs and operators; it never holds a key.
    """


def names_of(algorithm: str) -> tuple[str, ...]:
    """Return every name of an algorithm; whoever is allowed one of them is allowed them all."""
    return _EDWARDS if algorithm in _EDWARDS else (algorithm,)


class Signer(Protocol):
    """What signs for one key: a private key in memory, or a device that never gives its key away."""

    def sign(self, data: bytes) -> bytes:
        """Return the signature as a JWS carries it. Raises: SigningUnavailable. Spec: RFC 7518 §3.3, §3.4, §3.5."""


@dataclass(frozen=True, slots=True)
class MemorySigner:
    """A private key in this process. `repr` never shows it."""

    algorithm: str
    private: PrivateKey = field(repr=False)

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`."""
        match self.private:
            case ec.EllipticCurvePrivateKey():
                return _raw_of_der(self.private.sign(data, _ES256))
            case rsa.RSAPrivateKey():
                return self.private.sign(data, _RSA_PADDING[self.algorithm], _SHA256)
            case ed25519.Ed25519PrivateKey():
                return self.private.sign(data)


@dataclass(frozen=True, slots=True)
class Key:
    """One signing key: `signer` is None where only verification is wanted."""

    kid: str
    algorithm: str
    public: PublicKey
    signer: Signer | None = field(default=None, repr=False)

    def sign(self, typ: str, claims: Mapping[str, Any]) -> str:  # Any: JSON
        """Return the compact JWS of `claims` with header `typ`. Raises: SigningUnavailable. Spec: RFC 7515 §5.1."""
        signing_input = f"{_head(self.algorithm, self.kid, typ)}.{_segment(claims)}"
        return f"{signing_input}.{encode_segment(self._signature(signing_input.encode()))}"

    def _signature(self, data: bytes) -> bytes:
        if self.signer is None:
            raise SigningUnavailable(f"key {self.kid} cannot sign here")
        return self.signer.sign(data)

    def verify(self, signature: bytes, data: bytes) -> None:
        """Raise BadToken unless `signature` is this key's over `data`."""
        try:
            match self.public:
                case ec.EllipticCurvePublicKey():
                    if len(signature) != 64:
                        raise BadToken("signature of the wrong length")
                    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
                    self.public.verify(encode_dss_signature(r, s), data, _ES256)
                case rsa.RSAPublicKey():
                    self.public.verify(signature, data, _RSA_PADDING[self.algorithm], _SHA256)
                case ed25519.Ed25519PublicKey():
                    self.public.verify(signature, data)
        except InvalidSignature as problem:
            raise BadToken("signature does not match") from problem

    def jwk(self) -> dict[str, str]:
        """Return the public half as a JWK. Spec: RFC 7517 §4, RFC 7518 §6."""
        head = {"kid": self.kid, "alg": self.algorithm, "use": "sig"}
        match self.public:
            case ec.EllipticCurvePublicKey():
                numbers = self.public.public_numbers()
                return head | {
                    "kty": "EC",
                    "crv": "P-256",
                    "x": encode_segment(numbers.x.to_bytes(32, "big")),
                    "y": encode_segment(numbers.y.to_bytes(32, "big")),
                }
            case rsa.RSAPublicKey():
                rsa_numbers = self.public.public_numbers()
                return head | {
                    "kty": "RSA",
                    "n": encode_segment(rsa_numbers.n.to_bytes((rsa_numbers.n.bit_length() + 7) // 8, "big")),
                    "e": encode_segment(rsa_numbers.e.to_bytes(3, "big")),
                }
            case ed25519.Ed25519PublicKey():
                return head | {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "x": encode_segment(self.public.public_bytes_raw()),
                }


def _segment(value: Mapping[str, Any]) -> str:  # Any: JSON
    return encode_segment(_JSON(value).encode())


@lru_cache(maxsize=64)
def _head(algorithm: str, kid: str, typ: str) -> str:
    return _segment({"alg": algorithm, "kid": kid, "typ": typ})


def _raw_of_der(signature: bytes) -> bytes:
    """Return r and s of a P-256 signature, 32 bytes each, from the DER that OpenSSL wrote. Spec: RFC 7518 §3.4."""
    middle = 4 + signature[3]
    r, s = signature[4:middle], signature[middle + 2 :]
    return r[-32:].rjust(32, b"\0") + s[-32:].rjust(32, b"\0")


def generate(algorithm: str) -> PrivateKey:
    """Make a private key. Takes up to a second for RSA. Raises: ValueError for an unknown algorithm."""
    match algorithm:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "RS256" | "PS256":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            raise ValueError(f"unknown algorithm {algorithm!r}")


def private_bytes(key: PrivateKey) -> bytes:
    """Return the key as PKCS#8 DER, to be encrypted at once."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def load_private(kid: str, algorithm: str, der: bytes) -> Key:
    """Read PKCS#8 DER that we wrote ourselves. Raises: ValueError when it is not a key for `algorithm`.

    An RSA key's numbers are not proved again: that takes 36 ms, and what we encrypted nobody has changed.
    """
    match (
        algorithm,
        serialization.load_der_private_key(der, password=None, unsafe_skip_rsa_key_validation=True),
    ):
        case ("ES256", ec.EllipticCurvePrivateKey() as elliptic):
            return Key(kid, algorithm, elliptic.public_key(), MemorySigner(algorithm, elliptic))
        case ("RS256" | "PS256", rsa.RSAPrivateKey() as rsa_key):
            return Key(kid, algorithm, rsa_key.public_key(), MemorySigner(algorithm, rsa_key))
        case ("EdDSA", ed25519.Ed25519PrivateKey() as edwards):
            return Key(kid, algorithm, edwards.public_key(), MemorySigner(algorithm, edwards))
        case _:
            raise ValueError(f"key {kid} is not a key for {algorithm}")


@dataclass(frozen=True, slots=True)
class Verified:
    """A token whose signature was checked; its claims are still to be judged."""

    typ: str
    claims: dict[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class Signed:
    """A compact JWS taken apart, nothing of it believed yet."""

    header: dict[str, Any]  # Any: JSON
    unverified_payload: bytes
    signing_input: bytes
    signature: bytes

    def verified(self) -> Verified:
        """Return type and claims; call it once the signature was checked. Raises: BadToken."""
        typ = self.header.get("typ", "")
        return Verified(typ if isinstance(typ, str) else "", self.unverified_json())

    def unverified_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the claims, of which nothing is believed yet. Raises: BadToken when they are no JSON object."""
        return _json_object(self.unverified_payload)


def split(token: str) -> Signed:
    """Take a compact JWS apart. Raises: BadToken. Spec: RFC 7515 §5.2, §4.1.11 (no extension is understood)."""
    if len(token) > TOKEN_LENGTH_MAX or token.count(".") != 2 or not token.isascii():
        raise BadToken("not a compact JWS")
    head, body, tail = token.split(".")
    header = _json_object(decode_segment(head))
    if "crit" in header or "b64" in header:
        raise BadToken("extension not understood")
    if not all(isinstance(header.get(name, ""), str) for name in _TEXTS):
        raise BadToken("a header parameter is no text")
    return Signed(header, decode_segment(body), f"{head}.{body}".encode("ascii"), decode_segment(tail))


def verify(token: str, keys: Mapping[str, Key]) -> Verified:
    """Return header type and claims of a token that one of our own `keys` signed.

    Raises: BadToken. Spec: RFC 7515 §5.2, RFC 8725 §3.1 (the algorithm is the key's, not the header's).
    """
    signed = split(token)
    kid = signed.header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise BadToken("unknown key")
    if signed.header.get("alg") != key.algorithm:
        raise BadToken("algorithm is not the key's")
    key.verify(signed.signature, signed.signing_input)
    return signed.verified()


def _json_object(data: bytes) -> dict[str, Any]:  # Any: JSON
    try:
        value = json.loads(data.decode())  # UTF-8 and nothing else (RFC 7515 §5.2)
    except (ValueError, RecursionError) as problem:
        raise BadToken("not JSON") from problem
    if not isinstance(value, dict):
        raise BadToken("not a JSON object")
    return value
