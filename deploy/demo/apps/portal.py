"""What the two demonstration applications share: a real OIDC client (Authlib), one page in three languages.

To an integrating developer this file is the guide: discovery, code flow with PKCE, the ID token's claims, sign-out;
`backchannel.py` beside it says how an application learns that the person signed out elsewhere.
"""

import html
import os
import time
from typing import Any, Protocol
from urllib.parse import urlencode

from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import OAuth
from flask import Flask, Response, redirect, request, session, url_for

from deploy.demo.apps.backchannel import EndedSessions, NotALogoutToken

TEXTS = {
    "en": {
        "sign_in": "Sign in", "sign_out": "Sign out", "who": "You are", "office": "Office", "roles": "Roles",
        "none": "no roles here", "level": "Sign-in", "refused": "You do not have access to this application.",
        "failed": "The sign-in did not succeed.", "again": "Try again",
    },
    "fr": {
        "sign_in": "Se connecter", "sign_out": "Se déconnecter", "who": "Vous êtes", "office": "Bureau", "roles": "Rôles",
        "none": "aucun rôle ici", "level": "Connexion", "refused": "Vous n’avez pas accès à cette application.",
        "failed": "La connexion n’a pas abouti.", "again": "Réessayer",
    },
    "ar": {
        "sign_in": "تسجيل الدخول", "sign_out": "تسجيل الخروج", "who": "أنت", "office": "المكتب", "roles": "الأدوار",
        "none": "لا أدوار هنا", "level": "مستوى الدخول", "refused": "ليست لديك صلاحية استخدام هذا التطبيق.",
        "failed": "لم ينجح تسجيل الدخول.", "again": "أعد المحاولة",
    },
}  # fmt: skip

STYLE = """
:root{color-scheme:light dark;--ink:#1b2b24;--paper:#f6f5f0;--card:#fff;--line:#d9d6ca;--accent:HUE}
@media (prefers-color-scheme:dark){:root{--ink:#eceae2;--paper:#14191a;--card:#1d2425;--line:#37403f}}
*{box-sizing:border-box}body{margin:0;font:1rem/1.65 system-ui,"Noto Naskh Arabic",sans-serif;color:var(--ink);background:var(--paper)}
header{background:var(--accent);color:#fff;padding-block:1rem;padding-inline:1.25rem;font-weight:600;font-size:1.15rem}
main{max-inline-size:38rem;margin-inline:auto;padding:1.25rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1.25rem;margin-block:1rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.35rem 1.25rem;margin:0}dt{opacity:.75}dd{margin:0;overflow-wrap:anywhere}
ul{margin:0;padding:0;list-style:none}
.button{display:inline-block;background:var(--accent);color:#fff;text-decoration:none;border:0;border-radius:.4rem;
padding-block:.65rem;padding-inline:1.2rem;font:inherit;cursor:pointer;min-block-size:2.75rem}
.button:focus-visible{outline:3px solid #d9a300;outline-offset:2px}
"""


class Feature(Protocol):
    """What one application has and the other has not."""

    scope: str

    def mount(self, app: Flask, service: Any, issuer: str, here: str, page: Any, language: Any) -> None:
        """Add its addresses."""

    def section(self) -> str:
        """Return what it shows to a person who is signed in."""

    def signed_in(self, token: dict[str, Any]) -> Any:
        """Take note of new tokens; return an answer, or None for the home page."""


