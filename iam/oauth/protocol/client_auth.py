"""Authenticate a client. Pure but for the look-up that is handed in. Spec: RFC 6749 §2.3, §3.2.1; RFC 6750."""

import base64
import binascii
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote_plus

from .errors import InvalidClient, OAuthError
from .messages import ClientFacts
from .parameters import Parameters

METHODS = ("client_secret_basic", "client_secret_post", "none")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request says of its client, not yet believed."""

    client_id: str
    unverified_secret: str | None
    method: str


def read_credentials(authorization: str, form: Parameters) -> Credentials:
    """Read who the client says it is.

    Raises: OAuthError invalid_request when it says so twice (RFC 6749 §2.3: one method a request),
    InvalidClient when it does not say.
    """
    in_body = "client_secret" in form
    if authorization:
        credentials = _basic(authorization)
        if in_body:
            raise OAuthError(
                "invalid_request", "Use one client authentication method, not two.", reason="two_methods"
            )
        if form.get("client_id", credentials.client_id) != credentials.client_id:
            raise OAuthError(
                "invalid_request", "client_id differs from the Authorization header.", reason="mismatch"
            )
        return credentials
    client_id = form.get("client_id")
    if client_id is None:
        raise InvalidClient("The client did not say who it is.", reason="no_client")
    if in_body:
        return Credentials(client_id, form["client_secret"], "client_secret_post")
    return Credentials(client_id, None, "none")


def _basic(authorization: str) -> Credentials:
    """Read a Basic header, whose two halves are form-encoded. Spec: RFC 6749 §2.3.1, RFC 7617 §2."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic" or len(value) > 2000:
        raise InvalidClient("The Authorization header is not a Basic header.", reason="bad_header")
    try:
        decoded = base64.b64decode(value.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as problem:
        raise InvalidClient("The Basic header is not base64 of UTF-8.", reason="bad_header") from problem
    name, separator, secret = decoded.partition(":")
    if not separator or "\0" in decoded:
        raise InvalidClient("The Basic header has no colon.", reason="bad_header")
    return Credentials(unquote_plus(name), unquote_plus(secret), "client_secret_basic")


def authenticate(
    credentials: Credentials,
    client: ClientFacts | None,
    secret_digest: Callable[[str], str],
) -> ClientFacts:
    """Return the client if it is who it says, by the one method that it is registered for.

    Raises: InvalidClient, with the same text for an unknown client, a wrong secret and a disabled client.
    """
    # The digest is taken also for an unknown client, so that the answer's time does not tell which it was.
    digest = secret_digest(credentials.unverified_secret or "")
    if client is None:
        raise InvalidClient("Unknown client, or wrong client authentication.", reason="unknown_client")
    if credentials.method != client.auth_method:
        raise InvalidClient("Unknown client, or wrong client authentication.", reason="wrong_method")
    if client.auth_method != "none" and not hmac.compare_digest(digest, client.secret_digest):
        raise InvalidClient("Unknown client, or wrong client authentication.", reason="wrong_secret")
    if not client.enabled:
        raise InvalidClient("Unknown client, or wrong client authentication.", reason="client_disabled")
    return client
