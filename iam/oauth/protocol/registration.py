"""Judge a client's metadata, in the names of RFC 7591, OIDC Registration and this house. Pure.

A name that is not known, and one whose behaviour is not built, is refused by name: metadata that is
stored and ignored is a promise that nobody keeps.
Spec: RFC 7591 §2, OIDC Dynamic Registration §2, RP-Initiated Logout §3.1.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import encryption, fields
from .claims import PERSON_SCOPES
from .client_auth import METHODS
from .delegation import GRANT_TYPE as TOKEN_EXCHANGE
from .device import GRANT_TYPE as DEVICE_CODE
from .fields import MetadataError
from .jose import ALGORITHMS
from .levels import LEVELS
from .metadata import GRANT_TYPES
from .mtls import SUBJECT_FIELDS
from .options import CHECKS, ClientOptions, check_options
from .profiles import missing
from .redirects import origin, problem_with
from .registered_proofs import check_key_address, check_keys, check_proofs
from .subjects import sector_of

# Options of `options.py` whose behaviour is built and tested; the others are refused by name.
BUILT_OPTIONS = frozenset(
    {
        "access_token_format",
        "authorization_signed_response_alg",
        "backchannel_logout_session_required",
        "backchannel_logout_uri",
        "dedicated_jwks",
        "dpop_bound_access_tokens",
        "frontchannel_logout_session_required",
        "frontchannel_logout_uri",
        "id_token_encrypted_response_alg",
        "id_token_encrypted_response_enc",
        "introspection_signed_response_alg",
        "profile",
        "request_object_signing_alg",
        "require_pushed_authorization_requests",
        "require_signed_request_object",
        "authorization_details_types",
        "resource_uri",
        "resources",
        "rotation_critical",
        "sector_identifier_uri",
        "subject_type",
        "token_exchange_depth",
        "token_exchange_targets",
        "tls_client_certificate_bound_access_tokens",
        "token_endpoint_auth_signing_alg",
        *SUBJECT_FIELDS,
        "userinfo_encrypted_response_alg",
        "userinfo_encrypted_response_enc",
        "userinfo_signed_response_alg",
    }
)
# Known to the standards, not built yet: the text says so instead of "unknown".
NOT_BUILT = frozenset(
    {
        *CHECKS, "request_object_encryption_alg", "request_object_encryption_enc",
        "request_uris", "authorization_encrypted_response_alg", "authorization_encrypted_response_enc",
        "introspection_encrypted_response_alg", "introspection_encrypted_response_enc", "software_statement",
        "logo_uri",
    } - BUILT_OPTIONS
)  # fmt: skip
KNOWN = frozenset(
    {
        "client_id", "client_secret", "client_name", "redirect_uris", "post_logout_redirect_uris", "grant_types",
        "response_types", "token_endpoint_auth_method", "scope", "id_token_signed_response_alg",
        "default_max_age", "require_auth_time", "default_acr_values", "application_type",
        "initiate_login_uri", "client_uri", "policy_uri", "tos_uri", "contacts", "software_id",
        "software_version", "trusted", "application", "resource_server", "enabled", "jwks", "jwks_uri",
        *BUILT_OPTIONS,
    }
)  # fmt: skip
_DESCRIPTIVE = ("client_uri", "policy_uri", "tos_uri", "contacts", "software_id", "software_version")

CLIENT_SECRET_LENGTH_MIN = 32
_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:-]{2,127}", re.ASCII)
_LIKE_A_SUB = re.compile(r"[0-9a-f]{40}", re.ASCII)
_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]{1,64}", re.ASCII)  # RFC 6749 §3.3


@dataclass(frozen=True, slots=True)
class ClientMetadata:
    """What a client is to be, checked. `client_secret` is None when none was given."""

    client_id: str | None
    client_secret: str | None
    client_name: str
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...]
    grant_types: tuple[str, ...]
    token_endpoint_auth_method: str
    scopes: tuple[str, ...]
    id_token_signed_response_alg: str
    default_max_age: int | None
    require_auth_time: bool
    default_acr_values: tuple[str, ...]
    initiate_login_uri: str
    description: Mapping[str, Any]  # Any: JSON
    trusted: bool
    application: str | None
    is_resource_server: bool
    owned_scopes: tuple[str, ...]
    enabled: bool
    options: ClientOptions
    jwks: tuple[Mapping[str, Any], ...] = ()  # public keys, given by value
    jwks_uri: str = ""


def check_metadata(given: Any) -> ClientMetadata:  # Any: JSON from outside
    """Return checked metadata that holds its own profile; names beginning with `_` are comments.

    Raises: MetadataError.
    """
    metadata = read_metadata(given)
    problems = missing(metadata, metadata.options.profile)
    if problems:
        raise MetadataError(f"profile {metadata.options.profile}: {' '.join(problems)}")
    return metadata


def read_metadata(given: Any) -> ClientMetadata:  # Any: JSON from outside
    """Return metadata of which each field is right by itself. Raises: MetadataError."""
    if not isinstance(given, dict):
        raise MetadataError("each client must be a JSON object")
    value = {name: item for name, item in given.items() if not name.startswith("_")}
    for name in sorted(value):
        if name in NOT_BUILT:
            raise MetadataError(f"{name} is not built yet; leave it out")
        if name not in KNOWN:
            raise MetadataError(f"{name} is not known")
    auth_method = fields.one_of(value, "token_endpoint_auth_method", METHODS, "client_secret_basic")
    grant_types = _grant_types(value, auth_method)
    scopes = _scopes(value)
    redirect_uris = _redirect_uris(value, "redirect_uris", needed="authorization_code" in grant_types)
    is_server, owned = _resource_server(value, scopes)
    options = _options(value, redirect_uris, is_server=is_server)
    jwks, jwks_uri = check_keys(value), check_key_address(value)
    check_proofs(value, auth_method, options, jwks, jwks_uri)
    problem = encryption.problem_with(options, jwks, jwks_uri)
    if problem:
        raise MetadataError(problem)
    return ClientMetadata(
        client_id=_client_id(value),
        client_secret=_client_secret(value, auth_method),
        client_name=fields.text(value, "client_name", 200),
        redirect_uris=redirect_uris,
        post_logout_redirect_uris=_redirect_uris(value, "post_logout_redirect_uris", needed=False),
        grant_types=grant_types,
        token_endpoint_auth_method=auth_method,
        scopes=scopes,
        id_token_signed_response_alg=fields.one_of(
            value, "id_token_signed_response_alg", ALGORITHMS, "ES256"
        ),
        default_max_age=fields.seconds(value, "default_max_age"),
        require_auth_time=fields.flag(value, "require_auth_time", False),
        default_acr_values=fields.strings(value, "default_acr_values", LEVELS),
        initiate_login_uri=fields.page(value, "initiate_login_uri"),
        description=_described(value),
        trusted=fields.flag(value, "trusted", False),
        application=fields.text(value, "application", 64) or None,
        is_resource_server=is_server,
        owned_scopes=owned,
        enabled=fields.flag(value, "enabled", True),
        options=options,
        jwks=jwks,
        jwks_uri=jwks_uri,
    )


def _options(value: Mapping[str, Any], redirect_uris: tuple[str, ...], *, is_server: bool) -> ClientOptions:
    """Read the options, and judge those that depend on something else."""
    options = check_options(value)
    if options.resource_uri and not is_server:
        raise MetadataError("resource_uri is the name of a resource server: add resource_server")
    if options.subject_type == "pairwise" and not sector_of(options, redirect_uris):
        raise MetadataError(
            "subject_type pairwise needs one https host in redirect_uris, or a sector_identifier_uri"
        )
    if options.rotation_critical and not options.dedicated_jwks:
        raise MetadataError(
            "rotation_critical needs dedicated_jwks: only there we see whether the client has the next key"
        )
    _check_logout(options, redirect_uris)
    return options


def _client_id(value: Mapping[str, Any]) -> str | None:
    client_id = value.get("client_id")
    if client_id is None:
        return None
    if not isinstance(client_id, str) or not _CLIENT_ID.fullmatch(client_id):
        raise MetadataError(
            "client_id must be 3 to 128 of A-Z a-z 0-9 . _ ~ : - and begin with a letter or digit"
        )
    if _LIKE_A_SUB.fullmatch(client_id):
        raise MetadataError("client_id looks like a person's identifier (RFC 9700 §4.15)")
    return client_id


def _client_secret(value: Mapping[str, Any], auth_method: str) -> str | None:
    secret = value.get("client_secret")
    if secret is None:
        return None
    if auth_method == "none":
        raise MetadataError("client_secret: a client with token_endpoint_auth_method none has none")
    if (
        not isinstance(secret, str)
        or not CLIENT_SECRET_LENGTH_MIN <= len(secret) <= 512
        or not secret.isprintable()
    ):
        raise MetadataError(f"client_secret must be {CLIENT_SECRET_LENGTH_MIN} to 512 printable characters")
    return secret


def _grant_types(value: Mapping[str, Any], auth_method: str) -> tuple[str, ...]:
    grant_types = (
        fields.strings(value, "grant_types", GRANT_TYPES)
        if "grant_types" in value
        else ("authorization_code",)
    )
    if "refresh_token" in grant_types and not {"authorization_code", DEVICE_CODE} & set(grant_types):
        raise MetadataError(f"grant_types: refresh_token needs authorization_code or {DEVICE_CODE}")
    if "client_credentials" in grant_types and auth_method == "none":
        raise MetadataError("grant_types: a public client cannot use client_credentials")
    if TOKEN_EXCHANGE in grant_types and auth_method == "none":
        raise MetadataError("grant_types: a public client cannot act for people")
    expected = ("code",) if "authorization_code" in grant_types else ()
    if "response_types" in value and fields.strings(value, "response_types", ("code",)) != expected:
        raise MetadataError(f"response_types must be {list(expected)} for these grant_types")
    fields.one_of(value, "application_type", ("web", "native"), "web")
    return grant_types


def _redirect_uris(value: Mapping[str, Any], name: str, *, needed: bool) -> tuple[str, ...]:
    uris = fields.strings(value, name, None)
    if needed and not uris:
        raise MetadataError(f"{name} is needed for authorization_code")
    for uri in uris:
        problem = problem_with(uri)
        if problem:
            raise MetadataError(f"{name}: {uri[:200]} {problem}")
    return uris


def _check_logout(options: ClientOptions, redirect_uris: tuple[str, ...]) -> None:
    """Refuse a logout address that could not work, or that a browser must not be led to.

    Spec: OIDC Front-Channel Logout §2 (domain, port and scheme are those of a registered redirect).
    """
    for channel in ("backchannel", "frontchannel"):
        required, uri = f"{channel}_logout_session_required", f"{channel}_logout_uri"
        if getattr(options, required) and not getattr(options, uri):
            raise MetadataError(f"{required} needs {uri}")
    front = options.frontchannel_logout_uri
    if front and origin(front) not in {origin(uri) for uri in redirect_uris}:
        raise MetadataError("frontchannel_logout_uri must have the scheme, host and port of a redirect_uri")


def _scopes(value: Mapping[str, Any]) -> tuple[str, ...]:
    text = value.get("scope", "")
    if not isinstance(text, str):
        raise MetadataError("scope must be text: scopes with a space between")
    scopes = tuple(dict.fromkeys(text.split()))
    for scope in scopes:
        if not _SCOPE.fullmatch(scope):
            raise MetadataError(f"scope: {scope[:64]!r} has characters that RFC 6749 forbids, or is too long")
    return scopes


def _resource_server(value: Mapping[str, Any], scopes: tuple[str, ...]) -> tuple[bool, tuple[str, ...]]:
    """Read `resource_server`: the list of scopes it owns, `{"scopes": […]}`, or true for those in `scope`."""
    given = value.get("resource_server", False)
    if isinstance(given, dict) and set(given) == {"scopes"}:
        given = given["scopes"]
    if isinstance(given, bool):
        owned = tuple(scope for scope in scopes if scope not in PERSON_SCOPES) if given else ()
        return given, owned
    owned = fields.strings({"resource_server": given}, "resource_server", None)
    for scope in owned:
        if not _SCOPE.fullmatch(scope):
            raise MetadataError(f"resource_server: {scope[:64]!r} is not a scope")
        if scope in PERSON_SCOPES:
            raise MetadataError(f"resource_server: {scope} describes a person and cannot be owned")
    return True, owned


def _described(value: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for name in _DESCRIPTIVE:
        if name not in value:
            continue
        if name == "contacts":
            described[name] = list(fields.strings(value, name, None))
        elif name.endswith("_uri"):
            described[name] = fields.page(value, name)
        else:
            described[name] = fields.text(value, name, 200)
    return described
