"""A scripted person: follows redirects, fills in forms by their field names, posts hidden fields back."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import pyotp
import requests

from tests.servers.organisation import CLIENT_SECRET, PASSWORD, TOTP_SECRET


@dataclass
class Form:
    """One form of a page."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """What a script sees of a page: its language, its forms, its text."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__()
        self.response = response
        self.forms: list[Form] = []
        self.attributes: dict[str, str] = {}
        self.text = ""
        self.feed(response.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "html":
            self.attributes = given
        elif tag == "form":
            action = urljoin(self.response.url, given.get("action", ""))
            self.forms.append(Form(action, given.get("method", "get").lower()))
        elif tag == "input" and self.forms and given.get("name"):
            self.forms[-1].fields[given["name"]] = given.get("value", "")

    def handle_data(self, data: str) -> None:
        self.text += data

    def form_with(self, name: str) -> Form:
        for form in self.forms:
            if name in form.fields:
                return form
        raise AssertionError(f"no form with {name!r} on {self.response.url}: {self.text[:400]}")

    def has(self, name: str) -> bool:
        return any(name in form.fields for form in self.forms)


class Person:
    """One browser in the hands of one person."""

    def __init__(
        self,
        issuer: str,
        login: str,
        password: str = PASSWORD,
        language: str = "en",
        totp_secret: str = TOTP_SECRET,
    ) -> None:
        self.issuer, self.login, self.password, self.totp_secret = issuer, login, password, totp_secret
        self.browser = requests.Session()
        self.browser.headers["Accept-Language"] = language
        self.verifier = secrets.token_urlsafe(40)
        self.steps_taken = 0

    def code(self) -> str:
        """Return the code of now; every further one is a step later, as a phone would show it (drift 1 allows it once)."""
        at = datetime.now(UTC).timestamp() + 30 * min(self.steps_taken, 1)
        self.steps_taken += 1
        return pyotp.TOTP(self.totp_secret).at(int(at))

    def request(
        self, client: str = "test-web", redirect: str = "http://127.0.0.1:9900/callback", **more: str
    ) -> str:
        challenge = (
            base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        )
        parameters = {
            "client_id": client, "redirect_uri": redirect, "response_type": "code", "scope": "openid profile roles",
            "state": "st", "nonce": "no", "code_challenge": challenge, "code_challenge_method": "S256", **more,
        }  # fmt: skip
        return f"{self.issuer}/authorize?{urlencode(parameters)}"

    def open(self, address: str) -> "Page | dict[str, str]":
        """Go to an address and on through redirects: a page, or the answer that an application would get."""
        return self._follow(self.browser.get(address, allow_redirects=False))

    def submit(self, page: Page, name: str, **values: str) -> "Page | dict[str, str]":
        """Post the form that has a field, with some fields filled in and the hidden ones as they are."""
        form = page.form_with(name)
        response = self.browser.post(
            form.action, data={**form.fields, **values}, allow_redirects=False,
            headers={"Origin": self.issuer, "Referer": page.response.url},
        )  # fmt: skip
        return self._follow(response)

    def _follow(self, response: requests.Response) -> "Page | dict[str, str]":
        for _ in range(10):
            if response.status_code not in {301, 302, 303}:
                return Page(response)
            location = urljoin(response.url, response.headers["Location"])
            if not location.startswith(self.issuer + "/"):
                return dict(parse_qsl(urlsplit(location).query, keep_blank_values=True))
            response = self.browser.get(location, allow_redirects=False)
        raise AssertionError("too many redirects")

    def sign_in(self, address: str | None = None) -> dict[str, str]:
        """Answer every question until the application gets its answer."""
        result = self.go_on(self.open(address or self.request()))
        assert isinstance(result, dict), result.text
        return result

    def go_on(self, result: "Page | dict[str, str]", stop_at: str = "") -> "Page | dict[str, str]":
        """Fill in what each page asks for."""
        for _ in range(8):
            if isinstance(result, dict) or (stop_at and result.has(stop_at)):
                return result
            if result.has("code"):
                result = self.submit(result, "code", code=self.code())
            elif result.has("password"):
                result = self.submit(result, "password", password=self.password)
            elif result.has("username"):
                result = self.submit(result, "username", username=self.login)
            else:
                return result
        return result

    def let_in(self, address: str, user_code: str) -> None:
        """Type a device's code at the address that it shows, and say yes."""
        page = self.go_on(self.open(address), stop_at="user_code")
        assert isinstance(page, Page)
        asked = self.submit(page, "user_code", user_code=user_code)
        assert isinstance(asked, Page)
        assert isinstance(self.submit(asked, "consent", decision="let_in"), Page)

    def tokens(
        self,
        answer: dict[str, str],
        client: str = "test-web",
        redirect: str = "http://127.0.0.1:9900/callback",
    ) -> dict[str, Any]:
        """Exchange a code."""
        response = requests.post(
            f"{self.issuer}/token", auth=(client, CLIENT_SECRET), timeout=20,
            data={"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": redirect,
                  "code_verifier": self.verifier},
        )  # fmt: skip
        assert response.status_code == 200, response.text
        return dict(response.json())
