"""The authorization endpoint. Spec: RFC 6749 §3.1, §4.1; OIDC Core §3.1.2; RFC 9207; RFC 9700.

`authorize` reads a request from outside; `proceed` goes on with one that was checked, now or before a
sign-in. Both end in the same decision, so nothing that was true before a sign-in is believed after it.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from iam.oauth import issuance
from iam.oauth.grants.code import code_digest
from iam.oauth.ports import Context, State
from iam.oauth.protocol.arrival import Arrival, check_road
from iam.oauth.protocol.authorization import Target, check_request, check_target
from iam.oauth.protocol.consent import asked_disclosure, unagreed
from iam.oauth.protocol.errors import OAuthError, Unshowable, described
from iam.oauth.protocol.interaction import (
    AskAccount,
    AskConsent,
    AskFactor,
    AskLogin,
    Fail,
    Issue,
    NoAccess,
    Present,
    decide_interaction,
)
from iam.oauth.protocol.jose import BadToken, verify
from iam.oauth.protocol.messages import (
    NO_DISCLOSURE,
    Answer,
    AuthorizationRequest,
    ClientAnswer,
    ClientFacts,
    Disclosure,
    FormPost,
    Interaction,
    Need,
    Request,
    SessionFacts,
    redirect,
)
from iam.oauth.protocol.parameters import Parameters, parse, parse_form

from .arrival import arrived
from .asked import asked_in


@dataclass(frozen=True, slots=True)
class Given:
    """What was answered on the pages of this very flow, and by whom."""

    agreed_by: UUID | None = None
    agreed: Disclosure = NO_DISCLOSURE
    chosen_by: UUID | None = None  # who chose to go on with the account that was signed in


NOTHING_GIVEN = Given()


def authorize(request: Request, state: State, now: datetime) -> Answer:
    """Answer an authorization request.

    Raises: Unshowable when the answer must not be redirected. Spec: RFC 6749 §4.1.2.1.
    """
    try:
        outside = _parameters(request)
    except OAuthError as problem:
        raise Unshowable(
            problem.error, problem.description, status=problem.status, reason=problem.reason
        ) from problem
    try:
        arrival = arrived(outside, state, now)
        target = check_target(arrival.parameters, state.client)
    except Unshowable as problem:
        problem.client_id = problem.client_id or _named(outside, state)  # its owner may read why
        raise
    session = state.browser_session(request.cookies, now)
    try:
        wanted = check(arrival, target, state, now)
    except OAuthError as problem:
        return refuse(request, state, target, session, problem, now)
    return proceed(request, state, target.client, wanted, session, NOTHING_GIVEN, now)


def check(arrival: Arrival, target: Target, state: State, now: datetime) -> AuthorizationRequest:
    """Return the request if everything that needs no person is right, here and when it is pushed.

    Raises: OAuthError, which may be redirected to the target.
    """
    check_road(target.client, arrival)
    wanted = check_request(
        arrival.parameters,
        target,
        lambda scope: issuance.is_known_scope(state, scope),
        lambda t, c: hinted_sub(state, t, c),
        now,
    )
    return replace(wanted, asked=asked_in(arrival.parameters, target.client, wanted.scopes, state))


def _named(parameters: Parameters, state: State) -> str:
    """Return the client that a request names clearly, if there is one; "" otherwise."""
    if "client_id" in parameters.doubled or "client_id" in parameters.unusable:
        return ""
    client = state.client(parameters.get("client_id", ""))
    return client.client_id if client else ""


def _parameters(request: Request) -> Parameters:
    """Spec: OIDC Core §3.1.2.1 (GET and POST)."""
    if request.method == "GET":
        return parse(request.query)
    if request.method == "POST":
        return parse_form(request)
    raise OAuthError("invalid_request", "Use GET or POST.", status=405)


def hinted_sub(state: State, token: str, client: ClientFacts) -> str:
    """Return whom an id_token_hint names; an expired one is still a hint.

    Raises: OAuthError invalid_request when it is not an ID token of ours for this client.
    Spec: OIDC Core §3.1.2.1, §3.1.2.2.
    """
    try:
        verified = verify(token, state.keys())
    except BadToken as problem:
        raise OAuthError(
            "invalid_request", "id_token_hint is not an ID token of this issuer.", reason="hint"
        ) from problem
    claims = verified.claims
    if verified.typ != "JWT" or claims.get("iss") != state.issuer or claims.get("aud") != client.client_id:
        raise OAuthError("invalid_request", "id_token_hint was not made for this client.", reason="hint")
    return str(claims["sub"])


def proceed(
    request: Request,
    state: State,
    client: ClientFacts,
    checked: AuthorizationRequest,
    session: SessionFacts | None,
    given: Given,
    now: datetime,
) -> Answer:
    """Issue the code, or say what is still needed."""
    target = Target.of(client, checked)
    present = _present(state, client, checked, session, given, now) if session else None
    requirement = present.requirement if present else None
    decision = decide_interaction(checked, present, now)
    match decision:
        case AskLogin():
            return Interaction(Need.LOGIN, client, checked, requirement, decision.reason)
        case AskAccount():
            return Interaction(Need.ACCOUNT, client, checked, requirement)
        case AskFactor():
            return Interaction(Need.FACTOR, client, checked, requirement, decision.reason)
        case AskConsent():
            return Interaction(Need.CONSENT, client, checked, requirement, disclosure=decision.disclosure)
        case NoAccess():
            _record(request, state, target, session, "refused", decision.reason, now)
            return Interaction(Need.REFUSED, client, checked, requirement, decision.reason)
        case Fail():
            problem = OAuthError(decision.error.value, decision.description)
            return refuse(request, state, target, session, problem, now)
        case Issue():
            try:
                return _issue(request, state, target, checked, session, decision, now)
            except OAuthError as problem:
                return refuse(request, state, target, session, problem, now)


def _present(
    state: State,
    client: ClientFacts,
    checked: AuthorizationRequest,
    session: SessionFacts,
    given: Given,
    now: datetime,
) -> Present:
    """Say who is signed in, and what they answered: another person's answers count for nothing (A10, A46)."""
    standing = state.standing(client, session.user_id, now)
    before = NO_DISCLOSURE if client.trusted else state.agreed(session.user_id, client)
    return Present(
        session,
        issuance.subject_for(state, client, session.sub),
        standing.admission,
        standing.requirement,
        unagreed(
            asked_disclosure(checked),
            before,
            given.agreed if given.agreed_by == session.user_id else NO_DISCLOSURE,
            trusted=client.trusted,
            anew="consent" in checked.prompt,
        ),
        chosen=given.chosen_by == session.user_id,
    )


