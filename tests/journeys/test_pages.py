"""The pages themselves, in a real browser: clicks that people really make, small screens, keyboards, screen readers."""

from __future__ import annotations

from playwright.sync_api import BrowserContext, Page, Request, expect

from tests.servers.organisation import PASSWORD
from tests.servers.person import Person
from tests.servers.service import Service

LANGUAGES = ["ar", "fr", "en"]


def begin(service: Service, context: BrowserContext, **more: str) -> tuple[Page, list[str]]:
    """Open an application's request; its own address answers with a word, and is remembered."""
    answers: list[str] = []

    def application(route, request: Request) -> None:
        answers.append(request.url)
        route.fulfill(body="<h1>application</h1>", content_type="text/html")

    context.route("http://127.0.0.1:9900/**", application)
    page = context.new_page()
    page.goto(Person(service.issuer, "").request(**more))
    return page, answers


def give_name(page: Page, login: str) -> None:
    page.locator("#username").fill(login)
    page.locator("main .go").click()


def give_password(page: Page, login: str) -> None:
    give_name(page, login)
    page.locator("#password").fill(PASSWORD)
    page.locator("main .go").click()


# -- impatience (A31, US-12) --------------------------------------------------------------------------------------


def test_a31_double_click_at_the_password_goes_on_as_one(service: Service, context: BrowserContext) -> None:
    page, _ = begin(service, context)
    give_name(page, "crowd19")
    page.locator("#password").fill(PASSWORD)

    page.locator("main .go").dblclick()

    expect(page.locator("#code")).to_be_visible()


def test_a31_double_click_at_the_password_that_ends_the_flow_reaches_the_application(
    service: Service, context: BrowserContext
) -> None:
    page, answers = begin(service, context)
    give_name(page, "load03")
    page.locator("#password").fill(PASSWORD)

    page.locator("main .go").dblclick()

    expect(page.locator("h1")).to_have_text("application")
    assert "code=" in answers[-1]


def test_a31_double_click_at_the_code_reaches_the_application(
    service: Service, context: BrowserContext
) -> None:
    page, answers = begin(service, context)
    give_password(page, "crowd19")
    page.locator("#code").fill(Person(service.issuer, "crowd19").code())

    page.locator("main .go").dblclick()

    expect(page.locator("h1")).to_have_text("application")
    assert "code=" in answers[-1]
