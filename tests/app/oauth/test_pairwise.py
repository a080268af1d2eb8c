"""A pairwise client is told one name everywhere, and never the name that others know (OIDC Core §8.1)."""

import json

import pytest

from iam.oauth import issuance, state
from iam.oauth.clients import apply_all
from iam.oauth.models import Installation
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
