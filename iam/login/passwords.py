"""A new password: chosen by who knows the old one, or by who shows two other things that are theirs.

The password is the directory's: it compares the old one, judges the new one, and stores it. Here it is looked at
in passing and kept nowhere. After a change every other session of the person ends.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.password_validation import CommonPasswordValidator
from django.db import transaction

import mfa.service as mfa
from directory import service as directory
from directory.service import PasswordProblem
from iam.access.selectors import office_words
from iam.accounts import services as accounts
from iam.accounts.models import DirectoryLink, LoginSession, User
from iam.accounts.selectors import reason_not_to_act
from iam.audit.facts import RequestFacts
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action

from . import new_password, steps, throttle
from .new_password import Problem


@dataclass(frozen=True, slots=True)
class NotTaken:
    """The old password was right, the new one was not taken: by us, or by the directory. `minimum` in characters."""

    problem: Problem | PasswordProblem
    minimum: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """What somebody typed: the old password, and the new one twice."""

    old: str
    new: str
    again: str


ChangeOutcome = steps.PasswordOutcome | NotTaken
RecoveryOutcome = steps.Wrong | steps.Slowed | steps.Down | NotTaken | None


def change(
    login: str,
    chosen: Chosen,
    current: LoginSession | None,
    facts: RequestFacts,
    now: datetime,
    *,
    keep_others: bool = False,
) -> ChangeOutcome:
    """Change a password and sign in with the new one; see steps.try_password for what names cost.

    The person's other sessions end, unless the person says otherwise.
    """
    tried = steps.begin_try(login, facts, now)
    if not isinstance(tried, steps.Tried):
        return tried
    verified = directory.verify(tried.person, chosen.old)
    if isinstance(verified, directory.Unavailable):
        return steps.give_up_try(tried, verified.reason, facts, now)
    if isinstance(verified, directory.Rejected) and verified.refusal is directory.Refusal.WRONG:
        return steps.fail_try(tried, "wrong_password", facts, now)
    throttle.forgive(throttle.Kind.PASSWORD, tried.account)
    person = tried.person
    if person is None:
        return steps.Wrong()
    if isinstance(verified, directory.Accepted):
        person = verified.person
    minimum, problem = _judge(person, chosen)
    if problem is not None:
        return NotTaken(problem, minimum)
    changed = directory.change_password(person, chosen.old, chosen.new)
    match changed:
        case directory.NotTaken():
            _record(person, Outcome.REFUSED, changed.problem, facts, now)
            return NotTaken(changed.problem, minimum)
        case directory.Unavailable():
            return steps.down(changed.reason, facts, now)
        case directory.Rejected():
            return NotTaken(PasswordProblem.NOT_ALLOWED, minimum)
        case directory.Changed():
            pass
    accepted = directory.verify(person, chosen.new)
    if not isinstance(accepted, directory.Accepted):
        # It is changed, and a copy of the directory has not heard of it yet: the next sign-in will be right.
        return steps.down(directory.UnavailableReason.REFUSED, facts, now)
    with transaction.atomic():
        outcome = steps.accept(accepted, login, current, facts, now)
        _record(person, Outcome.SUCCESS, "kept_others" if keep_others else "", facts, now)
        if isinstance(outcome, steps.SignedIn) and not keep_others:
            _end_others(outcome.session.user, outcome.session, facts, now)
    return outcome


def recover(
    login: str, code: str, recovery_code: str, chosen: Chosen, facts: RequestFacts, now: datetime
) -> RecoveryOutcome:
    """Set a new password for who has lost the old one and shows two other factors; None when it is done.

    A code of the phone and one of the printed codes: what somebody has, and what somebody has kept. The same words
    and the same work for names that nobody has, and for people who cannot do this because they have only one.
    Source: NIST SP 800-63B-4 §4.2.1.2; OWASP ASVS 6.4.3.
    """
    tried = steps.begin_try(login, facts, now)
    if not isinstance(tried, steps.Tried):
        return tried
    minimum = minimum_for_recovery()
    problem = new_password.check(
        "", chosen.new, chosen.again, minimum=minimum, words=_house_words(), common=_common()
    )
    if problem is not None:
        # Said of the new password alone, before anybody is looked at: nothing was tried.
        throttle.refund(tried.charged)
        return NotTaken(problem, minimum)
    user = _account_of(tried.person)
    if tried.person is not None and tried.person.standing.at(now) is not directory.AccountStatus.ACTIVE:
        user = None
    if user is not None and reason_not_to_act(user, now):
        user = None  # locked or ended here: not even the password is theirs to choose now
    if not _shows_both(str(user.pk if user else uuid4()), code, recovery_code, now) or user is None:
        return steps.fail_try(tried, "recovery_refused", facts, now)
    if tried.person is None:
        return steps.Wrong()
    throttle.forgive(throttle.Kind.PASSWORD, tried.account)
    changed = directory.set_password(tried.person, chosen.new)
    match changed:
        case directory.NotTaken():
            _record(tried.person, Outcome.REFUSED, changed.problem, facts, now)
            return NotTaken(changed.problem, minimum)
        case directory.Unavailable():
            return steps.down(changed.reason, facts, now)
        case directory.Changed():
            pass
    with transaction.atomic():
        _record(tried.person, Outcome.SUCCESS, "recovered", facts, now)
        _end_others(user, None, facts, now)
    return None


def _shows_both(owner: str, code: str, recovery_code: str, now: datetime) -> bool:
    """Verify both; the printed code is only used up when the other one was right."""
    with transaction.atomic():
        if not isinstance(mfa.verify_totp(owner, code, now), mfa.Verified):
            return False
        return isinstance(mfa.verify_recovery(owner, recovery_code, now), mfa.Verified)


def minimum_of(person: directory.Person) -> int:
    """Return how long a new password of an entry's person must be, in characters."""
    return minimum_for(_account_of(person))


