"""The answer that the code and refresh grants share. Spec: RFC 6749 §5.1, OIDC Core §3.1.3.3, §12.2."""

from uuid import UUID

from iam.oauth import issuance
from iam.oauth.ports import Context, State
from iam.oauth.protocol.binding import Binding
from iam.oauth.protocol.messages import Request, Response, json_response


def token_answer(
    request: Request,
    state: State,
    clearance: issuance.Clearance,
    context: Context,
    family_id: UUID,
    sender: Binding,
    *,
    grant: str,
    nonce: str = "",
    refresh_token: str = "",
) -> Response:
    """Return access token, ID token if `openid` was granted, and the refresh token if there is one; audited."""
    session, client = clearance.session, clearance.client
    if session is None or clearance.person is None:
        raise ValueError("tokens of a person need a person")
    sid = state.store.sid(session.id, client, clearance.at)
    token, life = issuance.access_token(state, clearance, family_id.hex, sender, sid, context)
    answer: dict[str, str | int] = {
        "access_token": token,
        "token_type": sender.token_type,
        "expires_in": life,
        "scope": " ".join(issuance.address(state, clearance).scopes),
    }
    if "openid" in clearance.scopes:
        answer["id_token"] = issuance.id_token(state, clearance, context, sid, nonce, token)
    if refresh_token:
        answer["refresh_token"] = refresh_token
    state.record(
        "client:token:issue",
        "success",
        actor=f"client:{client.client_id}",
        now=clearance.at,
        request_id=request.request_id,
        source=request.source,
        object=f"person:{clearance.person.sub}",
        method=grant,
        application=client.application or "",
        office=(clearance.access.office or "") if clearance.access else "",
        session=str(session.id),
    )
    return json_response(200, answer)
