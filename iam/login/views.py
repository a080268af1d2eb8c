"""The pages of signing in. Every request asks anew what is still needed; `flow.py` says which step that opens."""

import contextlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, NamedTuple, assert_never
from uuid import UUID

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

import mfa.service as mfa
from directory.service import can_set_passwords
from iam.access.selectors import applications
from iam.accounts import cookies
from iam.accounts.models import LoginSession
from iam.accounts.selectors import login_of
from iam.accounts.services import find_live_session, find_session_before, is_sent_again
from iam.audit.facts import facts_of
from iam.errors import Conflict
from iam.oauth import interactions
from iam.oauth.interactions import Parked
from iam.oauth.protocol.jose import SigningUnavailable
from iam.oauth.protocol.messages import Interaction
from iam.oauth.views import final

from . import device, passwords, steps
from . import flow as table
from .disclosure import allowed, received
from .flow import Act, Page, Sent, Situation, Wish
from .language import keep_choice, settle_language
from .new_password import LENGTH_ALONE
from .password_pages import chosen_in, problem_words
from .words import clean_name, wait_words

logger = logging.getLogger("iam.login")
# The sealed recovery codes of a page, and how long its language can be changed: as long as its request waits.
_SHEET = "iam.login.sheet"
_SHEET_SECONDS = 1800


@require_http_methods(["GET"])
def start(request: HttpRequest) -> HttpResponse:
    """Begin a sign-in that no application asked for; it ends at the person's own page."""
    now, browser = datetime.now(UTC), cookies.browser_of(request)
    handle = interactions.park_visit(reverse("portal:home"), browser, now)
    response = HttpResponseRedirect(reverse("login:flow", args=[handle]), status=303)
    cookies.set_browser(response, browser)
    return response


@dataclass(slots=True)
class Turn:
    """One request of a flow: what is parked, who is signed in, and the secret that the browser must get."""

    request: HttpRequest
    parked: Parked
    session: LoginSession | None
    now: datetime
    new_secret: str = ""
    # The session that this browser has without knowing it: its code was right, and the answer was lost.
    before: LoginSession | None = None
    finished: bool = False  # the parked request was answered; perhaps that answer was lost

    def answer(self, response: HttpResponse) -> HttpResponse:
        """Give the browser its new secret with whatever is answered."""
        if self.new_secret:
            cookies.set_session(response, self.new_secret)
        return response


@require_http_methods(["GET", "POST"])
def flow(request: HttpRequest, handle: str) -> HttpResponse:
    """Show, and take, the next step of a parked request."""
    now, browser = datetime.now(UTC), cookies.browser_of(request)
    waiting = interactions.load(handle, browser, now)
    parked = waiting or interactions.load_finished(handle, browser, now)
    if parked is None:
        settle_language(request)
        return _gone(request)
    secret = request.COOKIES.get(cookies.SESSION, "")
    session = find_live_session(secret, now, timedelta(minutes=settings.IAM_SESSION_IDLE_MINUTES))
    before = None if session else find_session_before(secret, now)
    turn = Turn(request, parked, session, now, before=before, finished=waiting is None)
    # The language buttons of a flow's page post here, so that changing the language keeps the name that was typed.
    chosen = request.POST.get("language", "")
    request.language_chosen = chosen  # type: ignore[attr-defined]
    asked = parked.request.ui_locales if parked.request else ()
    settle_language(request, session.user.language if session else "", asked)
    if parked.request is not None and parked.request.redirect_uri:
        request.form_targets.append(parked.request.redirect_uri)  # type: ignore[attr-defined]
    try:
        response = _take(turn, _sent(request))
    except Conflict:
        response = _overtaken(turn, _sent(request))
    except mfa.MFAError as problem:  # a key is missing or a secret is damaged: nobody passes, and it is said
        response = _broken_factor(turn, problem)
    except SigningUnavailable as problem:  # the answer cannot be signed; reloading the page tries again
        logger.error("request %s: %s", facts_of(request).request_id, problem)  # noqa: TRY400 -- the text says it all
        response = turn.answer(render(request, "portal/error.html", {"kind": "broken"}, status=503))
    keep_choice(response, chosen)
    return response


def _gone(request: HttpRequest) -> HttpResponse:
    return render(request, "login/gone.html", status=404)


