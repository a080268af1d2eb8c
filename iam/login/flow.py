"""What the sign-in asks next, and which of the things somebody sent it will look at. Pure: a table of states.

Nothing here remembers: the step is computed at every request from what the server knows (which session this
browser has, what the parked request still needs), so a direct address, the back button, two tabs and a form
sent twice cannot be ahead of it (A31). What was sent for a step that is not open is not looked at.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from iam.oauth.protocol.messages import Need

# A new authenticator is a new way in: whoever adds one must just have shown the password (issue 2).
ENROLMENT_PASSWORD_AGE = timedelta(minutes=10)


class Step(StrEnum):
    """What is open. One at a time."""

    PASSWORD = "password"  # noqa: S105 -- a step, not a password
    CODE = "code"
    ENROLMENT = "enrolment"
    ACCOUNT = "account"
    CONSENT = "consent"
    DEVICE = "device"
    REFUSED = "refused"


class Page(StrEnum):
    """What is shown."""

    NAME = "name"
    PASSWORD = "password"  # noqa: S105 -- a page, not a password
    CODE = "code"
    RECOVERY = "recovery"
    ENROLMENT = "enrolment"
    ACCOUNT = "account"
    CONSENT = "consent"
    DEVICE = "device"
    REFUSED = "refused"


class Act(StrEnum):
    """What is done with what was sent. LOOK does nothing but show the page of the open step."""

    LOOK = "look"
    TRY_PASSWORD = "try_password"  # noqa: S105 -- an act, not a password
    TRY_CODE = "try_code"
    TRY_RECOVERY = "try_recovery"
    CONFIRM_ENROLMENT = "confirm_enrolment"
    CONTINUE = "continue"
    AGREE = "agree"
    DECLINE = "decline"
    LET_IN = "let_in"
    TURN_AWAY = "turn_away"
    LEAVE = "leave"


class Wish(StrEnum):
    """A button that was pressed, where the fields alone do not say it."""

    NONE = ""
    CONTINUE = "continue"
    AGREE = "agree"
    DECLINE = "decline"
    LET_IN = "let_in"
    TURN_AWAY = "turn_away"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Sent:
    """What a request brought, without any secret: only that there was one."""

    is_post: bool = False
    name: str = ""
    has_password: bool = False
    has_code: bool = False
    by_recovery: bool = False  # the recovery page is wanted, or the code is a recovery code
    has_enrolment: bool = False
    other_person: bool = False  # "not you?"
    wish: Wish = Wish.NONE


@dataclass(frozen=True, slots=True)
class Situation:
    """What the server knows. `known_name` is the login name of the session's person, "" without a session."""

    need: Need
    reason: str = ""
    known_name: str = ""
    hinted_name: str = ""
    has_factor: bool = False
    password_at: datetime | None = None


# The whole table: what each open step will look at. A password is looked at in every step (see decide_first).
ACCEPTS: dict[Step, frozenset[Act]] = {
    Step.PASSWORD: frozenset(),
    Step.CODE: frozenset({Act.TRY_CODE, Act.TRY_RECOVERY}),
    Step.ENROLMENT: frozenset({Act.CONFIRM_ENROLMENT}),
    Step.ACCOUNT: frozenset({Act.CONTINUE}),
    Step.CONSENT: frozenset({Act.AGREE, Act.DECLINE}),
    Step.DEVICE: frozenset({Act.LET_IN, Act.TURN_AWAY}),
    Step.REFUSED: frozenset({Act.LEAVE}),
}


def decide_first(sent: Sent) -> bool:
    """Say whether a password is to be tried before anything else is looked at.

    Whoever types a name and a password wants to be that person from now on, whatever this browser was before:
    acting on the old session first would give one person's code to another (A46).
    """
    return sent.is_post and bool(sent.name) and sent.has_password


def decide_step(situation: Situation, now: datetime) -> Step:
    """Return the step that is open. Raises: ValueError for a need that no step of a sign-in meets."""
    match situation.need:
        case Need.LOGIN:
            return Step.PASSWORD
        case Need.FACTOR:
            if situation.has_factor:
                return Step.CODE
            if situation.password_at is not None and now - situation.password_at < ENROLMENT_PASSWORD_AGE:
                return Step.ENROLMENT
            return Step.PASSWORD
        case Need.ACCOUNT:
            return Step.ACCOUNT
        case Need.CONSENT:
            return Step.CONSENT
        case Need.DEVICE:
            return Step.DEVICE
        case Need.REFUSED:
            return Step.REFUSED
        case Need.CONFIRM_LOGOUT | Need.SIGNED_OUT:
            raise ValueError("signing out is no step of signing in")
        case _:
            assert_never(situation.need)


def decide_act(step: Step, sent: Sent) -> Act:
    """Return what is done with what was sent, given the open step; LOOK for everything that it does not accept."""
    wanted = _wanted(sent)
    return wanted if wanted in ACCEPTS[step] else Act.LOOK


def _wanted(sent: Sent) -> Act:
    if not sent.is_post:
        return Act.LOOK
    if sent.has_code:
        if sent.has_enrolment:
            return Act.CONFIRM_ENROLMENT
        return Act.TRY_RECOVERY if sent.by_recovery else Act.TRY_CODE
    match sent.wish:
        case Wish.NONE:
            return Act.LOOK
        case Wish.CONTINUE:
            return Act.CONTINUE
        case Wish.AGREE:
            return Act.AGREE
        case Wish.DECLINE:
            return Act.DECLINE
        case Wish.LET_IN:
            return Act.LET_IN
        case Wish.TURN_AWAY:
            return Act.TURN_AWAY
        case Wish.LEAVE:
            return Act.LEAVE
        case _:
            assert_never(sent.wish)


def decide_page(step: Step, situation: Situation, sent: Sent) -> Page:
    """Return the page of the open step."""
    match step:
        case Step.PASSWORD:
            return Page.PASSWORD if decide_name(situation, sent) else Page.NAME
        case Step.ACCOUNT if sent.name:
            return Page.PASSWORD
        case Step.ACCOUNT:
            return Page.NAME if sent.other_person else Page.ACCOUNT
        case Step.CODE:
            return Page.RECOVERY if sent.by_recovery else Page.CODE
        case Step.ENROLMENT:
            return Page.ENROLMENT
        case Step.CONSENT:
            return Page.CONSENT
        case Step.DEVICE:
            return Page.DEVICE
        case Step.REFUSED:
            return Page.REFUSED
        case _:
            assert_never(step)


def decide_name(situation: Situation, sent: Sent) -> str:
    """Return the name whose password is asked for, "" when the name comes first.

    The session's own name only when the same person is to sign in again: not after "not you?", and not when the
    application asked for somebody else than who is signed in.
    """
    if sent.name:
        return sent.name
    if sent.other_person or situation.reason == "hint":
        return ""
    return situation.known_name