def _issue(
    request: Request,
    state: State,
    target: Target,
    checked: AuthorizationRequest,
    session: SessionFacts | None,
    worth: Issue,
    now: datetime,
) -> ClientAnswer:
    """Store a code and send it. Spec: RFC 6749 §4.1.2, RFC 9207 §2."""
    clearance = issuance.clear_person(state, target.client, session, checked.scopes, now, checked.asked)
    code, family_id = issuance.new_code(), uuid4()
    context = Context(worth.acr, worth.amr, worth.auth_time)
    answer = send(
        {"code": code}, target, state, now
    )  # which may have to be signed: before anything is stored
    if clearance.session is None:
        raise ValueError("a code of a person needs a person")
    event = state.event("person:code:issue", "success", **_said(request, target, clearance.session, "", now))
    issuance.store_code(state, clearance, checked, context, code_digest(code), family_id, event)
    return answer


def refuse(
    request: Request,
    state: State,
    target: Target,
    session: SessionFacts | None,
    problem: OAuthError,
    now: datetime,
) -> ClientAnswer:
    """Send an error to the client's checked address, and remember it. Spec: RFC 6749 §4.1.2.1, RFC 9207 §2."""
    _record(request, state, target, session, "refused", problem.reason, now)
    answer = {"error": problem.error, "error_description": described(problem.description, request.request_id)}
    return send(answer, target, state, now)


def send(answer: dict[str, str], target: Target, state: State, now: datetime) -> ClientAnswer:
    """Send an answer, good or bad, in the mode that was asked for; `iss` is in each. Spec: RFC 9207 §2, JARM §2.3."""
    stated = {"state": target.state} if target.state is not None else {}
    values = {**answer, **stated, "iss": state.issuer}
    if target.response_mode.is_signed:
        values = {"response": issuance.signed_response(state, target.client, values, now)}
    if target.response_mode.is_form:
        return FormPost(target.redirect_uri, tuple(values.items()))
    return redirect(target.redirect_uri, values)


def _record(
    request: Request,
    state: State,
    target: Target,
    session: SessionFacts | None,
    outcome: str,
    reason: str,
    now: datetime,
) -> None:
    """One event for a known person; a count for somebody unknown."""
    if session is None:
        state.tally(request.source, target.client.client_id, reason, now, request.request_id)
        return
    state.record("person:code:issue", outcome, **_said(request, target, session, reason, now))


def _said(
    request: Request, target: Target, session: SessionFacts, reason: str, now: datetime
) -> dict[str, Any]:  # Any: what `State.event` takes
    return {
        "actor": f"person:{session.sub}",
        "now": now,
        "request_id": request.request_id,
        "source": request.source,
        "object": f"client:{target.client.client_id}",
        "reason": reason,
        "application": target.client.application or "",
        "session": str(session.id),
    }
