"""The userinfo endpoint. Spec: OIDC Core §5.3, RFC 6750."""

from datetime import datetime

from iam.oauth import issuance
from iam.oauth.ports import State
from iam.oauth.protocol.claims import is_for
from iam.oauth.protocol.errors import BearerError
from iam.oauth.protocol.messages import Request, Response, json_response
from iam.oauth.protocol.parameters import parse_form


def userinfo(request: Request, state: State, now: datetime) -> Response:
    """Return the claims that the token's scopes stand for, as they are now.

    Raises: BearerError. Spec: OIDC Core §5.3.1 (GET and POST), RFC 6750 §2.
    """
    bearer = issuance.clear_bearer(state, bearer_token(request), now)
    if bearer is None or bearer.clearance.person is None or not is_for(bearer.claims, state.issuer):
        raise BearerError("invalid_token", "The access token is not, or no longer, valid here.", status=401)
    if "openid" not in bearer.clearance.scopes:
        raise BearerError("insufficient_scope", "The scope openid is needed.", status=403)
    return json_response(200, issuance.userinfo(state, bearer))


def bearer_token(request: Request) -> str:
    """Return the token of the header or the form; one in the query is never read (RFC 9700 §4.3.2).

    Raises: BearerError: none was sent (no code), or two were (RFC 6750 §2, §3.1).
    """
    if request.method not in {"GET", "POST"}:
        raise BearerError("invalid_request", "Use GET or POST.", status=405)
    found = []
    if request.authorization:
        scheme, _, value = request.authorization.partition(" ")
        if scheme.lower() == "bearer" and value.strip():
            found.append(value.strip())
    if request.method == "POST" and request.content_type.startswith("application/x-www-form-urlencoded"):
        form = parse_form(request)
        if "access_token" in form.doubled:
            raise BearerError("invalid_request", "access_token was given twice.")
        if "access_token" in form:
            found.append(form["access_token"])
    if len(found) > 1:
        raise BearerError("invalid_request", "Send the token once, in one way.")
    if not found:
        raise BearerError("", "", status=401)
    return found[0]
