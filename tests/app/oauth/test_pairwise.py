"""A pairwise client is told one name everywhere, and never the name that others know (OIDC Core §8.1)."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from iam.oauth import issuance, state
from iam.oauth.clients import apply_all
from iam.oauth.models import Installation
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.messages import Interaction, Need

from .conftest import SECRET, SERVER_SECRET, World, answer_of, claims_of

pytestmark = pytest.mark.django_db

# The addresses of the world's clients, so that its helpers serve.
PAIR = {
    "client_secret": SECRET, "scope": "openid profile roles demo.read", "trusted": True,
    "grant_types": ["authorization_code", "refresh_token"], "subject_type": "pairwise",
}  # fmt: skip


@pytest.fixture
def pair(world: World) -> World:
    apply_all(
        [
            {**PAIR, "client_id": "web", "redirect_uris": ["https://web.example/cb"]},
            {**PAIR, "client_id": "other", "redirect_uris": ["https://other.example/cb"]},
        ],
        world.now,
        "system:test",
    )
    world.sign_in()
    return world


def told(world: World, client: str) -> str:
    facts = state.DatabaseState().client(client)
    assert facts is not None
    return issuance.subject_for(state.DatabaseState(), facts, world.person.sub)


@pytest.mark.spec(
    "OIDC Core", "8.1", "ID token, userinfo, access token and introspection say the same pairwise name"
)
@pytest.mark.rules("core/5.3.2/sub")
def test_pairwise_name_is_one_everywhere_and_never_the_public_one(pair: World) -> None:
    tokens = pair.tokens(scope="openid profile roles demo.read")

    name = told(pair, "web")
    said = [
        claims_of(tokens["id_token"])["sub"],
        claims_of(tokens["access_token"])["sub"],
        json.loads(pair.userinfo(tokens["access_token"]).body)["sub"],
        pair.introspect(tokens["access_token"], "web", SECRET)["sub"],
        pair.introspect(tokens["refresh_token"], "web", SECRET)["sub"],
        claims_of(json.loads(pair.refresh(tokens["refresh_token"]).body)["id_token"])["sub"],
    ]
    assert said == [name] * 6
    assert name != pair.person.sub
    assert pair.person.sub not in json.dumps(
        [tokens, claims_of(tokens["id_token"]), claims_of(tokens["access_token"])]
    )


@pytest.mark.rules("core/8.1/by-sector", "core/17.3/pairwise")
def test_pairwise_name_differs_between_two_sectors_and_stays_from_sign_in_to_sign_in(pair: World) -> None:
    first = claims_of(pair.tokens(scope="openid")["id_token"])["sub"]
    other = claims_of(pair.tokens("other", scope="openid")["id_token"])["sub"]
    pair.sign_in()
    again = claims_of(pair.tokens(scope="openid")["id_token"])["sub"]

    assert first == again
    assert first != other


def test_resource_server_that_asks_is_told_the_name_that_it_knows(pair: World) -> None:
    token = pair.tokens(scope="openid demo.read")["access_token"]

    assert pair.introspect(token, "resource", SERVER_SECRET)["sub"] == pair.person.sub


def test_hint_of_a_pairwise_client_names_its_person(pair: World) -> None:
    hint = pair.tokens(scope="openid")["id_token"]

    assert "code" in answer_of(pair.authorize(id_token_hint=hint, scope="openid"))


@pytest.mark.rules("core/3.1.2.1/hint-other")
def test_hint_of_a_pairwise_client_that_names_somebody_else_asks_for_a_sign_in(pair: World) -> None:
    hint = pair.tokens(scope="openid")["id_token"]
    Installation.objects.update(pairwise_salt=b"x" * 32)  # everybody has another name now

    answer = pair.later(minutes=1).authorize(id_token_hint=hint, scope="openid")

    assert isinstance(answer, Interaction)
    assert (answer.need, answer.reason) == (Need.LOGIN, "hint")


def test_token_made_under_another_name_is_refused(pair: World) -> None:
    """What the token says of its person is compared, although the session is what finds them."""
    token = pair.tokens(scope="openid")["access_token"]
    apply_all(
        [{**PAIR, "client_id": "web", "redirect_uris": ["https://moved.example/cb"]}], pair.now, "system:test"
    )

    assert pair.userinfo(token).status == 401
    assert pair.introspect(token, "web", SECRET) == {"active": False}


def test_machine_of_a_pairwise_client_is_its_client(pair: World) -> None:
    apply_all(
        [
            {
                **PAIR,
                "client_id": "web",
                "redirect_uris": ["https://web.example/cb"],
                "grant_types": ["authorization_code", "client_credentials"],
            }
        ],
        pair.now,
        "system:test",
    )

    token = json.loads(pair.post("/token", grant_type="client_credentials", scope="demo.read").body)[
        "access_token"
    ]

    assert claims_of(token)["sub"] == "web"
    assert pair.introspect(token)["active"] is True


# -- sectors of several hosts -------------------------------------------------------------------------------------


@dataclass
class Sector:
    """A real server with a sector's document."""

    address: str
    document: object
    asked: int = 0


