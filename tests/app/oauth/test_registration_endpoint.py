"""Clients that register themselves: only with an invitation, and never more than it allows. RFC 7591, RFC 7592."""

import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from iam.audit.models import AuditEvent, RefusalTally
from iam.oauth import state
from iam.oauth.clients import apply_all
from iam.oauth.models import Client, ClientRegistration, InitialAccessToken
from iam.oauth.protocol.dynamic_registration import GIVEN_BY_US, HOUSE_ONLY, SELF_CHOSEN
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.jose import Key
from iam.oauth.protocol.messages import Request, Response
from iam.oauth.protocol.registration import KNOWN
from iam.oauth.registrations import Bounds, end_invitation, invite

from .conftest import World, claims_of

pytestmark = pytest.mark.django_db
GOOD = {"redirect_uris": ["https://app.example/cb"], "client_name": "Wiki"}
BOUNDS = Bounds("mail", ("authorization_code", "refresh_token"), ("openid", "roles", "demo.read"))
MISSING = object()


def invitation(world: World, bounds: Bounds = BOUNDS, uses: int = 1, days: int = 7) -> str:
    return invite("The wiki team", bounds, uses, timedelta(days=days), world.now, "operator:test")


def send(
    world: World,
    method: str,
    path: str,
    token: str | None,
    value: Any = MISSING,
    *,
    body: bytes | None = None,
    content_type: str = "application/json",
) -> Response:
    if body is None:
        body = b"" if value is MISSING else json.dumps(value).encode()
    authorization = f"Bearer {token}" if token is not None else ""
    answer = world.ask(
        Request(method, path, body=body, content_type=content_type, authorization=authorization)
    )
    assert isinstance(answer, Response)
    assert dict(answer.headers)["Cache-Control"] == "no-store"
    return answer


def register(world: World, token: str | None, value: Any = GOOD, **more: Any) -> Response:
    return send(world, "POST", "/register", token, value, **more)


def registered(world: World, value: Any = GOOD, bounds: Bounds = BOUNDS) -> dict[str, Any]:
    answer = register(world, invitation(world, bounds), value)
    assert answer.status == 201, answer.body
    return json.loads(answer.body)


def told(answer: Response) -> tuple[int, str]:
    return answer.status, json.loads(answer.body).get("error", "")


def path_of(client: dict[str, Any]) -> str:
    return f"/register/{client['client_id']}"


# -- with an invitation -----------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 7591", "3.2.1", "201 with client_id, secret and everything that was registered")
@pytest.mark.spec("RFC 7592", "3", "registration_access_token and registration_client_uri in the answer")
def test_registered_client_signs_a_person_in(world: World) -> None:
    answer = register(world, invitation(world))

    client = json.loads(answer.body)
    assert answer.status == 201
    assert client["client_name"] == "Wiki"
    assert client["redirect_uris"] == GOOD["redirect_uris"]
    assert client["grant_types"] == ["authorization_code"]
    assert client["token_endpoint_auth_method"] == "client_secret_basic"
    assert client["scope"] == "demo.read openid roles"
    assert client["client_secret_expires_at"] == 0
    assert client["client_id_issued_at"] == int(world.now.timestamp())
    assert client["registration_client_uri"] == f"http://localhost:8000/register/{client['client_id']}"
    assert not HOUSE_ONLY & client.keys()
    world.sign_in()
    page = world.authorize(client["client_id"], redirect_uri="https://app.example/cb")
    assert page.need == "consent"  # type: ignore[union-attr]  # nobody trusts it


def test_registered_client_is_never_trusted_and_never_a_resource_server(world: World) -> None:
    row = Client.objects.get(client_id=registered(world)["client_id"])

    assert (row.trusted, row.is_resource_server, row.owned_scopes, row.skip_authorization) == (
        False,
        False,
        [],
        False,
    )
    assert row.application is not None
    assert row.application.code == "mail"


def test_registration_is_one_event_that_names_the_invitation_and_who_made_it(world: World) -> None:
    client = registered(world)

    event = AuditEvent.objects.get(action="client:registration:create")
    assert event.actor == event.object == f"client:{client['client_id']}"
    assert event.on_behalf_of == "operator:test"
    assert event.method == f"invitation:{InitialAccessToken.objects.get().pk}"
    assert event.application == "mail"


