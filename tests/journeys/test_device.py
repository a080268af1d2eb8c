"""A screen without a keyboard, a person with a browser, and the browser's own habits. Spec: RFC 8628 §3.3."""

from typing import Any

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.servers.organisation import DEVICE_CODE
from tests.servers.service import Service

from .test_pages import LANGUAGES, give_password, press


def begin(service: Service) -> dict[str, Any]:
    response = requests.post(
        f"{service.issuer}/device_authorization",
        data={"client_id": "test-device", "scope": "openid profile roles demo.read"},
        timeout=20,
    )
    assert response.status_code == 200, response.text
    return response.json()


def poll(service: Service, begun: dict[str, Any]) -> dict[str, Any]:
    form = {"client_id": "test-device", "grant_type": DEVICE_CODE, "device_code": begun["device_code"]}
    return requests.post(f"{service.issuer}/token", data=form, timeout=20).json()


def to_question(service: Service, context: BrowserContext, begun: dict[str, Any], login: str) -> Page:
    page = context.new_page()
    page.goto(begun["verification_uri_complete"])
    give_password(page, login)
    expect(page.locator("#user_code")).to_have_value(begun["user_code"])
    press(page)
    return page


def test_screen_is_let_in_by_a_person_who_reads_first(service: Service, context: BrowserContext) -> None:
    begun = begin(service)
    page = to_question(service, context, begun, "screen18")

    expect(page.locator(".warning")).to_contain_text("Did you start this yourself?")
    expect(page.locator(".facts")).to_contain_text("Meeting room screen")
    assert poll(service, begun)["error"] == "authorization_pending"
    page.locator("[value=let_in]").click()

    expect(page).to_have_url(f"{service.issuer}/device/confirmed")
    assert "access_token" in poll(service, begun)


def test_double_click_and_the_way_back_end_where_the_first_click_did(
    service: Service, context: BrowserContext
) -> None:
    begun = begin(service)
    page = to_question(service, context, begun, "screen19")
    question = page.url

    page.locator("[value=let_in]").dblclick()

    expect(page).to_have_url(f"{service.issuer}/device/confirmed")
    page.goto(question)
    expect(page).to_have_url(f"{service.issuer}/device/confirmed")
    assert "access_token" in poll(service, begun)


def test_language_can_be_changed_without_answering(service: Service, context: BrowserContext) -> None:
    begun = begin(service)
    page = to_question(service, context, begun, "screen20")

    page.locator(".languages [value=ar]").click()

    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator(".warning")).to_contain_text("هل بدأت هذا بنفسك؟")
    page.locator("[value=turn_away]").click()
    expect(page).to_have_url(f"{service.issuer}/device/refused")
    assert poll(service, begun)["error"] == "access_denied"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_device_pages_pass_axe_and_fit_a_small_screen(
    service: Service, context: BrowserContext, language: str, scheme: str
) -> None:
    context.add_cookies([{"name": "iam-lang", "value": language, "url": service.issuer}])
    axe, problems = Axe(), []

    def look(name: str) -> None:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": 320, "height": 640})
        if page.evaluate("document.documentElement.scrollWidth > 320"):
            problems.append(f"{name}: wider than the screen")
        for violation in axe.run(page).response["violations"]:
            problems.append(f"{name}: {violation['id']} {[node['target'] for node in violation['nodes']]}")

    page = to_question(service, context, begin(service), "screen21")
    look("question")
    page.goto(f"{service.issuer}/device")
    look("code")
    page.locator("#user_code").fill("BCDF-GHJK")
    press(page)
    look("wrong code")
    for outcome in ("confirmed", "refused", "gone"):
        page.goto(f"{service.issuer}/device/{outcome}")
        look(outcome)

    assert problems == []
