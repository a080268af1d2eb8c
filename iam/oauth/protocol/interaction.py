"""Decide what an authorization request still needs: sign-in, a second factor, consent, or nothing. Pure.

Spec: OIDC Core §3.1.2.1, §3.1.2.3, §3.1.2.6; RFC 9470 §4.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from iam.access.policy import Admitted, Level, Refused, Requirement

from .messages import AuthorizationRequest, SessionFacts

# acr values that can be asked for; the higher ones arrive with passkeys.
ACR_VALUES = ("aal1", "aal2")


class FlowError(StrEnum):
    """The registered errors that this decision can end with. Spec: OIDC Core §3.1.2.6."""

    LOGIN_REQUIRED = "login_required"
    INTERACTION_REQUIRED = "interaction_required"
    CONSENT_REQUIRED = "consent_required"
    ACCESS_DENIED = "access_denied"
    UNMET_AUTHENTICATION_REQUIREMENTS = "unmet_authentication_requirements"


@dataclass(frozen=True, slots=True)
class AskLogin:
    """The password is needed. `reason`: none, prompt, max_age, hint."""

    reason: str


@dataclass(frozen=True, slots=True)
class AskFactor:
    """A second factor is needed. `reason`: policy, age, acr, prompt."""

    reason: str


@dataclass(frozen=True, slots=True)
class AskConsent:
    """The person must agree to these scopes."""

    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoAccess:
    """The person may not use this application."""

    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """The request ends with a registered error."""

    error: FlowError
    description: str


@dataclass(frozen=True, slots=True)
class Issue:
    """Everything asked for is there: issue the code with these facts about the sign-in."""

    acr: str
    amr: tuple[str, ...]
    auth_time: datetime


Decision = AskLogin | AskFactor | AskConsent | NoAccess | Fail | Issue


def authentication_context(session: SessionFacts) -> Issue:
    """Return what truly happened in this session: acr, amr (RFC 8176), and the time of the password.

    A code typed later raises the level, not the time: `max_age` asks how long ago the person signed in.
    """
    if session.factor_at is None:
        return Issue("aal1", ("pwd",), session.password_at)
    return Issue("aal2", ("pwd", "otp", "mfa"), session.password_at)


def decide_interaction(
    request: AuthorizationRequest,
    session: SessionFacts | None,
    admission: Admitted | Refused | None,
    requirement: Requirement | None,
    unagreed_scopes: tuple[str, ...],
    subject: str,
    now: datetime,
) -> Decision:
    """Return what the request still needs.

    In: `subject` is the session's person by the name that this client knows; `admission` and `requirement` are None exactly when there is no session; `unagreed_scopes` is empty
    for a trusted client and for one whose scopes the person agreed to (for `prompt=consent`: in this very flow).
    """
    decision = _decide(request, session, admission, requirement, unagreed_scopes, subject, now)
    if "none" in request.prompt:
        return _without_page(decision)
    return decision


def _decide(
    request: AuthorizationRequest,
    session: SessionFacts | None,
    admission: Admitted | Refused | None,
    requirement: Requirement | None,
    unagreed_scopes: tuple[str, ...],
    subject: str,
    now: datetime,
) -> Decision:
    if session is None or admission is None or requirement is None:
        return AskLogin("none")
    since = request.started_at
    if request.hinted_sub and request.hinted_sub != subject:
        if session.password_at >= since:
            return Fail(FlowError.LOGIN_REQUIRED, "Somebody else signed in than the id_token_hint names.")
        return AskLogin("hint")
    if "login" in request.prompt and session.password_at < since:
        return AskLogin("prompt")
    if request.max_age is not None and _too_old(session.password_at, request.max_age, since, now):
        return AskLogin("max_age")
    if isinstance(admission, Refused):
        return NoAccess(admission.reason)
    return (
        _decide_factor(request, session, requirement, since, now)
        or (AskConsent(unagreed_scopes) if unagreed_scopes else None)
        or authentication_context(session)
    )


def _decide_factor(
    request: AuthorizationRequest,
    session: SessionFacts,
    requirement: Requirement,
    since: datetime,
    now: datetime,
) -> AskFactor | None:
    """Return whether a second factor is missing, too old, or to be given again."""
    wanted = requirement.level is Level.AAL2 or _asks_for_aal2(request)
    if session.factor_at is None:
        if not wanted:
            return None
        return AskFactor("policy" if requirement.level is Level.AAL2 else "acr")
    if requirement.factor_max_age is not None and now - session.factor_at > requirement.factor_max_age:
        return AskFactor("age")
    if wanted and "login" in request.prompt and session.factor_at < since:
        return AskFactor("prompt")
    return None


def _asks_for_aal2(request: AuthorizationRequest) -> bool:
    """`acr_values` is a list in order of preference: the first one that we know is what we try to reach."""
    known = [value for value in request.acr_values if value in ACR_VALUES]
    return bool(known) and known[0] == "aal2"


def _too_old(at: datetime, max_age: int, since: datetime, now: datetime) -> bool:
    """A sign-in inside this very flow is fresh enough whatever the age, else `max_age=0` could never be met."""
    return at < since and now - at > timedelta(seconds=max_age)


def _without_page(decision: Decision) -> Decision:
    """Turn every question into the error that `prompt=none` asks for. Spec: OIDC Core §3.1.2.6."""
    match decision:
        case AskLogin():
            return Fail(FlowError.LOGIN_REQUIRED, "The person must sign in, and prompt=none forbids a page.")
        case AskFactor():
            return Fail(
                FlowError.INTERACTION_REQUIRED, "A second factor is needed, and prompt=none forbids a page."
            )
        case AskConsent():
            return Fail(FlowError.CONSENT_REQUIRED, "The person must agree, and prompt=none forbids a page.")
        case NoAccess():
            return Fail(FlowError.ACCESS_DENIED, "The person may not use this application.")
        case Fail() | Issue():
            return decision