@pytest.mark.spec("RFC 7591", "2", "metadata that is not understood is ignored")
def test_unknown_names_are_left_out_of_what_is_registered(world: World) -> None:
    client = registered(world, {**GOOD, "colour": "green", "logo_uri": "https://app.example/l.png", "_x": 1})

    assert not {"colour", "logo_uri", "_x"} & client.keys()


def test_tokens_are_kept_as_digests_only(world: World) -> None:
    token = invitation(world)
    client = json.loads(register(world, token).body)

    kept = [
        str(value)
        for model in (InitialAccessToken, ClientRegistration, Client, AuditEvent)
        for row in model.objects.values_list()
        for value in row
    ]
    for secret in (token, client["registration_access_token"], client["client_secret"]):
        assert not any(secret in value for value in kept)


def test_public_client_gets_no_secret(world: World) -> None:
    client = registered(world, {**GOOD, "token_endpoint_auth_method": "none"})

    assert "client_secret" not in client
    assert "client_secret_expires_at" not in client


def test_machine_client_needs_an_invitation_for_machines(world: World) -> None:
    machine = {"grant_types": ["client_credentials"], "scope": "demo.read"}
    bounds = Bounds("mail", ("client_credentials",), ("demo.read",))

    assert told(register(world, invitation(world), machine)) == (400, "invalid_client_metadata")
    client = registered(world, machine, bounds)
    answer = world.post(
        "/token", client["client_id"], client["client_secret"], grant_type="client_credentials"
    )
    assert claims_of(json.loads(answer.body)["access_token"])["aud"] == ["resource"]


def test_invitation_of_the_high_profile_registers_nothing_less(world: World) -> None:
    bounds = Bounds("mail", ("authorization_code", "refresh_token"), ("openid",), "high")
    key = ec.generate_private_key(ec.SECP256R1())
    jwks = {"keys": [Key("k", "ES256", key.public_key()).jwk()]}
    strong = {
        **GOOD, "token_endpoint_auth_method": "private_key_jwt", "jwks": jwks, "dpop_bound_access_tokens": True,
        "require_pushed_authorization_requests": True, "require_signed_request_object": True,
    }  # fmt: skip

    assert told(register(world, invitation(world, bounds))) == (400, "invalid_client_metadata")
    answer = register(world, invitation(world, bounds), strong)

    assert answer.status == 201, answer.body
    client = json.loads(answer.body)
    assert Client.objects.get(client_id=client["client_id"]).options["profile"] == "high"
    weaker = {**GOOD, "client_id": client["client_id"]}
    assert send(world, "PUT", path_of(client), client["registration_access_token"], weaker).status == 400


def test_what_lets_a_client_act_for_others_is_never_its_own_to_choose() -> None:
    assert {
        "trusted", "application", "resource_server", "resource_uri", "resources", "enabled", "profile", "token_exchange_targets",
        "token_exchange_depth", "rotation_critical", "dedicated_jwks", "access_token_format", "sector_identifier_uri",
    } <= HOUSE_ONLY  # fmt: skip
    assert SELF_CHOSEN <= KNOWN
    assert not SELF_CHOSEN & HOUSE_ONLY


# -- without one, it is never open --------------------------------------------------------------------------------


@pytest.mark.spec("RFC 7591", "3", "registration is protected: without a token 401")
@pytest.mark.parametrize(
    "token", [None, "", "iat_", "wrong", "iat_" + "A" * 43, "rat_" + "A" * 43, "é" * 20, "iat_" + "A" * 9_000]
)
def test_without_a_good_invitation_is_401(world: World, token: str | None) -> None:
    before = Client.objects.count()

    answer = register(world, token)

    assert answer.status == 401
    assert dict(answer.headers)["WWW-Authenticate"].startswith("Bearer ")
    assert Client.objects.count() == before
    assert RefusalTally.objects.count() == 1


@pytest.mark.parametrize("where", ["basic", "query", "body", "cookie"])
def test_invitation_anywhere_but_in_the_bearer_header_is_not_read(world: World, where: str) -> None:
    token = invitation(world)
    request = Request(
        "POST", "/register",
        query=f"access_token={token}" if where == "query" else "",
        body=json.dumps({**GOOD, **({"access_token": token} if where == "body" else {})}).encode(),
        content_type="application/json",
        authorization=f"Basic {token}" if where == "basic" else "",
        cookies={"access_token": token} if where == "cookie" else {},
    )  # fmt: skip

    answer = world.ask(request)

    assert isinstance(answer, Response)
    assert answer.status == 401