def build(titles: dict[str, str], cookie: str, hue: str, feature: Feature | None = None) -> Flask:
    """Return one application. `titles` by language; `cookie` differs per application: ports share a host's cookies."""
    app = Flask(__name__)
    app.secret_key = os.environ["APP_SESSION_KEY"]
    app.config.update(SESSION_COOKIE_NAME=cookie, SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_HTTPONLY=True)
    issuer = os.environ["APP_ISSUER"]
    oauth = OAuth(app)
    service = oauth.register(
        "secretariat",
        server_metadata_url=f"{issuer}/.well-known/openid-configuration",
        client_id=os.environ["APP_CLIENT_ID"],
        client_secret=os.environ["APP_CLIENT_SECRET"],
        client_kwargs={
            "scope": "openid profile email roles" + (f" {feature.scope}" if feature else ""),
            "code_challenge_method": "S256",
        },
    )
    ended = EndedSessions(issuer, os.environ["APP_CLIENT_ID"], lambda anew: service.fetch_jwk_set(force=anew))
    here = f"http://localhost:{os.environ['APP_PORT']}"

    def language() -> str:
        known = session.get("language") or request.accept_languages.best_match(list(TEXTS))
        return known if known in TEXTS else "ar"

    def page(body: str, status: int = 200) -> Response:
        tongue = language()
        text = (
            f'<!doctype html><html lang="{tongue}" dir="{"rtl" if tongue == "ar" else "ltr"}"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{titles[tongue]}</title>'
            f'<link rel="stylesheet" href="/style.css"></head><body><header>{titles[tongue]}</header>'
            f"<main>{body}</main></body></html>"
        )
        response = Response(text, status, mimetype="text/html")
        response.headers["Cache-Control"] = "no-store"
        response.headers["Content-Security-Policy"] = (
            "default-src 'none'; style-src 'self'; frame-ancestors 'none'"
        )
        return response

    @app.before_request
    def forget_who_signed_out_elsewhere() -> None:
        if session.get("person") and ended.includes(session.get("sid", ""), session.get("since", 0.0)):
            tongue = session.get("language")
            session.clear()
            session["language"] = tongue

    @app.post("/backchannel-logout")
    def backchannel_logout() -> Response:
        try:
            ended.take(request.form.get("logout_token", ""))
        except NotALogoutToken as problem:
            return Response(str(problem), 400, {"Cache-Control": "no-store"}, mimetype="text/plain")
        return Response("", 200, {"Cache-Control": "no-store"}, mimetype="text/plain")

    @app.get("/style.css")
    def style() -> Response:
        return Response(STYLE.replace("HUE", hue), mimetype="text/css")

    @app.get("/health")
    def health() -> Response:
        return Response("ok", mimetype="text/plain")

    @app.get("/")
    def home() -> Response:
        words, person = TEXTS[language()], session.get("person")
        if person is None:
            return page(
                f'<section><a class="button" id="sign-in" href="/login">{words["sign_in"]}</a></section>'
            )
        return page(describe(person, words) + (feature.section() if feature else ""))

    @app.get("/login")
    def login() -> Any:  # Any: Authlib's answer
        return service.authorize_redirect(f"{here}/callback", ui_locales=language())

    @app.get("/callback")
    def callback() -> Any:  # Any: a redirect or a page
        words = TEXTS[language()]
        try:
            token = service.authorize_access_token()
        except OAuthError as problem:
            sentence = words["refused"] if problem.error == "access_denied" else words["failed"]
            reason = html.escape(problem.description or problem.error or "")
            return page(
                f'<section><h1 id="refused">{sentence}</h1><p lang="en" dir="ltr"><small>{reason}</small></p>'
                f'<a class="button" href="/login">{words["again"]}</a></section>',
                403,
            )
        claims = token["userinfo"]
        wanted = (
            "sub",
            "name",
            "name#ar",
            "office",
            "access",
            "roles",
            "acr",
            "amr",
            "locale",
            "preferred_username",
        )
        session["person"] = {name: claims[name] for name in wanted if name in claims}
        session["hint"] = token["id_token"]
        session["sid"], session["since"] = claims["sid"], time.time()
        if claims.get("locale") in TEXTS:
            session["language"] = claims["locale"]
        answer = feature.signed_in(token) if feature else None
        return answer or redirect(url_for("home"), 303)

    @app.post("/logout")
    def logout() -> Any:  # Any: a redirect
        hint = session.get("hint", "")
        session.clear()
        where = service.load_server_metadata()["end_session_endpoint"]
        query = urlencode({"id_token_hint": hint, "post_logout_redirect_uri": f"{here}/"})
        return redirect(f"{where}?{query}", 303)

    if feature:
        feature.mount(app, service, issuer, here, page, language)
    return app


def describe(person: dict[str, Any], words: dict[str, str]) -> str:
    """Return what the ID token says of a person, each value apart so that scripts do not mix."""
    name = person.get("name", "")
    other = person.get("name#ar", "")
    roles = "".join(
        f"<li><bdi>{html.escape(entry['role'])}</bdi> · <bdi>{html.escape(entry['office'])}</bdi></li>"
        for entry in person.get("access", [])
    )
    return (
        f'<section><dl><dt>{words["who"]}</dt><dd><bdi id="name">{html.escape(name)}</bdi> <bdi lang="ar">{html.escape(other)}</bdi></dd>'
        f'<dt>{words["office"]}</dt><dd><bdi id="office">{html.escape(str(person.get("office")))}</bdi></dd>'
        f'<dt>{words["roles"]}</dt><dd><ul id="roles" data-roles="{html.escape(" ".join(person.get("roles", [])))}">'
        f"{roles or words['none']}</ul></dd>"
        f'<dt>{words["level"]}</dt><dd><bdi id="acr">{html.escape(str(person.get("acr")))}</bdi></dd></dl></section>'
        f'<form method="post" action="/logout"><button class="button" id="sign-out">{words["sign_out"]}</button></form>'
    )


def serve(app: Flask) -> None:
    """Serve on the loopback interface, threaded, until stopped."""
    from werkzeug.serving import make_server

    make_server("127.0.0.1", int(os.environ["APP_PORT"]), app, threaded=True).serve_forever()