@pytest.fixture
def sector(settings: Any) -> Iterator[Sector]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked += 1
            body = json.dumps(found.document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}"
    settings.IAM_OUTBOUND_ALLOW = (place, "127.0.0.0/8")
    found = Sector(
        f"{place}/sector.json", ["https://web.example/cb", "https://other.example/cb", "https://x.example/"]
    )
    yield found
    server.shutdown()
    server.server_close()


def in_sector(world: World, sector: Sector, client: str, *redirects: str) -> None:
    item = {
        **PAIR,
        "client_id": client,
        "redirect_uris": list(redirects),
        "sector_identifier_uri": sector.address,
    }
    apply_all([item], world.now, "system:test")


@pytest.mark.spec("OIDC Registration", "5", "two clients of one sector know a person by the same name")
def test_clients_of_one_sector_are_told_the_same_name(sector: Sector, world: World) -> None:
    in_sector(world, sector, "web", "https://web.example/cb", "https://x.example/")
    in_sector(world, sector, "other", "https://other.example/cb")
    world.sign_in()

    first, second = world.tokens(scope="openid"), world.tokens("other", scope="openid")

    assert claims_of(first["id_token"])["sub"] == claims_of(second["id_token"])["sub"] != world.person.sub


@pytest.mark.spec("OIDC Registration", "5", "every redirect address must be in the sector's document")
@pytest.mark.parametrize(
    "document",
    [
        [],
        ["https://web.example/cb/"],
        {"redirect_uris": ["https://web.example/cb"]},
        "https://web.example/cb",
        [1],
        None,
    ],
    ids=str,
)
@pytest.mark.rules("core/8.1/sector-document")
def test_a62_sector_that_does_not_list_the_client_is_refused(
    document: object, sector: Sector, world: World
) -> None:
    sector.document = document

    with pytest.raises(MetadataError, match="sector_identifier_uri"):
        in_sector(world, sector, "web", "https://web.example/cb")


def test_a62_sector_outside_the_allow_list_is_never_asked(
    sector: Sector, settings: Any, world: World
) -> None:
    settings.IAM_OUTBOUND_ALLOW = ()

    with pytest.raises(MetadataError, match="sector_identifier_uri"):
        in_sector(world, sector, "web", "https://web.example/cb")

    assert sector.asked == 0


def test_sector_is_asked_again_only_when_it_matters(sector: Sector, world: World) -> None:
    in_sector(world, sector, "web", "https://web.example/cb")
    in_sector(world, sector, "web", "https://web.example/cb")
    assert sector.asked == 1

    sector.document = []
    with pytest.raises(MetadataError, match="does not list"):
        in_sector(world, sector, "web", "https://web.example/cb", "https://x.example/")
    assert sector.asked == 2