def test_invitation_used_up_expired_or_ended_is_401(world: World) -> None:
    used = invitation(world)
    assert register(world, used).status == 201
    assert told(register(world, used)) == (401, "invalid_token")
    ended = invitation(world)
    assert end_invitation(InitialAccessToken.objects.latest("pk").pk, world.now, "operator:test")
    assert told(register(world, ended)) == (401, "invalid_token")
    late = invitation(world, days=7)
    world.later(days=7)
    assert told(register(world, late)) == (401, "invalid_token")


def test_refused_metadata_uses_nothing_up(world: World) -> None:
    token = invitation(world)

    assert told(register(world, token, {"redirect_uris": ["http://evil.example/"]})) == (
        400,
        "invalid_redirect_uri",
    )
    assert register(world, token).status == 201


def test_invitation_for_two_registers_two_and_no_more(world: World) -> None:
    token = invitation(world, uses=2)

    assert [register(world, token).status for _ in range(3)] == [201, 201, 401]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_at_register_are_405(world: World, method: str) -> None:
    answer = send(world, method, "/register", invitation(world), GOOD)

    assert answer.status == 405
    assert dict(answer.headers)["Allow"] == "POST"


# -- bad metadata ---------------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 7591", "3.2.2", "invalid_redirect_uri")
@pytest.mark.parametrize(
    "uris",
    [
        [], None, "https://app.example/cb", [1], [""], ["http://app.example/cb"], ["https://app.example/cb#f"],
        ["javascript:alert(1)"], ["https://*.example/cb"], ["https://u:p@app.example/"], ["custom:/cb"],
        ["https://app.example/" + "a" * 1_990], ["https://app.example/é"],
    ],
)  # fmt: skip
def test_bad_redirect_uris_are_invalid_redirect_uri(world: World, uris: Any) -> None:
    assert told(register(world, invitation(world), {**GOOD, "redirect_uris": uris})) == (
        400,
        "invalid_redirect_uri",
    )


@pytest.mark.spec("RFC 7591", "3.2.2", "invalid_client_metadata")
@pytest.mark.parametrize(
    "change",
    [
        {"grant_types": ["implicit"]}, {"grant_types": ["password"]}, {"grant_types": "authorization_code"},
        {"grant_types": ["authorization_code", "client_credentials"]}, {"response_types": ["token"]},
        {"response_types": ["code", "id_token"]}, {"token_endpoint_auth_method": "client_secret_jwt"},
        {"token_endpoint_auth_method": 5}, {"scope": "openid email"}, {"scope": "admin"}, {"scope": ["openid"]},
        {"scope": 'open"id'}, {"client_name": 7}, {"client_name": "a" * 201}, {"client_name": "a\u202eb"},
        {"client_name": "a\x00b"}, {"client_name": "a\nb"}, {"contacts": ["a\ud800"]}, {"contacts": ["x" * 4_001]},
        {"contacts": ["x"] * 51}, {"default_max_age": -1}, {"default_max_age": "60"}, {"default_max_age": 1e99},
        {"id_token_signed_response_alg": "none"}, {"id_token_signed_response_alg": "HS256"},
        {"require_auth_time": "yes"}, {"client_uri": "http://app.example"}, {"request_uris": ["https://app.example"]},
        {"client_id": "my-own-name"}, {"client_id": None}, {"client_id": "web"},
        *({name: True} for name in sorted(HOUSE_ONLY | GIVEN_BY_US)),
    ],
    ids=str,
)  # fmt: skip
def test_bad_or_forbidden_metadata_is_invalid_client_metadata(world: World, change: dict[str, Any]) -> None:
    before = Client.objects.count()

    answer = register(world, invitation(world), {**GOOD, **change})

    assert told(answer) == (400, "invalid_client_metadata")
    assert "reference r-1" in json.loads(answer.body)["error_description"]
    assert Client.objects.count() == before
    assert RefusalTally.objects.count() == 1


