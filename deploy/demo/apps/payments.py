"""Finance's API, and how Finance calls it: the guide to guarding an API with `deploy/resource_server`, and to step-up.

The API asks for a sign-in of the last two minutes before a payment is approved. Whoever calls it with an older one gets
a challenge (RFC 9470); the application takes from it what to ask for, sends the person to sign in again, and repeats.
"""

import html
import json
import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any

import requests
from flask import Flask, Response, redirect, session, url_for

from deploy.resource_server import Needs, Verifier
from deploy.resource_server.for_wsgi import TOKEN, Guard

SCOPE = "payments.approve"
FRESH_SECONDS = 120
TEXTS = {
    "en": {
        "title": "Payments", "approve": "Approve the next payment", "done": "The payment was approved.",
        "no": "The payment was not approved.",
    },
    "fr": {
        "title": "Paiements", "approve": "Approuver le prochain paiement", "done": "Le paiement a été approuvé.",
        "no": "Le paiement n’a pas été approuvé.",
    },
    "ar": {
        "title": "المدفوعات", "approve": "اعتماد الدفعة التالية", "done": "تم اعتماد الدفعة.",
        "no": "لم يتم اعتماد الدفعة.",
    },
}  # fmt: skip
_STEP_UP = re.compile(r'(acr_values|max_age)="([^"]*)"')


# -- the API: a WSGI application that knows nothing of the pages --------------------------------------------------


def needs(environ: dict[str, Any]) -> Needs:
    """Return what a request must bring: to look is one thing, to approve another."""
    if environ["PATH_INFO"] == "/api/payments/approve":
        return Needs(scopes=(SCOPE,), acr="aal2", max_age=FRESH_SECONDS, role="finance.payer")
    return Needs(scopes=(SCOPE,), role="finance.payer")


def api(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Approve a payment in the office of whoever asks; every request here has passed the guard."""
    token = environ[TOKEN]
    if environ["PATH_INFO"] == "/api/payments/approve" and environ["REQUEST_METHOD"] == "POST":
        status, value = "200 OK", {"approved_by": token.subject, "office": token.office}
    elif environ["PATH_INFO"] == "/api/payments":
        status, value = (
            "200 OK",
            {"offices": sorted({entry.office for entry in token.access if entry.role == "finance.payer"})},
        )
    else:
        status, value = "404 Not Found", {"error": "not_found"}
    start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
    return [json.dumps(value).encode()]


class Mounted:
    """The API below /api and its metadata; everything else is the pages'."""

    def __init__(self, pages: Callable[..., Any], verifier: Verifier) -> None:
        """Put the guarded API in front of `pages`."""
        self._pages, self._guarded = pages, Guard(api, verifier, needs)
        self._metadata = verifier.metadata_path

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer by path."""
        path = environ["PATH_INFO"]
        here = path in {self._metadata, "/api"} or path.startswith("/api/")
        answer: Iterable[bytes] = (self._guarded if here else self._pages)(environ, start_response)
        return answer


# -- the application: calls the API with the token of its sign-in -------------------------------------------------


class Payments:
    """What Finance adds to the pages that it shares with the other demonstration applications."""

    scope = SCOPE

    def __init__(self) -> None:
        """Hold no token yet. A token is kept here and not in the cookie, which the browser can read."""
        self._tokens: dict[str, str] = {}

    def mount(
        self, app: Flask, service: Any, issuer: str, here: str, page: Any, language: Any
    ) -> None:  # Any: Authlib's
        """Add the API and the button's address."""
        self._service, self._here, self._page, self._language = service, here, page, language
        verifier = Verifier(issuer, f"{here}/api", f"{here}/api", scopes_supported=(SCOPE,), name="Payments")
        app.wsgi_app = Mounted(app.wsgi_app, verifier)  # type: ignore[method-assign]
        app.add_url_rule("/approve", view_func=self.approve, methods=["POST"])

    def section(self) -> str:
        """Return the button."""
        words = TEXTS[self._language()]
        return (
            f'<section><h2>{words["title"]}</h2><form method="post" action="/approve">'
            f'<button class="button" id="approve">{words["approve"]}</button></form></section>'
        )

    def signed_in(self, token: dict[str, Any]) -> Any:  # Any: an answer of Flask, None to go on
        """Keep the access token; finish what a step-up interrupted."""
        name = session.setdefault("tokens", secrets.token_urlsafe(16))
        if len(self._tokens) > 1000:
            self._tokens.clear()
        self._tokens[name] = token["access_token"]
        return self._approve(again=False) if session.pop("approving", False) else None

    def approve(self) -> Any:
        """Answer the button."""
        if session.get("person") is None:
            return redirect(url_for("login"), 303)
        return self._approve(again=True)

    def _approve(self, *, again: bool) -> Any:
        """Call the API; when it asks for another sign-in, ask for exactly that, once."""
        answer = requests.post(
            f"{self._here}/api/payments/approve",
            headers={"Authorization": f"Bearer {self._tokens.get(session.get('tokens', ''), '')}"},
            timeout=10,
        )
        if answer.status_code == 200:
            return self._told("done", "approved", json.dumps(answer.json()), 200)
        challenge = answer.headers.get("WWW-Authenticate", "")
        if again and answer.status_code in {400, 401}:
            # A token that is over (or lost) needs a new one; one of a weak or old sign-in says what is missing.
            session["approving"] = True
            return self._service.authorize_redirect(
                f"{self._here}/callback", ui_locales=self._language(), **dict(_STEP_UP.findall(challenge))
            )
        return self._told("no", "not-approved", answer.text, 403)

    def _told(self, word: str, name: str, detail: str, status: int) -> Response:
        words = TEXTS[self._language()]
        answer: Response = self._page(
            f'<section><h1 id="{name}">{words[word]}</h1><p lang="en" dir="ltr"><small>{html.escape(detail)}</small></p>'
            f'<a class="button" href="/">{words["title"]}</a></section>',
            status,
        )
        return answer