def _overtaken(turn: Turn, sent: Sent) -> HttpResponse:
    """The session changed between two statements, or another answer finished the flow: begin at what is needed now.

    A password that was right stays right: the browser gets the session that it opened. A code that its own copy used
    was right too: two presses of a button are one sign-in, whichever answer the browser waits for.
    """
    if not turn.new_secret and sent.has_code:
        turn.before = find_session_before(turn.request.COOKIES.get(cookies.SESSION, ""), turn.now)
        code = turn.request.POST.get("code", "")
        if turn.before is not None and is_sent_again(turn.before, code):
            with contextlib.suppress(Conflict):
                outcome = steps.try_code_again(
                    turn.before, code, recovery=sent.by_recovery, facts=facts_of(turn.request), now=turn.now
                )
                if isinstance(outcome, steps.SignedIn):
                    turn.new_secret = outcome.secret
    return turn.answer(HttpResponseRedirect(turn.request.path, status=303))


def _sent(request: HttpRequest) -> Sent:
    posted = request.POST if request.method == "POST" else {}
    decision = posted.get("decision", "")
    return Sent(
        is_post=request.method == "POST",
        name=clean_name(posted.get("username", "")),
        has_password="password" in posted,
        has_code=bool(posted.get("code", "").strip()),
        by_recovery="recovery" in posted or "recovery" in request.GET,
        has_enrolment="enrolment" in posted,
        other_person="other" in request.GET or "other" in posted,
        wish=Wish(decision) if decision in set(Wish) else Wish.NONE,
    )


def _take(turn: Turn, sent: Sent) -> HttpResponse:
    """Do what was sent, if the open step accepts it, and answer with what is needed then."""
    if table.decide_first(sent):
        return _password(turn, sent)
    if codes := _sheet_sent(turn):
        return _show_codes(turn, codes)
    if turn.before is not None:
        return _lost_answer(turn, turn.before, sent)
    if turn.finished and not _reopened(turn):
        return _gone(turn.request)
    need = interactions.evaluate(turn.parked, turn.session, facts_of(turn.request), turn.now)
    if not isinstance(need, Interaction):
        return turn.answer(final(turn.request, need))
    step = table.decide_step(_situation(turn, need), turn.now)
    act = table.decide_act(step, sent)
    if act is Act.LOOK or turn.session is None:
        return _show(turn, need, sent)
    facts = facts_of(turn.request)
    match act:
        case Act.TRY_CODE | Act.TRY_RECOVERY:
            code = turn.request.POST.get("code", "")
            outcome = steps.try_code(
                turn.session, code, recovery=act is Act.TRY_RECOVERY, facts=facts, now=turn.now
            )
            return _after(turn, need, sent, outcome)
        case Act.CONFIRM_ENROLMENT:
            return _enrolment(turn, need, sent)
        case Act.CONTINUE if _is_who_was_named(turn):
            interactions.choose_account(turn.parked, turn.session)
            return _reload(turn)
        case Act.CONTINUE:
            return _show(turn, need, sent)
        case Act.AGREE | Act.DECLINE | Act.LET_IN | Act.TURN_AWAY if not _is_who_was_asked(turn):
            return _show(turn, need, sent)
        case Act.AGREE:
            interactions.give_consent(turn.parked, turn.session, facts, turn.now)
            return _reload(turn)
        case Act.DECLINE:
            done = interactions.refuse_consent(turn.parked, turn.session, facts, turn.now)
            return turn.answer(final(turn.request, done))
        case Act.LET_IN | Act.TURN_AWAY:
            ended = interactions.answer_device(
                turn.parked, turn.session, facts, turn.now,
                let_in=act is Act.LET_IN, reason="" if act is Act.LET_IN else "device_denied",
            )  # fmt: skip
            return turn.answer(final(turn.request, ended)) if ended else _reload(turn)
        case Act.LEAVE:
            done = interactions.release_refused(turn.parked, turn.session, facts, turn.now)
            return turn.answer(final(turn.request, done))
        case Act.TRY_PASSWORD:
            return _show(turn, need, sent)
        case _:
            assert_never(act)


def _is_who_was_asked(turn: Turn) -> bool:
    """Say whether the question that was answered was put to the person who is signed in now."""
    if turn.session is None:
        return False
    mark = interactions.consent_mark(turn.parked, turn.session)
    return constant_time_compare(turn.request.POST.get("consent", ""), mark)


