"""Authorization requests that wait for their person: parked here, gone on with by the sign-in pages.

The face for `iam.login`. Every step evaluates the parked request anew against the session as it is now;
nothing that a page showed is believed.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.utils.crypto import salted_hmac

from iam.access.policy import Level
from iam.accounts.models import LoginSession
from iam.accounts.services import end_session
from iam.audit.facts import RequestFacts
from iam.errors import Conflict

from . import devices
from .device_store import DatabaseDevices
from .endpoints.authorize import NOTHING_GIVEN, Given, proceed, refuse
from .models import Consent, Grant, ParkedRequest
from .ports import WaitingDevice
from .protocol.authorization import Target
from .protocol.consent import asked_disclosure, disclosure_digest
from .protocol.device import Outcome
from .protocol.errors import OAuthError
from .protocol.messages import (
    Answer,
    AuthorizationRequest,
    ClientAnswer,
    ClientFacts,
    Disclosure,
    ErrorPage,
    FormPost,
    Interaction,
    Need,
    Request,
    Response,
    SessionFacts,
    redirect,
)
from .protocol.redirects import is_registered
from .state import DatabaseState, session_value

# Long enough to fetch a phone in another room over a slow line (US-12: at least 20 minutes).
PARKED_LIFE = timedelta(minutes=30)
# How long an answer that was lost on its way can be asked for again; a code lives no longer.
ANSWER_KEPT = timedelta(seconds=60)
# Two presses of a button: nobody knows which of the two answers the browser keeps, so that neither session ends.
SAME_MOMENT = timedelta(seconds=3)


@dataclass(frozen=True, slots=True)
class Parked:
    """A parked request. Without a client it is a visit that began here and goes on to `next_path`."""

    pk: int
    handle: str
    started_at: datetime
    client: ClientFacts | None
    request: AuthorizationRequest | None
    next_path: str
    given: Given
    # The device that waits for the person's word; it is answered here, and nothing is redirected to it.
    device: int | None = None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def park(interaction: Interaction, browser: str, now: datetime) -> str:
    """Park the request of an interaction for one browser; return the handle."""
    if interaction.client is None or interaction.request is None:
        raise ValueError("only a checked authorization request can be parked")
    return _park(interaction.client.pk, interaction.request.as_json(), browser, now)


def park_visit(next_path: str, browser: str, now: datetime) -> str:
    """Park a visit that no application began; return the handle."""
    return _park(None, {"next": next_path}, browser, now)


@transaction.atomic
def park_device(user_code: str, session: LoginSession, browser: str, now: datetime) -> str:
    """Park the question whether to let in the device that shows a code; return the handle, "" when there is none.

    The device is this person's to answer from now on, and nobody else's (A48).
    """
    state = DatabaseState()
    device = devices.claim(user_code, session.user_id, state, now)
    client = state.client(device.client_id) if device else None
    if device is None or client is None:
        return ""
    request = devices.as_request(device, client, now)
    return _park(client.pk, {**request.as_json(), "device": device.pk}, browser, now)


def waiting_device(parked: Parked, now: datetime) -> WaitingDevice | None:
    """Return the device that a parked question is about, as long as it waits."""
    return DatabaseDevices().waiting(parked.device, now) if parked.device is not None else None


def _park(client_pk: int | None, parameters: dict[str, object], browser: str, now: datetime) -> str:
    handle = secrets.token_urlsafe(32)
    ParkedRequest.objects.create(
        handle_digest=_digest(handle),
        browser_digest=_digest(browser),
        client_id=client_pk,
        parameters=parameters,
        created_at=now,
        expires_at=now + PARKED_LIFE,
    )
    return handle


def load(handle: str, browser: str, now: datetime) -> Parked | None:
    """Return what is parked under a handle, for the browser that parked it and as long as it waits."""
    row = (
        ParkedRequest.objects.select_related("client")
        .filter(
            handle_digest=_digest(handle),
            browser_digest=_digest(browser),
            expires_at__gt=now,
            finished_at=None,
        )
        .first()
    )
    return _parked(row, handle) if row else None


def load_finished(handle: str, browser: str, now: datetime) -> Parked | None:
    """Return a parked request that was answered a moment ago, for the same browser: `reopen` says what that is worth."""
    row = (
        ParkedRequest.objects.select_related("client")
        .filter(
            handle_digest=_digest(handle), browser_digest=_digest(browser), finished_at__gt=now - ANSWER_KEPT
        )
        .first()
    )
    return _parked(row, handle) if row else None


@transaction.atomic
def reopen(parked: Parked, session: LoginSession, now: datetime) -> bool:
    """Take back an answer that never arrived, so that the person gets another; False when it did, or is not theirs.

    A code that nobody has used is ended: of two codes for one request at most one is good, whatever the network did.
    """
    row = ParkedRequest.objects.select_for_update().filter(pk=parked.pk, finished_at__isnull=False).first()
    if row is None or row.finished_by is None or row.finished_at is None:
        return False
    if not LoginSession.objects.filter(pk=row.finished_by, user_id=session.user_id).exists():
        return False
    if parked.client is not None:
        unused = Grant.objects.filter(
            session_id=row.finished_by,
            application_id=parked.client.pk,
            used_at=None,
            created__gte=row.finished_at,
        )
        if not unused.filter(expires__gt=now).update(expires=now):
            return False
    if row.finished_by != session.pk and now - row.finished_at > SAME_MOMENT:
        end_session(row.finished_by, reason="sent_again", now=now)  # one sign-in leaves one session
    return bool(
        ParkedRequest.objects.filter(pk=parked.pk, finished_at=row.finished_at).update(
            finished_at=None, finished_by=None
        )
    )


def _parked(row: ParkedRequest, handle: str) -> Parked:
    if row.client is None:
        return Parked(row.pk, handle, row.created_at, None, None, str(row.parameters["next"]), NOTHING_GIVEN)
    beyond = row.consented_beyond
    agreed = Disclosure(
        tuple(row.consented_scopes or ()), tuple(beyond.get("claims", ())), tuple(beyond.get("details", ()))
    )
    client = DatabaseState().client(row.client.client_id)
    request = AuthorizationRequest.from_json(row.parameters)
    given = Given(row.consented_by, agreed, row.chosen_by)
    device = row.parameters.get("device")
    return Parked(row.pk, handle, row.created_at, client, request, "", given, device)


@transaction.atomic
def evaluate(parked: Parked, session: LoginSession | None, facts: RequestFacts, now: datetime) -> Answer:
    """Return the answer for the application, or what is still needed.

    An answer for the application finishes the flow: the parked request is gone, so that a replayed form cannot make a second code.
    What was checked of the client when the request came is checked again: it may have been changed since (A24).
    Raises: Conflict when another answer was faster; nothing of this one is kept.
    """
    state = DatabaseState()
    if parked.request is None:
        return _evaluate_visit(parked, state, session, now)
    client, request = _needed(parked)
    if parked.device is not None:
        return _evaluate_device(parked, state, session, now)
    if not client.enabled:
        return ErrorPage(400, "unauthorized_client", "This client is switched off.", client.client_id)
    if "authorization_code" not in client.grant_types or not is_registered(
        request.redirect_uri, client.redirect_uris
    ):
        return ErrorPage(
            400, "invalid_request", "redirect_uri is no longer registered for this client.", client.client_id
        )
    answer = proceed(
        _engine_request(facts), state, client, request, _session_facts(session), parked.given, now
    )
    if isinstance(answer, Response | FormPost):
        _end(parked, session, now)
    return answer


def _end(parked: Parked, session: LoginSession | None, now: datetime) -> None:
    """Finish a parked request, once: of two answers at the same time one is undone."""
    open_still = ParkedRequest.objects.filter(pk=parked.pk, finished_at=None)
    if not open_still.update(finished_at=now, finished_by=session.pk if session else None):
        raise Conflict("This sign-in was finished already.", code="flow_finished")


def _evaluate_visit(
    parked: Parked, state: DatabaseState, session: LoginSession | None, now: datetime
) -> Answer:
    """A visit to our own pages asks for what the person's office and roles ask for, as an application would."""
    if session is None:
        return Interaction(Need.LOGIN, None, reason="none")
    requirement = state.own_requirement(session.user_id, now)
    if requirement.level is Level.AAL2 and session.factor_at is None:
        return Interaction(Need.FACTOR, None, requirement=requirement, reason="policy")
    _end(parked, session, now)
    return redirect(parked.next_path, {})


