"""What a client's profile asks of its registration, and what is missing, in sentences for its owner. Pure.

`standard` is RFC 9700: what it asks, the provider does for every client (exact redirect addresses, PKCE with S256, no
implicit grant, refresh tokens that rotate), so that little is left to a registration. `high` is the FAPI 2.0 Security
Profile with Message Signing. Of `high` the provider does for every client: codes of 60 seconds, `iss` in answers,
the issuer as the audience of assertions; the rest is listed here, and held again while the client is at work
(`check_fitness`, `arrival.check_road`, `response_mode.check_mode`, `request_object`).
Spec: RFC 9700 §2; FAPI 2.0 Security Profile §5.3.2, §5.4; FAPI 2.0 Message Signing §5.3, §5.4.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .errors import OAuthError
from .jose import ALGORITHMS, FOREIGN_ALGORITHMS
from .messages import ClientFacts
from .options import ClientOptions

if TYPE_CHECKING:
    from .registration import ClientMetadata

# RS256 is PKCS#1 v1.5, which FAPI 2.0 Security Profile §5.4.1 leaves out.
HIGH_ALGORITHMS = tuple(algorithm for algorithm in ALGORITHMS if algorithm != "RS256")
HIGH_FOREIGN_ALGORITHMS = tuple(algorithm for algorithm in FOREIGN_ALGORITHMS if algorithm != "RS256")
HIGH_AUTH_METHODS = ("private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth")
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
# A loopback literal never leaves the machine (RFC 8252 §7.3, which FAPI 2.0 §5.3.2.2 allows); a name might.
_SAFE_REDIRECT = re.compile(r"https://.*|http://(127\.0\.0\.1|\[::1\])[:/].*", re.ASCII)
_SIGNING_OPTIONS = (
    "token_endpoint_auth_signing_alg",
    "request_object_signing_alg",
    "authorization_signed_response_alg",
    "userinfo_signed_response_alg",
    "introspection_signed_response_alg",
)


def missing(metadata: "ClientMetadata", profile: str) -> list[str]:
    """Return what a registration lacks for a profile, one plain sentence each; [] when it holds it."""
    match profile:
        case "standard":
            return list(_standard(metadata))
        case "high":
            return [*_standard(metadata), *_high(metadata)]
        case _:
            raise ValueError(f"unknown profile {profile!r}")


def _standard(metadata: "ClientMetadata") -> Iterator[str]:
    options = metadata.options
    signs = options.require_signed_request_object or options.request_object_signing_alg
    if signs and not _has_keys(metadata):
        yield "The client signs its requests, but has no keys here: give jwks or jwks_uri."


def _high(metadata: "ClientMetadata") -> Iterator[str]:
    options = metadata.options
    if metadata.token_endpoint_auth_method == "none":  # noqa: S105 -- a method's name
        yield (
            "The client is public: anybody can use its name. Only a confidential client can have this profile;"
            f" set token_endpoint_auth_method to one of {', '.join(HIGH_AUTH_METHODS)}."
        )
    elif metadata.token_endpoint_auth_method not in HIGH_AUTH_METHODS:
        yield (
            f"The client proves itself with a secret that it sends ({metadata.token_endpoint_auth_method});"
            f" set token_endpoint_auth_method to one of {', '.join(HIGH_AUTH_METHODS)}."
        )
    if not _is_bound(options):
        yield (
            "Its access tokens can be used by whoever steals them: set dpop_bound_access_tokens or"
            " tls_client_certificate_bound_access_tokens to true."
        )
    yield from _algorithms(metadata)
    if DEVICE_GRANT in metadata.grant_types:
        yield "The device flow can be used to deceive people from afar: take it out of grant_types."
    if "authorization_code" in metadata.grant_types:
        yield from _requests(metadata)


def _requests(metadata: "ClientMetadata") -> Iterator[str]:
    """What concerns clients that send people to the authorization endpoint."""
    options = metadata.options
    if not options.require_pushed_authorization_requests:
        yield (
            "Its requests may come through the browser, where they can be changed:"
            " set require_pushed_authorization_requests to true."
        )
    if not options.require_signed_request_object:
        yield "Its requests need not be signed: set require_signed_request_object to true."
        if not _has_keys(metadata):
            yield "The client has no keys here to check what it signs: give jwks or jwks_uri."
    for uri in metadata.redirect_uris:
        if not _SAFE_REDIRECT.fullmatch(uri):
            yield f"redirect_uris has {uri}, which is not https."


def _algorithms(metadata: "ClientMetadata") -> Iterator[str]:
    named = {"id_token_signed_response_alg": metadata.id_token_signed_response_alg}
    named |= {name: getattr(metadata.options, name) for name in _SIGNING_OPTIONS}
    for name, algorithm in named.items():
        if algorithm and algorithm not in HIGH_FOREIGN_ALGORITHMS:
            yield f"{name} is {algorithm}: set it to one of {', '.join(HIGH_ALGORITHMS)}."


def _has_keys(metadata: "ClientMetadata") -> bool:
    return bool(metadata.jwks or metadata.jwks_uri)


def _is_bound(options: ClientOptions) -> bool:
    return options.dpop_bound_access_tokens or options.tls_client_certificate_bound_access_tokens


def check_fitness(client: ClientFacts) -> None:
    """Refuse a client that is set to `high` and could not be saved so: whatever wrote its row went around the check.

    Raises: OAuthError unauthorized_client.
    """
    if client.options.profile != "high":
        return
    if client.auth_method not in HIGH_AUTH_METHODS or not _is_bound(client.options):
        raise OAuthError(
            "unauthorized_client",
            "This client's registration does not hold its own profile; `client check` says what is missing.",
            reason="profile",
        )