def minimum_for(user: User | None) -> int:
    """Return how long a new password of somebody must be, in characters."""
    return new_password.length_min(has_factor=user is not None and mfa.has_second_factor(str(user.pk)))


def minimum_for_recovery() -> int:
    """Return the same for who shows two factors: then they have one beside the password."""
    return new_password.length_min(has_factor=True)


def _judge(person: directory.Person, chosen: Chosen) -> tuple[int, Problem | None]:
    user = _account_of(person)
    minimum = minimum_for(user)
    words = _house_words() | new_password.words_of(person.login, person.name_latin, person.name_arabic)
    return minimum, new_password.check(
        chosen.old, chosen.new, chosen.again, minimum=minimum, words=words, common=_common()
    )


def _account_of(person: directory.Person | None) -> User | None:
    if person is None:
        return None
    link = (
        DirectoryLink.objects.select_related("user")
        .filter(source=person.source, entry_uuid=person.entry_uuid)
        .first()
    )
    return link.user if link and link.user.is_active else None


def _house_words() -> frozenset[str]:
    return new_password.words_of(*settings.IAM_PASSWORD_WORDS, *office_words())


@cache
def _common() -> frozenset[str]:
    """Return the twenty thousand passwords that everybody tries first (from the framework's own list)."""
    return frozenset(CommonPasswordValidator().passwords)


def _end_others(user: User, current: LoginSession | None, facts: RequestFacts, now: datetime) -> None:
    for session in LoginSession.objects.filter(user=user, ended_at=None):
        if current is None or session.pk != current.pk:
            accounts.end_session(
                session.pk,
                reason="password_changed",
                now=now,
                request_id=facts.request_id,
                source=facts.address,
            )


def _record(
    person: directory.Person, outcome: Outcome, reason: str, facts: RequestFacts, now: datetime
) -> None:
    user = _account_of(person)
    actor = f"person:{user.sub}" if user else "anonymous"
    with transaction.atomic():
        record(
            Event(
                Action.PASSWORD_CHANGE,
                outcome,
                actor=actor,
                now=now,
                object=actor if user else "",
                reason=reason,
                request_id=facts.request_id,
                details={"address": facts.address} if facts.address else {},
            )
        )
