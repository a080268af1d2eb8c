"""An answer that travels by form, in a real browser: by itself where scripts run, by a button where they do not."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.journeys.test_one_sign_in import forget_used_codes, sign_in
from tests.servers.person import Person
from tests.servers.service import Service

HOSTILE = "\"'><script>document.title='owned'</script>"


@dataclass
class Application:
    """An application that keeps what is posted to it, and from which origin."""

    redirect: str
    posts: list[dict[str, str]] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)


@pytest.fixture
def application() -> Iterator[Application]:
    held = Application("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            held.posts.append(dict(parse_qsl(body, keep_blank_values=True)))
            held.origins.append(self.headers.get("Origin", ""))
            page = b"<!doctype html><title>application</title><link rel=icon href=data:,><h1>application</h1>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        held.redirect = f"http://127.0.0.1:{server.server_port}/callback"
        yield held
        server.shutdown()
        thread.join()


def ask(service: Service, page: Page, application: Application, **more: str) -> None:
    person = Person(service.issuer, "")
    page.goto(person.request("test-public", application.redirect, scope="openid roles", **more))


@pytest.mark.rules("form-post/2/auto-submit", "form-post/2/method")
def test_form_is_posted_by_itself_and_carries_only_the_answer(
    service: Service, context: BrowserContext, application: Application
) -> None:
    complaints: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    forget_used_codes(service, "crowd22")
    ask(service, page, application, response_mode="form_post", state=HOSTILE)
    sign_in(page, "crowd22")
    expect(page.locator("h1")).to_have_text("application")

    # Once more, without a page to sign in between: straight from the authorization endpoint.
    ask(service, page, application, response_mode="form_post.jwt", state=HOSTILE)
    expect(page.locator("h1")).to_have_text("application")

    plain, signed = application.posts
    assert set(plain) == {"code", "state", "iss"}
    assert plain["state"] == HOSTILE
    assert set(signed) == {"response"}
    assert application.origins == [service.issuer, service.issuer]
    assert complaints == []


@pytest.mark.parametrize(("language", "button"), [("ar", "متابعة"), ("fr", "Continuer"), ("en", "Continue")])
def test_without_scripts_a_button_does_it(
    service: Service, browser: Browser, application: Application, language: str, button: str
) -> None:
    context = browser.new_context(locale=language, java_script_enabled=False)
    page = context.new_page()

    ask(service, page, application, response_mode="form_post", prompt="none", state=HOSTILE)
    expect(page.locator("html")).to_have_attribute("lang", language)
    assert application.posts == []
    page.get_by_role("button", name=button).click()

    expect(page.locator("h1")).to_have_text("application")
    assert application.posts[0]["error"] == "login_required"
    assert application.posts[0]["state"] == HOSTILE
    context.close()


@pytest.mark.rules("form-post/2/errors")
def test_refusal_on_our_page_is_posted_too(
    service: Service, context: BrowserContext, application: Application
) -> None:
    """Through the consent page, whose own policy must let the browser go on to the form."""
    service.python(
        "from datetime import UTC, datetime\nfrom iam.oauth.clients import apply_all\n"
        "apply_all([{'client_id': 'test-form', 'token_endpoint_auth_method': 'none', 'scope': 'openid email',"
        f" 'redirect_uris': ['{application.redirect}'], 'trusted': False}}], datetime.now(UTC), 'system:test')"
    )
    page = context.new_page()
    forget_used_codes(service, "crowd22")
    page.goto(Person(service.issuer, "").request("test-form", application.redirect, scope="openid email", response_mode="form_post"))  # fmt: skip
    sign_in(page, "crowd22")
    page.locator("button[name=decision][value=decline]").click()

    expect(page.locator("h1")).to_have_text("application")
    assert application.posts[0]["error"] == "access_denied"
