"""The provider's own description. Pure; true by construction: what it lists, it takes from where it is done.

Spec: OIDC Discovery §3, RFC 8414 §2, RFC 9207 §3, OIDC Back-Channel Logout §2.1, OIDC Front-Channel Logout §3.
"""

from collections.abc import Sequence
from typing import Any

from .binding import DPOP_ALGORITHMS
from .claims import PERSON_SCOPES, SUPPORTED_CLAIMS
from .client_auth import METHODS
from .delegation import GRANT_TYPE as TOKEN_EXCHANGE
from .device import GRANT_TYPE as DEVICE_CODE
from .jose import ALGORITHMS, FOREIGN_ALGORITHMS
from .levels import REACHABLE
from .messages import ResponseMode
from .options import CONTENT_ENCRYPTIONS, ENCRYPTION_ALGORITHMS, SUBJECT_TYPES
from .resources import RESOURCES
from .trusted_issuers import GRANT_TYPE as JWT_BEARER

PROMPTS = ("none", "login", "consent", "select_account")
GRANT_TYPES = (
    "authorization_code",
    "refresh_token",
    "client_credentials",
    DEVICE_CODE,
    TOKEN_EXCHANGE,
    JWT_BEARER,
)
ENDPOINTS = {
    "authorization_endpoint": "/authorize",
    "pushed_authorization_request_endpoint": "/par",
    "token_endpoint": "/token",
    "device_authorization_endpoint": "/device_authorization",
    "userinfo_endpoint": "/userinfo",
    "introspection_endpoint": "/introspect",
    "revocation_endpoint": "/revoke",
    "end_session_endpoint": "/logout",
    "jwks_uri": "/jwks",
    "registration_endpoint": "/register",
}
LANGUAGES = ("ar", "fr", "en")


# What a client calls itself, and may be asked for a certificate at. Spec: RFC 8705 §5.
_CALLED_BY_CLIENTS = (
    "pushed_authorization_request_endpoint", "token_endpoint", "device_authorization_endpoint", "userinfo_endpoint",
    "introspection_endpoint", "revocation_endpoint",
)  # fmt: skip


def build_metadata(
    issuer: str,
    owned_scopes: frozenset[str],
    auth_methods: Sequence[str] = METHODS,
    detail_types: Sequence[str] = (),
    *,
    has_certificates: bool = False,
    certificate_address: str = "",
) -> dict[str, Any]:  # Any: JSON
    """Return the metadata document.

    In: `auth_methods` those ways of client authentication that are switched on; `detail_types` the registered types of
    authorization details (RFC 9396 §10); `has_certificates` whether connections can have client certificates,
    `certificate_address` where alone they have, if that is another address.
    """
    aliases = {name: certificate_address + ENDPOINTS[name] for name in _CALLED_BY_CLIENTS}
    confidential = [method for method in auth_methods if method != "none"]
    assertions = list(FOREIGN_ALGORITHMS)
    return {
        "issuer": issuer,
        **{name: issuer + path for name, path in ENDPOINTS.items()},
        "scopes_supported": [*PERSON_SCOPES, *sorted(owned_scopes)],
        "response_types_supported": ["code"],
        "response_modes_supported": list(ResponseMode),
        "authorization_signing_alg_values_supported": list(ALGORITHMS),
        "grant_types_supported": list(GRANT_TYPES),
        "subject_types_supported": list(SUBJECT_TYPES),
        "id_token_signing_alg_values_supported": list(ALGORITHMS),
        "id_token_encryption_alg_values_supported": list(ENCRYPTION_ALGORITHMS),
        "id_token_encryption_enc_values_supported": list(CONTENT_ENCRYPTIONS),
        "userinfo_signing_alg_values_supported": list(ALGORITHMS),
        "userinfo_encryption_alg_values_supported": list(ENCRYPTION_ALGORITHMS),
        "userinfo_encryption_enc_values_supported": list(CONTENT_ENCRYPTIONS),
        "introspection_signing_alg_values_supported": list(ALGORITHMS),
        "token_endpoint_auth_methods_supported": list(auth_methods),
        "token_endpoint_auth_signing_alg_values_supported": assertions,
        "introspection_endpoint_auth_methods_supported": confidential,
        "introspection_endpoint_auth_signing_alg_values_supported": assertions,
        "revocation_endpoint_auth_methods_supported": list(auth_methods),
        "revocation_endpoint_auth_signing_alg_values_supported": assertions,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
        "dpop_signing_alg_values_supported": list(DPOP_ALGORITHMS),
        "tls_client_certificate_bound_access_tokens": has_certificates,
        **({"mtls_endpoint_aliases": aliases} if certificate_address else {}),
        "acr_values_supported": list(REACHABLE),
        "prompt_values_supported": list(PROMPTS),
        "claims_supported": list(SUPPORTED_CLAIMS),
        "claims_parameter_supported": True,
        **({"authorization_details_types_supported": list(detail_types)} if detail_types else {}),
        "require_pushed_authorization_requests": False,  # a client can be set so, the service asks nobody
        "request_parameter_supported": True,
        "request_object_signing_alg_values_supported": list(FOREIGN_ALGORITHMS),
        "require_signed_request_object": False,  # as above
        "request_uri_parameter_supported": False,
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
        "frontchannel_logout_supported": True,
        "frontchannel_logout_session_supported": True,
        "ui_locales_supported": list(LANGUAGES),
        "protected_resources": [issuer + path for path in RESOURCES],
    }
