"""Conditions that another one usually hides: each asked by itself, as if the one before it had been forgotten."""

import json
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from iam.access.models import Application
from iam.accounts.models import User
from iam.accounts.services import end_session, open_session
from iam.oauth import interactions, issuance, memory, state
from iam.oauth.clients import apply_all
from iam.oauth.endpoints.authorize import check
from iam.oauth.models import Client, DeviceGrant, Grant
from iam.oauth.ports import Context
from iam.oauth.protocol.arrival import Arrival
from iam.oauth.protocol.authorization import check_target
from iam.oauth.protocol.device import GRANT_TYPE, read_user_code
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ClientFacts, SessionFacts
from iam.oauth.protocol.parameters import Parameters

from .conftest import CLIENTS, NAMES, SECRET, World, answer_of, claims_of
from .test_token_exchange import ASKED, GATEWAY, LEDGER, WEB

pytestmark = pytest.mark.django_db


def known() -> state.DatabaseState:
    state.forget()
    return state.DatabaseState()


def client_of(name: str = "web") -> ClientFacts:
    client = known().client(name)
    assert client is not None
    return client


def session_of(world: World) -> SessionFacts:
    session = known().store.session(world.session.pk, world.now)
    assert session is not None
    return session


@pytest.mark.parametrize("moved", ["generation", "user_generation"])
def test_code_is_not_made_for_what_the_session_was_a_moment_ago(moved: str, world: World) -> None:
    """A right that shrank, or a session that was raised, between the reading and the writing."""
    world.sign_in()
    now, session, client = world.now, session_of(world), client_of()
    arrival = Arrival(Parameters(list(world.wanted().items())))
    target = check_target(arrival.parameters, known().client)
    request = check(arrival, target, known(), now)
    context = Context("aal2", ("pwd",), now)

    def insert(facts: SessionFacts, digest: str) -> bool:
        event = known().event(
            "person:code:issue", "success", actor=f"person:{facts.sub}", now=now, request_id="", source=""
        )
        return known().store.insert_code(
            digest, client, facts, request, context, uuid4(), now + timedelta(minutes=1), event, now
        )

    assert insert(session, "a" * 64)
    assert not insert(replace(session, **{moved: getattr(session, moved) + 1}), "b" * 64)
    assert Grant.objects.count() == 1


def test_a48_device_is_confirmed_by_nobody_but_who_typed_its_code(world: World) -> None:
    apply_all(
        [{"client_id": "screen", "client_secret": SECRET, "grant_types": [GRANT_TYPE], "scope": "openid"}],
        world.now, "system:test",
    )  # fmt: skip
    world.sign_in()
    begun = world.post("/device_authorization", "screen", scope="openid")
    user_code = json.loads(begun.body)["user_code"]
    assert interactions.park_device(read_user_code(user_code), world.session, "b" * 43, world.now)
    mine = session_of(world)
    somebody = User.objects.create(name_latin="Omar", created_at=world.now)
    theirs, _ = open_session(somebody, world.now, timedelta(hours=1))
    other = known().store.session(theirs.pk, world.now)
    assert other is not None
    device, context = DeviceGrant.objects.get(), Context("aal1", ("pwd",), world.now)

    assert not known().devices.confirm(device.pk, client_of("screen"), other, context, world.now)
    assert known().devices.confirm(device.pk, client_of("screen"), mine, context, world.now)


def test_gate_does_not_believe_a_session_that_ran_out(world: World) -> None:
    """The store reads no such session; the gate would not let one pass either."""
    world.sign_in()
    session = session_of(world)

    issuance.clear_person(
        known(), client_of(), session, ("openid",), session.expires_at - timedelta(seconds=1)
    )
    with pytest.raises(OAuthError, match="ended"):
        issuance.clear_person(known(), client_of(), session, ("openid",), session.expires_at)


def test_gate_asks_its_own_memory_whether_the_client_is_switched_off(world: World) -> None:
    """What workers remember of a client counts as well as its row: whichever learns of it first refuses."""
    world.sign_in()
    token = world.tokens()["access_token"]
    remembered = memory.current()
    off = replace(remembered.clients["web"], enabled=False)
    current = known()
    assert issuance.clear_bearer(current, token, world.now) is not None

    current._memory = replace(remembered, clients={**remembered.clients, "web": off})

    assert issuance.clear_bearer(current, token, world.now) is None


def test_a18_exchange_gives_no_scope_that_the_subject_token_has_not(world: World) -> None:
    """Two scopes of one target, of which the person granted the one."""
    Application.objects.create(code="ledger", **NAMES)
    ledger = {**LEDGER, "resource_server": ["ledger.read", "ledger.write"]}
    gateway = {**GATEWAY, "scope": "demo.read ledger.read ledger.write", "token_exchange_targets": ["ledger"]}
    web = {**WEB, "scope": f"{ASKED} ledger.write"}
    apply_all([gateway, ledger, web], world.now, "system:test")
    world.sign_in()
    token = world.tokens("web", scope="openid gate.use ledger.read")["access_token"]
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "audience": "ledger"}  # fmt: skip

    assert world.post("/token", "gateway", scope="ledger.read", **form).status == 200
    refused = world.post("/token", "gateway", scope="ledger.write", **form)

    assert b'"invalid_scope"' in refused.body


