"""What somebody with an invitation may register: the client's own words, inside the invitation's bounds. Pure.

An initial access token of RFC 7591 is called an invitation here. What a client may never say of itself (trusted, a
resource server, its own name, another application) is refused by name; what nobody here understands is left out, as
RFC 7591 §2 asks, and the answer shows what was registered. Spec: RFC 7591 §2, §3; RFC 7592 §2; OIDC Registration §2, §3.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .errors import OAuthError
from .fields import MetadataError
from .messages import PARAMETERS_SIZE_MAX
from .mtls import SUBJECT_FIELDS
from .registration import KNOWN, NOT_BUILT, ClientMetadata, check_metadata

INVITATION_PREFIX = "iat_"
REGISTRATION_PREFIX = "rat_"
# What a client may say of itself. All other names that we know are the house's: an option of a later day is so
# until somebody thinks about it. `sector_identifier_uri` is not here: it would be fetched while the client waits.
SELF_CHOSEN = frozenset(
    {
        "application_type", "authorization_signed_response_alg", "backchannel_logout_session_required",
        "backchannel_logout_uri", "client_name", "client_uri", "contacts", "default_acr_values", "default_max_age",
        "dpop_bound_access_tokens", "frontchannel_logout_session_required", "frontchannel_logout_uri", "grant_types",
        "id_token_encrypted_response_alg", "id_token_encrypted_response_enc", "id_token_signed_response_alg",
        "initiate_login_uri", "introspection_signed_response_alg", "jwks", "jwks_uri", "policy_uri",
        "post_logout_redirect_uris", "redirect_uris", "request_object_signing_alg", "require_auth_time",
        "require_pushed_authorization_requests", "require_signed_request_object", "response_types", "scope",
        "software_id", "software_version", "subject_type", "tls_client_certificate_bound_access_tokens",
        "token_endpoint_auth_method", "token_endpoint_auth_signing_alg", "tos_uri",
        "userinfo_encrypted_response_alg", "userinfo_encrypted_response_enc", "userinfo_signed_response_alg",
        *SUBJECT_FIELDS,
    }
)  # fmt: skip
HOUSE_ONLY = KNOWN - SELF_CHOSEN - {"client_id", "client_secret"}
# Ours to give. Spec: RFC 7592 §2.2 (a client must not send these back).
GIVEN_BY_US = frozenset(
    {
        "client_secret",
        "client_secret_expires_at",
        "client_id_issued_at",
        "registration_access_token",
        "registration_client_uri",
    }
)
# Known to the standards and of no consequence: left out like a name that nobody here understands.
_HARMLESS = frozenset({"logo_uri"})
# Longer than any honest value; a value ends in columns and pages.
_TEXT_LENGTH_MAX = 4_000


@dataclass(frozen=True, slots=True)
class Invitation:
    """An initial access token that is still good, and what it lets its bearer register."""

    id: int
    label: str
    created_by: str
    application: str
    grant_types: frozenset[str]
    scopes: frozenset[str]
    profile: str
    expires_at: datetime


def read_json(body: bytes, content_type: str) -> dict[str, Any]:  # Any: JSON from outside
    """Return the metadata that was sent. Raises: OAuthError invalid_client_metadata. Spec: RFC 7591 §3.1."""
    if content_type.split(";", 1)[0].strip().lower() != "application/json":
        raise _refused("Use Content-Type application/json.", "content_type")
    if len(body) > PARAMETERS_SIZE_MAX:
        raise _refused("The request is too large.", "too_large")
    try:
        value = json.loads(body.decode(), object_pairs_hook=_each_once, parse_constant=_no_constant)
        _check_texts(value)
    except (ValueError, RecursionError) as problem:
        raise _refused(
            "The body is not JSON in UTF-8 in which each name stands once.", "not_json"
        ) from problem
    if not isinstance(value, dict):
        raise _refused("The body must be a JSON object.", "not_json")
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:  # Any: JSON
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _check_texts(value: Any) -> None:  # Any: JSON
    """Refuse text that no column takes: control characters, lone surrogates, or more than anybody needs."""
    match value:
        case str():
            if len(value) > _TEXT_LENGTH_MAX or any(c < " " or "\ud800" <= c <= "\udfff" for c in value):
                raise ValueError("text that cannot be kept")
        case list():
            for item in value:
                _check_texts(item)
        case dict():
            for name, item in value.items():
                _check_texts(name)
                _check_texts(item)
        case _:
            pass


def decide_registration(
    given: Mapping[str, Any], invitation: Invitation, client_id: str
) -> ClientMetadata:  # Any: JSON
    """Return the metadata under which a client is registered, or registered anew.

    In: `client_id` as we chose it; `given` as it was sent, of a change too (RFC 7592 §2.2: it replaces everything).
    Raises: OAuthError invalid_client_metadata, invalid_redirect_uri, unapproved_software_statement. Spec: RFC 7591 §3.2.2.
    """
    if "software_statement" in given:
        raise OAuthError(
            "unapproved_software_statement",
            "Software statements are not accepted here; send the metadata itself.",
            reason="software_statement",
        )
    for name in sorted(given):
        if name in HOUSE_ONLY:
            raise _refused(f"{name} is not the client's to choose; leave it out.", "house_only")
        if name in GIVEN_BY_US:
            raise _refused(f"{name} is given by this service; leave it out.", "given_by_us")
    wanted = {name: value for name, value in given.items() if name in KNOWN or name in NOT_BUILT - _HARMLESS}
    wanted = {
        name: value for name, value in wanted.items() if value is not None
    }  # RFC 7592 §2.2: as if left out
    wanted |= {"client_id": client_id, "application": invitation.application}
    if invitation.profile != "standard":
        wanted["profile"] = invitation.profile
    wanted.setdefault("scope", " ".join(sorted(invitation.scopes)))
    try:
        metadata = check_metadata(wanted)
    except MetadataError as problem:
        code = (
            "invalid_redirect_uri" if str(problem).startswith("redirect_uris") else "invalid_client_metadata"
        )
        raise OAuthError(code, f"{str(problem).rstrip('.')}.") from problem
    _check_bounds(metadata, invitation)
    return metadata


def _check_bounds(metadata: ClientMetadata, invitation: Invitation) -> None:
    grants = sorted(set(metadata.grant_types) - invitation.grant_types)
    if grants:
        raise _refused(
            f"grant_types: this invitation does not allow {', '.join(grants)}.", "grant_not_invited"
        )
    scopes = sorted(set(metadata.scopes) - invitation.scopes)
    if scopes:
        raise _refused(
            f"scope: this invitation does not allow {', '.join(scopes)[:200]}.", "scope_not_invited"
        )


def check_named(given: dict[str, Any], client_id: str) -> dict[str, Any]:  # Any: JSON
    """Return what a change sends, less the name that it must carry. Raises: OAuthError. Spec: RFC 7592 §2.2."""
    if given.get("client_id") != client_id:
        raise _refused("client_id must be sent, and must be the client's own.", "client_id")
    return {name: value for name, value in given.items() if name != "client_id"}


def check_unnamed(given: Mapping[str, Any]) -> None:  # Any: JSON
    """Refuse a client that names itself. Raises: OAuthError. Spec: RFC 7591 §3.2.1 (the server chooses client_id)."""
    if "client_id" in given:
        raise _refused("client_id is given by this service; leave it out.", "given_by_us")


def client_information(described: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return what a client may read of its own registration: all but what the house keeps to itself."""
    return {
        name: value
        for name, value in described.items()
        if (name in SELF_CHOSEN or name == "client_id") and value is not None and value != ""
    }


def _refused(description: str, reason: str) -> OAuthError:
    return OAuthError("invalid_client_metadata", description, reason=reason)
