"""A payment needs a fresh sign-in: the API's challenge leads to the sign-in page and back to the approved payment."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from playwright.sync_api import BrowserContext, Request, expect

from tests.journeys.conftest import Applications
from tests.journeys.test_one_sign_in import code_of_now, forget_used_codes, sign_in
from tests.servers.organisation import PASSWORD
from tests.servers.service import Service

LAST_SIGN_IN = (
    "from datetime import timedelta\nfrom django.db.models import F\nfrom iam.accounts.models import LoginSession\n"
    "LoginSession.objects.filter(user__links__login='amina').update("
    "password_at=F('password_at') - timedelta(seconds={0}), factor_at=F('factor_at') - timedelta(seconds={0}))"
)


def watch(context: BrowserContext) -> list[dict[str, list[str]]]:
    """Note the authorization requests that the browser makes."""
    asked: list[dict[str, list[str]]] = []

    def note(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.path == "/authorize":
            asked.append(parse_qs(parts.query))

    context.on("request", note)
    return asked


@pytest.mark.spec(
    "RFC 9470", "4", "the client asks for what the challenge named, and the new token is let in"
)
def test_us35_old_sign_in_is_stepped_up_and_the_payment_approved(
    service: Service, applications: Applications, context: BrowserContext
) -> None:
    forget_used_codes(service, "amina")
    page, asked = context.new_page(), watch(context)
    page.goto(applications.finance)
    page.locator("#sign-in").click()
    sign_in(page, "amina")
    page.locator("#approve").click()
    expect(page.locator("#approved")).to_be_visible()  # this sign-in is fresh: nothing is asked
    assert len(asked) == 1
    assert "max_age" not in asked[0]

    service.python(LAST_SIGN_IN.format(200))
    forget_used_codes(service, "amina")
    page.goto(applications.finance + "login")  # signed in still, by a token that says how old the sign-in is
    expect(page.locator("#approve")).to_be_visible()
    page.locator("#approve").click()

    expect(page.locator("#password")).to_be_visible()
    assert (asked[-1]["acr_values"], asked[-1]["max_age"]) == (["aal2"], ["120"])
    page.locator("#password").fill(PASSWORD)
    page.locator("main .go").click()
    if page.locator("#code").count():
        page.locator("#code").fill(code_of_now())
        page.locator("main .go").click()
    expect(page.locator("#approved")).to_be_visible()
    expect(page.locator("small")).to_contain_text('"office": "NIM"')


def test_finance_api_answers_nobody_without_a_token_and_describes_itself(applications: Applications) -> None:
    answer = requests.get(f"{applications.finance}api/payments", timeout=10)

    assert answer.status_code == 401
    found = re.search(r'resource_metadata="([^"]+)"', answer.headers["WWW-Authenticate"])
    assert found
    described = requests.get(found[1], timeout=10).json()
    assert described["resource"] == f"{applications.finance}api"
    assert described["scopes_supported"] == ["payments.approve"]