def _evaluate_device(
    parked: Parked, state: DatabaseState, session: LoginSession | None, now: datetime
) -> Answer:
    """A device asks for the sign-in that its application asks for; then the person is asked, always."""
    client, request = _needed(parked)
    outcome = _device_outcome(parked, session, now)
    if outcome is not None:
        return redirect(outcome.path, {})
    return devices.ask(state, client, request, _session_facts(session), now)


def _device_outcome(parked: Parked, session: LoginSession | None, now: datetime) -> Outcome | None:
    """Return how the question about a device ended, None while it is open.

    The parked request stays: a form that was sent twice, and a page that is loaded again, find the same end.
    """
    if parked.device is None:
        raise ValueError("no device waits here")
    return DatabaseDevices().outcome(parked.device, session.user_id if session else None, now)


@transaction.atomic
def answer_device(
    parked: Parked,
    session: LoginSession,
    facts: RequestFacts,
    now: datetime,
    *,
    let_in: bool,
    reason: str = "",
) -> Response | None:
    """Let a device in or turn it away, once, as the person says; return the page that says what became of it.

    What let the person see the question is judged again in the same transaction; None when it has to be asked anew.
    """
    state, who, (client, request) = DatabaseState(), session_value(session), _needed(parked)
    outcome = _device_outcome(parked, session, now)
    if outcome is None and parked.device is not None:
        asked = _engine_request(facts)
        if let_in:
            devices.confirm(asked, state, parked.device, client, request, who, now)
        else:
            devices.deny(asked, state, parked.device, client, who, reason, now)
        outcome = _device_outcome(parked, session, now)
    return redirect(outcome.path, {}) if outcome else None


