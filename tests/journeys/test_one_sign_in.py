"""A member of staff opens Correspondence, then Finance: the whole road in a real browser."""

import re
from datetime import UTC, datetime

import pyotp
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.journeys.conftest import Applications
from tests.servers.organisation import PASSWORD, TOTP_SECRET
from tests.servers.service import Service


def forget_used_codes(service: Service, login: str) -> None:
    """A journey is longer than a code lives; forgetting which step was used stands for waiting half a minute."""
    service.python(
        "from mfa.models import TOTPDevice\nfrom iam.accounts.selectors import person_by_login\n"
        f"TOTPDevice.objects.filter(owner=str(person_by_login('{login}').pk)).update(last_step=-1)"
    )


def code_of_now(digits: str = "0123456789") -> str:
    return pyotp.TOTP(TOTP_SECRET).at(datetime.now(UTC)).translate(str.maketrans("0123456789", digits))


def sign_in(page: Page, login: str, digits: str = "0123456789") -> None:
    page.locator("#username").fill(login)
    page.locator("main .go").click()
    page.locator("#password").fill(PASSWORD)
    page.locator("main .go").click()
    page.locator("#code").fill(code_of_now(digits))
    page.locator("main .go").click()


@pytest.mark.parametrize(
    ("language", "login", "office", "digits", "direction"),
    [
        ("ar", "omar", "GVA", "٠١٢٣٤٥٦٧٨٩", "rtl"),
        ("fr", "crowd20", "GVA", "0123456789", "ltr"),
        ("en", "sara", "KBL", "۰۱۲۳۴۵۶۷۸۹", "ltr"),
    ],
)
def test_correspondence_opens_in_each_language(
    service: Service, applications: Applications, context: BrowserContext,
    language: str, login: str, office: str, digits: str, direction: str,
) -> None:  # fmt: skip
    forget_used_codes(service, login)
    page = context.new_page()
    page.goto(applications.correspondence)
    page.locator("#sign-in").click()
    expect(page.locator("html")).to_have_attribute("lang", language)
    expect(page.locator("html")).to_have_attribute("dir", direction)

    sign_in(page, login, digits)

    expect(page.locator("#office")).to_have_text(office)
    expect(page.locator("#roles")).to_have_attribute("data-roles", "staff")
    expect(page.locator("#acr")).to_have_text("aal2")


def test_finance_asks_for_a_fresh_code_only_when_the_factor_is_old_and_refuses_after_revoke(
    service: Service, applications: Applications, context: BrowserContext
) -> None:
    forget_used_codes(service, "amina")
    page = context.new_page()
    page.goto(applications.correspondence)
    page.locator("#sign-in").click()
    sign_in(page, "amina")
    expect(page.locator("#office")).to_have_text("NIM")

    page.goto(applications.finance)
    page.locator("#sign-in").click()
    expect(page.locator("#roles")).to_have_attribute("data-roles", "finance.payer staff")

    service.python(
        "from datetime import timedelta\nfrom django.db.models import F\nfrom iam.accounts.models import LoginSession\n"
        "LoginSession.objects.filter(user__links__login='amina').update(factor_at=F('factor_at') - timedelta(seconds=301))"
    )
    forget_used_codes(service, "amina")
    page.goto(applications.finance + "login")
    expect(page.locator("#code")).to_be_visible()
    expect(page.locator("#password")).to_have_count(0)
    page.locator("#code").fill(code_of_now())
    page.locator("main .go").click()
    expect(page.locator("#roles")).to_have_attribute("data-roles", "finance.payer staff")

    service.manage("access", "revoke", "amina", "finance.payer", "--office", "NIM")
    page.goto(applications.finance + "login")
    expect(page.locator("h1")).to_have_text(
        "Accès refusé"
    )  # Amina's own language, whatever the browser speaks
    page.locator("button.plain").click()
    expect(page.locator("#refused")).to_be_visible()


def test_newcomer_enrols_and_keeps_ten_codes_then_signs_out(
    service: Service, applications: Applications, context: BrowserContext
) -> None:
    page = context.new_page()
    page.goto(applications.correspondence)
    page.locator("#sign-in").click()
    page.locator("#username").fill("newcomer")
    page.locator("main .go").click()
    page.locator("#password").fill(PASSWORD)
    page.locator("main .go").click()
    expect(page.locator(".qr svg")).to_be_visible()
    secret = re.sub(r"\s", "", page.locator(".secret").inner_text())
    page.locator("#code").fill(pyotp.TOTP(secret).at(datetime.now(UTC)))
    page.locator("main .go").click()
    expect(page.locator(".codes li")).to_have_count(10)
    page.locator("main .go").click()
    expect(page.locator("#office")).to_have_text("NIM")

    page.locator("#sign-out").click()

    expect(page.locator("#sign-in")).to_be_visible()
    page.goto(service.issuer)
    expect(page.locator("#username")).to_be_visible()


def test_language_is_one_click_away_and_is_kept(service: Service, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(service.issuer)
    page.get_by_role("button", name="العربية").click()
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    expect(page.locator("#username")).to_be_visible()

    page.goto(service.issuer)

    expect(page.locator("html")).to_have_attribute("lang", "ar")


def test_pages_work_without_javascript_and_within_their_budget(
    service: Service, context: BrowserContext
) -> None:
    page = context.new_page()
    sizes: list[int] = []
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))

    page.goto(service.issuer)
    expect(page.locator("#username")).to_be_visible()

    assert len(sizes) <= 4  # two redirects, the page, its sheet
    assert sum(sizes) <= 30 * 1024
    assert page.locator("script").count() == 0
