"""RP-initiated logout: ends this browser's session, and no other. Spec: OIDC RP-Initiated Logout 1.0 §2, §3."""

from datetime import datetime

from iam.oauth.ports import State
from iam.oauth.protocol.errors import OAuthError, Unshowable
from iam.oauth.protocol.jose import BadToken, Verified, verify
from iam.oauth.protocol.messages import Answer, ClientFacts, Interaction, Need, Request, Response, redirect
from iam.oauth.protocol.parameters import Parameters, parse, parse_form
from iam.oauth.protocol.redirects import is_registered

SESSION_COOKIE = "session"


def logout(request: Request, state: State, now: datetime) -> Answer:
    """End the browser's session if its own application asks with a valid hint; otherwise ask the person.

    Raises: Unshowable for an address that is not registered, or a hint that contradicts the client.
    """
    try:
        parameters = parse(request.query) if request.method == "GET" else parse_form(request)
        parameters.require_clean()
    except OAuthError as problem:
        raise Unshowable(problem.error, problem.description, status=problem.status) from problem
    hint = _hint(state, parameters)
    client = _client(state, parameters, hint)
    return_to = _return_address(parameters, client)
    session = state.browser_session(request.cookies, now)
    if session is None:
        return after_logout(client, return_to)
    sid = str(hint.claims.get("sid", "")) if hint else ""
    if client is None or not sid or state.store.session_of_sid(sid, client) != session.id:
        # Without proof that the session is this application's, a link of anybody could sign people out.
        return Interaction(Need.CONFIRM_LOGOUT, client, return_to=return_to)
    state.end_session(session.id, "signed_out", request.request_id, request.source, now)
    return after_logout(client, return_to)


def after_logout(client: ClientFacts | None, return_to: str) -> Response | Interaction:
    """Return to the application, or show that the person is signed out."""
    if not return_to:
        return Interaction(Need.SIGNED_OUT, client)
    response = redirect(return_to, {})
    return Response(response.status, response.headers, response.body, (SESSION_COOKIE,))


def _hint(state: State, parameters: Parameters) -> Verified | None:
    """An expired ID token is a good hint; one that we did not sign is none. Spec: RP-Initiated Logout §2, §4."""
    text = parameters.get("id_token_hint")
    if text is None:
        return None
    try:
        verified = verify(text, state.keys())
    except BadToken:
        return None
    if verified.typ != "JWT" or verified.claims.get("iss") != state.issuer:
        return None
    return verified


def _client(state: State, parameters: Parameters, hint: Verified | None) -> ClientFacts | None:
    named = parameters.get("client_id")
    hinted = str(hint.claims.get("aud")) if hint else None
    if named is not None and hinted is not None and named != hinted:
        raise Unshowable("invalid_request", "client_id is not the audience of id_token_hint.")
    client_id = named or hinted
    return state.client(client_id) if client_id else None


def _return_address(parameters: Parameters, client: ClientFacts | None) -> str:
    """Return the checked address with `state`, or "". Spec: RP-Initiated Logout §3 (exact match, else no redirect)."""
    uri = parameters.get("post_logout_redirect_uri")
    if uri is None:
        return ""
    if client is None:
        raise Unshowable(
            "invalid_request", "post_logout_redirect_uri needs client_id or a valid id_token_hint."
        )
    if not is_registered(uri, client.post_logout_redirect_uris):
        raise Unshowable(
            "invalid_request",
            "post_logout_redirect_uri is not registered for this client.",
            client_id=client.client_id,
        )
    state = parameters.get("state")
    response = redirect(uri, {"state": state} if state is not None else {})
    return dict(response.headers)["Location"]
