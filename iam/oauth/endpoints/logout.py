"""RP-initiated logout: ends this browser's session, and no other. Spec: OIDC RP-Initiated Logout 1.0 §2, §3."""

from datetime import datetime

from iam.oauth import issuance
from iam.oauth.ports import State
from iam.oauth.protocol.errors import OAuthError, Unshowable
from iam.oauth.protocol.jose import BadToken, Verified, verify
from iam.oauth.protocol.messages import (
    Answer,
    ClientFacts,
    Interaction,
    Need,
    Request,
    Response,
    SessionFacts,
    redirect,
)
from iam.oauth.protocol.metadata import LANGUAGES
from iam.oauth.protocol.parameters import Parameters, parse, parse_form, words

SESSION_COOKIE = "session"


def logout(request: Request, state: State, now: datetime) -> Answer:
    """End the browser's session if its own application asks with a valid hint; otherwise ask the person.

    Raises: Unshowable for an address that is not registered, or a hint that contradicts the client.
    """
    try:
        parameters = parse(request.query) if request.method == "GET" else parse_form(request)
        parameters.require_clean()
    except OAuthError as problem:
        raise Unshowable(
            problem.error, problem.description, status=problem.status, reason=problem.reason
        ) from problem
    hint = _hint(state, parameters)
    client = _client(state, parameters, hint)
    return_to = _return_address(parameters, client)
    if hint is None and "id_token_hint" in parameters:
        return_to = ""  # what has an error in it sends the browser nowhere. Spec: RP-Initiated Logout §4
    locales = _locales(parameters)
    sid = str(hint.claims.get("sid", "")) if hint else ""
    hinted = state.store.session_of_sid(sid, client) if client and sid else None
    session = state.browser_session(request.cookies, now)
    if session is None and request.method == "POST":
        # Browsers send no cookie of ours with a form of another site (SameSite): whether somebody is signed in here
        # shows only on our own page. The hint's proof goes with the browser, so that nothing is asked twice.
        return Interaction(
            Need.CONFIRM_LOGOUT, client, return_to=return_to, ui_locales=locales,
            session=None if "logout_hint" in parameters else hinted,
        )  # fmt: skip
    if session is None:
        return _after(client, return_to, locales)
    if client is None or hinted != session.id or not _is_meant(state, parameters, client, session):
        # Without proof that the session is this application's, a link of anybody could sign people out.
        return Interaction(Need.CONFIRM_LOGOUT, client, return_to=return_to, ui_locales=locales)
    state.end_session(session.id, "signed_out", request.request_id, request.source, now)
    if not return_to or state.others_to_tell(session.id, client):
        return Interaction(
            Need.SIGNED_OUT, client, return_to=return_to, ui_locales=locales, session=session.id
        )
    return _after(client, return_to, locales)


def _after(client: ClientFacts | None, return_to: str, locales: tuple[str, ...]) -> Response | Interaction:
    """Return to the application, or show that nobody is signed in any more."""
    if not return_to:
        return Interaction(Need.SIGNED_OUT, client, ui_locales=locales)
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


def _is_meant(state: State, parameters: Parameters, client: ClientFacts, session: SessionFacts) -> bool:
    """Say whether `logout_hint`, if there is one, names who is signed in: by login name, address or identifier.

    The meaning is ours to choose; a hint that names somebody else makes us ask. Spec: RP-Initiated Logout §2.
    """
    hint = parameters.get("logout_hint")
    if hint is None:
        return True
    person = state.person(session.user_id)
    names = (person.login, person.email, issuance.subject_for(state, client, person.sub))
    return hint.casefold() in {name.casefold() for name in names if name}


def _locales(parameters: Parameters) -> tuple[str, ...]:
    """Return those of the wanted languages that we speak; a region is no reason not to. Spec: OIDC Core §3.1.2.1."""
    wanted = (tag.partition("-")[0].lower() for tag in words(parameters.get("ui_locales", "")))
    return tuple(dict.fromkeys(tag for tag in wanted if tag in LANGUAGES))


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
    if uri not in client.post_logout_redirect_uris:
        raise Unshowable(
            "invalid_request",
            "post_logout_redirect_uri is not registered for this client.",
            client_id=client.client_id,
        )
    state = parameters.get("state")
    response = redirect(uri, {"state": state} if state is not None else {})
    return dict(response.headers)["Location"]
