"""Pictures of every page, for eyes: `make screenshots` writes var/screenshots/PAGE-LANGUAGE-WIDTH-SCHEME.png.

Needs `IAM_THROTTLE_EXEMPT_NETWORKS=127.0.0.1/32 make run` in another terminal, since it fails on purpose more often than
people do; walks the real service with its sample people. Words after the module's name choose:
`python -m tests.journeys.screenshots ar-320-dark`. Two pages are missing, since neither is seen while all is
well: the directory that is away, and our own fault.
"""

import base64
import contextlib
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pyotp
import requests
from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

from deploy.demo import device

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "var" / "screenshots"
WIDTHS = (320, 1280)
# Where applications of ours would be: the browser is answered here and not sent there.
ELSEWHERE = "http://127.0.0.1:9/callback"
VERIFIER = "v" * 64
AWAY = {
    "client_id": "screenshots-away", "client_name": "Archive of 1969", "token_endpoint_auth_method": "none",
    "redirect_uris": ["http://127.0.0.1/callback"], "backchannel_logout_uri": "http://127.0.0.1:9/told",
    "scope": "openid", "application": "demo", "trusted": True,
}  # fmt: skip
WITH_A_PHONE = itertools.cycle(["sara", "omar", "amina", "niamey.admin", "central.admin"])
PAYMENT = {
    "type": "payment",
    "amount": "125000.00",
    "currency": "XOF",
    "creditor": "Centre hospitalier régional de Tillabéri",
}


def main() -> None:
    """Take every picture."""
    try:
        demo = json.loads((ROOT / "var" / "demo.json").read_text(encoding="utf-8"))
    except OSError:
        raise SystemExit("var/demo.json is not there: start `make run` in another terminal first.") from None
    TARGET.mkdir(exist_ok=True)
    wanted = set(sys.argv[1:])
    apply(AWAY)
    # A page of a first time is seen once by each person; the walk takes the next who has not seen it.
    fresh = iter(
        [one for one in demo["people"] if "." in one["username"] and not one["totp_secret"] and not one["disabled"]]
    )  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        for language in ("ar", "fr", "en"):
            for width in WIDTHS:
                for scheme in ("light", "dark"):
                    if not wanted or f"{language}-{width}-{scheme}" in wanted:
                        Walk(browser, demo, language, width, scheme).all(fresh)
        browser.close()
    print(f"pictures are in {TARGET.relative_to(ROOT)}/")


