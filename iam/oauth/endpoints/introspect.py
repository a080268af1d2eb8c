"""Token introspection, plain or signed. Spec: RFC 7662, RFC 9701."""

from datetime import datetime
from typing import Any

from iam.oauth import issuance
from iam.oauth.ports import State
from iam.oauth.protocol import refresh_tokens
from iam.oauth.protocol.claims import seconds
from iam.oauth.protocol.errors import InvalidClient, OAuthError
from iam.oauth.protocol.messages import (
    JSON_NOT_STORED,
    ClientFacts,
    Request,
    Response,
    accepts,
    document,
    json_response,
)

from .clients import authenticated_client, refusals_recorded

INACTIVE = {"active": False}
# Whoever asks for this gets the answer signed. Spec: RFC 9701 §4, §5.
SIGNED_TYPE = "application/token-introspection+jwt"


def introspect(request: Request, state: State, now: datetime) -> Response:
    """Answer what a token is worth, to its audience and its owner; to anybody else it is not active.

    Raises: OAuthError: invalid_request, invalid_client. Spec: RFC 7662 §2.1, §2.2, §4 (no token scanning).
    """
    client, form = authenticated_client(request, state, now)
    with refusals_recorded(request, state, client, "client:token:introspect", now):
        if client.auth_method == "none":
            # Anybody can call themselves by a public client's name (RFC 7662 §2.1: authorization is required).
            raise InvalidClient("A public client cannot introspect.", reason="public_client")
        form.require_clean()
        token = form.get("token")
        if token is None:
            raise OAuthError("invalid_request", "token is missing.")
    bearer = None if token.startswith(refresh_tokens.PREFIX) else issuance.known_bearer(state, token, now)
    if accepts(request.accept, SIGNED_TYPE):
        answer = _answer(state, token, bearer, client, now)
        return document(SIGNED_TYPE, issuance.signed_introspection(state, client, answer, now))
    known = bearer.answers.get(client.client_id) if bearer else None
    if known is not None:
        return Response(200, JSON_NOT_STORED, known)
    response = json_response(200, _answer(state, token, bearer, client, now))
    if bearer is not None:
        bearer.answers[client.client_id] = (
            response.body
        )  # forgotten with the token, or when anything of it changes
    return response


def _answer(
    state: State, token: str, bearer: issuance.BearerToken | None, asker: ClientFacts, now: datetime
) -> dict[str, Any]:  # Any: JSON
    if token.startswith(refresh_tokens.PREFIX):
        return _refresh_answer(state, token, asker, now) or INACTIVE
    return (bearer and issuance.introspection(state, bearer, asker)) or INACTIVE


def _refresh_answer(state: State, token: str, asker: ClientFacts, now: datetime) -> dict[str, Any] | None:
    """A refresh token is its owner's business alone, and the current one of its family only."""
    position = refresh_tokens.parse(token)
    family = state.store.family(position.family_id) if position else None
    if (
        position is None
        or family is None
        or family.client_pk != asker.pk
        or not refresh_tokens.is_genuine(position, state.refresh_key, family.seed)
        or position.number != family.position
        or family.revoked
        or family.expires_at <= now
    ):
        return None
    session = state.store.session(family.session_id, now)
    try:
        clearance = issuance.clear_person(state, asker, session, family.scopes, now, family.asked)
    except OAuthError:
        return None
    details = clearance.asked.authorization_details
    return {
        "active": True,
        **({"cnf": dict(family.asked.cnf)} if family.asked.cnf else {}),
        "iss": state.issuer,
        "client_id": asker.client_id,
        "sub": issuance.subject_for(state, asker, family.sub),
        **({"scope": " ".join(clearance.scopes)} if clearance.scopes else {}),
        **({"authorization_details": list(details)} if details else {}),
        "exp": seconds(family.expires_at),
    }