def test_logout_token_is_made_for_no_session_that_lives(world: World) -> None:
    world.sign_in()
    world.tokens()

    with pytest.raises(OAuthError, match="did not end"):
        issuance.clear_logout(known(), client_of(), world.session.pk, world.now)

    end_session(world.session.pk, reason="signed_out", now=world.now)
    assert issuance.clear_logout(known(), client_of(), world.session.pk, world.now).sid


def test_a17_public_client_learns_nothing_of_a_token(world: World) -> None:
    """Not even of its own: anybody can call themselves by its name."""
    world.sign_in()
    token = world.tokens("public", None)["access_token"]

    response = world.post("/introspect", "public", None, token=token)

    assert response.status == 401
    assert b"active" not in response.body


def test_a13_token_for_a_resource_alone_opens_no_userinfo(world: World) -> None:
    world.sign_in()
    both = world.tokens("web", scope="openid demo.read")
    assert world.userinfo(both["access_token"]).status == 200

    narrowed = world.refresh(both["refresh_token"], scope="demo.read")
    token = json.loads(narrowed.body)["access_token"]

    assert world.userinfo(token).status == 401


@pytest.mark.rules("core/3.1.3.2/own-code", "rfc6749/4.1.2/bound")
def test_a07_code_of_another_client_is_refused_though_all_else_fits(world: World) -> None:
    """The thief has the code, the verifier and the address, and a registration of its own."""
    world.sign_in()
    code = world.code()

    refused = world.exchange(code, "other", redirect_uri="https://web.example/cb")

    assert json.loads(refused.body)["error"] == "invalid_grant"
    assert world.exchange(code).status == 200


@pytest.mark.rules("core/3.1.2.2/oauth-parameters", "rfc6749/3.1/repeated")
@pytest.mark.parametrize("name", ["nonce", "prompt", "max_age", "scope", "acr_values", "login_hint"])
def test_a01_parameter_given_twice_is_refused_and_not_ignored(name: str, world: World) -> None:
    """To take neither of two would drop what the client asked for: a nonce, a fresh sign-in."""
    world.sign_in()
    value = {"scope": "openid", "prompt": "login", "max_age": "0"}.get(name, "x")
    wanted = {**world.wanted(), name: [value, value]}

    assert answer_of(world.visit(**wanted))["error"] == "invalid_request"


def test_a10_scope_that_is_not_the_clients_is_an_error_and_not_left_out(world: World) -> None:
    world.sign_in()

    assert answer_of(world.authorize("other", scope="openid demo.read"))["error"] == "invalid_scope"


@pytest.mark.rules("core/12.1/own", "rfc6749/6/own")
def test_a15_retry_by_another_client_is_refused_and_ends_nothing(world: World) -> None:
    """Within the seconds in which its own client gets the successor again: nobody else does."""
    world.sign_in()
    first = world.tokens("web", scope="openid roles")["refresh_token"]
    successor = json.loads(world.refresh(first).body)["refresh_token"]

    stolen = world.refresh(first, "other")

    assert json.loads(stolen.body)["error"] == "invalid_grant"
    assert json.loads(world.refresh(first).body)["refresh_token"] == successor
    assert world.refresh(successor).status == 200


def test_a24_scope_taken_from_the_client_since_gives_no_token(world: World) -> None:
    """Only the gate looks: neither the code's nor the family's statement knows what is registered now."""
    world.sign_in()
    scopes = "openid demo.read"
    token, code = world.tokens("web", scope=scopes)["refresh_token"], world.code("web", scope=scopes)
    Client.objects.filter(client_id="web").update(scope_list=["openid", "roles"])

    assert json.loads(world.refresh(token).body)["error"] == "invalid_grant"
    assert json.loads(world.exchange(code).body)["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "typ", ["JWT", "logout+jwt", "userinfo+jwt", "token-introspection+jwt", "AT+JWT", ""]
)
@pytest.mark.rules("fapi/5.3.4/3", "rfc7009/2.2/unknown", "rfc7662/4/checks", "rfc9068/2.1/typ")
def test_a13_what_an_access_token_says_under_another_type_is_nothing(typ: str, world: World) -> None:
    """Even signed by us: what else we sign must never open anything, whatever claims it will have one day."""
    world.sign_in()
    token = world.tokens("web", scope="openid demo.read")["access_token"]
    claims, key = claims_of(token), known().signing_key("ES256")
    assert world.introspect(key.sign("at+jwt", claims))["active"]

    other = key.sign(typ, claims)

    assert world.introspect(other) == {"active": False}
    assert world.userinfo(other).status == 401


@pytest.mark.parametrize("scope", ["openid", "profile", "email", "roles", "openid demo.read"])
def test_a57_machine_gains_nothing_of_a_person_though_its_client_may_ask_people(
    scope: str, world: World
) -> None:
    """A client of both grants has the scopes of a person among its own; without a person they mean nothing."""
    web = next(client for client in CLIENTS if client["client_id"] == "web")
    grants = [*web["grant_types"], "client_credentials"]
    apply_all([{**web, "grant_types": grants}], world.now, "system:test")

    refused = world.post("/token", grant_type="client_credentials", scope=scope)

    assert (refused.status, json.loads(refused.body)["error"]) == (400, "invalid_scope")
    assert world.post("/token", grant_type="client_credentials", scope="demo.read").status == 200
