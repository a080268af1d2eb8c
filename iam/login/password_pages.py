"""The pages on which a password is chosen: at a sign-in that asks for it, by who is signed in, by who has lost it."""

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from directory import service as directory
from directory.service import PasswordProblem
from iam.accounts import cookies
from iam.accounts.models import LoginSession
from iam.accounts.selectors import login_of
from iam.accounts.services import find_live_session
from iam.audit.facts import facts_of

from . import passwords, steps
from .language import settle_language
from .new_password import LENGTH_MAX, Problem
from .words import clean_name, wait_words


def chosen_in(request: HttpRequest) -> passwords.Chosen:
    """Return what was typed."""
    return passwords.Chosen(
        request.POST.get("password", ""),
        request.POST.get("new_password", ""),
        request.POST.get("new_again", ""),
    )


def problem_words(outcome: passwords.NotTaken) -> str:
    """Say in the page's language why a new password was not taken."""
    match outcome.problem:
        case Problem.DIFFERENT:
            return _("The two new passwords are not the same. Type both again.")
        case Problem.SAME:
            return _("The new password is the old one. Choose another.")
        case Problem.SHORT:
            return ngettext(
                "Too short: use at least {n} character.",
                "Too short: use at least {n} characters.",
                outcome.minimum,
            ).format(n=outcome.minimum)
        case PasswordProblem.TOO_SHORT:
            return _("The directory wants a longer password.")
        case Problem.LONG | PasswordProblem.TOO_LONG:
            return ngettext(
                "Too long: use at most {n} character.", "Too long: use at most {n} characters.", LENGTH_MAX
            ).format(n=LENGTH_MAX)
        case Problem.COMMON | PasswordProblem.TOO_SIMPLE:
            return _(
                "This password is too easy to guess. A few words that do not belong together are better."
            )
        case Problem.HOUSE_WORD:
            return _("Do not use your name, or the name of an office or of this organisation.")
        case PasswordProblem.IN_HISTORY:
            return _("You have used this password before. Choose a new one.")
        case PasswordProblem.TOO_YOUNG:
            return _(
                "Your password was changed a short time ago, and the directory does not let it change again yet."
            )
        case PasswordProblem.NOT_ALLOWED:
            return _("The directory does not let you change your password. Ask your office's administrator.")
        case _:
            return _(
                "The directory did not take this password. Choose one that is longer and unlike your old ones."
            )


def _minimum(session: LoginSession | None) -> int:
    return passwords.minimum_for(session.user if session else None)


@sensitive_post_parameters("password", "new_password", "new_again")
@require_http_methods(["GET", "POST"])
def own(request: HttpRequest) -> HttpResponse:
    """Let who is signed in change the password; other sessions end unless the person says otherwise."""
    now = datetime.now(UTC)
    session = find_live_session(
        request.COOKIES.get(cookies.SESSION, ""), now, timedelta(minutes=settings.IAM_SESSION_IDLE_MINUTES)
    )
    if session is None:
        return HttpResponseRedirect(reverse("login:start"), status=303)
    settle_language(request, session.user.language)
    context = {
        "name": login_of(session.user_id),
        "here": reverse("login:own_password"),
        "minimum": _minimum(session),
    }
    if request.method == "GET":
        return render(request, "login/own_password.html", context)
    outcome = passwords.change(
        login_of(session.user_id), chosen_in(request), session, facts_of(request), now,
        keep_others=request.POST.get("keep") == "on",
    )  # fmt: skip
    if isinstance(outcome, steps.SignedIn):
        response = render(request, "login/password_changed.html", {"kept": request.POST.get("keep") == "on"})
        cookies.set_session(response, outcome.secret)
        return response
    return _again(request, "login/own_password.html", context, outcome)


@sensitive_post_parameters("code", "recovery", "new_password", "new_again")
@require_http_methods(["GET", "POST"])
def forgotten(request: HttpRequest) -> HttpResponse:
    """Let who has lost the password choose a new one with two other things: the phone's code and a printed code."""
    if not directory.can_set_passwords():
        raise Http404
    settle_language(request)
    now = datetime.now(UTC)
    name = clean_name(request.POST.get("username", ""))
    context = {"name": name, "here": reverse("login:forgotten"), "minimum": passwords.minimum_for_recovery()}
    if request.method == "GET":
        return render(request, "login/forgotten.html", context)
    outcome = passwords.recover(
        name, request.POST.get("code", ""), request.POST.get("recovery", ""), chosen_in(request),
        facts_of(request), now,
    )  # fmt: skip
    if outcome is None:
        return render(request, "login/password_changed.html", {"recovered": True})
    return _again(request, "login/forgotten.html", context, outcome)


def _again(
    request: HttpRequest,
    template: str,
    context: dict[str, object],
    outcome: passwords.ChangeOutcome | passwords.RecoveryOutcome,
) -> HttpResponse:
    status = 200
    match outcome:
        case passwords.NotTaken():
            problem = problem_words(outcome)
        case steps.Slowed():
            problem, status = wait_words(outcome.wait), 429
        case steps.Down():
            problem, status = (
                _("The directory does not answer. Nothing was changed; try again in a few minutes."),
                503,
            )
        case steps.Disabled():
            return render(request, "login/disabled.html", status=403)
        case _ if template == "login/forgotten.html":
            problem = _(
                "These do not belong together, or one of them is not right. Check all three and try again."
            )
        case _:
            problem = _("The old password is not right. Nothing was changed.")
    return render(request, template, {**context, "problem": problem}, status=status)