def consent_mark(parked: Parked, session: LoginSession) -> str:
    """Return what the consent page carries: the answer counts only for who was asked, and what was shown (A10, A46).

    Somebody else may have signed in since, in another tab; their session must not answer for who saw the page.
    """
    shown = disclosure_digest(asked_disclosure(_needed(parked)[1]))
    return _mark("iam.oauth.consent", f"{parked.pk}:{session.user_id}:{shown}")


def account_mark(parked: Parked, session: LoginSession) -> str:
    """Return what the page that asks for an account carries: going on counts only for the account that it named."""
    return _mark("iam.oauth.account", f"{parked.pk}:{session.user_id}")


def _mark(salt: str, text: str) -> str:
    return salted_hmac(salt, text, algorithm="sha256").hexdigest()


def choose_account(parked: Parked, session: LoginSession) -> None:
    """Remember that this person chose to go on as themselves. Spec: OIDC Core §3.1.2.1 (select_account)."""
    ParkedRequest.objects.filter(pk=parked.pk).update(chosen_by=session.user_id)


@transaction.atomic
def give_consent(parked: Parked, session: LoginSession, facts: RequestFacts, now: datetime) -> None:
    """Remember that this person agreed to exactly what the parked request asks for."""
    client, request = _needed(parked)
    shown = asked_disclosure(request)
    scopes, claims = sorted(shown.scopes), sorted(shown.claims)
    ParkedRequest.objects.filter(pk=parked.pk).update(
        consented_scopes=scopes,
        consented_beyond={"claims": claims, "details": [dict(detail) for detail in shown.details]},
        consented_by=session.user_id,
    )
    consent, created = Consent.objects.get_or_create(
        user_id=session.user_id,
        client_id=client.pk,
        defaults={"scopes": scopes, "claims": claims, "given_at": now},
    )
    if not created:
        consent.scopes = sorted({*consent.scopes, *scopes})
        consent.claims = sorted({*consent.claims, *claims})
        consent.given_at = now
        consent.save(update_fields=["scopes", "claims", "given_at"])
    _record_consent(parked, session, facts, "success", now)


@transaction.atomic
def refuse_consent(parked: Parked, session: LoginSession, facts: RequestFacts, now: datetime) -> ClientAnswer:
    """Tell the application that the person said no. Spec: RFC 6749 §4.1.2.1 (access_denied)."""
    return _turn_away(parked, session, facts, "consent_refused", "The person did not agree.", now)


@transaction.atomic
def release_refused(
    parked: Parked, session: LoginSession, facts: RequestFacts, now: datetime
) -> ClientAnswer:
    """Return to the application from the page that says "no access"; a device is turned away."""
    if parked.device is not None:
        ended = answer_device(parked, session, facts, now, let_in=False, reason="no_access")
        return ended or redirect(Outcome.GONE.path, {})
    return _turn_away(parked, session, facts, "no_access", "The person may not use this application.", now)


def _turn_away(
    parked: Parked, session: LoginSession, facts: RequestFacts, reason: str, description: str, now: datetime
) -> ClientAnswer:
    client, request = _needed(parked)
    problem = OAuthError("access_denied", description, reason=reason)
    target = Target.of(client, request)
    response = refuse(_engine_request(facts), DatabaseState(), target, _session_facts(session), problem, now)
    _end(parked, session, now)
    return response


def _record_consent(
    parked: Parked, session: LoginSession, facts: RequestFacts, outcome: str, now: datetime
) -> None:
    client, request = _needed(parked)
    DatabaseState().record(
        "person:consent:give",
        outcome,
        actor=f"person:{session.user.sub}",
        now=now,
        request_id=facts.request_id,
        source=facts.address,
        object=f"client:{client.client_id}",
        application=client.application or "",
        session=str(session.pk),
        method=" ".join(_named(request)),
    )


def _named(request: AuthorizationRequest) -> list[str]:
    """Name what was agreed to or declined; of details only the type, their content is the person's business."""
    shown = asked_disclosure(request)
    types = dict.fromkeys(str(detail.get("type", "")) for detail in shown.details)
    return [*shown.scopes, *(f"claim:{name}" for name in shown.claims), *(f"type:{name}" for name in types)]


def _needed(parked: Parked) -> tuple[ClientFacts, AuthorizationRequest]:
    if parked.client is None or parked.request is None:
        raise ValueError("this visit was not begun by an application")
    return parked.client, parked.request


def _engine_request(facts: RequestFacts) -> Request:
    return Request("GET", "/authorize", source=facts.address, request_id=facts.request_id)


def _session_facts(session: LoginSession | None) -> SessionFacts | None:
    """The counters are compared in the statement that stores the code, so a stale object cannot issue."""
    return session_value(session) if session else None
