"""Client registration, never open: with an invitation, or with the registration's own token.

Spec: RFC 7591 §3, RFC 7592 §2, OIDC Dynamic Client Registration §3, §4.
"""

import hashlib
import hmac
import re
import secrets
from datetime import datetime
from typing import Any

from iam.oauth.ports import Registered, Registration, State
from iam.oauth.protocol.claims import seconds
from iam.oauth.protocol.dynamic_registration import (
    INVITATION_PREFIX,
    REGISTRATION_PREFIX,
    check_named,
    check_unnamed,
    client_information,
    decide_registration,
    read_json,
)
from iam.oauth.protocol.errors import BearerError, OAuthError, described
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.messages import NO_STORE, Request, Response, json_response

ADDRESS = "/register"
_OURS = re.compile(
    r"[0-9a-f]{24}", re.ASCII
)  # as `register` chooses them; no other name can have a registration


def token_digest(token: str) -> str:
    """Return the digest under which a token of registration is stored; it is 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def register(request: Request, state: State, now: datetime) -> Response:
    """Register a client, once for each use of an invitation.

    Raises: BearerError without a good invitation (401), OAuthError. Spec: RFC 7591 §3.1, §3.2.
    """
    if request.method != "POST":
        return _method_refused(request, state, now, "POST")
    digest = _presented(request, INVITATION_PREFIX)
    invitation = state.registrar.invitation(digest, now)
    if invitation is None:
        raise _unknown("The initial access token is not, or no longer, valid.", "invitation")
    try:
        given = read_json(request.body, request.content_type)
        check_unnamed(given)
        client_id = secrets.token_hex(12)
        metadata = decide_registration(given, invitation, client_id)
        token = REGISTRATION_PREFIX + secrets.token_urlsafe(32)
        registered = state.registrar.register(
            digest, invitation, metadata, token_digest(token), request.request_id, request.source, now
        )
    except MetadataError as problem:
        state.tally(request.source, "", "invalid_client_metadata", now, request.request_id)
        raise OAuthError("invalid_client_metadata", f"{str(problem).rstrip('.')}.") from problem
    except OAuthError as problem:
        state.tally(request.source, "", problem.reason, now, request.request_id)
        raise
    if registered is None:  # somebody used it up in the meantime
        raise _unknown("The initial access token is not, or no longer, valid.", "invitation_used_up")
    return _information(201, state, registered, token)


def manage(request: Request, state: State, now: datetime) -> Response:
    """Let a registered client read, replace or end its registration.

    Raises: BearerError when the token is not this client's (401: neither says whether there is such a client), OAuthError.
    Spec: RFC 7592 §2.1, §2.2, §2.3.
    """
    if request.method not in {"GET", "PUT", "DELETE"}:
        return _method_refused(request, state, now, "GET, PUT, DELETE")
    digest = _presented(request, REGISTRATION_PREFIX)
    client_id = request.path.rpartition("/")[2]
    registration = state.registrar.registration(client_id, digest) if _OURS.fullmatch(client_id) else None
    if registration is None:
        raise _unknown(
            "The registration access token is not, or no longer, valid here.", "registration_access"
        )
    if request.method == "GET":
        _, _, token = request.authorization.partition(" ")
        return _information(200, state, registration.registered, token.strip())
    if request.method == "DELETE":
        if not state.registrar.end(client_id, digest, request.request_id, request.source, now):
            raise _unknown("The registration has ended.", "registration_access")
        return Response(204, NO_STORE)
    try:
        given = check_named(read_json(request.body, request.content_type), client_id)
        _check_secret(state, registration, given.pop("client_secret", None))
        metadata = decide_registration(given, registration.invitation, client_id)
        token = REGISTRATION_PREFIX + secrets.token_urlsafe(32)
        changed = state.registrar.change(
            digest, metadata, token_digest(token), request.request_id, request.source, now
        )
    except MetadataError as problem:
        state.tally(request.source, client_id, "invalid_client_metadata", now, request.request_id)
        raise OAuthError("invalid_client_metadata", f"{str(problem).rstrip('.')}.") from problem
    except OAuthError as problem:
        state.tally(request.source, client_id, problem.reason, now, request.request_id)
        raise
    if changed is None:  # another change with the same token came first
        raise _unknown("The registration access token has been used up.", "registration_access")
    return _information(200, state, changed, token)


def _presented(request: Request, prefix: str) -> str:
    """Return the digest of the token in the header; one in the body or the query is never read.

    Raises: BearerError. Spec: RFC 7591 §3 (RFC 6750), RFC 7592 §2.
    """
    scheme, _, token = request.authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise BearerError("", "", status=401, reason="no_token")
    token = token.strip()
    if not token.startswith(prefix) or len(token) > 200 or not token.isascii():
        raise _unknown("This is not a token of registration.", "invitation")
    return token_digest(token)


def _check_secret(state: State, registration: Registration, secret: Any) -> None:  # Any: JSON
    """Spec: RFC 7592 §2.2 (sent back, it must be the current one; a client never chooses its secret)."""
    if secret is None:
        return
    if not isinstance(secret, str) or not hmac.compare_digest(
        state.secret_digest(secret), registration.secret_digest
    ):
        raise OAuthError(
            "invalid_client_metadata", "client_secret is not the client's current one.", reason="given_by_us"
        )


def _method_refused(request: Request, state: State, now: datetime, allowed: str) -> Response:
    state.tally(request.source, "", "method", now, request.request_id)
    value = {
        "error": "invalid_request",
        "error_description": described(f"Use {allowed}.", request.request_id),
    }
    return json_response(405, value, (*NO_STORE, ("Allow", allowed)))


def _unknown(description: str, reason: str) -> BearerError:
    return BearerError("invalid_token", description, status=401, reason=reason)


def _information(status: int, state: State, registered: Registered, token: str) -> Response:
    """Spec: RFC 7591 §3.2.1, RFC 7592 §3. A secret is shown when it is made and never again: only its digest is kept."""
    answer = {
        **client_information(registered.described),
        "client_id_issued_at": seconds(registered.issued_at),
        "registration_access_token": token,
        "registration_client_uri": f"{state.issuer}{ADDRESS}/{registered.client_id}",
    }
    if registered.new_secret:
        answer |= {"client_secret": registered.new_secret, "client_secret_expires_at": 0}
    return json_response(status, answer)
