"""DPoP: a proof, made for one request, that the sender holds a key. Pure.

What a proof can say is judged here; that its `jti` was never seen before is asked of the store by the caller,
last, so that only a good proof is remembered. Spec: RFC 9449 §4.2, §4.3, §8, §9, §11.1. Why so: docs/adr/0025.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from .binding import DPOP_ALGORITHMS
from .errors import OAuthError
from .jose import BadToken, Signed, encode_segment, split
from .jwk import BadKey, check_signature, read_key, thumbprint

PROOF_TYP = "dpop+jwt"
# An RSA 4096 key and signature are 1,400 characters, and the longest address a few hundred.
PROOF_LENGTH_MAX = 4096
JTI_LENGTH_MAX = 256
# FAPI 2.0 §5.3.2.1: a clock may be 10 s ahead; older than a minute is refused.
PROOF_LIFE = timedelta(seconds=60)
CLOCK_AHEAD = timedelta(seconds=10)
# A nonce is good for one to two of these.
NONCE_WINDOW = timedelta(minutes=5)

_UNRESERVED = re.compile(r"%(?:2[DE]|3[0-9]|4[1-9A-F]|5[0-9AF]|6[1-9A-F]|7[0-9AE])", re.IGNORECASE)
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_ADDRESS = re.compile(r"(https?)://([^/?#]*)([^?#]*)(?:\?[^#]*)?(?:#.*)?", re.IGNORECASE | re.DOTALL)
_DEFAULT_PORT = {"http": ":80", "https": ":443"}


class InvalidProof(OAuthError):
    """The proof does not prove it; or none was sent where one is needed. Spec: RFC 9449 §5, §12.2."""

    def __init__(self, description: str, *, reason: str = "dpop_invalid") -> None:
        super().__init__("invalid_dpop_proof", description, reason=reason)


class NonceNeeded(OAuthError):
    """The proof must carry a nonce of ours, which travels with the answer. Spec: RFC 9449 §8, §9."""

    def __init__(self, description: str) -> None:
        super().__init__("use_dpop_nonce", description, reason="dpop_nonce")


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that is right in itself. Nobody else can use it after `expires_at`."""

    jkt: str
    jti: str
    expires_at: datetime


# -- nonces -------------------------------------------------------------------------------------------------


