"""One sign-out for every application, in a real browser (US-03): who knows it, who could not be reached, old applications."""

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.journeys.conftest import Applications
from tests.servers.organisation import CLIENT_SECRET, PASSWORD
from tests.servers.receivers import away
from tests.servers.service import Service

LOGIN = "plain28"  # an office that asks for no second factor
NAMES = {"ar": "Correspondence ع", "fr": "Correspondence f", "en": "Correspondence"}


@contextlib.contextmanager
def old_application() -> Iterator[tuple[str, list[str]]]:
    """Run an application that only a browser can tell; yield its origin and the addresses that were loaded."""
    loaded: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            loaded.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_address[1]}", loaded
    finally:
        server.shutdown()
        server.server_close()


def apply(service: Service, **client: object) -> None:
    file = service.folder / "another.json"
    whole = {"client_secret": CLIENT_SECRET, "trusted": True, "scope": "openid", **client}
    file.write_text(json.dumps([whole]))
    service.manage("client", "apply", str(file))


def join(service: Service, client: str) -> None:
    """Let a client be part of the newest session, as its first tokens would."""
    service.python(
        "from datetime import UTC, datetime\nfrom django.db import transaction\n"
        "from iam.accounts.models import LoginSession\nfrom iam.oauth.state import DatabaseState\n"
        "session = LoginSession.objects.filter(ended_at=None).latest('created_at')\nstate = DatabaseState()\n"
        f"with transaction.atomic(): state.store.sid(session.pk, state.client('{client}'), datetime.now(UTC))"
    )


def sign_in(page: Page, application: str) -> None:
    page.goto(application)
    page.locator("#sign-in").click()
    page.locator("#username").fill(LOGIN)
    page.locator("main .go").click()
    page.locator("#password").fill(PASSWORD)
    page.locator("main .go").click()
    expect(page.locator("#office")).to_have_text("TEST")


@pytest.fixture
def open_finance(service: Service) -> Iterator[None]:
    """Let everybody into Finance without a second factor, so that one person is in two applications."""
    change = (
        "from iam.access.models import Application\nfrom iam.oauth.versions import touch\nfrom django.db import transaction\n"
        "with transaction.atomic():\n    Application.objects.filter(code='finance').update(admits='{}', second_factor={}, "
        "factor_max_age_seconds={})\n    touch()"
    )
    service.python(change.format("staff", False, None))
    yield
    service.python(change.format("roles", True, 300))


@pytest.mark.usefixtures("open_finance")
def test_us03_sign_out_in_one_application_signs_out_of_the_other_within_seconds(
    applications: Applications, context: BrowserContext
) -> None:
    page, other = context.new_page(), context.new_page()
    sign_in(page, applications.correspondence)
    other.goto(applications.finance)
    other.locator("#sign-in").click()
    expect(other.locator("#office")).to_have_text("TEST")

    began = time.monotonic()
    page.locator("#sign-out").click()
    expect(page.locator("#sign-in")).to_be_visible()  # back in Correspondence
    assert page.url.startswith(applications.correspondence)
    other.reload()
    expect(other.locator("#sign-in")).to_be_visible()

    assert time.monotonic() - began < 10


@pytest.mark.parametrize("language", ["ar", "fr", "en"])
def test_us03_application_that_cannot_be_reached_is_named_and_the_way_back_is_there(
    service: Service, applications: Applications, context: BrowserContext, language: str
) -> None:
    apply(
        service,
        client_id="journey-away",
        client_name="Archive of 1969",
        redirect_uris=["http://127.0.0.1:9960/callback"],
        backchannel_logout_uri=away(),
    )
    page = context.new_page()
    sign_in(page, applications.correspondence)
    page.goto(service.issuer)
    page.locator(f".languages button[value={language}]").click()
    join(service, "journey-away")
    page.goto(applications.correspondence)

    page.locator("#sign-out").click()

    expect(page.locator("#not-reached li")).to_have_text(["Archive of 1969"])
    expect(page.locator("html")).to_have_attribute("lang", language)
    for width in (320, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("main a.go").click()
    expect(page.locator("#sign-in")).to_be_visible()


@pytest.mark.rules("front-logout/2/frame", "front-logout/3/sid-in-id-token")
def test_front_channel_old_application_is_told_by_the_browser_before_it_returns(
    service: Service, applications: Applications, context: BrowserContext
) -> None:
    with old_application() as (origin, loaded):
        apply(
            service,
            client_id="journey-old",
            redirect_uris=[f"{origin}/callback"],
            frontchannel_logout_uri=f"{origin}/out?kept=1",
            frontchannel_logout_session_required=True,
        )
        page = context.new_page()
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text))
        sign_in(page, applications.correspondence)
        join(service, "journey-old")

        page.locator("#sign-out").click()
        expect(page.locator("#sign-in")).to_be_visible()

        (address,) = [path for path in loaded if path.startswith("/out")]
        query = parse_qs(urlsplit(address).query)
        assert query["kept"] == ["1"]
        assert query["iss"] == [service.issuer]
        assert len(query["sid"][0]) >= 22
        assert [text for text in refused if "Content Security Policy" in text] == []


def test_us03_deactivation_signs_out_of_the_application(
    service: Service, applications: Applications, context: BrowserContext
) -> None:
    page = context.new_page()
    sign_in(page, applications.correspondence)

    service.python(
        "from datetime import UTC, datetime\nfrom iam import lifecycle\nfrom iam.accounts.selectors import person_by_login\n"
        f"lifecycle.deactivate(person_by_login('{LOGIN}'), reason='left', actor='operator:x', now=datetime.now(UTC))"
    )

    deadline = time.monotonic() + 10
    while page.locator("#office").count() and time.monotonic() < deadline:
        time.sleep(0.25)
        page.reload()
    expect(page.locator("#sign-in")).to_be_visible()
