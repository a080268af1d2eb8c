"""Whatever opens something has at least 128 random bits. Spec: FAPI 2.0 Security Profile §5.4.1; RFC 6749 §10.10."""

import base64
import json
from collections.abc import Callable

import pytest

from iam.oauth.clients import apply_all
from iam.oauth.models import Client
from iam.oauth.protocol import opaque_tokens
from iam.oauth.secret_rotation import rotate_secret

from .conftest import World, claims_of

pytestmark = pytest.mark.django_db
BITS = 128


def code(world: World) -> str:
    return world.code().removeprefix("ac_")


def refresh_token(world: World) -> str:
    return world.tokens()["refresh_token"].removeprefix("rt_")


def opaque_token(world: World) -> str:
    Client.objects.filter(client_id="web").update(options={"access_token_format": "opaque"})
    return world.tokens()["access_token"].removeprefix(opaque_tokens.PREFIX)


def request_uri(world: World) -> str:
    return world.pushed().rpartition(":")[2]


def session_identifier(world: World) -> str:
    world.sign_in()
    return claims_of(world.tokens()["id_token"])["sid"]


def device_code(world: World) -> str:
    return json.loads(world.post("/device_authorization", "screen", None, scope="openid").body)[
        "device_code"
    ][3:]


def client_secret(world: World) -> str:
    return rotate_secret("web", None, world.now, "system:test")


@pytest.mark.parametrize(
    "make",
    [code, refresh_token, opaque_token, request_uri, session_identifier, device_code, client_secret],
    ids=lambda make: make.__name__,
)
@pytest.mark.rules("fapi/5.4.1/4", "front-logout/5/entropy")
def test_what_opens_something_cannot_be_guessed(make: Callable[[World], str], world: World) -> None:
    apply_all(
        [{
            "client_id": "screen", "token_endpoint_auth_method": "none", "scope": "openid", "trusted": True, "application": "mail",
            "grant_types": ["urn:ietf:params:oauth:grant-type:device_code"],
        }],
        world.now, "system:test",
    )  # fmt: skip
    world.sign_in()

    first, second = (base64.urlsafe_b64decode(f"{make(world)}==") for _ in range(2))

    assert len(first) * 8 >= BITS
    differing = sum((a ^ b).bit_count() for a, b in zip(first, second, strict=True))
    assert differing > BITS // 4  # of independent bits about half differ; of a counter one or two
