"""The Django door to the engine: thin. It reads one request, opens the transaction, and sends the answer.

Every endpoint is CSRF-exempt because none acts on a browser's cookie alone: authorize only ever leads to
pages that are protected, and logout without an application's proof asks on such a page.
"""

import logging
from datetime import datetime

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt

from iam.accounts import cookies
from iam.audit.facts import facts_of

from . import attempts, engine, interactions
from .environment import TOO_LARGE, body_length, clock, read
from .fastpath import ANSWERED, FAILED
from .protocol.jose import SigningUnavailable
from .protocol.messages import (
    PARAMETERS_SIZE_MAX,
    Answer,
    ClientAnswer,
    ErrorPage,
    FormPost,
    Interaction,
    Need,
    Request,
    Response,
)
from .signout import Wish, leave, seal_wish

logger = logging.getLogger("iam.keys")


@csrf_exempt
def endpoint(http: HttpRequest, name: str = "") -> HttpResponse:
    """Answer a request to any protocol endpoint; `name` is part of the path, which the engine reads itself."""
    try:
        return _answer(http)
    except SigningUnavailable as problem:  # of either door; what was written is undone by now
        logger.error("Nothing can be signed: %s", problem)  # noqa: TRY400 -- the text says it all
        return final(http, engine.unavailable(http.path, facts_of(http).request_id))


def _answer(http: HttpRequest) -> HttpResponse:
    environment = http.META
    if FAILED in environment:  # at the other door: what went wrong there is shown here
        raise environment[FAILED]
    if ANSWERED in environment:
        return send(http, environment[ANSWERED], clock())
    # What a page needs of the answer is stored with it or not at all.
    return attempts.run(read_request(http), clock, lambda answer, now: send(http, answer, now))


def read_request(http: HttpRequest) -> Request:
    """Turn Django's request into the engine's; a body that is too large arrives as one that is just too large."""
    body = TOO_LARGE if body_length(http.META) > PARAMETERS_SIZE_MAX else http.body
    return read(http.META, body, http.COOKIES, facts_of(http))


def send(http: HttpRequest, answer: Answer, now: datetime) -> HttpResponse:
    """Turn the engine's answer into Django's."""
    match answer:
        case Response() | FormPost() | ErrorPage():
            return final(http, answer)
        case Interaction(need=Need.CONFIRM_LOGOUT):
            to = seal_wish(Wish(answer.return_to, answer.ui_locales, answer.session))
            return HttpResponseRedirect(reverse("portal:sign_out") + (f"?to={to}" if to else ""), status=303)
        case Interaction(need=Need.SIGNED_OUT):
            but = answer.client.client_id if answer.client and answer.session else ""
            return leave(
                http, answer.session, return_to=answer.return_to, ui_locales=answer.ui_locales, but=but
            )
        case Interaction():
            return _begin_flow(http, answer, now)


def final(http: HttpRequest, answer: ClientAnswer | ErrorPage) -> HttpResponse:
    """Turn an answer that needs nothing more of the person into Django's."""
    match answer:
        case Response():
            return _plain(answer)
        case FormPost():
            return form_post(http, answer)
        case ErrorPage():
            return error_page(http, answer)


def form_post(http: HttpRequest, answer: FormPost) -> HttpResponse:
    """Show the page that posts an answer to the application: by itself where scripts run, else by its button.

    The application sees from which origin the form came, and nothing else of the address.
    Spec: OAuth 2.0 Form Post Response Mode §2, §4 (not kept by any cache).
    """
    http.form_targets.append(answer.uri)  # type: ignore[attr-defined]
    response = render(http, "portal/form_post.html", {"to": answer.uri, "fields": answer.fields})
    response["Cache-Control"] = "no-store"
    response["Referrer-Policy"] = "origin"
    return response


def _plain(answer: Response) -> HttpResponse:
    response = HttpResponse(answer.body, status=answer.status)
    del response["Content-Type"]
    for name, value in answer.headers:
        response[name] = value
    for name in answer.cookies_ended:
        response.delete_cookie(cookies.name_of(name), path="/", samesite="Lax")
    return response


def error_page(http: HttpRequest, page: ErrorPage) -> HttpResponse:
    """Show an error that must not be redirected, in the person's language, with its reference number."""
    context = {"error": page.error, "description": page.description, "client_id": page.client_id}
    response = render(http, "portal/protocol_error.html", context, status=page.status)
    response["Cache-Control"] = "no-store"
    if page.status == 405:
        response["Allow"] = "GET, POST"
    return response


def _begin_flow(http: HttpRequest, interaction: Interaction, now: datetime) -> HttpResponse:
    """Park the request and lead the person to the sign-in; the browser keeps a handle and nothing else."""
    browser = cookies.browser_of(http)
    handle = interactions.park(interaction, browser, now)
    response = HttpResponseRedirect(reverse("login:flow", args=[handle]), status=303)
    response["Cache-Control"] = "no-store"
    cookies.set_browser(response, browser)
    return response
