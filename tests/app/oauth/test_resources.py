"""Tokens for the resource servers that were named, and for no others. Spec: RFC 8707."""

import json
from urllib.parse import quote

import pytest

from iam.audit.models import AuditEvent
from iam.oauth import interactions
from iam.oauth.clients import apply_all
from iam.oauth.models import Client, ParkedRequest
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.messages import Interaction

from .conftest import CLIENTS, SECRET, SERVER_SECRET, answer_of, claims_of

pytestmark = pytest.mark.django_db

ISSUER = "http://localhost:8000"
ARCHIVE, LEDGER = "https://archive.example/api", "urn:secretariat:ledger"
SERVERS = [
    {
        "client_id": "archive", "client_secret": SERVER_SECRET, "grant_types": ["client_credentials"],
        "resource_server": ["archive.read", "archive.write"], "resource_uri": ARCHIVE, "application": "registry",
    },
    {
        "client_id": LEDGER, "client_secret": SERVER_SECRET, "grant_types": ["client_credentials"],
        "resource_server": ["ledger.read"], "application": "mail",
    },
]  # fmt: skip
BOTH = "openid roles archive.read archive.write ledger.read"


def with_scopes(client_id: str, scope: str, **more: object) -> dict:
    """Return one of the usual clients with other scopes."""
    (usual,) = (client for client in CLIENTS if client["client_id"] == client_id)
    return {**usual, "scope": scope, **more}


@pytest.fixture
def world(world):
    apply_all(
        [
            *SERVERS,
            with_scopes("web", BOTH),
            with_scopes("service", "archive.read archive.write ledger.read"),
        ],
        world.now,
        "system:test",
    )
    world.sign_in()
    return world


def ask(world, *resources: str, scope: str = BOTH):
    """Send an authorization request that names any number of resources."""
    return world.authorize(scope=scope, resource=list(resources))


def redeem(world, *resources: str, scope: str = BOTH, **form: str) -> dict:
    response = world.exchange(answer_of(ask(world, *resources, scope=scope))["code"], **form)
    assert response.status == 200, response.body
    return json.loads(response.body)


def refusal(response) -> str:
    assert response.status == 400
    return json.loads(response.body)["error"]


def test_token_without_resource_names_every_owner_of_its_scopes(world):
    claims = claims_of(redeem(world)["access_token"])

    assert claims["aud"] == [ARCHIVE, LEDGER, ISSUER]
    assert claims["scope"] == BOTH


@pytest.mark.spec("RFC 8707", "2.1", "the audience is the resource that was named")
@pytest.mark.spec("RFC 9068", "3", "aud is the resource parameter's value")
@pytest.mark.parametrize(
    ("resource", "scope"), [(ARCHIVE, "archive.read archive.write"), (LEDGER, "ledger.read"), (ISSUER, "openid roles")]
)  # fmt: skip
@pytest.mark.rules("fapi/5.3.2.1/14", "core/16.8/restricted", "rfc9068/3/audience", "rfc9700/2.3/audience")
def test_token_for_a_named_resource_carries_its_scopes_and_nothing_else(world, resource, scope):
    answer = redeem(world, resource)

    claims = claims_of(answer["access_token"])
    assert (claims["aud"], claims["scope"], answer["scope"]) == ([resource], scope, scope)
    assert "id_token" in answer


def test_token_for_two_named_resources_names_both(world):
    claims = claims_of(redeem(world, ARCHIVE, LEDGER)["access_token"])

    assert (claims["aud"], claims["scope"]) == ([ARCHIVE, LEDGER], "archive.read archive.write ledger.read")


@pytest.mark.spec("RFC 9068", "3", "what a token says must mean the same to everybody it is for")
@pytest.mark.parametrize("resources", [(), (ARCHIVE, LEDGER)], ids=["none named", "both named"])
def test_signed_token_for_two_applications_expresses_the_roles_of_neither(world, resources):
    answer = redeem(world, *resources)

    claims = claims_of(answer["access_token"])
    assert (claims["roles"], [held["role"] for held in claims["access"]]) == (["staff"], ["staff"])
    assert claims_of(answer["id_token"])["roles"] == ["mail.reader", "staff"]  # which is for the client alone
    alone = json.loads(world.refresh(answer["refresh_token"], resource=ARCHIVE).body)["access_token"]
    assert claims_of(alone)["roles"] == ["registry.clerk", "staff"]


def test_signed_token_for_two_servers_of_one_application_expresses_its_roles(world):
    apply_all([{**SERVERS[1], "application": "registry"}], world.now, "system:test")

    assert claims_of(redeem(world)["access_token"])["roles"] == ["registry.clerk", "staff"]


