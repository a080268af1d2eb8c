"""The answer that the grants of a person share. Spec: RFC 6749 §5.1, OIDC Core §3.1.3.3, §12.2."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from iam.oauth import issuance
from iam.oauth.ports import CodeFacts, Context, Event, Joined, NewFamily, State
from iam.oauth.protocol import refresh_tokens
from iam.oauth.protocol.binding import Binding
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ClientFacts, Request, Response, SessionFacts, json_response
from iam.oauth.protocol.parameters import Parameters


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer with tokens that nobody has yet, and the event that must be written before it leaves."""

    response: Response
    event: Event
    joined: Joined


def first_tokens(
    request: Request,
    state: State,
    client: ClientFacts,
    facts: CodeFacts,
    join: Callable[[SessionFacts], Joined],
    session: SessionFacts | None,
    form: Parameters,
    sender: Binding,
    now: datetime,
    *,
    grant: str,
) -> tuple[Draft, NewFamily | None]:
    """Return what a code is worth if it can be consumed: its person passes the gate again. Nothing is written.

    In: `join` gives the client's name of the session, once the gate let the person through.
    Raises: OAuthError invalid_grant, invalid_target, invalid_authorization_details.
    """
    try:
        clearance = issuance.clear_person(state, client, session, facts.scopes, now, facts.asked)
    except OAuthError as problem:
        raise OAuthError("invalid_grant", problem.description, reason=problem.reason) from problem
    if session is None:
        raise ValueError("tokens of a person need a person")
    asked_now = issuance.restricted(state, clearance, form)
    family, refresh_token = None, ""
    if "refresh_token" in client.grant_types:
        seed = secrets.token_bytes(32)
        asked = replace(facts.asked, cnf=sender.confirmation)
        family = NewFamily(facts.family_id, clearance.scopes, facts.context, asked, seed)
        refresh_token = refresh_tokens.build(state.refresh_key, seed, facts.family_id, 0)
    draft = token_answer(
        request,
        state,
        asked_now,
        facts.context,
        facts.family_id,
        join(session),
        sender,
        grant=grant,
        nonce=facts.nonce,
        refresh_token=refresh_token,
    )
    return draft, family


def carried(to: issuance.Address) -> dict[str, Any]:  # Any: JSON
    """Return what an answer says of the access token in it. Spec: RFC 6749 §5.1, RFC 9396 §7."""
    answer: dict[str, Any] = {"scope": " ".join(to.scopes)} if to.scopes else {}
    if to.details:
        answer["authorization_details"] = list(to.details)
    return answer


def token_answer(
    request: Request,
    state: State,
    clearance: issuance.Clearance,
    context: Context,
    family_id: UUID,
    joined: Joined,
    sender: Binding,
    *,
    grant: str,
    nonce: str = "",
    refresh_token: str = "",
) -> Draft:
    """Return access token, ID token if `openid` was granted, and the refresh token if there is one, with their event."""
    client, sid = clearance.client, joined.sid
    if clearance.person is None:
        raise ValueError("tokens of a person need a person")
    token, life = issuance.access_token(state, clearance, family_id.hex, sender, sid, context)
    answer: dict[str, Any] = {
        "access_token": token,
        "token_type": sender.token_type,
        "expires_in": life,
        **carried(issuance.address(state, clearance)),
    }
    if "openid" in clearance.scopes:
        answer["id_token"] = issuance.id_token(state, clearance, context, sid, nonce, token)
    if refresh_token:
        answer["refresh_token"] = refresh_token
    event = state.event(
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
        session=str(joined.session.id),
    )
    return Draft(json_response(200, answer), event, joined)


def refuse_details(form: Parameters) -> None:
    """Refuse `authorization_details` where no person and no registration could grant one. Raises: OAuthError."""
    if "authorization_details" in form:
        raise OAuthError(
            "invalid_authorization_details", "This grant gives scopes only, no authorization_details."
        )