def apply(client: dict[str, Any]) -> None:
    """Register a client, as an operator would."""
    given = dict(re.findall(r"^export (\w+)='(.*)'$", (ROOT / "var" / "env").read_text(), re.MULTILINE))
    file = TARGET / "client.json"
    file.write_text(json.dumps([client]))
    subprocess.run(
        [sys.executable, "manage.py", "client", "apply", str(file)], cwd=ROOT, env={**os.environ, **given},
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    file.unlink()


class Walk:
    """One language, one width, one scheme, through every page."""

    def __init__(
        self, browser: Browser, demo: dict[str, Any], language: str, width: int, scheme: str
    ) -> None:
        self.browser, self.demo, self.language = browser, demo, language
        self.kind = f"{language}-{width}-{scheme}"
        self.size, self.scheme = {"width": width, "height": 800}, scheme
        self.people = {person["username"]: person for person in demo["people"]}
        self.issuer = demo["issuer"]

    def all(self, fresh: Iterator[dict[str, Any]]) -> None:
        """Take all pictures."""
        for part in (
            self.beginning,
            self.second_factor,
            self.ends,
            self.consent,
            self.accounts,
            self.devices,
            self.errors,
        ):
            with self.visit() as page:
                part(page)
        with self.visit() as page:
            self.first_time(page, fresh)
        with self.visit(scripts=False) as page:
            page.goto(self.request("test-consent", response_mode="form_post", prompt="none"))
            self.take(page, "form-post")

    @contextlib.contextmanager
    def visit(self, *, scripts: bool = True) -> Iterator[Page]:
        """Open a browser that nobody used; the language is an explicit choice."""
        context: BrowserContext = self.browser.new_context(
            locale=self.language, viewport=self.size, color_scheme=self.scheme, java_script_enabled=scripts
        )
        context.add_cookies([{"name": "iam-lang", "value": self.language, "url": self.issuer}])
        context.route(f"{ELSEWHERE}**", answer_in_its_place)
        page = context.new_page()
        page.set_default_timeout(10_000)
        yield page
        context.close()

    def take(self, page: Page, name: str) -> None:
        """Take a picture of the whole page, and complain if it is wider than the screen."""
        page.wait_for_load_state()
        page.screenshot(path=TARGET / f"{name}-{self.kind}.png", full_page=True)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > self.size["width"]:
            print(f"{name}-{self.kind}: {width} wide")

    def request(self, client: str, **more: str) -> str:
        """Return an authorization request."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": client, "redirect_uri": ELSEWHERE, "response_type": "code", "scope": "openid", "state": "s",
            "code_challenge": challenge, "code_challenge_method": "S256", **more,
        }  # fmt: skip
        return f"{self.issuer}/authorize?{urlencode(query)}"

    def give_password(self, page: Page, login: str) -> None:
        """Fill in the first two pages."""
        page.locator("#username").fill(login)
        page.locator("main .go").click()
        page.locator("#password").fill(self.people[login]["password"])
        page.locator("main .go").click()
        page.wait_for_load_state()

    def beginning(self, page: Page) -> None:
        """The application, the name, the password."""
        page.goto(self.demo["applications"][0]["url"])
        self.take(page, "app-start")
        page.locator("#sign-in").click()
        self.take(page, "name")
        page.locator("#username").fill("sara")
        page.locator("main .go").click()
        self.take(page, "password")
        page.locator("#password").fill("wrong-on-purpose")
        page.locator("main .go").click()
        self.take(page, "password-wrong")
        page.locator("#password").fill(self.people["sara"]["password"])
        page.locator("main .go").click()

    def second_factor(self, page: Page) -> None:
        """The code, and what stands for it."""
        login = next(WITH_A_PHONE)
        page.goto(self.issuer)
        self.give_password(page, login)
        self.take(page, "code")
        page.locator("#code").fill("000000")
        page.locator("main .go").click()
        self.take(page, "code-wrong")
        page.goto(page.url.partition("?")[0] + "?recovery=1")
        self.take(page, "recovery")
        page.goto(page.url.partition("?")[0])
        page.locator("#code").fill(pyotp.TOTP(self.people[login]["totp_secret"]).at(datetime.now(UTC)))
        page.locator("main .go").click()  # success takes the failures back
        page.wait_for_load_state()

    def first_time(self, page: Page, fresh: Iterator[dict[str, Any]]) -> None:
        """The second factor is set up, the ten codes are shown."""
        for person in fresh:
            page.context.clear_cookies(name=re.compile("^(?!iam-lang)"))
            page.goto(self.issuer)
            self.give_password(page, person["username"])
            if page.locator(".qr").count():
                break
        self.take(page, "enrolment")
        secret = re.sub(r"\s", "", page.locator(".secret").inner_text())
        page.locator("#code").fill(pyotp.TOTP(secret).at(datetime.now(UTC)))
        page.locator("main .go").click()
        page.locator(".codes").wait_for()
        self.take(page, "recovery-codes")

    def ends(self, page: Page) -> None:
        """Signing out, applications that could not be told; people who are not let in."""
        page.goto(self.request(AWAY["client_id"]))
        self.give_password(page, "load01")
        page.locator("#called").wait_for()
        redeem(self.issuer, page.url)
        page.goto(self.issuer)
        self.take(page, "home")
        page.goto(self.demo["applications"][1]["url"] + "login")
        self.take(page, "refused")
        page.goto(f"{self.issuer}/logout?client_id=test-consent")
        self.take(page, "sign-out")
        page.locator("main .go").click()
        page.locator("h1").wait_for()
        page.wait_for_timeout(500)  # the deliverer's first try
        page.reload()
        self.take(page, "signed-out-not-reached")
        page.goto(self.issuer)
        self.give_password(page, "gone")
        self.take(page, "disabled")

    def consent(self, page: Page) -> None:
        """What an application receives, and what it may do."""
        page.goto(self.request("test-consent", scope="openid profile email roles"))
        self.give_password(page, "load02")
        self.take(page, "consent")
        details = json.dumps([PAYMENT], ensure_ascii=False)
        page.goto(self.request("test-consent", scope="openid profile", authorization_details=details))
        self.take(page, "consent-details")

    def accounts(self, page: Page) -> None:
        """Who is signed in, and once more."""
        page.goto(self.issuer)
        self.give_password(page, "load03")
        page.goto(self.request(AWAY["client_id"], prompt="select_account"))
        self.take(page, "select-account")
        page.goto(self.request(AWAY["client_id"], prompt="login"))
        self.take(page, "step-up")
        page.goto(f"{self.issuer}/sign-out")
        page.locator("main .go").click()
        page.locator("h1").wait_for()
        self.take(page, "signed-out")

    def devices(self, page: Page) -> None:
        """A screen is let in."""
        form = {"client_id": device.CLIENT, "scope": "openid profile email roles"}
        begun = requests.post(f"{self.issuer}/device_authorization", data=form, timeout=10).json()
        page.goto(f"{self.issuer}/device")
        self.give_password(page, "load04")
        self.take(page, "device")
        page.locator("#user_code").fill("BCDF-GHJK")
        page.locator("main .go").click()
        self.take(page, "device-wrong")
        page.goto(begun["verification_uri_complete"])
        self.take(page, "device-code-filled")
        page.locator("main .go").click()
        page.locator(".warning").wait_for()
        self.take(page, "device-question")
        page.locator("[value=let_in]").click()
        page.wait_for_url("**/device/confirmed")
        self.take(page, "device-confirmed")
        for outcome in ("refused", "gone"):
            page.goto(f"{self.issuer}/device/{outcome}")
            self.take(page, f"device-{outcome}")

    def errors(self, page: Page) -> None:
        """What went wrong."""
        page.goto(f"{self.issuer}/authorize?client_id=nobody")
        page.locator("summary").click()
        self.take(page, "protocol-error")
        page.goto(self.request("test-consent", request_uri="urn:ietf:params:oauth:request_uri:used"))
        self.take(page, "link-used")
        page.goto(f"{self.issuer}/sign-in/unknown")
        self.take(page, "gone")
        page.goto(f"{self.issuer}/no-such-page")
        self.take(page, "missing")
        page.goto(self.issuer)
        page.context.clear_cookies(name=re.compile("^(?!iam-lang)"))
        page.locator("#username").fill("sara")
        page.locator("main .go").click()
        self.take(page, "form-not-ours")


def answer_in_its_place(route: Route) -> None:
    """Be the application."""
    route.fulfill(
        status=200, content_type="text/html", body='<title>application</title><p id="called">called'
    )


def redeem(issuer: str, called: str) -> None:
    """Get the tokens, so that the application is one of the session's."""
    form = {
        "grant_type": "authorization_code", "client_id": AWAY["client_id"], "redirect_uri": ELSEWHERE, "code_verifier": VERIFIER,
        "code": parse_qs(urlsplit(called).query)["code"][0],
    }  # fmt: skip
    requests.post(f"{issuer}/token", data=form, timeout=10).raise_for_status()


if __name__ == "__main__":
    main()
