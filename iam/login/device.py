"""The pages for a device without a keyboard: type its code here, and see what became of it. Spec: RFC 8628 §3.3.

The question whether to let it in is a step of the sign-in (`views.py`): the application may ask for more than
whoever types a code has shown.
"""

from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from iam.access.policy import Level
from iam.accounts import cookies
from iam.accounts.models import LoginSession
from iam.accounts.services import find_live_session
from iam.audit.facts import RequestFacts, facts_of
from iam.errors import Conflict
from iam.oauth import interactions
from iam.oauth.interactions import Parked
from iam.oauth.protocol.device import VERIFICATION_PATH, Outcome, read_user_code, shown
from iam.oauth.state import DatabaseState

from . import steps, throttle
from .language import settle_language


@require_http_methods(["GET", "POST"])
def enter(request: HttpRequest) -> HttpResponse:
    """Take a device's code from somebody who is signed in: every guess is somebody's.

    A code in the address is filled in and nothing more; nothing happens without a press of a button here.
    """
    now = datetime.now(UTC)
    session = find_live_session(
        request.COOKIES.get(cookies.SESSION, ""), now, timedelta(minutes=settings.IAM_SESSION_IDLE_MINUTES)
    )
    given = request.POST if request.method == "POST" else request.GET
    typed = given.get("user_code", "")[:64]
    if session is None or _is_too_low(session, now):
        return _sign_in_first(request, typed, now)
    settle_language(request, session.user.language)
    if request.method == "GET":
        return _page(request, typed)
    browser = cookies.browser_of(request)
    outcome = steps.try_user_code(session, typed, browser, facts_of(request), now)
    if isinstance(outcome, steps.Claimed):
        response = HttpResponseRedirect(reverse("login:flow", args=[outcome.handle]), status=303)
        cookies.set_browser(response, browser)
        return response
    if isinstance(outcome, steps.Slowed):
        return _slowed(request, typed, outcome)
    return _page(request, typed, _("No device shows this code now. Check it, or begin again on the device."))


def _is_too_low(session: LoginSession, now: datetime) -> bool:
    requirement = DatabaseState().own_requirement(session.user_id, now)
    return requirement.level is Level.AAL2 and session.factor_at is None


def _sign_in_first(request: HttpRequest, typed: str, now: datetime) -> HttpResponse:
    """Lead through the sign-in and back, with the code if it is one."""
    code = read_user_code(typed)
    back = f"{VERIFICATION_PATH}?user_code={shown(code)}" if code else VERIFICATION_PATH
    browser = cookies.browser_of(request)
    handle = interactions.park_visit(back, browser, now)
    response = HttpResponseRedirect(reverse("login:flow", args=[handle]), status=303)
    cookies.set_browser(response, browser)
    return response


def _slowed(request: HttpRequest, typed: str, outcome: steps.Slowed) -> HttpResponse:
    if outcome.wait is None:
        return _page(
            request, typed, _("Too many tries. Ask your office administrator to let you try again."), 429
        )
    minutes = max(1, ceil(outcome.wait.total_seconds() / 60))
    problem = ngettext("Too many tries. Wait {n} minute.", "Too many tries. Wait {n} minutes.", minutes)
    response = _page(request, typed, problem.format(n=minutes), 429)
    response["Retry-After"] = str(max(1, ceil(outcome.wait.total_seconds())))
    return response


def _page(request: HttpRequest, typed: str, problem: str = "", status: int = 200) -> HttpResponse:
    code = read_user_code(typed)
    context = {
        "user_code": shown(code) if code else typed,
        "filled": bool(code) and not problem,
        "problem": problem,
    }
    return render(request, "login/device_code.html", context, status=status)


def facts_for(parked: Parked, session: LoginSession, facts: RequestFacts, now: datetime) -> dict[str, Any]:
    """Return what the question must show of a waiting device: where and when it asked. Spec: RFC 8628 §5.4.

    Raises: Conflict when it was answered since the question was found open.
    """
    waiting = interactions.waiting_device(parked, now)
    if waiting is None:
        raise Conflict("The device was answered in the meantime.", code="device_gone")
    minutes = int((now - waiting.created_at).total_seconds() // 60)
    here, there = throttle.source_network(facts.address), throttle.source_network(waiting.address)
    return {
        "person": session.user,
        "device_address": waiting.address,
        "is_elsewhere": here != there,
        "asked_at": waiting.created_at,
        "ago": ngettext("{n} minute ago", "{n} minutes ago", minutes).format(n=minutes)
        if minutes
        else _("just now"),
    }


@require_http_methods(["GET"])
def ended(request: HttpRequest, outcome: Outcome) -> HttpResponse:
    """Say what became of a device. Shows nothing of anybody: whoever comes here by a link learns nothing."""
    return render(request, f"login/device_{outcome.value}.html")
