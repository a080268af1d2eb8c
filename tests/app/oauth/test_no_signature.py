"""Nothing can sign: it denies with 503 at both doors, uses nothing up, and what needs no signature goes on."""

import base64
import json
from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from iam.oauth import state
from iam.oauth.fastpath import FastPath
from iam.oauth.models import SigningKey
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


def test_authorization_needs_no_signature(world, broken):
    assert world.code().startswith("ac_")
