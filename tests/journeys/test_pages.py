"""The pages themselves, in a real browser: clicks that people really make, small screens, keyboards, screen readers."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.servers.organisation import PASSWORD
from tests.servers.person import Person
from tests.servers.service import Service

LANGUAGES = ["ar", "fr", "en"]


@dataclass
class Application:
    """An application of its own address that only says that it was reached; `answers` are the paths asked for."""

    redirect: str
    answers: list[str] = field(default_factory=list)


@pytest.fixture
def application() -> Iterator[Application]:
    answers: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.append(self.path)
            body = b"<!doctype html><title>application</title><link rel=icon href=data:,><h1>application</h1>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Application(f"http://127.0.0.1:{server.server_port}/callback", answers)
        server.shutdown()
        thread.join()


def address(service: Service, application: Application, **more: str) -> str:
    """Return an authorization request of a trusted client of this application."""
    return Person(service.issuer, "").request(
        "test-public", application.redirect, scope="openid roles", **more
    )


def begin(service: Service, context: BrowserContext, application: Application, **more: str) -> Page:
    page = context.new_page()
    page.goto(address(service, application, **more))
    return page


def press(page: Page) -> None:
    """Press the page's main button and wait until the next page has its style."""
    with page.expect_navigation():
        page.locator("main .go").click()


def give_name(page: Page, login: str) -> None:
    page.locator("#username").fill(login)
    press(page)


def give_password(page: Page, login: str) -> None:
    give_name(page, login)
    page.locator("#password").fill(PASSWORD)
    press(page)


# -- impatience (A31, US-12) --------------------------------------------------------------------------------------


def test_a31_double_click_at_the_password_goes_on_as_one(
    service: Service, context: BrowserContext, application: Application
) -> None:
    page = begin(service, context, application)
    give_name(page, "crowd19")
    page.locator("#password").fill(PASSWORD)

    page.locator("main .go").dblclick()

    expect(page.locator("#code")).to_be_visible()


def test_a31_double_click_at_the_password_that_ends_the_flow_reaches_the_application(
    service: Service, context: BrowserContext, application: Application
) -> None:
    page = begin(service, context, application)
    give_name(page, "load03")
    page.locator("#password").fill(PASSWORD)

    page.locator("main .go").dblclick()

    expect(page.locator("h1")).to_have_text("application")
    assert "code=" in application.answers[-1]


def test_a31_double_click_at_the_code_is_no_wrong_code(
    service: Service, context: BrowserContext, application: Application
) -> None:
    page = begin(service, context, application)
    give_password(page, "crowd19")
    page.locator("#code").fill(Person(service.issuer, "crowd19").code())

    page.locator("main .go").dblclick()

    # A browser that gave up the first answer before its cookie came is asked for the password again: an old
    # secret must be worth nothing (A45). It is never told that its code was wrong.
    expect(page.locator("h1")).to_have_text(re.compile("application|Sign in|Enter your password"))
    expect(page.locator(".problem, [role=alert]")).to_have_count(0)


# -- nothing typed is lost but secrets (UX.md) ----------------------------------------------------------------------


def test_changing_the_language_keeps_the_name_that_was_typed(
    service: Service, context: BrowserContext, application: Application
) -> None:
    page = begin(service, context, application)
    give_name(page, "crowd20")

    page.get_by_role("button", name="Français").click()

    expect(page.locator("html")).to_have_attribute("lang", "fr")
    expect(page.locator("main #username")).to_have_value("crowd20")
    expect(page.locator("#password")).to_be_visible()
    assert "crowd20" not in page.url


def test_changing_the_language_stays_on_the_recovery_page_and_survives_the_flow(
    service: Service, context: BrowserContext, application: Application
) -> None:
    page = begin(service, context, application)
    give_password(page, "crowd20")
    page.locator(".aside a").click()

    page.get_by_role("button", name="العربية").click()

    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("input[name=recovery][value='1']").first).to_be_attached()
    page.goto(service.issuer)
    expect(page.locator("html")).to_have_attribute("lang", "ar")


def test_a31_the_same_flow_in_a_second_tab_shows_the_open_step_and_both_tabs_end_well(
    service: Service, context: BrowserContext, application: Application
) -> None:
    first = begin(service, context, application)
    give_name(first, "crowd21")
    second = context.new_page()
    second.goto(first.url)
    give_password(second, "crowd21")
    expect(second.locator("#code")).to_be_visible()

    first.locator("#password").fill(PASSWORD)
    press(first)
    first.locator("#code").fill(Person(service.issuer, "crowd21").code())
    press(first)
    second.reload()

    expect(first.locator("h1")).to_have_text("application")
    # For a minute a finished sign-in leads on instead of ending: its answer may have been lost (ADR 0061).
    expect(second.locator("h1")).to_have_text("application")
    assert len(set(application.answers)) == 2  # two codes; the first, unused, ended with the second


def test_a46_second_person_in_another_tab_ends_the_first_ones_sign_in(
    service: Service, context: BrowserContext, application: Application
) -> None:
    first = begin(service, context, application)
    give_password(first, "load04")
    expect(first.locator("h1")).to_have_text("application")
    second = begin(service, context, application, prompt="login")
    second.locator(".aside a[href*=other]").click()
    give_password(second, "load05")
    expect(second.locator("h1")).to_have_text("application")

    first.goto(service.issuer)

    expect(first.locator("h1")).to_have_text("Load 5")


# -- every page, every language, a small screen ---------------------------------------------------------------------