def test_signed_token_for_an_application_and_a_server_of_none_expresses_no_roles_of_it(world):
    apply_all([{**SERVERS[1], "application": None}], world.now, "system:test")

    assert claims_of(redeem(world)["access_token"])["roles"] == ["staff"]


@pytest.mark.spec("RFC 7662", "2.2", "an answer may differ from one protected resource to another")
@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_introspection_tells_a_resource_server_its_own_part_and_the_client_the_whole(world, kind):
    apply_all([with_scopes("web", BOTH, access_token_format=kind)], world.now, "system:test")
    token = redeem(world)["access_token"]

    archive, ledger = world.introspect(token, "archive"), world.introspect(token, quote(LEDGER, safe=""))
    assert (archive["aud"], archive["scope"]) == ([ARCHIVE], "archive.read archive.write")
    assert (ledger["aud"], ledger["scope"]) == ([LEDGER], "ledger.read")
    assert archive["roles"] == ["registry.clerk", "staff"]
    assert ledger["roles"] == ["mail.reader", "staff"]
    whole = world.introspect(token, "web", SECRET)
    assert (whole["aud"], whole["scope"]) == ([ARCHIVE, LEDGER, ISSUER], BOTH)


def test_token_for_a_resource_expresses_only_the_roles_of_its_application(world):
    archive = claims_of(redeem(world, ARCHIVE)["access_token"])
    ledger = claims_of(redeem(world, LEDGER)["access_token"])

    assert archive["roles"] == ["registry.clerk", "staff"]
    assert ledger["roles"] == ["mail.reader", "staff"]


def test_userinfo_address_as_a_resource_means_the_issuer(world):
    answer = redeem(world, f"{ISSUER}/userinfo")

    assert claims_of(answer["access_token"])["aud"] == [ISSUER]
    assert world.userinfo(answer["access_token"]).status == 200


@pytest.mark.rules("fapi/5.3.4/4", "core/16.8/restricted")
def test_token_for_a_resource_opens_no_userinfo(world):
    assert world.userinfo(redeem(world, ARCHIVE)["access_token"]).status == 401


@pytest.mark.spec("RFC 8707", "2.2", "a token request names some of the resources granted")
def test_code_exchange_may_name_one_of_the_granted_resources_and_refresh_another(world):
    answer = redeem(world, ARCHIVE, LEDGER, resource=ARCHIVE)
    refreshed = world.refresh(answer["refresh_token"], resource=LEDGER)
    again = json.loads(refreshed.body)

    assert claims_of(answer["access_token"])["aud"] == [ARCHIVE]
    assert claims_of(again["access_token"])["aud"] == [LEDGER]
    assert claims_of(again["access_token"])["scope"] == "ledger.read"


def test_token_request_may_name_a_resource_where_the_authorization_named_none(world):
    assert claims_of(redeem(world, resource=LEDGER)["access_token"])["aud"] == [LEDGER]


@pytest.mark.spec("RFC 8707", "2.2", "no resource beyond those granted")
@pytest.mark.parametrize("resource", [LEDGER, ISSUER])
def test_token_request_for_a_resource_not_granted_is_invalid_target(world, resource):
    code = answer_of(ask(world, ARCHIVE))["code"]

    assert refusal(world.exchange(code, resource=resource)) == "invalid_target"


def test_refresh_for_a_resource_not_granted_is_refused_and_the_token_still_good(world):
    answer = redeem(world, ARCHIVE)

    assert refusal(world.refresh(answer["refresh_token"], resource=LEDGER)) == "invalid_target"
    assert world.refresh(answer["refresh_token"]).status == 200


def test_refresh_for_scopes_of_another_resource_than_the_named_is_invalid_target(world):
    answer = redeem(world)

    response = world.refresh(answer["refresh_token"], scope="ledger.read", resource=ARCHIVE)

    assert refusal(response) == "invalid_target"


@pytest.mark.spec("RFC 8707", "2", "invalid_target")
@pytest.mark.parametrize(
    "resources",
    [
        ("https://nobody.example",), ("archive",), (ARCHIVE + "#part",), (ARCHIVE + "/",), (ARCHIVE.upper(),),
        (ARCHIVE, "https://nobody.example"), ("/api",), ("https://" + "a" * 600,), tuple(f"urn:x:{n}" for n in range(11)),
    ],
    ids=["unknown", "no URI", "fragment", "slash", "case", "one of two", "relative", "huge", "too many"],
)  # fmt: skip
def test_authorize_for_a_resource_that_cannot_be_named_is_invalid_target(world, resources):
    answer = answer_of(ask(world, *resources))

    assert (answer["error"], answer["state"]) == ("invalid_target", "st")
    assert "code" not in answer


def test_authorize_for_a_resource_without_any_of_its_scopes_is_invalid_target(world):
    assert answer_of(ask(world, LEDGER, scope="openid archive.read"))["error"] == "invalid_target"