@pytest.mark.spec("RFC 7591", "3.2.2", "unapproved_software_statement")
def test_software_statement_is_refused(world: World) -> None:
    answer = register(world, invitation(world), {**GOOD, "software_statement": "e30.e30."})

    assert told(answer) == (400, "unapproved_software_statement")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b'"x"', b"1", b"{", b"\xff{}", b'{"a":NaN}', b'{"a":Infinity}', b"[" * 60_000,
        b'{"client_name":"a","client_name":"b"}', b'{"redirect_uris":[{"a":1,"a":2}]}', b'{"a":"' + b"x" * 66_000 + b'"}',
        b'{"a":' + b"9" * 5_000 + b"}", b'{"a":"\\u0000"}', b'{"\\ud800":1}',
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)  # fmt: skip
def test_body_that_is_no_json_object_is_refused(world: World, body: bytes) -> None:
    assert told(register(world, invitation(world), body=body)) == (400, "invalid_client_metadata")


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_other_content_types_are_refused(world: World, content_type: str) -> None:
    answer = register(world, invitation(world), GOOD, content_type=content_type)

    assert told(answer) == (400, "invalid_client_metadata")


def test_scope_that_nobody_owns_any_more_is_refused_and_names_no_other_client(world: World) -> None:
    token = invitation(world)
    Client.objects.filter(client_id="resource").update(enabled=False)

    answer = register(world, token)

    assert told(answer) == (400, "invalid_client_metadata")
    assert "web" not in json.loads(answer.body)["error_description"]
    assert InitialAccessToken.objects.get().uses_left == 1


# -- the registration's own token -----------------------------------------------------------------------------------


@pytest.mark.spec("RFC 7592", "2.1", "read with the registration access token")
def test_read_shows_the_registration_without_the_secret(world: World) -> None:
    client = registered(world)

    answer = send(world, "GET", path_of(client), client["registration_access_token"])

    shown = json.loads(answer.body)
    assert answer.status == 200
    assert shown == {
        name: value
        for name, value in client.items()
        if name not in {"client_secret", "client_secret_expires_at"}
    }


@pytest.mark.spec("RFC 7592", "2.2", "a change replaces everything, and the token may be rotated")
def test_change_replaces_metadata_and_rotates_the_token(world: World) -> None:
    client = registered(world, {**GOOD, "contacts": ["a@app.example"]})
    wanted = {
        "client_id": client["client_id"],
        "redirect_uris": ["https://app.example/new"],
        "scope": "openid",
    }

    answer = send(world, "PUT", path_of(client), client["registration_access_token"], wanted)

    changed = json.loads(answer.body)
    assert answer.status == 200
    assert changed["redirect_uris"] == ["https://app.example/new"]
    assert changed["scope"] == "openid"
    assert "contacts" not in changed
    assert "client_secret" not in changed
    assert changed["registration_access_token"] != client["registration_access_token"]
    assert send(world, "GET", path_of(client), client["registration_access_token"]).status == 401
    assert send(world, "GET", path_of(client), changed["registration_access_token"]).status == 200
    assert AuditEvent.objects.filter(action="client:registration:change").count() == 1


def test_change_with_the_current_secret_is_let_through_and_keeps_it(world: World) -> None:
    client = registered(world)
    wanted = {**GOOD, "client_id": client["client_id"], "client_secret": client["client_secret"]}

    answer = send(world, "PUT", path_of(client), client["registration_access_token"], wanted)

    assert answer.status == 200
    assert world.post("/revoke", client["client_id"], client["client_secret"], token="x").status == 200


@pytest.mark.spec("RFC 7592", "2.2", "client_id must be the client's own; what we give must not be sent back")
@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "web"}, {"client_id": None}, {"client_id": ["x"]}, {"client_secret": "s" * 40}, {"client_secret": 5},
        {"registration_access_token": "x"}, {"client_id_issued_at": 1}, {"trusted": True}, {"enabled": True},
        {"application": "registry"}, {"scope": "openid email"}, {"grant_types": ["client_credentials"]},
        {"resource_server": ["x.read"]}, {"profile": "standard"}, {"software_statement": "x"}, {"redirect_uris": []},
    ],
    ids=str,
)  # fmt: skip
def test_change_beyond_the_invitation_is_refused_and_changes_nothing(
    world: World, change: dict[str, Any]
) -> None:
    client = registered(world)
    token = client["registration_access_token"]

    answer = send(world, "PUT", path_of(client), token, {**GOOD, "client_id": client["client_id"], **change})

    assert answer.status == 400
    assert (
        json.loads(send(world, "GET", path_of(client), token).body)["redirect_uris"] == GOOD["redirect_uris"]
    )


