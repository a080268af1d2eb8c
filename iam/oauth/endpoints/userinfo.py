"""The userinfo endpoint. Spec: OIDC Core §5.3, RFC 6750."""

from datetime import datetime

from iam.oauth import issuance
from iam.oauth.ports import State
from iam.oauth.protocol.claims import is_for
from iam.oauth.protocol.errors import BearerError
from iam.oauth.protocol.messages import JSON_NOT_STORED, Request, Response, document, json_response

from .senders import presented_bearer

# Among a token's answers, whose other names are those of clients: no client's name has a space.
USERINFO = "user info"


def userinfo(request: Request, state: State, now: datetime) -> Response:
    """Return the claims that the token's scopes stand for, as they are now.

    Raises: BearerError. Spec: OIDC Core §5.3.1 (GET and POST), RFC 6750 §2, RFC 9449 §7.
    """
    bearer = presented_bearer(request, state, now)
    scheme = bearer.binding.token_type
    if bearer.clearance.person is None or not is_for(bearer.claims, state.issuer):
        raise BearerError("invalid_token", "This access token opens nothing here.", status=401, scheme=scheme)
    if "openid" not in bearer.clearance.scopes:
        raise BearerError("insufficient_scope", "The scope openid is needed.", status=403, scheme=scheme)
    known = bearer.answers.get(USERINFO)
    if known is not None:
        return Response(200, JSON_NOT_STORED, known)
    answer = issuance.userinfo(state, bearer)
    sealed = issuance.sealed_userinfo(state, bearer.clearance.client, answer, now)
    if sealed is not None:
        return document("application/jwt", sealed)
    response = json_response(200, answer)
    bearer.answers[USERINFO] = response.body  # forgotten with the token, or when anything of it changes
    return response
