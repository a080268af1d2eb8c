"""Encrypt what leaves for a client with the key that it registered for that. Pure.

The one use of a general library at run time: encryption has many moving parts, is rare here, and nothing that
comes from outside is ever decrypted, so that no padding oracle and no compression bomb can be (A14).
Spec: RFC 7516 §5.1, RFC 7518 §4, §5; RFC 7519 §5.2 (nested), §11.2; OIDC Core §10.2.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.registry import HeaderParameter

from .jose import BadToken, decode_segment
from .jwk import RSA_BITS_MAX, RSA_BITS_MIN
from .options import ClientOptions

_CURVES = frozenset({"P-256", "P-384", "P-521"})
_FURTHER_HEADERS = {"iss": HeaderParameter("Issuer", "str")}
_KTY_OF = {"RSA-OAEP-256": "RSA", "ECDH-ES": "EC", "ECDH-ES+A256KW": "EC"}
# What OIDC Registration §2 says `…_encrypted_response_enc` is when only the algorithm is named.
DEFAULT_CONTENT_ENCRYPTION = "A128CBC-HS256"


class NoEncryptionKey(LookupError):
    """The client has no key with which its answer could be encrypted. It denies: nothing goes out in the clear."""


def encrypt(
    plain: str,
    jwks: Iterable[Mapping[str, Any]],
    algorithm: str,
    content: str,
    *,
    nested: bool,
    issuer: str = "",
) -> str:
    """Return the compact JWE of a text.

    In: `jwks` the client's public keys; `nested` says that the text is itself a JWT; `issuer` is repeated in the
    header, so that the reader knows whose it is before it is opened.
    Raises: NoEncryptionKey. Spec: RFC 7519 §5.2 (`cty` of a nested JWT), §5.3 (`iss` in the header).
    """
    jwk, key = _key(jwks, algorithm)
    header = {"alg": algorithm, "enc": content, **({"iss": issuer} if issuer else {})}
    if nested:
        header["cty"] = "JWT"
    if isinstance(jwk.get("kid"), str):
        header["kid"] = jwk["kid"]
    registry = jwe.JWERegistry(header_registry=_FURTHER_HEADERS, algorithms=[algorithm, content])
    return jwe.encrypt_compact(header, plain, key, registry=registry)


def can_encrypt(jwks: Iterable[Mapping[str, Any]], algorithm: str) -> bool:  # Any: public JWKs
    """Say whether one of these keys serves an algorithm."""
    try:
        _key(jwks, algorithm)
    except NoEncryptionKey:
        return False
    return True


def problem_with(options: ClientOptions, jwks: tuple[Mapping[str, Any], ...], jwks_uri: str) -> str:
    """Return why a client could not be answered as it asks, or "" when it could. Spec: OIDC Registration §2."""
    for name in ("id_token", "userinfo"):
        algorithm = getattr(options, f"{name}_encrypted_response_alg")
        if getattr(options, f"{name}_encrypted_response_enc") and not algorithm:
            return f"{name}_encrypted_response_enc needs {name}_encrypted_response_alg"
        if algorithm and not jwks_uri and not can_encrypt(jwks, algorithm):
            return f"{name}_encrypted_response_alg {algorithm} needs a key with use enc in jwks, or jwks_uri"
    return ""


def _key(
    jwks: Iterable[Mapping[str, Any]], algorithm: str
) -> tuple[Mapping[str, Any], ECKey | RSAKey]:  # Any: public JWKs
    """Return the first key that is meant for encryption and fits. Spec: RFC 7517 §4.2, §4.4."""
    kty = _KTY_OF[algorithm]
    for jwk in jwks:
        if jwk.get("use") != "enc" or jwk.get("kty") != kty or jwk.get("alg", algorithm) != algorithm:
            continue
        key = _read(jwk)
        if key is not None:
            return jwk, key
    raise NoEncryptionKey(f"no key with use enc for {algorithm}")


def _read(jwk: Mapping[str, Any]) -> ECKey | RSAKey | None:  # Any: a public JWK
    """Return a key of sufficient strength; None for any other."""
    try:
        if jwk["kty"] == "EC":
            return ECKey.import_key(dict(jwk)) if jwk.get("crv") in _CURVES else None
        bits = int.from_bytes(decode_segment(jwk["n"]), "big").bit_length()
        return RSAKey.import_key(dict(jwk)) if RSA_BITS_MIN <= bits <= RSA_BITS_MAX else None
    except (JoseError, BadToken, ValueError, TypeError, KeyError):
        return None
