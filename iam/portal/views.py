"""Pages that belong to no sign-in: who I am, signing out, the language, and what went wrong."""

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import get_language
from django.views.decorators.http import require_http_methods, require_POST

from iam import lifecycle
from iam.access.models import Office, Role
from iam.access.policy import Admitted, Level, decide_admission
from iam.access.selectors import application_policy, applications, effective_access
from iam.accounts import cookies
from iam.accounts.models import LoginSession
from iam.accounts.services import end_session, find_live_session
from iam.audit.facts import facts_of
from iam.login.language import LANGUAGES, keep_choice, settle_language
from iam.oauth.signout import (
    WAIT_SECONDS,
    Wish,
    front_channels,
    leave,
    read_farewell,
    read_wish,
    report,
    signed_out_page,
)
from iam.oauth.state import DatabaseState


def _session(request: HttpRequest, now: datetime) -> LoginSession | None:
    return find_live_session(
        request.COOKIES.get(cookies.SESSION, ""), now, timedelta(minutes=settings.IAM_SESSION_IDLE_MINUTES)
    )


@require_http_methods(["GET"])
def home(request: HttpRequest) -> HttpResponse:
    """Show who is signed in, the roles held where, and the applications that are open to them."""
    now = datetime.now(UTC)
    session = _session(request, now)
    if session is None:
        return HttpResponseRedirect(reverse("login:start"), status=303)
    required = DatabaseState().own_requirement(session.user_id, now)
    if required.level is Level.AAL2 and session.factor_at is None:
        return HttpResponseRedirect(reverse("login:start"), status=303)
    tongue = settle_language(request, session.user.language)
    access = effective_access(session.user_id, now)
    offices = Office.objects.in_bulk(
        [code for code in {access.office, *(grant.office for grant in access.grants)} if code],
        field_name="code",
    )
    roles = Role.objects.in_bulk([grant.role for grant in access.grants], field_name="code")
    context = {
        "person": session.user,
        "office": offices[access.office].name_in(tongue) if access.office else "",
        "grants": [
            (roles[grant.role].name_in(tongue), offices[grant.office].name_in(tongue))
            for grant in access.grants
        ],
        "applications": [
            (row.name_in(tongue), row.url)
            for row in applications()
            if isinstance(decide_admission(application_policy(row.code), access), Admitted)
        ],
    }
    return render(request, "portal/home.html", context)


@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """Keep an explicit choice of language, and go back to where it was made."""
    chosen = request.POST.get("language", "")
    back = request.POST.get("next", "")
    if not back.startswith("/") or not url_has_allowed_host_and_scheme(back, allowed_hosts=None):
        back = reverse("portal:home")
    now = datetime.now(UTC)
    session = _session(request, now)
    if session is not None and chosen in LANGUAGES:
        person = session.user
        lifecycle.choose(
            person, "language", chosen, actor=f"person:{person.sub}", now=now, facts=facts_of(request)
        )
    response = HttpResponseRedirect(back, status=303)
    keep_choice(response, chosen)
    return response


@require_http_methods(["GET", "POST"])
def sign_out(request: HttpRequest) -> HttpResponse:
    """Ask whether to sign out, and do it: a link of anybody else's could not.

    Not asked: a browser whose application brought proof that this very session is its own (endpoints/logout.py),
    and one in which nobody is signed in.
    """
    now = datetime.now(UTC)
    session = _session(request, now)
    sealed = request.POST.get("to", "") or request.GET.get("to", "")
    wish = read_wish(sealed)
    settle_language(request, session.user.language if session else "", wish.ui_locales)
    proven = session is not None and wish.session == session.pk
    if request.method == "GET" and not proven and (session is not None or wish == Wish()):
        if wish.return_to:
            request.form_targets.append(wish.return_to)  # type: ignore[attr-defined]
        return render(request, "portal/sign_out.html", {"to": request.GET.get("to", ""), "session": session})
    facts = facts_of(request)
    if session is not None:
        with transaction.atomic():
            end_session(
                session.pk, reason="signed_out", now=now, request_id=facts.request_id, source=facts.address
            )
    return leave(
        request,
        session.pk if session else None,
        return_to=wish.return_to,
        ui_locales=wish.ui_locales,
    )


# The page looks again by itself while an application is being told; the first attempt ends within seconds.
LOOKS_MAX = 4
LOOK_AGAIN_SECONDS = 2


@require_http_methods(["GET"])
def signed_out(request: HttpRequest) -> HttpResponse:
    """Say that nobody is signed in here, and which applications do not know it yet; then lead back, where all do."""
    sealed = request.GET.get("h", "")
    farewell = read_farewell(sealed, cookies.browser_of(request)) if sealed else None
    if farewell is None:
        return render(request, "portal/signed_out.html")
    tongue = settle_language(request, farewell.language, farewell.ui_locales)
    look = min(int(given), LOOKS_MAX) if (given := request.GET.get("look", "")) in _LOOKS else 0
    frames = front_channels(farewell) if look == 0 else ()
    # A page with frames comes at once: they are what some applications are told by.
    news = report(farewell, tongue, 0.0 if frames else WAIT_SECONDS)
    if farewell.return_to and news.all_know and not frames:
        response = HttpResponse(status=303)
        response["Location"] = farewell.return_to
        response["Referrer-Policy"] = "no-referrer"
        return response
    request.frame_targets.extend(frames)  # type: ignore[attr-defined]
    goes_on = look < LOOKS_MAX and bool(news.being_told or (frames and farewell.return_to))
    context = {
        "news": news,
        "frames": frames,
        "next": signed_out_page(sealed, look + 1) if goes_on else "",
        "again": "" if news.all_know else signed_out_page(sealed, LOOKS_MAX),
        "seconds": LOOK_AGAIN_SECONDS,
        "return_to": farewell.return_to,
    }
    return render(request, "portal/signed_out.html", context)


_LOOKS = frozenset(str(number) for number in range(LOOKS_MAX + 1))


# -- errors -------------------------------------------------------------------------------------------------------


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Say that the form was not one of ours, or that the browser keeps no cookies."""
    return render(request, "portal/csrf.html", {"language": get_language()}, status=403)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Say that the request could not be read."""
    return render(request, "portal/error.html", {"kind": "bad"}, status=400)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Say that there is no such page."""
    return render(request, "portal/error.html", {"kind": "missing"}, status=404)


def broken(request: HttpRequest) -> HttpResponse:
    """Say that something broke here; the number finds it in the log."""
    return render(request, "portal/error.html", {"kind": "broken"}, status=500)
