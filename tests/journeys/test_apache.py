"""Apache's mod_auth_openidc, which nobody here wrote, with the settings of `docs/clients/apache.md`, in a real browser."""

import json
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, expect

from tests.journeys.test_one_sign_in import forget_used_codes, sign_in
from tests.servers import apache
from tests.servers.apache import Apache
from tests.servers.organisation import CLIENT_SECRET
from tests.servers.postgres import free_port
from tests.servers.service import Service

END_SESSIONS = (
    "from datetime import UTC, datetime\nfrom iam.accounts.selectors import person_by_login\nfrom iam import lifecycle\n"
    "lifecycle.deactivate(person_by_login('{0}'), reason='left', actor='operator:x', now=datetime.now(UTC))"
)


@pytest.fixture(scope="module")
def intranet(service: Service) -> Iterator[Apache]:
    port = free_port()
    # Besides the guide's: a client that calls the API, one that calls another, and the same Apache with forms.
    robot = {"client_secret": CLIENT_SECRET, "grant_types": ["client_credentials"], "trusted": True}
    callers = [
        {"client_id": "intranet-robot", "scope": "register.read register.write", **robot},
        {"client_id": "other-robot", "scope": "demo.read", **robot},
    ]
    for number, client in enumerate([*apache.clients(port), *callers]):
        file = service.folder / f"apache-{number}.json"
        file.write_text(json.dumps([client]))
        service.manage("client", "apply", str(file))
    with apache.running(service.issuer, port, "OIDCInfoHook userinfo access_token") as server:
        yield server


def open_staff(page: Page, intranet: Apache, service: Service, login: str) -> None:
    forget_used_codes(service, login)
    page.goto(f"{intranet.url}/staff/?letter=7")
    sign_in(page, login)
    expect(page.locator("#office")).to_have_text("GVA")


def test_person_signs_in_and_the_page_knows_who_it_is(
    service: Service, intranet: Apache, context: BrowserContext
) -> None:
    page = context.new_page()

    open_staff(page, intranet, service, "omar")

    assert page.url == f"{intranet.url}/staff/?letter=7"
    expect(page.locator("#name")).to_have_text("Omar Haddad")
    expect(page.locator("#roles")).to_have_text("staff")
    expect(page.locator("#acr")).to_have_text("aal2")
    known = page.request.get(f"{intranet.url}/oidc?info=json").json()["userinfo"]
    expect(page.locator("#user")).to_have_text(known["sub"])
    refused = page.goto(f"{intranet.url}/payments/")
    assert refused is not None
    assert refused.status == 403


def test_tokens_are_renewed_and_userinfo_is_read_anew(
    service: Service, intranet: Apache, context: BrowserContext
) -> None:
    page = context.new_page()
    open_staff(page, intranet, service, "caller01")
    first = page.request.get(f"{intranet.url}/oidc?info=json").json()
    time.sleep(1.1)

    again = page.request.get(f"{intranet.url}/oidc?info=json&access_token_refresh_interval=1").json()

    assert first["access_token"] != again["access_token"]
    for seen in (first, again):
        answer = requests.get(
            f"{service.issuer}/userinfo",
            headers={"Authorization": f"Bearer {seen['access_token']}"},
            timeout=10,
        )
        assert answer.json()["sub"] == seen["userinfo"]["sub"]


def test_signing_out_there_signs_out_here(
    service: Service, intranet: Apache, context: BrowserContext
) -> None:
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_staff(page, intranet, service, "caller02")

    page.locator("#sign-out").click()

    expect(page.locator("h1")).to_have_text("Welcome")
    assert page.url == f"{intranet.url}/"
    (ended,) = [url for url in asked if url.startswith(f"{service.issuer}/logout")]
    assert set(parse_qs(urlsplit(ended).query)) >= {"id_token_hint", "post_logout_redirect_uri"}
    page.goto(f"{intranet.url}/staff/")
    expect(page.locator("#username")).to_be_visible()


def test_answer_can_come_by_form(service: Service, intranet: Apache, context: BrowserContext) -> None:
    port = free_port()
    client = {**apache.clients(port)[0], "client_id": "intranet-form"}
    (service.folder / "apache-form.json").write_text(json.dumps([client]))
    service.manage("client", "apply", str(service.folder / "apache-form.json"))
    page = context.new_page()
    asked: list[tuple[str, str]] = []
    page.on("request", lambda request: asked.append((request.method, request.url)))

    with apache.running(service.issuer, port, "OIDCResponseMode form_post", "intranet-form") as server:
        open_staff(page, server, service, "caller04")

        assert ("POST", f"{server.url}/oidc") in asked
        assert [url for _, url in asked if url.startswith(server.url) and "code=" in url] == []


def test_session_that_ends_here_ends_there_within_seconds(
    service: Service, intranet: Apache, context: BrowserContext
) -> None:
    page = context.new_page()
    open_staff(page, intranet, service, "caller03")

    service.python(END_SESSIONS.format("caller03"))

    deadline = time.monotonic() + 10
    while page.locator("#office").count() and time.monotonic() < deadline:
        time.sleep(0.25)
        page.goto(f"{intranet.url}/staff/")
    assert page.url.startswith(service.issuer)
    expect(page.locator("#username")).to_be_visible()


def token_for(service: Service, client: str, scope: str) -> str:
    answer = requests.post(
        f"{service.issuer}/token",
        auth=(client, CLIENT_SECRET),
        data={"grant_type": "client_credentials", "scope": scope},
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def call(url: str, token: str) -> requests.Response:
    return requests.get(
        f"{url}/api/", headers={"Authorization": f"Bearer {token}"} if token else {}, timeout=10
    )


@pytest.mark.parametrize("way", ["url", "asking"], ids=["by-signature", "by-introspection"])
def test_api_lets_in_tokens_for_itself_and_no_others(service: Service, intranet: Apache, way: str) -> None:
    url = getattr(intranet, way)
    good, other = (
        token_for(service, "intranet-robot", "register.write register.read"),
        token_for(service, "other-robot", "demo.read"),
    )
    head, body, signature = good.split(".")
    forged = ".".join((head, body, signature[::-1]))

    assert call(url, good).status_code == 200
    assert {name: call(url, token).status_code for name, token in (("none", ""), ("other", other), ("forged", forged))} == {
        "none": 401, "other": 401, "forged": 401,
    }  # fmt: skip


def test_api_that_asks_learns_of_a_revocation_at_once(service: Service, intranet: Apache) -> None:
    token = token_for(service, "intranet-robot", "register.write register.read")
    assert call(intranet.asking, token).status_code == 200

    answer = requests.post(
        f"{service.issuer}/revoke",
        auth=("intranet-robot", CLIENT_SECRET),
        data={"token": token},
        timeout=10,
    )

    assert answer.status_code == 200
    assert call(intranet.asking, token).status_code == 401
