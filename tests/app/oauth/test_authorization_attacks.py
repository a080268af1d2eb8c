"""A01-A10 on every road that a request can take: in the address, pushed, signed, and signed and pushed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.test import Client as Browser

from iam.accounts import cookies
from iam.audit.facts import RequestFacts
from iam.oauth import interactions
from iam.oauth.clients import apply_all
from iam.oauth.models import Client, Consent, Grant
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.messages import Answer, ErrorPage, Interaction, Need, Response

from .conftest import CLIENTS, SECRET, World, answer_of, claims_of
from .test_hostile import EVIL

pytestmark = pytest.mark.django_db
ISSUER = "http://localhost:8000"
PRIVATE = ec.generate_private_key(ec.SECP256R1())
JWKS = {"keys": [json.loads(jwt.algorithms.ECAlgorithm.to_jwk(PRIVATE.public_key())) | {"alg": "ES256"}]}
FACTS = RequestFacts(request_id=str(uuid4()), address="192.0.2.1", user_agent="")
ROADS = ["address", "pushed", "signed", "signed and pushed"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A push that was refused: as good as a page, for no browser moved."""

    error: str


Send = Callable[..., Answer | Refused]


@pytest.fixture(params=ROADS)
def send(request: pytest.FixtureRequest, world: World) -> Send:
    """Send an authorization request of a client by one of the roads."""
    road = request.param
    Client.objects.update(client_jwks=JWKS)

    def signed(wanted: dict[str, str], client: str) -> dict[str, str]:
        at = int(world.now.timestamp())
        claims = {**wanted, "iss": client, "aud": ISSUER, "exp": at + 60, "nbf": at}
        return {"client_id": client, "request": jwt.encode(claims, PRIVATE, algorithm="ES256")}

    def go(client: str = "web", **changes: str | None) -> Answer | Refused:
        wanted = world.wanted(client, **changes)
        if "signed" in road:
            wanted = signed(wanted, client)
        if "pushed" not in road:
            return world.visit(**wanted)
        response = world.post("/par", client, None if client == "public" else SECRET, **wanted)
        value = json.loads(response.body)
        if response.status != 201:
            return Refused(value["error"])
        return world.visit(client_id=client, request_uri=value["request_uri"])

    return go


def is_stopped(answer: Answer | Refused) -> bool:
    """Say whether the browser was sent nowhere."""
    return isinstance(answer, ErrorPage | Refused)


def error_of(answer: Answer | Refused) -> str:
    return answer.error if isinstance(answer, ErrorPage | Refused) else answer_of(answer)["error"]


# -- A01, A02, A03: where an answer may go ---------------------------------------------------------------------------


@pytest.mark.parametrize("uri", [None, "https://evil.example/cb", "https://other.example/cb"])
@pytest.mark.parametrize(
    "changes", [{}, {"prompt": "none"}, {"response_type": "token"}, {"scope": "x"}], ids=str
)
@pytest.mark.rules("fapi/5.3.2.1/7", "core/3.1.2.1/redirect-exact", "rfc9700/2.1/open-redirector")
def test_a01_nothing_is_redirected_before_client_and_address_fit(
    uri: str | None, changes: dict[str, str], send: Send, world: World
) -> None:
    world.sign_in()

    assert is_stopped(send(redirect_uri=uri, **changes))
    assert not Grant.objects.exists()


@pytest.mark.rules("core/3.1.2.1/redirect-exact", "rfc9700/2.1/exact")
def test_a02_address_that_is_not_exactly_registered_is_refused_on_every_road(
    send: Send, world: World
) -> None:
    world.sign_in()

    assert [uri for uri in EVIL if not is_stopped(send(redirect_uri=uri))] == []


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:5001/cb", "http://127.0.0.1/cb", "http://127.0.0.1:65535/cb"]
)
@pytest.mark.spec("RFC 8252", "7.3", "any port of a loopback address")
@pytest.mark.rules("rfc8252/7.3/any-port")
def test_loopback_address_of_a_native_client_on_every_road(uri: str, send: Send, world: World) -> None:
    world.sign_in()

    answer = send("public", redirect_uri=uri)

    assert isinstance(answer, Response)
    assert dict(answer.headers)["Location"].startswith(uri + "?code=")


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:5001/cb/x", "http://[::1]:5001/cb", "http://localhost:5001/cb"]
)
@pytest.mark.rules("rfc8252/8.4/registered", "rfc9700/2.1/exact")
def test_a02_loopback_address_that_differs_in_more_than_its_port_on_every_road(
    uri: str, send: Send, world: World
) -> None:
    world.sign_in()

    assert is_stopped(send("public", redirect_uri=uri))


PATTERNS = [
    "https://*.web.example/cb",
    "https://web.example/.*",
    "https://web.example/cb?*",
    ".*",
    "*",
    "https://*",
]
MATCHES = [
    "https://a.web.example/cb",
    "https://webxexample/cb",
    "https://web.example/x",
    "https://evil.example/cb",
]