def walk(
    service: Service, context: BrowserContext, look: Callable[[str, Page], None], application: Application
) -> None:
    """Show the pages one after the other and call `look(name, page)` at each."""
    page = begin(service, context, application)
    look("name", page)
    give_name(page, "newcomer")
    look("password", page)
    page.locator("#password").fill("not the password")
    press(page)
    look("password-wrong", page)
    page.locator("#password").fill(PASSWORD)
    press(page)
    look("enrolment", page)
    page.goto(f"{service.issuer}/sign-out")
    look("sign-out", page)
    press(page)
    look("signed-out", page)
    page.goto(f"{service.issuer}/authorize?client_id=nobody")
    look("protocol-error", page)
    page.goto(f"{service.issuer}/sign-in/unknown")
    look("gone", page)
    page.goto(f"{service.issuer}/no/such/page")
    look("missing", page)
    page.goto(address(service, application))
    give_password(page, "crowd22")
    look("code", page)
    page.locator("#code").fill("000000")
    press(page)
    look("code-wrong", page)
    page.goto(page.url + "?recovery=1")
    look("recovery", page)
    page.goto(f"{service.issuer}/sign-out")
    press(page)
    page.goto(service.issuer)
    give_password(page, "gone")
    look("disabled", page)
    page.goto(service.issuer)
    give_password(page, "load06")
    look("home", page)
    page.goto(address(service, application, prompt="select_account"))
    look("account", page)
    finance = Person(service.issuer, "").request(
        "test-finance", "http://127.0.0.1:9902/callback", scope="openid roles"
    )
    page.goto(finance)
    look("refused", page)
    consent = Person(service.issuer, "").request(
        "test-ask", "http://127.0.0.1:9901/callback", scope="openid email roles"
    )
    page.goto(consent)
    look("consent", page)
    payment = {
        "type": "payment",
        "amount": {"value": "1.00", "currency": "XOF"},
        "creditor": "A" * 120,
        "urgent": True,
    }
    page.goto(
        Person(service.issuer, "").request(
            "test-ask",
            "http://127.0.0.1:9901/callback",
            scope="openid",
            authorization_details=json.dumps([payment]),
        )
    )
    look("details", page)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.rules("core/3.1.2.1/display")
def test_every_page_fits_320_pixels_and_has_large_targets(
    service: Service, context: BrowserContext, application: Application, language: str
) -> None:
    context.clear_cookies()
    context.add_cookies([{"name": "iam-lang", "value": language, "url": service.issuer}])
    problems: list[str] = []

    def look(name: str, page: Page) -> None:
        page.set_viewport_size({"width": 320, "height": 640})
        facts = page.evaluate(
            """() => ({
                lang: document.documentElement.lang, dir: document.documentElement.dir,
                width: document.documentElement.scrollWidth, headings: document.querySelectorAll('h1').length,
                small: [...document.querySelectorAll('button, main a, input:not([type=hidden])')]
                    .map((e) => [e.outerHTML.slice(0, 60), e.getBoundingClientRect()])
                    .filter(([, box]) => box.width < 24 || box.height < 24).map(([html]) => html),
            })"""
        )
        wanted = {"lang": language, "dir": "rtl" if language == "ar" else "ltr", "headings": 1, "small": []}
        found = {key: facts[key] for key in wanted}
        if found != wanted or facts["width"] > 320:
            problems.append(f"{name}: {facts}")

    walk(service, context, look, application)

    assert problems == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_passes_axe(
    service: Service, context: BrowserContext, application: Application, language: str, scheme: str
) -> None:
    context.add_cookies([{"name": "iam-lang", "value": language, "url": service.issuer}])
    problems: list[str] = []
    axe = Axe()

    def look(name: str, page: Page) -> None:
        page.emulate_media(color_scheme=scheme)
        for violation in axe.run(page).response["violations"]:
            targets = [node["target"] for node in violation["nodes"]]
            problems.append(f"{name}: {violation['id']} {targets}")

    walk(service, context, look, application)

    assert problems == []


def test_every_page_can_be_used_with_the_keyboard_alone(
    service: Service, context: BrowserContext, application: Application
) -> None:
    page = begin(service, context, application)
    keyboard = page.keyboard

    expect(page.locator("#username")).to_be_focused()
    keyboard.type("load07")
    keyboard.press("Enter")
    expect(page.locator("#password")).to_be_focused()
    keyboard.type("not the password")
    keyboard.press("Enter")
    expect(page.locator("#problem")).to_be_focused()
    while page.evaluate("document.activeElement.id") != "password":
        keyboard.press("Tab")
    keyboard.type(PASSWORD)
    keyboard.press("Enter")

    expect(page.locator("h1")).to_have_text("application")
    assert "code=" in application.answers[-1]


def test_code_page_takes_arabic_digits_and_leaves_the_field_free(
    service: Service, context: BrowserContext, application: Application
) -> None:
    page = begin(service, context, application)
    give_password(page, "crowd23")
    field = page.locator("#code")
    attributes = {
        name: field.get_attribute(name)
        for name in ("inputmode", "autocomplete", "dir", "maxlength", "pattern", "type")
    }
    assert attributes == {
        "inputmode": "numeric", "autocomplete": "one-time-code", "dir": "ltr", "maxlength": None, "pattern": None,
        "type": "text",
    }  # fmt: skip
    digits = Person(service.issuer, "crowd23").code().translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))

    field.fill(f"{digits[:3]} {digits[3:]}")
    press(page)

    expect(page.locator("h1")).to_have_text("application")
    assert "code=" in application.answers[-1]


def test_no_page_runs_a_script_or_breaks_its_own_policy(
    service: Service, context: BrowserContext, application: Application
) -> None:
    complaints: list[str] = []

    def look(name: str, page: Page) -> None:
        assert page.locator("script").count() == 0, name

    context.on(
        "console",
        lambda message: (
            complaints.append(message.text) if re.search("Content Security|CSP", message.text) else None
        ),
    )
    walk(service, context, look, application)

    assert complaints == []
