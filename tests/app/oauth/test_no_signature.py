"""Nothing can sign: it denies with 503 at both doors, uses nothing up, and what needs no signature goes on."""

import base64
import hashlib
import json
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from django.test import Client

from iam.accounts import cookies
from iam.oauth import state
from iam.oauth.fastpath import FastPath
from iam.oauth.models import Grant, SigningKey
from iam.oauth.protocol.key_ring import Status
from iam.oauth.protocol.messages import Request
from iam.wsgi import Handler

from . import doors
from .conftest import SECRET, World


def fast() -> FastPath:
    return FastPath(Handler(), begin=doors._no_listener)


def through(door, request: Request) -> tuple[int, dict[str, str], bytes]:
    seen: list[tuple[str, list[tuple[str, str]]]] = []
    state.forget()
    with doors._connection_kept():
        body = b"".join(door(doors._environ(request), lambda *answer: seen.append(answer)))
    ((status, headers),) = seen
    return int(status.split()[0]), dict(headers), body


def form(path: str, **values: str) -> Request:
    return Request(
        "POST", path, body=urlencode(values).encode(), content_type="application/x-www-form-urlencoded",
        authorization="Basic " + base64.b64encode(f"web:{SECRET}".encode()).decode(),
    )  # fmt: skip


@pytest.fixture
def broken(world: World) -> Callable[[], None]:
    """Damage the key that signs access tokens, and return what repairs it."""
    world.sign_in()
    row = SigningKey.objects.get(algorithm="ES256", status=Status.ACTIVE)
    sealed = bytes(row.encrypted_private)

    def damage(content: bytes) -> None:
        SigningKey.objects.filter(kid=row.kid).update(encrypted_private=content)
        state.forget()

    damage(b"damaged" * 20)
    return lambda: damage(sealed)


@pytest.mark.parametrize("door", [Handler, fast], ids=["django", "fast"])
def test_code_is_not_used_up_when_its_tokens_cannot_be_signed(world, broken, door, caplog):
    exchange = form(
        "/token", grant_type="authorization_code", code=world.code(), code_verifier=world.verifier,
        redirect_uri="https://web.example/cb",
    )  # fmt: skip

    status, headers, body = through(door(), exchange)

    assert (status, json.loads(body)["error"]) == (503, "temporarily_unavailable")
    assert int(headers["Retry-After"]) > 0
    assert headers["Cache-Control"] == "no-store"
    assert "Nothing can be signed: there is no active key for ES256" in caplog.text
    broken()
    status, _, body = through(door(), exchange)
    assert status == 200
    assert json.loads(body)["access_token"]


@pytest.mark.parametrize("path", ["/jwks", "/.well-known/openid-configuration"])
def test_what_needs_no_signature_goes_on(world, broken, path):
    assert through(fast(), Request("GET", path))[0] == 200
    assert through(Handler(), form("/introspect", token="x"))[0] == 200


def signed_request(world: World) -> dict[str, str]:
    challenge = (
        base64.urlsafe_b64encode(hashlib.sha256(world.verifier.encode()).digest()).rstrip(b"=").decode()
    )
    return {
        "client_id": "web", "redirect_uri": "https://web.example/cb", "response_type": "code", "scope": "openid",
        "state": "st", "code_challenge": challenge, "code_challenge_method": "S256", "response_mode": "jwt",
    }  # fmt: skip


def test_answer_that_must_be_signed_is_a_page_that_says_so_and_makes_no_code(world, broken):
    browser = Client()
    browser.cookies[cookies.SESSION] = world.cookie

    answer = browser.get("/authorize", signed_request(world))

    assert (answer.status_code, answer["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert "temporarily_unavailable" in answer.content.decode()
    assert not Grant.objects.exists()
    broken()
    assert browser.get("/authorize", signed_request(world)).status_code == 303
    assert Grant.objects.count() == 1


def test_sign_in_that_ends_in_such_an_answer_can_be_ended_later(world, broken, caplog):
    browser = Client()
    page = browser.get("/authorize", signed_request(world))["Location"]
    browser.cookies[cookies.SESSION] = world.cookie

    answer = browser.get(page)

    assert answer.status_code == 503
    assert "there is no active key for ES256" in caplog.text
    assert not Grant.objects.exists()
    broken()
    assert browser.get(page)["Location"].startswith("https://web.example/cb?response=")


def test_authorization_needs_no_signature(world, broken):
    assert world.code().startswith("ac_")