@pytest.mark.parametrize("uri", MATCHES)
def test_a03_a_dot_and_a_pattern_match_nothing_but_themselves(uri: str, world: World) -> None:
    """Patterns cannot be registered; a row that has them all the same opens nothing."""
    world.sign_in()
    Client.objects.filter(client_id="web").update(redirect_uri_list=["https://web.example/cb", *PATTERNS])

    assert isinstance(world.authorize(redirect_uri=uri), ErrorPage)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a03_a_pattern_cannot_be_registered(pattern: str, world: World) -> None:
    (web,) = [one for one in CLIENTS if one["client_id"] == "web"]

    with pytest.raises(MetadataError, match="redirect_uris"):
        apply_all([{**web, "redirect_uris": [pattern]}], world.now, "system:test")


@pytest.mark.parametrize(
    "uri",
    [
        "javascript:alert(1)//",
        "data:text/html,x",
        "vbscript:x",
        "blob:https://web.example/x",
        "file:///etc/passwd",
    ],
)
def test_a04_address_that_a_browser_runs_can_be_neither_registered_nor_used(
    uri: str, send: Send, world: World
) -> None:
    world.sign_in()
    (web,) = [one for one in CLIENTS if one["client_id"] == "web"]

    assert is_stopped(send(redirect_uri=uri, response_mode="form_post"))
    with pytest.raises(MetadataError, match="redirect_uris"):
        apply_all([{**web, "redirect_uris": [uri]}], world.now, "system:test")


# -- A05, A06: what may be asked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response_type",
    [
        "token",
        "id_token",
        "code token",
        "code id_token",
        "code id_token token",
        "none",
        "code code",
        " code",
        "CODE",
        None,
    ],
)
@pytest.mark.rules(
    "fapi/5.3.2.2/1", "core/3.1.2.1/response-type", "core/3.1.2.2/required", "rfc9700/2.1.2/implicit"
)
def test_a05_only_a_code_can_be_asked_for(response_type: str | None, send: Send, world: World) -> None:
    world.sign_in()

    assert error_of(send(response_type=response_type)) in {"unsupported_response_type", "invalid_request"}
    assert not Grant.objects.exists()


@pytest.mark.parametrize("mode", ["fragment", "fragment.jwt", "web_message", "okta_post_message"])
def test_a05_no_answer_travels_in_a_fragment(mode: str, send: Send, world: World) -> None:
    world.sign_in()

    answer = send(response_mode=mode)

    assert error_of(answer) == "invalid_request"
    if isinstance(answer, Response):
        assert "#" not in dict(answer.headers)["Location"]


@pytest.mark.parametrize("change", [{"grant_types": ["client_credentials"]}, {"enabled": False}], ids=str)
def test_a05_what_the_client_may_do_is_checked_again_when_the_code_is_made(
    change: dict[str, Any], send: Send, world: World
) -> None:
    waiting = send()
    assert isinstance(waiting, Interaction)
    handle = interactions.park(waiting, "b" * 43, world.now)
    Client.objects.filter(client_id="web").update(**change)
    world.sign_in()  # forgets what was remembered of the client
    world.visit()
    parked = interactions.load(handle, "b" * 43, world.now)
    assert parked is not None

    done = interactions.evaluate(parked, world.session, FACTS, world.now)

    assert isinstance(done, ErrorPage)
    assert not Grant.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None}, {"code_challenge_method": None}, {"code_challenge_method": "plain"},
        {"code_challenge_method": "s256"}, {"code_challenge": "short"}, {"code_challenge": "x" * 44},
        {"code_challenge": None, "code_challenge_method": None}, {"code_challenge": "=" * 43},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.spec("RFC 7636", "4.4.1", "no request without a good challenge")
@pytest.mark.rules("fapi/5.3.2.2/5", "rfc7636/4.4.1/required", "rfc8252/8.1/pkce", "rfc9700/2.1.1/downgrade")
def test_a06_request_without_an_s256_challenge_is_refused(
    changes: dict[str, str | None], send: Send, world: World
) -> None:
    world.sign_in()

    assert error_of(send(**changes)) == "invalid_request"
    assert not Grant.objects.exists()


@pytest.mark.parametrize("verifier", [None, "", "x" * 64, "x" * 42])
@pytest.mark.rules("rfc7636/4.3/challenge", "rfc9700/2.1.1/pkce")
def test_a06_code_is_worth_nothing_without_the_verifier_of_its_request(
    verifier: str | None, send: Send, world: World
) -> None:
    world.sign_in()
    code = answer_of(send())["code"]  # type: ignore[arg-type]

    response = world.exchange(code, code_verifier=verifier)

    assert json.loads(response.body)["error"] in {"invalid_grant", "invalid_request"}
    assert world.exchange(code).status == 200


# -- A07, A09: the code and what comes with it ------------------------------------------------------------------------


def test_a07_code_of_every_road_is_used_once_by_its_client_in_time(send: Send, world: World) -> None:
    world.sign_in()
    late, stolen, code = (answer_of(send())["code"] for _ in range(3))  # type: ignore[arg-type]

    assert world.exchange(stolen, "other").status == 400
    assert world.exchange(code, redirect_uri="https://web.example/other").status == 400
    assert world.exchange(code).status == 200
    assert world.exchange(code).status == 400
    assert world.later(seconds=61).exchange(late).status == 400


