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
from iam.lifecycle import admit_from_directory, has_ended, refuse_disabled
from iam.oauth.interactions import park_device
from iam.oauth.protocol.device import read_user_code

from . import throttle

logger = logging.getLogger("iam.login")

# From then on a person is told that the password ends, at every sign-in.
PASSWORD_WARNING = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The password was right: this is the session now, and the secret that the browser must have from now on.

    `password_ends_in`: the password is good for no longer than this, which is soon.
    """

    session: LoginSession
    secret: str
    password_ends_in: timedelta | None = None


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
class MustChange:
    """The password was right, and a new one must be chosen before anything else."""

    person: directory.Person
    is_expired: bool = False


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


PasswordOutcome = SignedIn | Wrong | Slowed | Down | Disabled | MustChange
CodeOutcome = SignedIn | Wrong | Slowed
EnrolmentOutcome = Enrolled | Wrong | Slowed
DeviceOutcome = Claimed | Wrong | Slowed


@dataclass(frozen=True, slots=True)
class Tried:
    """One try of a name that was charged in advance; `person` is None for a name that nobody has, or two have."""

    login: str
    person: directory.Person | None
    is_ambiguous: bool
    account: throttle.Account
    charged: throttle.Charge


def try_password(
    login: str, password: str, current: LoginSession | None, facts: RequestFacts, now: datetime
) -> PasswordOutcome:
    """Try a name and a password. The same work, the same words, for names that exist and names that do not."""
    tried = begin_try(login, facts, now)
    if not isinstance(tried, Tried):
        return tried
    verified = directory.verify(tried.person, password)
    match verified:
        case directory.Unavailable():
            return give_up_try(tried, verified.reason, facts, now)
        case directory.Rejected(directory.Refusal.WRONG):
            return fail_try(tried, "wrong_password", facts, now)
        case directory.Rejected():
            if tried.person is None:
                return fail_try(tried, "wrong_password", facts, now)
            throttle.forgive(throttle.Kind.PASSWORD, tried.account)
            return MustChange(tried.person, verified.refusal is directory.Refusal.EXPIRED)
        case directory.Accepted():
            throttle.forgive(throttle.Kind.PASSWORD, tried.account)
            return accept(verified, login, current, facts, now)
        case _:
            assert_never(verified)


def begin_try(login: str, facts: RequestFacts, now: datetime) -> Tried | Slowed | Down:
    """Look at the source, find the name, charge its account: what comes before every try of a password."""
    blocked = throttle.check_source(throttle.Kind.PASSWORD, facts.address, now)
    if blocked is not None:
        return _slowed(Action.PASSWORD_VERIFY, "anonymous", blocked, login, facts, now)
    found = directory.find(login, with_groups=False)
    person: directory.Person | None = None
    match found:
        case directory.Found():
            person = found.person
        case directory.Unavailable():
            return down(found.reason, facts, now)
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
    return Tried(login, person, isinstance(found, directory.Ambiguous), account, charged)


def give_up_try(
    tried: Tried, reason: directory.UnavailableReason, facts: RequestFacts, now: datetime
) -> Down:
    """Take a try back: the directory could not answer."""
    throttle.refund(tried.charged)
    return down(reason, facts, now)


def fail_try(tried: Tried, reason: str, facts: RequestFacts, now: datetime) -> Wrong:
    """Let a try stand: what was shown is not right."""
    throttle.count_source(throttle.Kind.PASSWORD, facts.address, now)
    said = "ambiguous_login" if tried.is_ambiguous else reason
    _record_refused_password(tried.login, tried.person, said, facts, now)
    return Wrong()


@transaction.atomic
def accept(
    accepted: directory.Accepted,
    login: str,
    current: LoginSession | None,
    facts: RequestFacts,
    now: datetime,
) -> SignedIn | Disabled | MustChange:
    """Make the account what the directory says, and the session what just happened; or refuse the disabled."""
    person = accepted.person
    standing = person.standing.at(now)
    if standing is AccountStatus.DISABLED or has_ended(person):
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
    if accepted.password.must_change or person.standing.must_change_password:
        _record_password(actor, "refused", "password_must_change", login, facts, now)
        return MustChange(person)
    ends_in = _ends_in(accepted, now)
    _record_password(actor, "success", "", "", facts, now)
    if current is not None and current.user_id == user.pk:
        return SignedIn(current, accounts.mark_password(current, now), ends_in)
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
    return SignedIn(session, secret, ends_in)


def _ends_in(accepted: directory.Accepted, now: datetime) -> timedelta | None:
    """Return how long the password is still good for, when that is soon."""
    ends_in = accepted.password.expires_in
    if ends_in is None and accepted.password.sign_ins_left is not None:
        ends_in = timedelta(0)
    at = accepted.person.standing.password_ends_at
    if ends_in is None and at is not None:
        ends_in = max(at - now, timedelta(0))
    return ends_in if ends_in is not None and ends_in < PASSWORD_WARNING else None


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
                secret = accounts.mark_factor(session, str(verified.kind.value), now, raw_code)
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


def try_code_again(
    session: LoginSession, raw_code: str, *, recovery: bool, facts: RequestFacts, now: datetime
) -> CodeOutcome:
    """Take a code from a browser that still has the secret from before a code was right: its answer was lost.

    The same code once more gives the browser the secret that it never got; any other is tried as ever, at the same charge.
    In: `session` of `accounts.find_session_before`. Raises: Conflict.
    """
    if not accounts.is_sent_again(session, raw_code):
        return try_code(session, raw_code, recovery=recovery, facts=facts, now=now)
    action = Action.RECOVERY_USE if recovery else Action.FACTOR_VERIFY
    with transaction.atomic():
        secret = accounts.hand_out_again(session, now)
        _record_factor(session, action, "success", "sent_again", facts, now)
    return SignedIn(session, secret)


def recovery_codes_again(session: LoginSession, facts: RequestFacts, now: datetime) -> tuple[str, ...]:
    """Return new recovery codes for somebody who never saw those that came with the second factor."""
    with transaction.atomic():
        codes = mfa.replace_recovery_codes(str(session.user_id), now)
        _record_factor(session, Action.FACTOR_ENROL, "success", "sent_again", facts, now)
    return codes


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
                secret = accounts.mark_factor(session, mfa.FactorKind.TOTP.value, now, raw_code)
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
def down(reason: directory.UnavailableReason, facts: RequestFacts, now: datetime) -> Down:
    """Note that the directory could not answer."""
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
