"""A device that waits for a person: what is still needed before the person may answer, and the answer.

Used by `interactions.py`, which knows the browser; what is decided, is decided as for any authorization request.
"""

from datetime import datetime
from uuid import UUID

from . import issuance
from .device_store import DatabaseDevices
from .ports import Context, State, WaitingDevice
from .protocol.consent import asked_disclosure
from .protocol.device import GRANT_TYPE
from .protocol.errors import OAuthError
from .protocol.interaction import (
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
from .protocol.messages import (
    Answer,
    AuthorizationRequest,
    ClientFacts,
    ErrorPage,
    Interaction,
    Need,
    Request,
    SessionFacts,
)


def claim(user_code: str, user_id: UUID, state: State, now: datetime) -> WaitingDevice | None:
    """Return the device that shows this code, from now on this person's to answer; None when there is none for them."""
    devices = DatabaseDevices()
    pk = devices.claim(state.user_code_digest(user_code), user_id, now)
    return devices.waiting(pk, now) if pk is not None else None


def as_request(device: WaitingDevice, client: ClientFacts, now: datetime) -> AuthorizationRequest:
    """Return what a device asks for in the form that the decision knows; nothing is ever redirected."""
    return AuthorizationRequest(
        client_id=client.client_id,
        redirect_uri="",
        scopes=device.scopes,
        started_at=now,
        code_challenge="",
        max_age=client.default_max_age,
        acr_values=client.default_acr_values,
        asked=device.asked,
    )


def look(
    state: State,
    client: ClientFacts,
    asked: AuthorizationRequest,
    session: SessionFacts | None,
    now: datetime,
) -> Issue | Answer:
    """Return what the sign-in is worth when the person may answer now, else what is still needed."""
    if not client.enabled or GRANT_TYPE not in client.grant_types:
        return ErrorPage(
            400, "unauthorized_client", "This client may not connect devices now.", client.client_id
        )
    present = None
    if session is not None:
        # The person is asked in any case, so nothing counts as agreed to, and nothing as still to be agreed to.
        standing = state.standing(client, session.user_id, now)
        subject = issuance.subject_for(state, client, session.sub)
        present = Present(session, subject, standing.admission, standing.requirement)
    requirement = present.requirement if present else None
    decision = decide_interaction(asked, present, now)
    match decision:
        case AskLogin():
            return Interaction(Need.LOGIN, client, asked, requirement, decision.reason)
        case AskFactor():
            return Interaction(Need.FACTOR, client, asked, requirement, decision.reason)
        case NoAccess():
            return Interaction(Need.REFUSED, client, asked, requirement, decision.reason)
        case Fail():
            return ErrorPage(400, decision.error.value, decision.description, client.client_id)
        case AskConsent() | AskAccount():
            raise ValueError("nothing was left to agree to")
        case Issue():
            return decision


def ask(
    state: State,
    client: ClientFacts,
    asked: AuthorizationRequest,
    session: SessionFacts | None,
    now: datetime,
) -> Answer:
    """Return the question whether to let the device in, or what comes before it."""
    found = look(state, client, asked, session, now)
    if not isinstance(found, Issue):
        return found
    return Interaction(Need.DEVICE, client, asked, disclosure=asked_disclosure(asked))


def confirm(
    request: Request,
    state: State,
    pk: int,
    client: ClientFacts,
    asked: AuthorizationRequest,
    session: SessionFacts,
    now: datetime,
) -> None:
    """Let a device in, if the person may still say so and it still waits for this person."""
    worth = look(state, client, asked, session, now)
    if not isinstance(worth, Issue):
        return
    reason = ""
    try:
        issuance.clear_person(state, client, session, asked.scopes, now, asked.asked)
        context = Context(worth.acr, worth.amr, worth.auth_time)
        if not DatabaseDevices().confirm(pk, client, session, context, now):
            reason = "device_gone"
    except OAuthError as problem:
        reason = problem.reason
    _record(request, state, client, session, "refused" if reason else "success", reason, now)


def deny(
    request: Request,
    state: State,
    pk: int,
    client: ClientFacts,
    session: SessionFacts,
    reason: str,
    now: datetime,
) -> None:
    """Turn a device away, if it still waits for this person."""
    done = DatabaseDevices().deny(pk, session.user_id, now)
    _record(request, state, client, session, "refused", reason if done else "device_gone", now)


def _record(
    request: Request,
    state: State,
    client: ClientFacts,
    session: SessionFacts,
    outcome: str,
    reason: str,
    now: datetime,
) -> None:
    state.record(
        "person:device:answer",
        outcome,
        actor=f"person:{session.sub}",
        now=now,
        request_id=request.request_id,
        source=request.source,
        object=f"client:{client.client_id}",
        reason=reason,
        application=client.application or "",
        session=str(session.id),
    )