def _is_who_was_named(turn: Turn) -> bool:
    """Say whether the account that the page named is the one that is signed in now."""
    if turn.session is None:
        return False
    mark = interactions.account_mark(turn.parked, turn.session)
    return constant_time_compare(turn.request.POST.get("account", ""), mark)


def _password(turn: Turn, sent: Sent) -> HttpResponse:
    facts, is_change = facts_of(turn.request), "new_password" in turn.request.POST
    outcome: steps.PasswordOutcome | passwords.ChangeOutcome
    if is_change:
        outcome = passwords.change(sent.name, chosen_in(turn.request), turn.session, facts, turn.now)
    else:
        outcome = steps.try_password(
            sent.name, turn.request.POST.get("password", ""), turn.session, facts, turn.now
        )
    match outcome:
        case steps.Disabled():
            return render(turn.request, "login/disabled.html", status=403)
        case steps.Down():
            response = render(
                turn.request, "login/directory_down.html", {"handle": turn.parked.handle}, status=503
            )
            response["Retry-After"] = "30"
            return response
        case steps.SignedIn():
            return _signed_in(turn, outcome)
        case steps.MustChange():
            minimum = passwords.minimum_of(outcome.person)
            return _change_password(turn, sent, is_expired=outcome.is_expired, minimum=minimum)
        case passwords.NotTaken():
            return _change_password(turn, sent, problem_words(outcome), minimum=outcome.minimum)
        case steps.Wrong() if is_change:
            return _change_password(turn, sent, _("The old password is not right. Nothing was changed."))
        case steps.Slowed() if is_change:
            return _change_password(turn, sent, wait_words(outcome.wait), status=429)
        case _:
            pass
    need = interactions.evaluate(turn.parked, None, facts, turn.now)
    if not isinstance(need, Interaction):
        return turn.answer(final(turn.request, need))
    return _failed(turn, need, sent, outcome)


def _change_password(
    turn: Turn,
    sent: Sent,
    problem: str = "",
    *,
    is_expired: bool = False,
    minimum: int = 0,
    status: int = 200,
) -> HttpResponse:
    """Ask for a new password before anything else; the parked request waits."""
    context = {
        "here": reverse("login:flow", args=[turn.parked.handle]),
        "name": sent.name,
        "given_name": sent.name,
        "problem": problem,
        "is_expired": is_expired or "expired" in turn.request.POST,
        "minimum": minimum or LENGTH_ALONE,
    }
    return turn.answer(render(turn.request, "login/change_password.html", context, status=status))


def _after(turn: Turn, need: Interaction, sent: Sent, outcome: steps.CodeOutcome) -> HttpResponse:
    if isinstance(outcome, steps.SignedIn):
        return _signed_in(turn, outcome)
    return _failed(turn, need, sent, outcome)


def _enrolment(turn: Turn, need: Interaction, sent: Sent) -> HttpResponse:
    if turn.session is None:
        return _show(turn, need, sent)
    try:
        enrolment = UUID(turn.request.POST.get("enrolment", ""))
    except ValueError:
        return _show(turn, need, sent)
    code = turn.request.POST.get("code", "")
    outcome = steps.confirm_enrolment(turn.session, enrolment, code, facts_of(turn.request), turn.now)
    if not isinstance(outcome, steps.Enrolled):
        return _failed(turn, need, sent, outcome)
    turn.session, turn.new_secret = outcome.session, outcome.secret
    return _show_codes(turn, outcome.recovery_codes)


def _show_codes(turn: Turn, codes: tuple[str, ...]) -> HttpResponse:
    """Show new recovery codes. The page carries them sealed, so that its language can be changed; nothing else keeps them."""
    here = reverse("login:flow", args=[turn.parked.handle])
    context = {"here": here, "codes": codes, "sheet": _seal_sheet(turn, codes)}
    return turn.answer(render(turn.request, "login/recovery_codes.html", context))


def _seal_sheet(turn: Turn, codes: tuple[str, ...]) -> str:
    owner = str(turn.session.user_id) if turn.session else ""
    return signing.dumps([owner, *codes], salt=_SHEET)


def _sheet_sent(turn: Turn) -> tuple[str, ...]:
    """Return the codes of a page whose language is changed, () when it is none that was shown to this person."""
    if turn.session is None or not turn.request.POST.get("sheet"):
        return ()
    try:
        owner, *codes = signing.loads(turn.request.POST["sheet"], salt=_SHEET, max_age=_SHEET_SECONDS)
    except signing.BadSignature:
        return ()
    return tuple(codes) if owner == str(turn.session.user_id) else ()


