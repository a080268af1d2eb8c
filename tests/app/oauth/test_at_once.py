"""What the server's loop answers by itself, and what it must never: whatever is refused, written, or waited for."""

import base64
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlencode

import pytest

from iam.accounts.services import end_session
from iam.oauth import engine, memory
from iam.oauth.clients import apply_all
from iam.oauth.models import Client
from iam.oauth.ports import State
from iam.oauth.protocol.messages import Request
from iam.oauth.state import DatabaseState, MemoryState, NotInMemory
from iam.oauth.versions import touch
from tests.app.oauth import doors
from tests.app.oauth.conftest import CLIENTS, SECRET, SERVER_SECRET, World
from tests.proofs import Prover


def form(path: str, client: str, secret: str, **fields: str) -> Request:
    basic = "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()
    return Request(
        "POST", path, body=urlencode(fields).encode(), content_type="application/x-www-form-urlencoded",
        authorization=basic, source="192.0.2.1", request_id="r-1",
    )  # fmt: skip


MACHINE = form("/token", "service", SECRET, grant_type="client_credentials", scope="demo.read")


@pytest.fixture
def token(world: World) -> str:
    world.sign_in()
    return str(world.tokens(scope="openid roles demo.read")["access_token"])


def test_what_memory_knows_is_answered_in_the_loop(world, token):
    for request in (
        Request("GET", "/.well-known/openid-configuration"),
        Request("GET", "/.well-known/oauth-authorization-server"),
        Request("GET", "/jwks"),
        MACHINE,
        form("/introspect", "resource", SERVER_SECRET, token=token),
        Request("GET", "/userinfo", authorization=f"Bearer {token}"),
    ):
        seen = doors.at_once(replace(request, source="192.0.2.1"), world.now)
        assert seen is not None, request.path
        assert seen[0] == "200 OK"


@pytest.mark.parametrize(
    "changes",
    [
        {"authorization": "Basic " + base64.b64encode(b"service:wrong").decode()},
        {"authorization": "Basic " + base64.b64encode(b"nobody:wrong").decode()},
        {"body": MACHINE.body + b"&scope=demo.read"},
        {"body": b"grant_type=client_credentials&scope=openid"},
        {"body": b"grant_type=client_credentials&scope=demo.read&resource=elsewhere"},
        {"body": b"grant_type=authorization_code&code=client_credentials"},
        {"method": "PUT"},
        {"content_type": "application/json"},
        {"path": "/authorize"},
        {"path": "/revoke"},
    ],
    ids=[
        "secret",
        "client",
        "doubled",
        "scope",
        "resource",
        "grant",
        "method",
        "type",
        "authorize",
        "revoke",
    ],
)
def test_refusal_goes_the_road_on_which_it_is_counted(world, changes):
    assert doors.at_once(replace(MACHINE, **changes), world.now) is None


def test_proof_is_used_up_in_the_database(world):
    proof = Prover().proof("POST", "http://localhost:8000/token", world.now, "")

    assert doors.at_once(replace(MACHINE, dpop=proof), world.now) is None


def test_opaque_token_is_written_down(world):
    options = {"options": {"access_token_format": "opaque"}}
    Client.objects.filter(client_id="service").update(**options)

    assert doors.at_once(MACHINE, world.now) is None


def test_switched_off_client_gets_nothing(world):
    Client.objects.filter(client_id="service").update(enabled=False)

    assert doors.at_once(MACHINE, world.now) is None


def test_ended_session_is_not_remembered(world, token):
    end_session(world.session.id, reason="person", now=world.now, request_id="", source="")

    for request in (
        form("/introspect", "resource", SERVER_SECRET, token=token),
        Request("GET", "/userinfo", authorization=f"Bearer {token}", source="192.0.2.1"),
    ):
        assert doors.at_once(request, world.now) is None


def test_token_is_believed_to_its_end_and_no_longer(world, token):
    asked = form("/introspect", "resource", SERVER_SECRET, token=token)

    assert doors.at_once(asked, world.now + timedelta(seconds=299)) is not None
    assert doors.at_once(asked, world.now + timedelta(seconds=300)) is None


