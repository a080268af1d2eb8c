"""What each step of the sign-in does: throttle, ask the leaf, change the session, write the event. One answer each.

The order inside a step is the security of it: look at the source, charge the account, ask, and only then
change anything. Outcomes are values; a page is chosen by the view.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID

from django.conf import settings
from django.db import transaction

import mfa.service as mfa
from directory import service as directory
from directory.service import AccountStatus
from iam.accounts import services as accounts
from iam.accounts.models import LoginSession
from iam.accounts.selectors import reason_not_to_act
from iam.audit.facts import RequestFacts
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action
from iam.errors import Conflict
from iam.lifecycle import admit_from_directory, refuse_disabled
from iam.oauth.interactions import park_device
from iam.oauth.protocol.device import read_user_code

from . import throttle

logger = logging.getLogger("iam.login")


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The password was right: this is the session now, and the secret that the browser must have from now on."""

    session: LoginSession
    secret: str


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something was not right; which part is not said. `clock_minutes`: how far the phone's clock seems to be off."""

    clock_minutes: int | None = None


@dataclass(frozen=True, slots=True)
class Slowed:
    """No try is allowed for so long; None until an operator helps."""

    wait: timedelta | None


@dataclass(frozen=True, slots=True)
class Down:
    """The directory could not answer."""


@dataclass(frozen=True, slots=True)
class Disabled:
    """The password was right, and the account may not sign in: the directory says so, or we (locked, expired)."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A second factor is there from now on; the codes are shown once."""

    session: LoginSession
    secret: str
    recovery_codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A device waits for this person's answer; the handle leads to the question."""

    handle: str


PasswordOutcome = SignedIn | Wrong | Slowed | Down | Disabled
CodeOutcome = SignedIn | Wrong | Slowed
EnrolmentOutcome = Enrolled | Wrong | Slowed
DeviceOutcome = Claimed | Wrong | Slowed


def try_password(
    login: str, password: str, current: LoginSession | None, facts: RequestFacts, now: datetime
) -> PasswordOutcome:
    """Try a name and a password. The same work, the same words, for names that exist and names that do not."""
    blocked = throttle.check_source(throttle.Kind.PASSWORD, facts.address, now)
    if blocked is not None:
        return _slowed(Action.PASSWORD_VERIFY, "anonymous", blocked, login, facts, now)
    found = directory.find(login, with_groups=False)
    person: directory.Person | None = None
    match found:
        case directory.Found():
            person = found.person
        case directory.Unavailable():
            return _down(found.reason, facts, now)
        case directory.Unknown() | directory.Ambiguous():
            pass
        case _:
            assert_never(found)
    account = (
        throttle.entry_account(person.source, person.entry_uuid) if person else throttle.name_account(login)
    )
    charged = throttle.charge(throttle.Kind.PASSWORD, account, facts.address, now)
    if isinstance(charged, throttle.Blocked):
        return _slowed(Action.PASSWORD_VERIFY, "anonymous", charged, login, facts, now)
    verified = directory.verify(person, password)
    match verified:
        case directory.Unavailable():
            throttle.refund(charged)
            return _down(verified.reason, facts, now)
        case directory.Rejected():
            throttle.count_source(throttle.Kind.PASSWORD, facts.address, now)
            reason = "ambiguous_login" if isinstance(found, directory.Ambiguous) else "wrong_password"
            _record_refused_password(login, person, reason, facts, now)
            return Wrong()
        case directory.Accepted():
            throttle.forgive(throttle.Kind.PASSWORD, account)
            return _accept(verified.person, login, current, facts, now)
        case _:
            assert_never(verified)