def _lost_answer(turn: Turn, before: LoginSession, sent: Sent) -> HttpResponse:
    """Go on where the answer to a right code was lost: whoever sends a code gets on, whoever only looks is asked for one."""
    need = interactions.evaluate(turn.parked, None, facts_of(turn.request), turn.now)
    if not isinstance(need, Interaction):
        return turn.answer(final(turn.request, need))
    facts, page = facts_of(turn.request), "recovery" if sent.by_recovery else "code"
    context = _context(turn, need) | {"by_recovery": sent.by_recovery}
    if not (sent.is_post and sent.has_code):
        return render(turn.request, f"login/{page}.html", context)
    code = turn.request.POST.get("code", "")
    outcome = steps.try_code_again(before, code, recovery=sent.by_recovery, facts=facts, now=turn.now)
    if isinstance(outcome, steps.SignedIn):
        if sent.has_enrolment:
            turn.session, turn.new_secret = outcome.session, outcome.secret
            return _show_codes(turn, steps.recovery_codes_again(outcome.session, facts, turn.now))
        return _signed_in(turn, outcome)
    status, problem, retry_after = _said(sent, outcome)
    response = render(turn.request, f"login/{page}.html", context | {"problem": problem}, status=status)
    if retry_after:
        response["Retry-After"] = str(retry_after)
    return response


def _reopened(turn: Turn) -> bool:
    """Say whether an answered request can be answered once more, because nobody got the first answer."""
    return turn.session is not None and interactions.reopen(turn.parked, turn.session, turn.now)


def _signed_in(turn: Turn, outcome: steps.SignedIn) -> HttpResponse:
    """Go on with the session as it is now; a finished flow goes straight to the application."""
    turn.session, turn.new_secret = outcome.session, outcome.secret
    turn.session.user.refresh_from_db()
    if turn.finished and not _reopened(turn):
        return turn.answer(_gone(turn.request))
    if outcome.password_ends_in is not None:
        return _password_ends(turn, outcome.password_ends_in)
    need = interactions.evaluate(turn.parked, turn.session, facts_of(turn.request), turn.now)
    if isinstance(need, Interaction):
        return _reload(turn)
    return turn.answer(final(turn.request, need))


def _password_ends(turn: Turn, ends_in: timedelta) -> HttpResponse:
    """Say that the password will soon be too old, once a sign-in; going on is a link, and changing it another."""
    context = {
        "here": reverse("login:flow", args=[turn.parked.handle]),
        "days": ceil(ends_in.total_seconds() / 86400),
    }
    return turn.answer(render(turn.request, "login/password_ends.html", context))


def _broken_factor(turn: Turn, problem: mfa.MFAError) -> HttpResponse:
    logger.error("second factor refused (request %s): %s", facts_of(turn.request).request_id, problem.hint)
    if turn.session is not None:
        steps.record_broken_factor(turn.session, problem.code, facts_of(turn.request), turn.now)
    return render(turn.request, "portal/error.html", {"kind": "broken"}, status=503)


def _reload(turn: Turn) -> HttpResponse:
    """Answer a post with a fresh look: reloading the next page must not send the form again."""
    return turn.answer(HttpResponseRedirect(reverse("login:flow", args=[turn.parked.handle]), status=303))


# -- pages --------------------------------------------------------------------------------------------------------


def _situation(turn: Turn, need: Interaction) -> Situation:
    session, asked = turn.session, turn.parked.request
    return Situation(
        need=need.need,
        reason=need.reason,
        known_name=login_of(session.user_id) if session else "",
        hinted_name=clean_name(asked.login_hint) if asked else "",
        has_factor=mfa.has_second_factor(str(session.user_id)) if session else False,
        password_at=session.password_at if session else None,
    )


def _context(turn: Turn, need: Interaction) -> dict[str, Any]:  # Any: a template's context
    language = get_language() or settings.LANGUAGE_CODE
    application, owner = _application(need, language)
    return {
        "handle": turn.parked.handle,
        "here": reverse("login:flow", args=[turn.parked.handle]),
        "application": application,
        "owner": owner,
        "reason": need.reason,
        "client": need.client,
    }