def test_nothing_is_answered_for_a_host_that_is_not_ours(world):
    door = doors.FastPath(doors.Handler(), begin=lambda: None)
    environment = {**doors._environ(MACHINE), "HTTP_HOST": "evil.example"}

    assert door.at_once(environment, MACHINE.body) is None


def test_nothing_is_answered_while_nobody_hears_the_database(world):
    door = doors.FastPath(doors.Handler(), begin=lambda: None)
    memory.current()

    assert memory.fresh() is None
    assert door.at_once(doors._environ(MACHINE), MACHINE.body) is None


def test_key_in_a_device_is_not_used_in_the_loop(world):
    remembered = memory.current()
    key = replace(remembered.active_keys["ES256"], signer=object())
    state = MemoryState(replace(remembered, active_keys={"ES256": key}))

    with pytest.raises(NotInMemory):
        state.signing_key("ES256")


REMEMBERED = {
    "issuer", "generation", "refresh_key", "has_certificates", "certificate_address", "nonce_key", "pairwise_salt",
    "client", "scope_owner", "resource_server", "detail_type", "detail_types", "owned_scopes", "keys", "published_keys",
    "signing_key", "note_keys_fetched", "note_old_secret", "secret_digest", "trusted_issuer", "user_code_digest",
    "document", "recall", "recall_client", "remember_client",
}  # fmt: skip


def test_state_of_the_loop_knows_nothing_but_what_is_listed(world):
    """Something new in State is to be waited for until somebody has looked at whether it may be."""
    state = MemoryState(memory.current())
    named = {name for name in {*dir(State), *State.__annotations__} if not name.startswith("_")}

    assert named > REMEMBERED
    for name in named - REMEMBERED:
        with pytest.raises(NotInMemory):
            getattr(state, name)


def test_clients_are_those_of_the_newest_memory(world):
    assert doors.at_once(MACHINE, world.now) is not None
    apply_all([{**CLIENTS[-1], "client_secret": "n" * 40}], world.now, "system:test")

    assert doors.at_once(MACHINE, world.now) is None


def test_remembered_secret_proves_nothing_once_clients_changed(world):
    """A worker that saw the header before refuses it after the secret was replaced, and after the client was ended."""
    request = replace(MACHINE, request_id="r-2")
    for changes, status in (({}, 200), ({"secret_digest": "0" * 64}, 401), ({"enabled": False}, 401)):
        Client.objects.filter(client_id="service").update(**changes or {"enabled": True})
        touch()
        for _ in range(2):
            assert engine.handle(request, DatabaseState(), world.now).status == status


@pytest.mark.parametrize("header", ["", " ", "x"], ids=["same", "space", "longer"])
def test_remembered_secret_is_good_for_itself_and_its_own_client_only(world, header):
    assert engine.handle(MACHINE, DatabaseState(), world.now).status == 200
    other = replace(MACHINE, body=MACHINE.body + b"&client_id=resource")
    twice = replace(MACHINE, body=MACHINE.body + b"&client_secret=x")
    longer = replace(MACHINE, authorization=MACHINE.authorization + header)

    assert engine.handle(other, DatabaseState(), world.now).status == 400
    assert engine.handle(twice, DatabaseState(), world.now).status == 400
    assert engine.handle(longer, DatabaseState(), world.now).status == (401 if header == "x" else 200)


def test_old_secret_is_judged_each_time_because_its_end_is_announced_by_nobody(world):
    old = Client.objects.get(client_id="service").secret_digest
    ends = world.now + timedelta(minutes=1)
    Client.objects.filter(client_id="service").update(
        secret_digest="0" * 64, old_secret_digest=old, old_secret_expires_at=ends
    )

    assert engine.handle(MACHINE, DatabaseState(), world.now).status == 200
    assert engine.handle(MACHINE, DatabaseState(), ends).status == 401
