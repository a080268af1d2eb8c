"""What a client can be set to beyond the everyday: a table of fields, their checks, and what they are without a word.

One row a field: a name that is here is stored, shown, and has an effect. Pure.
Spec: RFC 7591 §2, OIDC Registration §2, RFC 8705 §2.1.2, §3.4, RFC 9101 §10.5, RFC 9126 §6, RFC 9449 §5.2,
RFC 9701 §6, JARM §3, OIDC Back-Channel Logout §2.2, OIDC Front-Channel Logout §2.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any

from . import fields
from .delegation import ACTORS_MAX
from .fields import Values
from .jose import ALGORITHMS, FOREIGN_ALGORITHMS
from .resource_uri import RESOURCE_LENGTH_MAX, problem_with_resource

PROFILES = ("standard", "high")
SUBJECT_TYPES = ("public", "pairwise")
ACCESS_TOKEN_FORMATS = ("jwt", "opaque")
# What may be used to encrypt for a client. RSA1_5 never: padding oracles (RFC 8725 §3.2).
ENCRYPTION_ALGORITHMS = ("RSA-OAEP-256", "ECDH-ES", "ECDH-ES+A256KW")
CONTENT_ENCRYPTIONS = ("A256GCM", "A128GCM", "A128CBC-HS256", "A256CBC-HS512")


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """A client's options; the defaults are a standard client's. "" and () say: not asked for."""

    profile: str = "standard"
    token_endpoint_auth_signing_alg: str = ""
    request_object_signing_alg: str = ""
    require_signed_request_object: bool = False
    require_pushed_authorization_requests: bool = False
    id_token_encrypted_response_alg: str = ""
    id_token_encrypted_response_enc: str = ""
    userinfo_signed_response_alg: str = ""
    userinfo_encrypted_response_alg: str = ""
    userinfo_encrypted_response_enc: str = ""
    authorization_signed_response_alg: str = ""
    introspection_signed_response_alg: str = ""
    subject_type: str = "public"
    sector_identifier_uri: str = ""
    backchannel_logout_uri: str = ""
    backchannel_logout_session_required: bool = False
    frontchannel_logout_uri: str = ""
    frontchannel_logout_session_required: bool = False
    tls_client_auth_subject_dn: str = ""
    tls_client_auth_san_dns: str = ""
    tls_client_auth_san_uri: str = ""
    tls_client_auth_san_ip: str = ""
    tls_client_auth_san_email: str = ""
    tls_client_certificate_bound_access_tokens: bool = False
    dpop_bound_access_tokens: bool = False
    authorization_details_types: tuple[str, ...] = ()
    access_token_format: str = "jwt"  # noqa: S105 -- a format's name
    # The absolute URI by which a resource server is named and tokens are addressed to it. Spec: RFC 8707 §2.
    resource_uri: str = ""
    # Resource servers (by client id) that this client may name with `resource`; () says: those whose scopes it has.
    resources: tuple[str, ...] = ()
    # Resource servers (by client id) at which this client may act for the people whose tokens it gets, and through
    # how many hands at most: 1 says that a token which was exchanged is not exchanged again. Spec: RFC 8693.
    token_exchange_targets: tuple[str, ...] = ()
    token_exchange_depth: int = 1
    # The client reads its keys at /jwks/CLIENT_ID, so that we know which it has; a planned rotation waits for it.
    dedicated_jwks: bool = False
    rotation_critical: bool = False

    def as_metadata(self) -> dict[str, Any]:  # Any: JSON
        """Return what differs from the defaults, in the names and types of metadata."""
        described: dict[str, Any] = {}
        for field in dataclass_fields(self):
            found = getattr(self, field.name)
            if found != field.default:
                described[field.name] = list(found) if isinstance(found, tuple) else found
        return described


Check = Callable[[Values, str], Any]  # Any: what the field holds


def _word(*allowed: str, default: str = "") -> Check:
    return lambda value, name: fields.one_of(value, name, allowed, default)


def _flag(value: Values, name: str) -> bool:
    return fields.flag(value, name, False)


def _list(value: Values, name: str) -> tuple[str, ...]:
    return fields.strings(value, name, None)


def _resource_uri(value: Values, name: str) -> str:
    uri = fields.text(value, name, RESOURCE_LENGTH_MAX)
    problem = problem_with_resource(uri) if uri else ""
    if problem:
        raise fields.MetadataError(f"{name} {problem}")
    return uri


def _text(value: Values, name: str) -> str:
    return fields.text(value, name, 500)


CHECKS: Mapping[str, Check] = {
    "profile": _word(*PROFILES, default="standard"),
    "token_endpoint_auth_signing_alg": _word(*FOREIGN_ALGORITHMS),
    "request_object_signing_alg": _word(*FOREIGN_ALGORITHMS),
    "require_signed_request_object": _flag,
    "require_pushed_authorization_requests": _flag,
    "id_token_encrypted_response_alg": _word(*ENCRYPTION_ALGORITHMS),
    "id_token_encrypted_response_enc": _word(*CONTENT_ENCRYPTIONS),
    "userinfo_signed_response_alg": _word(*ALGORITHMS),
    "userinfo_encrypted_response_alg": _word(*ENCRYPTION_ALGORITHMS),
    "userinfo_encrypted_response_enc": _word(*CONTENT_ENCRYPTIONS),
    "authorization_signed_response_alg": _word(*ALGORITHMS),
    "introspection_signed_response_alg": _word(*ALGORITHMS),
    "subject_type": _word(*SUBJECT_TYPES, default="public"),
    "sector_identifier_uri": fields.page,
    "backchannel_logout_uri": fields.page,
    "backchannel_logout_session_required": _flag,
    "frontchannel_logout_uri": fields.page,
    "frontchannel_logout_session_required": _flag,
    "tls_client_auth_subject_dn": _text,
    "tls_client_auth_san_dns": _text,
    "tls_client_auth_san_uri": _text,
    "tls_client_auth_san_ip": _text,
    "tls_client_auth_san_email": _text,
    "tls_client_certificate_bound_access_tokens": _flag,
    "dpop_bound_access_tokens": _flag,
    "authorization_details_types": _list,
    "access_token_format": _word(*ACCESS_TOKEN_FORMATS, default="jwt"),
    "resource_uri": _resource_uri,
    "resources": _list,
    "token_exchange_targets": _list,
    "token_exchange_depth": lambda value, name: fields.number(value, name, 1, ACTORS_MAX, 1),
    "dedicated_jwks": _flag,
    "rotation_critical": _flag,
}


def check_options(value: Values) -> ClientOptions:
    """Return checked options; what is not given is at its default. Raises: MetadataError."""
    given = {name: check(value, name) for name, check in CHECKS.items() if name in value}
    return ClientOptions(**given)


def stored_options(stored: Mapping[str, Any]) -> ClientOptions:  # Any: JSON that `as_metadata` wrote
    """Read options back from the database; a name of a later version is left alone."""
    known: dict[str, Any] = {name: stored[name] for name in CHECKS if name in stored}
    tuples: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in known.items()}
    return ClientOptions(**tuples)


STANDARD = ClientOptions()