def _disclosed(need: Interaction) -> dict[str, Any]:  # Any: a template's context
    """Return what the application would receive and be allowed, in words."""
    language = get_language() or settings.LANGUAGE_CODE
    return {"received": received(need.disclosure), "allowed": allowed(need.disclosure, language)}


def _own_name(session: LoginSession) -> str:
    """Return a person's name in the script of the page."""
    person = session.user
    arabic, latin = person.name_arabic, person.name_latin
    return str((arabic or latin) if get_language() == "ar" else (latin or arabic)) or login_of(person.pk)


def _application(need: Interaction, language: str) -> tuple[str, str]:
    """Return the name of what asks, in the page's language, and whom to turn to."""
    if need.client is None:
        return "", ""
    if need.client.application is None:
        return need.client.name, ""
    (row,) = applications([need.client.application])
    return row.name_in(language), row.owner_contact


def _failed(turn: Turn, need: Interaction, sent: Sent, outcome: steps.Wrong | steps.Slowed) -> HttpResponse:
    """Show the same step with what went wrong in words."""
    status, problem, retry_after = _said(sent, outcome)
    response = _show(turn, need, sent, problem, status=status)
    if retry_after:
        response["Retry-After"] = str(retry_after)
    return response


class Said(NamedTuple):
    """What went wrong, for the person and for the browser."""

    status: int
    problem: str
    retry_after: int = 0


def _said(sent: Sent, outcome: steps.Wrong | steps.Slowed) -> Said:
    if isinstance(outcome, steps.Slowed):
        retry_after = max(1, ceil(outcome.wait.total_seconds())) if outcome.wait is not None else 0
        return Said(429, wait_words(outcome.wait), retry_after)
    if table.decide_first(sent):
        return Said(200, _("The name or password is not right. Check both and try again."))
    if outcome.clock_minutes:
        problem = ngettext(
            "Your phone's clock seems wrong by about {n} minute: set it to automatic.",
            "Your phone's clock seems wrong by about {n} minutes: set it to automatic.",
            abs(outcome.clock_minutes),
        ).format(n=abs(outcome.clock_minutes))
        return Said(200, problem)
    if sent.by_recovery:
        return Said(200, _("This recovery code did not work. Check it, or use another one."))
    return Said(
        200,
        _(
            "This code did not work. Wait for the next one. If it fails again, set your phone's clock to automatic."
        ),
    )


def _show(turn: Turn, need: Interaction, sent: Sent, problem: str = "", status: int = 200) -> HttpResponse:
    situation = _situation(turn, need)
    step = table.decide_step(situation, turn.now)
    page = table.decide_page(step, situation, sent)
    context = _context(turn, need) | {"problem": problem, "by_recovery": page is Page.RECOVERY}
    match page:
        case Page.ACCOUNT:
            if turn.session is None:
                raise ValueError("choosing an account needs a session")
            context["account_login"] = situation.known_name
            context["account_name"] = _own_name(turn.session)
            context["mark"] = interactions.account_mark(turn.parked, turn.session)
        case Page.NAME:
            context["other"] = sent.other_person
            hinted = situation.hinted_name
            context["name"] = sent.name or (
                "" if sent.other_person and hinted == situation.known_name else hinted
            )
        case Page.PASSWORD:
            context["name"] = context["given_name"] = table.decide_name(situation, sent)
            context["can_recover"] = can_set_passwords()
        case Page.CODE | Page.RECOVERY:
            pass
        case Page.ENROLMENT:
            if turn.session is None:
                raise ValueError("an enrolment needs a session")
            label = login_of(turn.session.user_id)
            context["enrolment"] = mfa.begin_totp(str(turn.session.user_id), label, turn.now)
        case Page.CONSENT:
            if turn.session is None:
                raise ValueError("a consent needs a session")
            context |= _disclosed(need)
            context["account_name"] = _own_name(turn.session)
            context["mark"] = interactions.consent_mark(turn.parked, turn.session)
        case Page.DEVICE:
            if turn.session is None:
                raise ValueError("a device needs somebody who lets it in")
            context |= device.facts_for(turn.parked, turn.session, facts_of(turn.request), turn.now)
            context |= _disclosed(need)
            context["mark"] = interactions.consent_mark(turn.parked, turn.session)
        case Page.REFUSED:
            status = 403
        case _:
            assert_never(page)
    return turn.answer(render(turn.request, f"login/{page.value}.html", context, status=status))
