"""Decide what an authorization request still needs: sign-in, a second factor, consent, or nothing. Pure.

Spec: OIDC Core §3.1.2.1, §3.1.2.2, §3.1.2.3, §3.1.2.6, §5.5.1.1; RFC 9470 §4.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from iam.access.policy import Admitted, Level, Refused, Requirement

from .levels import PASSWORD, REACHABLE, Worth, essential_levels, told_level, wished_level, worth_of
from .messages import NO_DISCLOSURE, AuthorizationRequest, Disclosure, SessionFacts


class FlowError(StrEnum):
    """The registered errors that this decision can end with. Spec: OIDC Core §3.1.2.6."""

    LOGIN_REQUIRED = "login_required"
    INTERACTION_REQUIRED = "interaction_required"
    ACCOUNT_SELECTION_REQUIRED = "account_selection_required"
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
class AskAccount:
    """The person must say which account is to be used. Spec: OIDC Core §3.1.2.1 (select_account)."""


@dataclass(frozen=True, slots=True)
class AskConsent:
    """The person must agree to this."""

    disclosure: Disclosure


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


Decision = AskLogin | AskAccount | AskFactor | AskConsent | NoAccess | Fail | Issue


@dataclass(frozen=True, slots=True)
class Present:
    """The person who is signed in, as far as it matters for one request.

    `subject` is the name by which the client knows them; `unagreed` what they have still to agree to; `chosen` says
    that they chose to go on with this account, in this very flow.
    """

    session: SessionFacts
    subject: str
    admission: Admitted | Refused
    requirement: Requirement
    unagreed: Disclosure = NO_DISCLOSURE
    chosen: bool = False


def decide_interaction(request: AuthorizationRequest, present: Present | None, now: datetime) -> Decision:
    """Return what the request still needs; `present` is None when nobody is signed in."""
    essential = essential_levels(request)
    if essential and not set(essential) & set(REACHABLE):
        # Nobody here could meet it, so nobody is asked for anything (OpenID Unmet Authentication Requirements §2).
        return Fail(
            FlowError.UNMET_AUTHENTICATION_REQUIREMENTS,
            f"The acr values that are essential cannot be reached here; {', '.join(REACHABLE)} can.",
        )
    decision = _decide(request, present, now)
    return _without_page(decision) if "none" in request.prompt else decision


def _decide(request: AuthorizationRequest, present: Present | None, now: datetime) -> Decision:
    if present is None:
        return AskLogin("none")
    session, since = present.session, request.started_at
    signed_in_here = session.password_at >= since
    if not _is_whom_it_names(request, present.subject):
        if signed_in_here:
            return Fail(FlowError.LOGIN_REQUIRED, "Somebody else signed in than the request names.")
        return AskLogin("hint")
    if "select_account" in request.prompt and not (present.chosen or signed_in_here):
        return AskAccount()
    if "login" in request.prompt and not signed_in_here:
        return AskLogin("prompt")
    if request.max_age is not None and _too_old(session.password_at, request.max_age, since, now):
        return AskLogin("max_age")
    if isinstance(present.admission, Refused):
        return NoAccess(present.admission.reason)
    return (
        _decide_factor(request, present, now)
        or (AskConsent(present.unagreed) if present.unagreed else None)
        or _issue(request, session)
    )


def _is_whom_it_names(request: AuthorizationRequest, subject: str) -> bool:
    """Say whether the person is the one that id_token_hint and the value of `sub` name, if they name one.

    Spec: OIDC Core §3.1.2.2, §5.5.1 ("MUST only send a positive response").
    """
    claims = request.asked.claims
    named: list[tuple[str, ...]] = [(request.hinted_sub,)] if request.hinted_sub else []
    named += [place["sub"].values for place in (claims.id_token, claims.userinfo) if "sub" in place]
    return all(subject in subjects for subjects in named if subjects)


def _decide_factor(request: AuthorizationRequest, present: Present, now: datetime) -> AskFactor | None:
    """Return whether a second factor is missing, too old, or to be given again."""
    session, requirement = present.session, present.requirement
    required = requirement.level is Level.AAL2
    if required and session.factor_at is None:
        return AskFactor("policy")
    if _wants_more(request, worth_of(session)):
        return AskFactor("acr")
    if session.factor_at is None:
        return None
    if requirement.factor_max_age is not None and now - session.factor_at > requirement.factor_max_age:
        return AskFactor("age")
    if "login" in request.prompt and session.factor_at < request.started_at:
        # Without the factor this sign-in would be worth a password: is that enough?
        return AskFactor("prompt") if required or _wants_more(request, PASSWORD) else None
    return None


def _wants_more(request: AuthorizationRequest, worth: Worth) -> bool:
    """Say whether the request asks for a level that this is not worth. What must be met counts, then what is wished."""
    essential = essential_levels(request)
    if essential:
        return not set(essential) & set(worth.levels)
    wished = wished_level(request)
    return bool(wished) and wished not in worth.levels


def _issue(request: AuthorizationRequest, session: SessionFacts) -> Issue:
    """Tell what truly happened. A code typed later raises the level, not the time: `max_age` asks for the password's."""
    worth = worth_of(session)
    return Issue(told_level(request, worth), worth.amr, session.password_at)


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
        case AskAccount():
            return Fail(
                FlowError.ACCOUNT_SELECTION_REQUIRED,
                "The person must choose an account, and prompt=none forbids a page.",
            )
        case AskConsent():
            return Fail(FlowError.CONSENT_REQUIRED, "The person must agree, and prompt=none forbids a page.")
        case NoAccess():
            return Fail(FlowError.ACCESS_DENIED, "The person may not use this application.")
        case Fail() | Issue():
            return decision
