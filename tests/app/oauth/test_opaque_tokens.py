"""Opaque access tokens: a text that says nothing, through the same gate as every other (docs/adr/0028)."""

import json

import pytest
from django.db import IntegrityError, transaction

from iam.accounts.services import end_session
from iam.oauth import state
from iam.oauth.clients import apply_all
from iam.oauth.models import AccessToken
from iam.oauth.protocol.messages import Response
from iam.oauth.protocol.opaque_tokens import digest, is_opaque
from iam.oauth.purge import purge
from iam.oauth.versions import end_every_token
from tests.proofs import Prover

from .conftest import CLIENTS, SECRET, World

pytestmark = pytest.mark.django_db


def error_of(response: Response) -> str:
    return json.loads(response.body)["error"]


def register(world: World, client_id: str, **changes: object) -> None:
    (item,) = [item for item in CLIENTS if item["client_id"] == client_id]
    apply_all([{**item, **changes}], world.now, "system:test")


@pytest.fixture
def opaque(world: World) -> World:
    """A world whose clients get opaque tokens."""
    for client in ("web", "other", "public", "service"):
        register(world, client, access_token_format="opaque")
    world.sign_in()
    return world


def test_code_gives_an_opaque_token_that_opens_what_a_jwt_would(opaque: World) -> None:
    tokens = opaque.tokens(scope="openid profile demo.read")
    register(opaque, "web")
    same = opaque.tokens(scope="openid profile demo.read")  # a JWT now

    assert is_opaque(tokens["access_token"])
    assert tokens["expires_in"] == 300
    said = json.loads(opaque.userinfo(tokens["access_token"]).body)
    assert said == json.loads(opaque.userinfo(same["access_token"]).body)
    seen, expected = opaque.introspect(tokens["access_token"]), opaque.introspect(same["access_token"])
    assert {**seen, "jti": ""} == {**expected, "jti": ""}
    assert seen["active"] is True


def test_client_credentials_give_an_opaque_token(opaque: World) -> None:
    answer = json.loads(opaque.post("/token", "service", grant_type="client_credentials").body)

    assert is_opaque(answer["access_token"])
    assert opaque.introspect(answer["access_token"])["sub"] == "service"


def test_refreshed_token_is_opaque_too(opaque: World) -> None:
    tokens = opaque.tokens()

    assert is_opaque(json.loads(opaque.refresh(tokens["refresh_token"]).body)["access_token"])


def test_a20_token_itself_is_nowhere_in_the_database(opaque: World) -> None:
    token = opaque.tokens()["access_token"]

    row = AccessToken.objects.get()
    assert row.token == ""
    assert row.token_checksum == digest(token)
    assert token not in json.dumps(row.claims)
    with pytest.raises(IntegrityError), transaction.atomic():
        AccessToken.objects.filter(pk=row.pk).update(token=token)


@pytest.mark.parametrize(
    "text",
    ["at_" + "E" * 43, "at_", "at_" + "x" * 44, "at_" + "x" * 42, "AT_" + "x" * 43, "at_" + "é" * 43],
    ids=["never made", "empty", "longer", "shorter", "upper case", "not ASCII"],
)
def test_token_that_we_did_not_make_opens_nothing(text: str, opaque: World) -> None:
    opaque.tokens()

    assert opaque.userinfo(text).status == 401
    assert opaque.introspect(text) == {"active": False}


def test_digest_is_not_a_token(opaque: World) -> None:
    """Whoever reads the table has the digests."""
    opaque.tokens()

    stored = AccessToken.objects.get().token_checksum
    for text in (stored, f"at_{stored[:43]}", digest(stored)):
        assert opaque.userinfo(text).status == 401


def test_a17_opaque_token_is_answered_to_its_audience_and_owner_only(opaque: World) -> None:
    token = opaque.tokens(scope="openid demo.read")["access_token"]

    assert opaque.introspect(token)["active"] is True
    assert opaque.introspect(token, "web", SECRET)["active"] is True
    assert opaque.introspect(token, "other", SECRET) == {"active": False}


@pytest.mark.spec("RFC 7009", "2.1", "revoking an opaque access token ends it and its family")
def test_a16_revoked_opaque_token_ends_with_its_pair(opaque: World) -> None:
    tokens = opaque.tokens()

    assert opaque.post("/revoke", token=tokens["access_token"]).status == 200

    assert opaque.userinfo(tokens["access_token"]).status == 401
    assert error_of(opaque.refresh(tokens["refresh_token"])) == "invalid_grant"


def test_a16_opaque_token_of_another_client_is_not_revoked(opaque: World) -> None:
    token = opaque.tokens()["access_token"]

    assert opaque.post("/revoke", "other", token=token).status == 200

    assert opaque.userinfo(token).status == 200


def test_a16_opaque_token_of_a_machine_is_revoked(opaque: World) -> None:
    token = json.loads(opaque.post("/token", "service", grant_type="client_credentials").body)["access_token"]

    opaque.post("/revoke", "service", token=token)

    assert opaque.introspect(token) == {"active": False}


def test_a07_opaque_token_ends_when_its_code_is_replayed(opaque: World) -> None:
    code = opaque.code()
    token = json.loads(opaque.exchange(code).body)["access_token"]

    assert error_of(opaque.exchange(code)) == "invalid_grant"

    assert opaque.userinfo(token).status == 401


def ends_with_the_session(world: World) -> None:
    end_session(world.session.pk, reason="signed_out", now=world.now)


def ends_with_its_time(world: World) -> None:
    world.later(seconds=300)


def ends_with_the_client(world: World) -> None:
    register(world, "web", access_token_format="opaque", enabled=False)


def ends_with_the_clients_secret(world: World) -> None:
    register(world, "web", access_token_format="opaque", client_secret="t" * 40)


def ends_with_the_person(world: World) -> None:
    type(world.person).objects.update(is_active=False)


def ends_with_everything(world: World) -> None:
    end_every_token()


@pytest.mark.parametrize(
    "end",
    [
        ends_with_the_session, ends_with_its_time, ends_with_the_client, ends_with_the_clients_secret,
        ends_with_the_person, ends_with_everything,
    ],
    ids=lambda end: end.__name__,
)  # fmt: skip
def test_a22_opaque_token(end: object, opaque: World) -> None:
    token = opaque.tokens(scope="openid demo.read")["access_token"]
    assert opaque.userinfo(token).status == 200

    end(opaque)

    state.forget()
    assert opaque.userinfo(token).status == 401
    assert opaque.introspect(token) == {"active": False}


@pytest.mark.spec("RFC 9449", "6.2", "an opaque token is bound to its key, and introspection says so")
def test_opaque_token_can_be_bound_to_a_key(opaque: World) -> None:
    opaque.prover = Prover()
    token = opaque.tokens(scope="openid demo.read")["access_token"]

    assert opaque.userinfo(token).status == 401
    assert opaque.userinfo(token, "DPoP").status == 200
    seen = opaque.introspect(token)
    assert (seen["token_type"], seen["cnf"]) == ("DPoP", {"jkt": opaque.prover.jkt})


def test_purge_takes_expired_opaque_tokens_and_no_others(opaque: World) -> None:
    opaque.tokens()
    opaque.later(seconds=200)
    opaque.tokens()

    purge(opaque.now)
    assert AccessToken.objects.count() == 2
    opaque.later(seconds=101)
    purge(opaque.now)

    assert AccessToken.objects.count() == 1