@transaction.atomic
def _accept(
    person: directory.Person, login: str, current: LoginSession | None, facts: RequestFacts, now: datetime
) -> SignedIn | Disabled:
    """Make the account what the directory says, and the session what just happened; or refuse the disabled."""
    standing = person.standing.at(now)
    if standing is AccountStatus.DISABLED:
        user = refuse_disabled(person, now, facts)
        _record_password(
            f"person:{user.sub}" if user else "anonymous", "refused", "account_disabled", login, facts, now
        )
        return Disabled()
    user = admit_from_directory(person, now, facts)
    actor = f"person:{user.sub}"
    reason = reason_not_to_act(user, now)
    if not reason and standing is not AccountStatus.ACTIVE:
        reason = f"account_{standing}"  # locked for a while by the directory, which refuses a sign-in and ends nothing
    if reason:
        _record_password(actor, "refused", reason, login, facts, now)
        return Disabled()
    _record_password(actor, "success", "", "", facts, now)
    if current is not None and current.user_id == user.pk:
        return SignedIn(current, accounts.mark_password(current, now))
    if current is not None:
        # Two people, one browser: the one before must not live on beside the one now (A46).
        accounts.end_session(
            current.pk, reason="another_person", now=now, request_id=facts.request_id, source=facts.address
        )
    session, secret = accounts.open_session(user, now, timedelta(hours=settings.IAM_SESSION_HOURS))
    record(
        Event(
            Action.SESSION_OPEN,
            Outcome.SUCCESS,
            actor=actor,
            now=now,
            object=actor,
            session=str(session.pk),
            request_id=facts.request_id,
            details={"address": facts.address, "browser": facts.user_agent},
        )
    )
    return SignedIn(session, secret)


def try_code(
    session: LoginSession, raw_code: str, *, recovery: bool, facts: RequestFacts, now: datetime
) -> CodeOutcome:
    """Try a code of the person's second factor, or a recovery code."""
    action = Action.RECOVERY_USE if recovery else Action.FACTOR_VERIFY
    charged = _charge_code(session, action, facts, now)
    if isinstance(charged, Slowed):
        return charged
    owner = str(session.user_id)
    with _given_back_on_conflict(charged), transaction.atomic():
        verify = mfa.verify_recovery if recovery else mfa.verify_totp
        verified = verify(owner, raw_code, now)
        match verified:
            case mfa.Verified():
                secret = accounts.mark_factor(session, str(verified.kind.value), now)
                _record_factor(session, action, "success", "", facts, now)
            case mfa.WrongCode():
                # A form that was sent twice finds its code used: by itself, and that is no wrong code.
                accounts.require_current(session)
                _record_factor(session, action, "refused", "wrong_code", facts, now)
            case _:
                assert_never(verified)
    if isinstance(verified, mfa.WrongCode):
        throttle.count_source(throttle.Kind.CODE, facts.address, now)
        return Wrong(verified.clock_minutes)
    throttle.forgive(throttle.Kind.CODE, throttle.person_account(session.user_id))
    return SignedIn(session, secret)


def confirm_enrolment(
    session: LoginSession, enrolment: UUID, raw_code: str, facts: RequestFacts, now: datetime
) -> EnrolmentOutcome:
    """Confirm a new second factor by its first code; that code counts as the second factor of this sign-in."""
    charged = _charge_code(session, Action.FACTOR_ENROL, facts, now)
    if isinstance(charged, Slowed):
        return charged
    with _given_back_on_conflict(charged), transaction.atomic():
        confirmed = mfa.confirm_totp(str(session.user_id), enrolment, raw_code, now)
        match confirmed:
            case mfa.Confirmed():
                secret = accounts.mark_factor(session, mfa.FactorKind.TOTP.value, now)
                _record_factor(session, Action.FACTOR_ENROL, "success", "", facts, now)
            case mfa.WrongCode():
                accounts.require_current(session)
                _record_factor(session, Action.FACTOR_ENROL, "refused", "wrong_code", facts, now)
            case _:
                assert_never(confirmed)
    if isinstance(confirmed, mfa.WrongCode):
        throttle.count_source(throttle.Kind.CODE, facts.address, now)
        return Wrong(confirmed.clock_minutes)
    throttle.forgive(throttle.Kind.CODE, throttle.person_account(session.user_id))
    return Enrolled(session, secret, confirmed.recovery_codes)


def try_user_code(
    session: LoginSession, typed: str, browser: str, facts: RequestFacts, now: datetime
) -> DeviceOutcome:
    """Try the code that a device shows. A right one gives back its own charge and no other.

    Whoever guesses could have as many right codes as they like, from a device of their own (A48).
    """
    user_code = read_user_code(typed)
    if not user_code:  # no code could look like this: nothing was guessed
        return Wrong()
    blocked = throttle.check_source(throttle.Kind.DEVICE, facts.address, now)
    account = throttle.person_account(session.user_id)
    charged = blocked or throttle.charge(throttle.Kind.DEVICE, account, facts.address, now)
    if isinstance(charged, throttle.Blocked):
        return _slowed(Action.DEVICE_ANSWER, f"person:{session.user.sub}", charged, "", facts, now)
    handle = park_device(user_code, session, browser, now)
    if handle:
        throttle.refund(charged)
        return Claimed(handle)
    throttle.count_source(throttle.Kind.DEVICE, facts.address, now)
    with transaction.atomic():
        _record_factor(session, Action.DEVICE_ANSWER, "refused", "device_unknown", facts, now)
    return Wrong()