@pytest.mark.parametrize("nonce", ["n-1", None, "n" * 255, "ünï-✓"])
@pytest.mark.spec("OIDC Core", "3.1.3.7", "nonce comes back as it was sent")
@pytest.mark.rules("fapi/5.3.2.2/14", "core/2/nonce")
def test_a09_nonce_is_answered_as_it_was_sent_and_no_other(
    nonce: str | None, send: Send, world: World
) -> None:
    world.sign_in()

    code = answer_of(send(nonce=nonce))["code"]  # type: ignore[arg-type]

    assert claims_of(json.loads(world.exchange(code).body)["id_token"]).get("nonce") == nonce


@pytest.mark.parametrize("state", ["s", None, "a b+c&d=e%", "☃", "x" * 4096])
def test_a09_state_is_answered_as_it_was_sent_with_the_issuer(
    state: str | None, send: Send, world: World
) -> None:
    world.sign_in()

    answer = answer_of(send(state=state))  # type: ignore[arg-type]

    assert (answer.get("state"), answer["iss"]) == (state, ISSUER)


# -- A08: nothing of a pushed request is in the browser -------------------------------------------------------------


def test_a08_browser_that_waits_holds_nothing_of_a_pushed_request(world: World) -> None:
    state, nonce, hint = "state-4711", "nonce-4712", "hint-4713"
    name = world.pushed(state=state, nonce=nonce, login_hint=hint)
    browser = Browser(HTTP_HOST="localhost:8000")

    response = browser.get("/authorize?" + urlencode({"client_id": "web", "request_uri": name}))

    told = f"{response['Location']} {response.content!r} {[cookie.OutputString() for cookie in browser.cookies.values()]}"
    assert response.status_code == 303
    for value in (state, nonce, world.verifier, "web.example", name.rsplit(":", 1)[1]):
        assert value not in told
    page = browser.get(response["Location"]).content.decode()
    assert state not in page
    assert nonce not in page


# -- A10: the consent page --------------------------------------------------------------------------------------------


@pytest.fixture
def asked(world: World) -> tuple[Browser, str, str]:
    """A browser at the consent page of a pushed request: (browser, address, the page)."""
    world.sign_in()
    name = world.pushed("other", scope="openid")
    browser = Browser(HTTP_HOST="localhost:8000", enforce_csrf_checks=True)
    browser.cookies[cookies.SESSION] = world.cookie
    response = browser.get("/authorize?" + urlencode({"client_id": "other", "request_uri": name}))
    return browser, response["Location"], browser.get(response["Location"]).content.decode()


def field(page: str, name: str) -> str:
    return page.split(f'name="{name}" value="', 1)[1].split('"', 1)[0]


@pytest.mark.rules("core/3.1.2.3/clickjacking", "rfc6749/10.13/clickjacking", "rfc9700/4.16/clickjacking")
def test_a10_consent_page_cannot_be_framed_nor_scripted(asked: tuple[Browser, str, str]) -> None:
    browser, address, page = asked

    response = browser.get(address)

    assert 'name="consent"' in page
    assert "frame-ancestors 'none'" in response["Content-Security-Policy"]
    assert "default-src 'none'" in response["Content-Security-Policy"]
    assert response["X-Frame-Options"] == "DENY"
    assert "<script" not in page
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize("missing", ["csrfmiddlewaretoken", "consent"])
@pytest.mark.rules("core/3.1.2.3/csrf", "rfc6749/10.12/csrf")
def test_a10_consent_that_the_page_did_not_give_is_none(
    missing: str, asked: tuple[Browser, str, str]
) -> None:
    browser, address, page = asked
    sent = {name: field(page, name) for name in ("csrfmiddlewaretoken", "consent")} | {"decision": "agree"}
    del sent[missing]

    browser.post(address, sent)

    assert not Grant.objects.exists()
    assert not Consent.objects.exists()


def test_a10_scope_added_to_the_answer_is_not_agreed_to(asked: tuple[Browser, str, str]) -> None:
    browser, address, page = asked
    sent = {name: field(page, name) for name in ("csrfmiddlewaretoken", "consent")}

    response = browser.post(
        f"{address}?scope=openid+roles",
        {**sent, "decision": "agree", "scope": "openid roles", "consent_scopes": "roles"},
    )

    assert response.status_code == 303
    assert browser.get(response["Location"])["Location"].startswith("https://other.example/cb?code=")
    assert Grant.objects.get().scope == "openid"
    assert Consent.objects.get().scopes == ["openid"]


def test_a10_agreement_to_one_pushed_request_is_none_to_a_wider_one(send: Send, world: World) -> None:
    session = world.sign_in()
    narrow = send("other", scope="openid")
    assert isinstance(narrow, Interaction)
    parked = interactions.load(interactions.park(narrow, "b" * 43, world.now), "b" * 43, world.now)
    assert parked is not None
    interactions.give_consent(parked, session, FACTS, world.now)

    wider = send("other", scope="openid roles")

    assert isinstance(wider, Interaction)
    assert wider.need is Need.CONSENT
    assert "roles" in wider.disclosure.scopes
