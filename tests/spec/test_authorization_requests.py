"""Authorization requests over HTTP: pushed, answered by form and signed, and what discovery says of them."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.servers.organisation import CLIENT_SECRET
from tests.servers.person import Page, Person
from tests.servers.service import Service

CALLBACK = "http://127.0.0.1:9900/callback"
PREFIX = "urn:ietf:params:oauth:request_uri:"


def wanted(person: Person, **more: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(person.request(**more)).query))


def push(service: Service, person: Person, **more: str) -> str:
    """Push a request of `test-web` and return its name."""
    answer = requests.post(
        f"{service.issuer}/par", data=wanted(person, **more), auth=("test-web", CLIENT_SECRET), timeout=20
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["request_uri"])


def address(service: Service, name: str) -> str:
    return f"{service.issuer}/authorize?" + urlencode({"client_id": "test-web", "request_uri": name})


@pytest.fixture(scope="module")
def person(service: Service) -> Person:
    """Somebody who is signed in, by way of a pushed request."""
    somebody = Person(service.issuer, "crowd24")
    somebody.sign_in(address(service, push(service, somebody)))
    return somebody


@pytest.mark.spec("RFC 9126", "4", "a pushed request through the whole sign-in")
def test_pushed_request_ends_with_tokens_for_who_was_asked(service: Service, person: Person) -> None:
    answer = person.open(address(service, push(service, person, state="pushed", nonce="pushed-nonce")))

    assert isinstance(answer, dict)
    assert (answer["state"], answer["iss"]) == ("pushed", service.issuer)
    assert "id_token" in person.tokens(answer)


def test_a08_browser_is_told_nothing_of_a_pushed_request(service: Service) -> None:
    stranger = Person(service.issuer, "nobody")
    name = push(service, stranger, state="state-4711", nonce="nonce-4712")

    page = stranger.open(address(service, name))

    assert isinstance(page, Page)
    held = json.dumps(dict(stranger.browser.cookies)) + page.response.url + page.response.text
    for secret in ("state-4711", "nonce-4712", name.removeprefix(PREFIX), stranger.verifier):
        assert secret not in held


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("ar", "هذا الرابط يعمل مرة واحدة فقط"),
        ("fr", "Ce lien ne fonctionne qu’une fois"),
        ("en", "This link works only once"),
    ],
)
def test_a08_used_request_ends_on_a_page_that_says_what_to_do(
    service: Service, language: str, words: str
) -> None:
    stranger = Person(service.issuer, "nobody", language=language)
    link = address(service, push(service, stranger))
    assert isinstance(stranger.open(link), Page)

    again = stranger.open(link)

    assert isinstance(again, Page)
    assert again.response.status_code == 400
    assert words in again.text
    assert "invalid_request_uri" in again.text


def test_a08_fifty_browsers_with_one_pushed_request_get_one_code(service: Service, person: Person) -> None:
    link = address(service, push(service, person))
    cookies = dict(person.browser.cookies)

    def visit(_: int) -> str:
        answer = requests.get(link, cookies=cookies, allow_redirects=False, timeout=60)
        if answer.status_code == 303:
            return next(iter(dict(parse_qsl(urlsplit(answer.headers["Location"]).query))))
        return f"{answer.status_code} {'invalid_request_uri' in answer.text}"

    with ThreadPoolExecutor(50) as crowd:
        outcomes = Counter(crowd.map(visit, range(50)))

    assert outcomes == {"code": 1, "400 True": 49}


@pytest.mark.spec("OAuth 2.0 Form Post Response Mode", "2", "the answer is a form")
def test_form_post_answer_is_a_page_with_one_form(service: Service, person: Person) -> None:
    page = person.open(person.request(response_mode="form_post", state='"><b>'))

    assert isinstance(page, Page)
    (form,) = page.forms
    assert (form.action, form.method) == (CALLBACK, "post")
    assert set(form.fields) == {"code", "state", "iss"}
    assert form.fields["state"] == '"><b>'
    assert "id_token" in person.tokens(form.fields)
    policy = page.response.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "form-action 'self' http://127.0.0.1:9900;" in policy
    script = requests.get(page.response.url.split("/authorize")[0] + script_of(page), timeout=20)
    assert script.status_code == 200
    assert "javascript" in script.headers["Content-Type"]


def script_of(page: Page) -> str:
    return page.response.text.split('<script src="', 1)[1].split('"', 1)[0]


@pytest.mark.spec("JARM", "2.1", "a client checks the answer with what is published")
@pytest.mark.parametrize("mode", ["jwt", "query.jwt", "form_post.jwt"])
def test_signed_answer_is_accepted_by_a_library_that_read_our_metadata(
    service: Service, person: Person, mode: str
) -> None:
    metadata = requests.get(f"{service.issuer}/.well-known/openid-configuration", timeout=20).json()
    keys = KeySet.import_key_set(requests.get(metadata["jwks_uri"], timeout=20).json())
    answer = person.open(person.request(response_mode=mode))
    fields = answer.forms[0].fields if isinstance(answer, Page) else answer

    claims: dict[str, Any] = jwt.decode(fields["response"], keys, algorithms=["ES256"]).claims

    jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": metadata["issuer"]}, aud={"essential": True, "value": "test-web"},
        exp={"essential": True},
    ).validate(claims)  # fmt: skip
    assert claims["state"] == "st"
    assert "id_token" in person.tokens(claims)


@pytest.mark.spec("RFC 8414", "2", "metadata is true: what it lists works, what it does not is refused")
def test_discovery_says_what_requests_and_answers_can_be(service: Service, person: Person) -> None:
    metadata = requests.get(f"{service.issuer}/.well-known/oauth-authorization-server", timeout=20).json()

    assert metadata["pushed_authorization_request_endpoint"] == f"{service.issuer}/par"
    assert metadata["require_pushed_authorization_requests"] is False
    assert metadata["request_parameter_supported"] is True
    assert metadata["request_uri_parameter_supported"] is False
    assert metadata["require_signed_request_object"] is False
    assert set(metadata["request_object_signing_alg_values_supported"]) == {
        "ES256",
        "RS256",
        "PS256",
        "EdDSA",
        "Ed25519",
    }
    assert set(metadata["authorization_signing_alg_values_supported"]) == {"ES256", "RS256", "PS256", "EdDSA"}
    for mode in [*metadata["response_modes_supported"], "fragment"]:
        answer = person.open(person.request(response_mode=mode))
        fields = answer.forms[0].fields if isinstance(answer, Page) else answer
        assert ("error" in fields) is (mode == "fragment"), (mode, fields)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_par_takes_posts_only(service: Service, method: str) -> None:
    answer = requests.request(method, f"{service.issuer}/par", timeout=20)

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert answer.json()["error"] == "invalid_request"