@contextmanager
def _given_back_on_conflict(charged: throttle.Charge) -> Iterator[None]:
    """Take a charge back when the session changed under the step: nothing was guessed wrong, all is rolled back."""
    try:
        yield
    except Conflict:
        throttle.refund(charged)
        raise


def _charge_code(
    session: LoginSession, action: Action, facts: RequestFacts, now: datetime
) -> throttle.Charge | Slowed:
    blocked = throttle.check_source(throttle.Kind.CODE, facts.address, now)
    charged = blocked or throttle.charge(
        throttle.Kind.CODE, throttle.person_account(session.user_id), facts.address, now
    )
    if isinstance(charged, throttle.Blocked):
        return _slowed(action, f"person:{session.user.sub}", charged, "", facts, now)
    return charged


# -- events -------------------------------------------------------------------------------------------------------


def _slowed(
    action: Action, actor: str, blocked: throttle.Blocked, login: str, facts: RequestFacts, now: datetime
) -> Slowed:
    """A blocked try in a session is an event of its person; one without is counted, whoever's name was typed.

    Nobody has proved anything there, and nothing would bound the events: whoever types a name ten thousand
    times could fill an audit that nobody can empty.
    """
    if actor == "anonymous":
        from iam.audit.record import tally

        tally(facts.address, "", "throttled", now)
    else:
        with transaction.atomic():
            record(
                Event(
                    action, Outcome.REFUSED, actor=actor, now=now, object=actor, reason="throttled",
                    request_id=facts.request_id, details=_details(facts, login),
                )
            )  # fmt: skip
    return Slowed(blocked.wait)


@transaction.atomic
def _down(reason: directory.UnavailableReason, facts: RequestFacts, now: datetime) -> Down:
    record(
        Event(
            Action.DIRECTORY_ASK, Outcome.ERROR, actor="system:login", now=now, reason=reason.value,
            request_id=facts.request_id, details=_details(facts, ""),
        )
    )  # fmt: skip
    logger.warning("the directory did not answer: %s (request %s)", reason.value, facts.request_id)
    return Down()


@transaction.atomic
def _record_refused_password(
    login: str, person: directory.Person | None, reason: str, facts: RequestFacts, now: datetime
) -> None:
    """A known person's refusal is one event; a name that is nobody's is counted by source and minute."""
    from iam.accounts.models import DirectoryLink
    from iam.audit.record import tally

    link = None
    if person is not None:
        link = (
            DirectoryLink.objects.select_related("user")
            .filter(source=person.source, entry_uuid=person.entry_uuid)
            .first()
        )
    if link is not None:
        _record_password(f"person:{link.user.sub}", "refused", reason, login, facts, now)
    elif person is not None:
        _record_password(f"entry:{person.source}:{person.entry_uuid}", "refused", reason, login, facts, now)
    else:
        tally(facts.address, "", reason, now)


def _record_password(
    about: str, outcome: str, reason: str, login: str, facts: RequestFacts, now: datetime
) -> None:
    """A refused try was made by somebody unknown, whoever it was about."""
    record(
        Event(
            Action.PASSWORD_VERIFY,
            Outcome(outcome),
            actor=about if outcome == "success" else "anonymous",
            now=now,
            object=about,
            reason=reason,
            request_id=facts.request_id,
            details=_details(facts, login),
        )
    )


@transaction.atomic
def record_broken_factor(session: LoginSession, reason: str, facts: RequestFacts, now: datetime) -> None:
    """Note that a second factor could not be judged: an operator must look, the person is not to blame."""
    _record_factor(session, Action.FACTOR_VERIFY, "error", reason, facts, now)


def _record_factor(
    session: LoginSession, action: Action, outcome: str, reason: str, facts: RequestFacts, now: datetime
) -> None:
    person = f"person:{session.user.sub}"
    record(
        Event(
            action,
            Outcome(outcome),
            actor=person,
            now=now,
            object=person,
            reason=reason,
            session=str(session.pk),
            request_id=facts.request_id,
            details=_details(facts, ""),
        )
    )


def _details(facts: RequestFacts, login: str) -> dict[str, str]:
    return {name: value for name, value in (("address", facts.address), ("login", login)) if value}