@pytest.mark.spec("RFC 7592", "2.3", "an ended registration ends the client, its codes and its tokens")
def test_end_switches_the_client_off_and_ends_its_tokens(world: World) -> None:
    machine = {"grant_types": ["client_credentials"], "scope": "demo.read"}
    client = registered(world, machine, Bounds("mail", ("client_credentials",), ("demo.read",)))
    answer = world.post(
        "/token", client["client_id"], client["client_secret"], grant_type="client_credentials"
    )
    access = json.loads(answer.body)["access_token"]
    assert world.introspect(access)["active"] is True

    ended = send(world, "DELETE", path_of(client), client["registration_access_token"])

    assert (ended.status, ended.body) == (204, b"")
    assert world.introspect(access) == {"active": False}
    again = world.post(
        "/token", client["client_id"], client["client_secret"], grant_type="client_credentials"
    )
    assert again.status == 401
    for method in ("GET", "PUT", "DELETE"):
        assert send(world, method, path_of(client), client["registration_access_token"], GOOD).status == 401
    assert AuditEvent.objects.filter(action="client:registration:end").count() == 1
    assert Client.objects.get(client_id=client["client_id"]).enabled is False


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_somebody_elses_token_opens_nothing(world: World, method: str) -> None:
    mine, other = registered(world), registered(world)
    for token in (
        other["registration_access_token"],
        invitation(world),
        mine["client_secret"],
        None,
        "",
        "rat_x",
    ):
        answer = send(world, method, path_of(mine), token, {**GOOD, "client_id": mine["client_id"]})
        assert answer.status == 401
    assert send(world, "GET", path_of(mine), mine["registration_access_token"]).status == 200


@pytest.mark.parametrize("name", ["web", "nobody", "%00", "f" * 24, "a\x00b", "é", "x" * 4_000])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_clients_of_the_operators_and_unknown_ones_are_401(world: World, method: str, name: str) -> None:
    token = registered(world)["registration_access_token"]

    answer = world.ask(Request(method, f"/register/{name}", authorization=f"Bearer {token}"))

    assert isinstance(answer, Response)
    assert answer.status == 401


@pytest.mark.parametrize("method", ["POST", "PATCH", "HEAD", "OPTIONS"])
def test_other_methods_at_a_registration_are_405(world: World, method: str) -> None:
    client = registered(world)

    answer = send(world, method, path_of(client), client["registration_access_token"])

    assert (answer.status, dict(answer.headers)["Allow"]) == (405, "GET, PUT, DELETE")


def test_operator_who_changes_a_registered_client_takes_it_over(world: World) -> None:
    client = registered(world)
    own = {"client_id": client["client_id"], "redirect_uris": ["https://app.example/cb"], "scope": "openid"}
    apply_all([{**own, "trusted": True, "application": "mail"}], world.now, "operator:test")

    answer = send(world, "PUT", path_of(client), client["registration_access_token"], {**GOOD, **own})

    assert answer.status == 401
    assert Client.objects.get(client_id=client["client_id"]).trusted is True


def test_client_that_an_operator_switched_off_cannot_switch_itself_on(world: World) -> None:
    client = registered(world)
    Client.objects.filter(client_id=client["client_id"]).update(enabled=False)
    state.forget()

    answer = send(
        world,
        "PUT",
        path_of(client),
        client["registration_access_token"],
        {**GOOD, "client_id": client["client_id"]},
    )

    assert answer.status == 401
    assert Client.objects.get(client_id=client["client_id"]).enabled is False


# -- making invitations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "bounds", "uses", "days"),
    [
        ("", BOUNDS, 1, 7), ("a\nb", BOUNDS, 1, 7), ("x" * 101, BOUNDS, 1, 7), ("x", BOUNDS, 0, 7), ("x", BOUNDS, -1, 7),
        ("x", BOUNDS, 1_001, 7), ("x", BOUNDS, 1, 0), ("x", BOUNDS, 1, 91), ("x", Bounds("none", ("authorization_code",), ()), 1, 7),
        ("x", Bounds("mail", (), ()), 1, 7), ("x", Bounds("mail", ("password",), ()), 1, 7),
        ("x", Bounds("mail", ("authorization_code",), ("unowned",)), 1, 7),
        ("x", Bounds("mail", ("authorization_code",), (), "lax"), 1, 7),
    ],
)  # fmt: skip
def test_invitation_that_cannot_be_is_refused(
    world: World, label: str, bounds: Bounds, uses: int, days: int
) -> None:
    with pytest.raises(MetadataError):
        invite(label, bounds, uses, timedelta(days=days), world.now, "operator:test")
    assert not InitialAccessToken.objects.exists()