def nonce_at(key: bytes, at: datetime) -> str:
    """Return the nonce of an instant: nothing is stored, and nobody can tell the next one. Spec: RFC 9449 §8."""
    return _nonce(key, int(at.timestamp() // NONCE_WINDOW.total_seconds()))


def nonce_end(key: bytes, nonce: str, now: datetime) -> datetime | None:
    """Return until when a nonce is accepted, None when it is not: the current one and the one before are."""
    window = int(now.timestamp() // NONCE_WINDOW.total_seconds())
    for number in (window, window - 1):
        if hmac.compare_digest(_nonce(key, number).encode(), nonce.encode(errors="replace")):
            return datetime.fromtimestamp((number + 2) * NONCE_WINDOW.total_seconds(), UTC)
    return None


def _nonce(key: bytes, window: int) -> str:
    return encode_segment(hmac.new(key, window.to_bytes(8, "big"), hashlib.sha256).digest()[:18])


# -- proofs -------------------------------------------------------------------------------------------------


def check_proof(
    text: str,
    *,
    method: str,
    addresses: Iterable[str],
    nonce_key: bytes,
    nonce_required: bool,
    access_token: str | None,
    now: datetime,
) -> Proof:
    """Return whose key was proved, for this request.

    In: `addresses` this endpoint's own addresses; `access_token` what the proof is sent with, None where tokens are made.
    Raises: InvalidProof, NonceNeeded. Spec: RFC 9449 §4.3.
    """
    signed, jwk = _signed_by_its_key(text)
    claims = _claims(signed, jwk)
    jti, htm, htu = claims.get("jti"), claims.get("htm"), claims.get("htu")
    if not isinstance(jti, str) or not 0 < len(jti) <= JTI_LENGTH_MAX or not jti.isprintable():
        raise InvalidProof(
            f"The proof needs a jti of 1 to {JTI_LENGTH_MAX} printable characters.", reason="dpop_jti"
        )
    if htm != method:
        raise InvalidProof("htm is not the method of this request.", reason="dpop_htm")
    if not isinstance(htu, str) or not is_same_address(htu, addresses):
        raise InvalidProof("htu is not the address of this request.", reason="dpop_htu")
    if access_token is not None and claims.get("ath") != access_token_hash(access_token):
        raise InvalidProof("ath is not the hash of this access token.", reason="dpop_ath")
    return Proof(thumbprint(jwk), jti, _end(claims, nonce_key, nonce_required, now))


def check_named_key(text: str | None) -> str:
    """Return the thumbprint to which a request binds its code; "" when it names none.

    Raises: OAuthError invalid_request. Spec: RFC 9449 §10.
    """
    if text is not None and not _THUMBPRINT.fullmatch(text):
        raise OAuthError(
            "invalid_request", "dpop_jkt must be a SHA-256 thumbprint in base64url.", reason="dpop_jkt"
        )
    return text or ""


def access_token_hash(token: str) -> str:
    """Return `ath`. Spec: RFC 9449 §4.2."""
    return encode_segment(hashlib.sha256(token.encode()).digest())


def _signed_by_its_key(text: str) -> tuple[Signed, dict[str, Any]]:  # Any: JSON
    """Take a proof apart and return the key that its header names."""
    if len(text) > PROOF_LENGTH_MAX:
        raise InvalidProof("The DPoP header is too long, or there are several.", reason="dpop_malformed")
    try:
        signed = split(text)
    except BadToken as problem:
        raise InvalidProof("The DPoP header is not one compact JWT.", reason="dpop_malformed") from problem
    if signed.header.get("typ") != PROOF_TYP:
        raise InvalidProof(f"typ must be {PROOF_TYP}.", reason="dpop_typ")
    if signed.header.get("alg") not in DPOP_ALGORITHMS:
        raise InvalidProof(f"alg must be one of {', '.join(DPOP_ALGORITHMS)}.", reason="dpop_alg")
    jwk = signed.header.get("jwk")
    if not isinstance(jwk, dict):
        raise InvalidProof("The header needs the public key as jwk.", reason="dpop_jwk")
    return signed, jwk


def _claims(signed: Signed, jwk: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the claims, signed by the embedded key. Raises: InvalidProof."""
    try:
        key = read_key(jwk, str(signed.header["alg"]))
    except BadKey as problem:
        raise InvalidProof(f"jwk: {problem}.", reason="dpop_jwk") from problem
    try:
        return check_signature(signed, key).claims
    except BadToken as problem:
        raise InvalidProof("The signature is not by the key in jwk.", reason="dpop_signature") from problem


def _end(claims: dict[str, Any], key: bytes, required: bool, now: datetime) -> datetime:  # Any: JSON
    """Return until when the proof would be accepted.

    A nonce of ours says when the proof was made, whatever the sender's clock says; without one it is `iat`, and a
    sender whose clock is wrong is given a nonce. Spec: RFC 9449 §4.3 (11), §8, §11.1.
    """
    made = _number(claims, "iat")
    if made is None:
        raise InvalidProof("iat must be a number of seconds.", reason="dpop_iat")
    end_of_its_own = _number(claims, "exp")
    if "exp" in claims and (end_of_its_own is None or end_of_its_own <= now.timestamp()):
        raise InvalidProof("The proof has expired.", reason="dpop_expired")
    nonce = claims.get("nonce")
    if nonce is not None:
        end = nonce_end(key, nonce, now) if isinstance(nonce, str) else None
        if end is None:
            raise NonceNeeded("The nonce is not, or no longer, one of ours: use the one in DPoP-Nonce.")
        return end
    if required:
        raise NonceNeeded("This client's proofs need a nonce: use the one in DPoP-Nonce.")
    earliest, latest = (now - PROOF_LIFE).timestamp(), (now + CLOCK_AHEAD).timestamp()
    if not earliest <= made <= latest:
        raise NonceNeeded("iat is not now by our clock: use the nonce in DPoP-Nonce.")
    return datetime.fromtimestamp(made, UTC) + PROOF_LIFE


def _number(claims: dict[str, Any], name: str) -> float | None:  # Any: JSON
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        return None
    return float(value)


# -- addresses ------------------------------------------------------------------------------------------------


def is_same_address(htu: str, addresses: Iterable[str]) -> bool:
    """Say whether `htu` is one of our addresses, query and fragment apart. Spec: RFC 9449 §4.3 (9), RFC 3986 §6.2."""
    return any(htu == address for address in addresses) or (
        (found := _normal(htu)) is not None and any(found == _normal(address) for address in addresses)
    )


def _normal(address: str) -> str | None:
    """Return the one spelling of an address without query and fragment; None when it is none."""
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        return None
    scheme, authority, path = parts[1].lower(), parts[2].lower(), parts[3]
    plain = _UNRESERVED.sub(lambda escaped: unquote(escaped[0]), path)
    return f"{scheme}://{authority.removesuffix(_DEFAULT_PORT[scheme])}{plain or '/'}"
