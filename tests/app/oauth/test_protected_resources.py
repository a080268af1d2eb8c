"""Our own protected resources describe themselves, and a refusal says where."""

import json
import re

import pytest

from iam.oauth import engine
from iam.oauth.protocol.messages import Request, Response
from iam.oauth.protocol.metadata import build_metadata
from iam.oauth.protocol.resources import RESOURCES, build_resource_metadata, metadata_address

from .conftest import World

pytestmark = pytest.mark.django_db
ISSUER = "http://localhost:8000"


def describe(world: World, address: str) -> dict:
    answer = world.ask(Request("GET", address))
    assert isinstance(answer, Response)
    assert answer.status == 200
    assert dict(answer.headers)["Content-Type"] == "application/json"
    return json.loads(answer.body)


@pytest.mark.spec(
    "RFC 9728", "3.3", "resource is the identifier into which the well-known suffix was inserted"
)
@pytest.mark.parametrize("path", RESOURCES)
def test_metadata_names_the_resource_whose_address_was_asked(world: World, path: str) -> None:
    document = describe(world, "/.well-known/oauth-protected-resource" + path)

    assert document["resource"] == ISSUER + path
    assert document["authorization_servers"] == [ISSUER]
    assert "openid" in document["scopes_supported"]


@pytest.mark.spec("RFC 9728", "5.1", "WWW-Authenticate says where the resource describes itself")
@pytest.mark.parametrize("token", ["", "Bearer wrong"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_refusal_at_userinfo_leads_to_metadata_of_exactly_that_resource(
    world: World, token: str, method: str
) -> None:
    answer = world.ask(Request(method, "/userinfo", authorization=token))

    assert isinstance(answer, Response)
    challenge = dict(answer.headers)["WWW-Authenticate"]
    found = re.search(r'resource_metadata="([^"]+)"', challenge)
    assert found, challenge
    assert describe(world, found[1].removeprefix(ISSUER))["resource"] == f"{ISSUER}/userinfo"


def test_refusal_elsewhere_names_no_resource(world: World) -> None:
    answer = world.post("/introspect", secret="wrong" * 8, token="x")

    assert "resource_metadata" not in dict(answer.headers)["WWW-Authenticate"]


@pytest.mark.spec("RFC 9728", "4", "the authorization server lists the resources that it serves")
def test_discovery_lists_our_resources() -> None:
    listed = build_metadata(ISSUER, frozenset())["protected_resources"]

    assert listed == [build_resource_metadata(ISSUER, path)["resource"] for path in RESOURCES]


@pytest.mark.parametrize(
    "path",
    ["/.well-known/oauth-protected-resource/", "/.well-known/oauth-protected-resource/token", "/userinfo/x"],
)
def test_other_paths_are_no_address_of_the_protocol(world: World, path: str) -> None:
    assert engine.endpoint_for(path) is None
    with pytest.raises(KeyError):
        world.ask(Request("GET", path))


def test_every_resource_has_its_address() -> None:
    assert all(metadata_address(path) in engine.ENDPOINTS for path in RESOURCES)