def test_authorize_for_a_resource_whose_scopes_the_client_has_not_is_invalid_target(world):
    apply_all([with_scopes("web", "openid archive.read")], world.now, "system:test")

    assert answer_of(ask(world, LEDGER, scope="openid archive.read"))["error"] == "invalid_target"


def test_authorize_for_a_resource_server_off_the_clients_list_is_invalid_target(world):
    apply_all([with_scopes("web", "openid archive.read", resources=["archive"])], world.now, "system:test")

    assert "code" in answer_of(ask(world, ARCHIVE, scope="openid archive.read"))
    assert answer_of(ask(world, LEDGER, scope="openid archive.read"))["error"] == "invalid_target"


def test_a24_resource_taken_from_the_client_since_the_code_is_refused(world):
    code = answer_of(ask(world, ARCHIVE, LEDGER))["code"]
    Client.objects.filter(client_id="web").update(options={"resources": [LEDGER]})

    assert refusal(world.exchange(code)) == "invalid_grant"


def test_a24_resource_server_switched_off_since_the_refresh_token_is_refused(world):
    answer = redeem(world, ARCHIVE)
    Client.objects.filter(client_id="archive").update(enabled=False)

    assert refusal(world.refresh(answer["refresh_token"])) == "invalid_grant"


@pytest.mark.spec("RFC 8707", "2.2", "client credentials for a resource")
def test_machine_token_for_a_named_resource_carries_only_its_scopes(world):
    response = world.post("/token", "service", SECRET, grant_type="client_credentials", resource=ARCHIVE)

    answer = json.loads(response.body)
    assert (claims_of(answer["access_token"])["aud"], answer["scope"]) == (
        [ARCHIVE],
        "archive.read archive.write",
    )


@pytest.mark.parametrize(
    "form",
    [
        {"resource": "https://nobody.example"},
        {"resource": ARCHIVE, "scope": "ledger.read"},
        {"resource": ISSUER},
    ],
)
def test_machine_token_for_a_resource_that_it_may_not_have_is_invalid_target(world, form):
    response = world.post("/token", "service", SECRET, grant_type="client_credentials", **form)

    assert refusal(response) == "invalid_target"


def test_introspection_answers_the_named_resource_server_and_no_other(world):
    token = redeem(world, ARCHIVE)["access_token"]

    assert world.introspect(token, "archive")["active"] is True
    assert world.introspect(token, quote(LEDGER, safe="")) == {"active": False}
    assert world.introspect(token, "resource") == {"active": False}


def test_resources_survive_the_sign_in(world):
    world.cookie = ""
    parked = ask(world, ARCHIVE)
    assert isinstance(parked, Interaction)
    interactions.park(parked, "b", world.now)

    assert ParkedRequest.objects.get().parameters["asked"] == {"resources": [ARCHIVE]}


@pytest.mark.spec("RFC 8707", "2.1", "several resources through PAR")
def test_pushed_request_keeps_every_resource(world):
    name = world.pushed(scope=BOTH, resource=[ARCHIVE, LEDGER])

    code = answer_of(world.visit(client_id="web", request_uri=name))["code"]

    assert claims_of(json.loads(world.exchange(code).body)["access_token"])["aud"] == [ARCHIVE, LEDGER]


def test_pushed_request_for_a_resource_that_cannot_be_named_is_refused_at_once(world):
    response = world.push(scope=BOTH, resource=[ARCHIVE, "https://nobody.example"])

    assert refusal(response) == "invalid_target"


def test_refusals_of_a_known_person_are_recorded_with_their_reason(world):
    ask(world, "https://nobody.example")

    assert AuditEvent.objects.order_by("-pk").first().reason == "resource"


# -- registration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (with_scopes("web", "openid", resource_uri="https://web.example"), "resource_server"),
        ({**SERVERS[1], "resource_uri": ARCHIVE}, "already the name"),
        ({**SERVERS[1], "resource_uri": ISSUER}, "already the name"),
        ({**SERVERS[0], "resource_uri": LEDGER}, "already the name"),
        ({**SERVERS[0], "resource_uri": "https://archive.example/#a"}, "fragment"),
        ({**SERVERS[0], "resource_uri": "archive"}, "absolute"),
        (with_scopes("web", "openid", resources=["nobody"]), "no resource server"),
        (with_scopes("web", "openid", resources=["other"]), "no resource server"),
        (with_scopes("web", "openid ledger.read", resources=["archive"]), "not among its resources"),
        (with_scopes("web", "openid", resources="archive"), "list"),
    ],
)
def test_registration_that_contradicts_itself_is_refused(world, client, words):
    with pytest.raises(MetadataError, match=words):
        apply_all([client], world.now, "system:test")
