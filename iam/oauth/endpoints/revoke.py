"""Token revocation. Spec: RFC 7009."""

from datetime import datetime, timedelta
from uuid import UUID

from iam.oauth import issuance
from iam.oauth.ports import State
from iam.oauth.protocol import refresh_tokens
from iam.oauth.protocol.claims import ACCESS_TOKEN_LIFE
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import NO_STORE, ClientFacts, Request, Response

from .clients import authenticated_client, refusals_recorded


def revoke(request: Request, state: State, now: datetime) -> Response:
    """End a token of the calling client and what belongs to it; say 200 to everything else.

    Raises: OAuthError: invalid_request, invalid_client. Spec: RFC 7009 §2.1, §2.2.
    """
    client, form = authenticated_client(request, state, now)
    with refusals_recorded(request, state, client, "client:token:revoke", now):
        form.require_clean()
        token = form.get("token")
        if token is None:
            raise OAuthError("invalid_request", "token is missing.")
    subject = _revoke_refresh(state, token, client, now) or _revoke_access(state, token, client, now)
    if subject:
        state.record(
            "client:token:revoke",
            "success",
            actor=f"client:{client.client_id}",
            now=now,
            request_id=request.request_id,
            source=request.source,
            object=subject,
            application=client.application or "",
        )
    return Response(200, NO_STORE)


def _revoke_refresh(state: State, token: str, client: ClientFacts, now: datetime) -> str:
    """End the family of a genuine refresh token of this client, current or old; return whom it was for."""
    position = refresh_tokens.parse(token)
    family = state.store.family(position.family_id) if position else None
    if position is None or family is None or family.client_pk != client.pk:
        return ""
    if not refresh_tokens.is_genuine(position, state.refresh_key, family.seed):
        return ""
    state.store.revoke_family(family.id, "revoked_by_client", now)
    return f"person:{family.sub}"


def _revoke_access(state: State, token: str, client: ClientFacts, now: datetime) -> str:
    """End an access token of this client, and its family if it has one: the pair ends together (A16)."""
    claims = issuance.read_access_token(state, token)
    if claims is None or claims.get("client_id") != client.client_id:
        return ""
    jti = str(claims.get("jti", ""))
    family = jti.partition(".")[0]
    if len(family) == 32 and "act" not in claims:  # the family of an exchanged token is another client's
        state.store.revoke_family(UUID(hex=family), "revoked_by_client", now)
        return f"person:{state.store.sub_of_sid(str(claims.get('sid')), client)}"
    state.store.revoke_token(jti, now + ACCESS_TOKEN_LIFE + timedelta(seconds=10))
    return f"client:{client.client_id}"
