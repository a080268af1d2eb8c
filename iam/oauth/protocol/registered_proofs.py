"""Judge with what a client is to prove itself: keys, certificate names, and that they fit its method. Pure.

Spec: RFC 7591 §2 (jwks, jwks_uri), OIDC Registration §2, RFC 8705 §2.1.2, §2.2.2.
"""

from collections.abc import Mapping
from typing import Any

from . import fields
from .client_auth import CERTIFICATE_METHODS
from .fields import MetadataError, Values
from .jwk import BadKey, check_key_set, read_key
from .mtls import SUBJECT_FIELDS, problem_with_subject
from .options import ClientOptions


def check_keys(value: Values) -> tuple[Mapping[str, Any], ...]:  # Any: public JWKs
    """Return the keys that are registered by value; none where they are published at `jwks_uri`.

    Raises: MetadataError. Spec: RFC 7591 §2 ("jwks_uri and jwks MUST NOT both be present").
    """
    if value.get("jwks") is None:
        return ()
    if value.get("jwks_uri"):
        raise MetadataError("jwks and jwks_uri exclude each other")
    try:
        return check_key_set(value["jwks"])
    except BadKey as problem:
        raise MetadataError(f"jwks: {problem}") from problem


def check_proofs(
    value: Values,
    auth_method: str,
    options: ClientOptions,
    jwks: tuple[Mapping[str, Any], ...],  # Any: public JWKs
    jwks_uri: str,
) -> None:
    """Refuse a client that could never prove itself, and what its method does not use.

    Raises: MetadataError that says what is missing or too much.
    """
    signed = auth_method == "private_key_jwt"
    if options.token_endpoint_auth_signing_alg and not signed:
        raise MetadataError(
            "token_endpoint_auth_signing_alg is for token_endpoint_auth_method private_key_jwt"
        )
    if (signed or auth_method == "self_signed_tls_client_auth") and not jwks and not jwks_uri:
        raise MetadataError(f"token_endpoint_auth_method {auth_method} needs jwks or jwks_uri")
    if signed and jwks and not _can_sign(jwks, options.token_endpoint_auth_signing_alg):
        raise MetadataError("jwks has no key with which this client could sign its assertions")
    named = [name for name in SUBJECT_FIELDS if getattr(options, name)]
    if auth_method != "tls_client_auth":
        if named:
            raise MetadataError(f"{named[0]} is for token_endpoint_auth_method tls_client_auth")
    elif len(named) != 1:
        raise MetadataError(
            f"token_endpoint_auth_method tls_client_auth needs exactly one of {', '.join(SUBJECT_FIELDS)}"
        )
    for name in named:
        problem = problem_with_subject(name, getattr(options, name))
        if problem:
            raise MetadataError(f"{name} {problem}")
    if value.get("client_secret") is not None and (signed or auth_method in CERTIFICATE_METHODS):
        raise MetadataError(f"client_secret: a client with token_endpoint_auth_method {auth_method} has none")


def check_key_address(value: Values) -> str:
    """Return where the client publishes its keys, "" when it does not. Raises: MetadataError."""
    return fields.page(value, "jwks_uri")


def _can_sign(jwks: tuple[Mapping[str, Any], ...], algorithm: str) -> bool:  # Any: public JWKs
    for jwk in jwks:
        try:
            read_key(jwk, algorithm)
        except BadKey:
            continue
        return True
    return False
