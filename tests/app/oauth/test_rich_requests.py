"""Rich authorization requests, from a type's registration to the token that carries what was allowed. Spec: RFC 9396."""

import json

import pytest
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from iam.audit.facts import RequestFacts
from iam.audit.models import AuditEvent
from iam.oauth import interactions
from iam.oauth.clients import apply_all
from iam.oauth.detail_types import apply_types, describe
from iam.oauth.models import AuthorizationDetailType, Client, Consent, ParkedRequest
from iam.oauth.protocol.delegation import GRANT_TYPE as TOKEN_EXCHANGE
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.messages import Interaction, Need, Request, Response
from iam.oauth.protocol.trusted_issuers import GRANT_TYPE as JWT_BEARER

from .conftest import CLIENTS, SECRET, SERVER_SECRET, answer_of, claims_of
from .test_request_objects import signer

__all__ = ["signer"]

pytestmark = pytest.mark.django_db

LEDGER, ARCHIVE = "urn:secretariat:ledger", "https://archive.example/api"
BROWSER = "b" * 43
FACTS = RequestFacts("r-1", "192.0.2.1", "browser")
WORDS = {"ar": "دفع", "fr": "Payer", "en": "Make a payment"}
SERVERS = [
    {
        "client_id": "ledger", "client_secret": SERVER_SECRET, "grant_types": ["client_credentials"],
        "resource_server": ["ledger.read"], "resource_uri": LEDGER, "application": "registry",
    },
    {
        "client_id": "archive", "client_secret": SERVER_SECRET, "grant_types": ["client_credentials"],
        "resource_server": True, "resource_uri": ARCHIVE, "application": "mail",
    },
]  # fmt: skip
SCHEMA = {
    "type": "object",
    "properties": {
        "amount": {"type": "string", "pattern": "^[0-9]{1,9}\\.[0-9]{2}$"},
        "to": {"type": "string", "maxLength": 70},
        "urgent": {"type": "boolean"},
    },
    "required": ["amount", "to"],
    "additionalProperties": False,
}
TYPES = [
    {
        "type": "payment", "resource_server": "ledger", "schema": SCHEMA, "description": WORDS,
        "labels": {"amount": {"ar": "المبلغ", "fr": "Montant", "en": "Amount"}},
    },
    {
        "type": "file_access", "resource_server": "archive", "description": WORDS,
        "schema": {"type": "object", "properties": {"folder": {"type": "string"}}, "additionalProperties": False},
    },
]  # fmt: skip
TEN = {"type": "payment", "amount": "10.00", "to": "UNICEF"}
FOUR = {"type": "payment", "amount": "4.00", "to": "UNICEF"}
FOLDER = {"type": "file_access", "folder": "2026"}
OPTIONS = {"authorization_details_types": ["payment", "file_access"]}


def changed(client_id: str, **more: object) -> dict:
    (usual,) = (client for client in CLIENTS if client["client_id"] == client_id)
    return {**usual, **more}


def details(*items: dict) -> str:
    return json.dumps(items)


@pytest.fixture
def world(world):
    apply_all(SERVERS, world.now, "system:test")
    apply_types(TYPES, world.now, "system:test")
    apply_all(
        [
            changed("web", scope="openid roles ledger.read", **OPTIONS),
            changed("other", **OPTIONS),
            changed("service", scope="ledger.read", **OPTIONS),
        ],
        world.now,
        "system:test",
    )
    world.sign_in()
    return world.later(minutes=5)


def parked(world, client: str = "other", **changes: str) -> interactions.Parked:
    interaction = world.authorize(client, **changes)
    assert isinstance(interaction, Interaction), interaction
    return again(world, interactions.park(interaction, BROWSER, world.now))


def again(world, handle: str) -> interactions.Parked:
    found = interactions.load(handle, BROWSER, world.now)
    assert found is not None
    return found


def evaluate(world, flow: interactions.Parked):
    return interactions.evaluate(again(world, flow.handle), world.session, FACTS, world.now)


def refusal(response: Response) -> str:
    assert response.status == 400, response.body
    return json.loads(response.body)["error"]


# -- what leaves --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 9396", "7", "the token answer says what was granted")
@pytest.mark.spec("RFC 9396", "9.1", "the access token carries it")
def test_details_granted_are_in_the_answer_and_in_the_token_addressed_to_their_owner(world):
    tokens = world.tokens(scope="openid", authorization_details=details(TEN, FOUR))

    claims = claims_of(tokens["access_token"])
    assert tokens["authorization_details"] == claims["authorization_details"] == [TEN, FOUR]
    assert claims["aud"] == [LEDGER, "http://localhost:8000"]
    assert claims["roles"] == ["registry.clerk", "staff"]
    assert "authorization_details" not in claims_of(tokens["id_token"])


@pytest.mark.spec("RFC 9396", "3", "authorization_details without scope")
def test_details_alone_need_no_scope(world):
    tokens = world.tokens(scope=None, authorization_details=details(TEN))

    claims = claims_of(tokens["access_token"])
    assert (claims["aud"], claims["authorization_details"]) == ([LEDGER], [TEN])
    assert "scope" not in claims
    assert not {"scope", "id_token"} & set(tokens)
    refreshed = json.loads(world.refresh(tokens["refresh_token"]).body)
    assert refreshed["authorization_details"] == [TEN]


@pytest.mark.spec("RFC 9396", "9", "a token carries what its resource server needs")
@pytest.mark.parametrize(("resource", "detail"), [(LEDGER, TEN), (ARCHIVE, FOLDER)])
def test_details_of_a_token_for_one_resource_are_those_of_its_types(world, resource, detail):
    tokens = world.tokens(scope="openid", authorization_details=details(TEN, FOLDER), resource=resource)

    claims = claims_of(tokens["access_token"])
    assert (claims["aud"], claims["authorization_details"]) == ([resource], [detail])
    assert tokens["authorization_details"] == [detail]


def test_details_can_be_asked_for_apart_at_the_token_endpoint(world):
    code = world.code(scope="openid", authorization_details=details(TEN, FOLDER))
    first = json.loads(world.exchange(code, resource=ARCHIVE).body)

    second = json.loads(world.refresh(first["refresh_token"], resource=LEDGER).body)
    third = json.loads(world.refresh(second["refresh_token"], resource=ARCHIVE).body)

    assert [answer["authorization_details"] for answer in (first, second, third)] == [
        [FOLDER],
        [TEN],
        [FOLDER],
    ]


@pytest.mark.spec("RFC 9396", "9.1", "a signed token carries no details of one resource server to another")
@pytest.mark.parametrize(
    "asked",
    [
        {"authorization_details": details(TEN, FOLDER)},
        {"authorization_details": details(TEN, FOLDER), "resource": [LEDGER, ARCHIVE]},
        {"authorization_details": details(FOLDER), "scope": "openid ledger.read"},
    ],
    ids=["details of two", "two resources", "scope of one and details of another"],
)
def test_signed_token_that_would_show_details_to_another_resource_server_is_refused(world, asked):
    code = world.code(**{"scope": "openid", **asked})

    assert refusal(world.exchange(code)) == "invalid_target"
    assert (
        "resource"
        in json.loads(world.exchange(world.code(**{"scope": "openid", **asked})).body)["error_description"]
    )
    apart = json.loads(world.exchange(world.code(**{"scope": "openid", **asked}), resource=ARCHIVE).body)
    assert claims_of(apart["access_token"])["authorization_details"] == [FOLDER]


def test_refresh_that_is_refused_for_details_of_several_loses_nothing(world):
    code = world.code(scope="openid", authorization_details=details(TEN, FOLDER))
    token = json.loads(world.exchange(code, resource=ARCHIVE).body)["refresh_token"]

    assert refusal(world.refresh(token)) == "invalid_target"
    assert world.refresh(token, resource=LEDGER).status == 200


def test_machine_that_asks_for_details_of_several_is_refused(world):
    form = {"grant_type": "client_credentials", "authorization_details": details(TEN, FOLDER)}

    assert refusal(world.post("/token", "service", SECRET, **form)) == "invalid_target"
    assert world.post("/token", "service", SECRET, **form, resource=LEDGER).status == 200


@pytest.mark.spec("RFC 9396", "9.2", "introspection tells a resource server its own details")
def test_introspection_tells_each_what_is_theirs(world):
    apply_all(
        [changed("web", scope="openid roles ledger.read", access_token_format="opaque", **OPTIONS)],
        world.now,
        "system:test",
    )
    token = world.tokens(scope="openid", authorization_details=details(TEN, FOLDER))["access_token"]

    assert world.introspect(token, "ledger")["authorization_details"] == [TEN]
    assert world.introspect(token, "archive")["authorization_details"] == [FOLDER]
    assert world.introspect(token, "web", SECRET)["authorization_details"] == [TEN, FOLDER]
    assert world.introspect(token, "resource") == {"active": False}


def test_introspection_of_a_refresh_token_tells_its_owner_the_details(world):
    tokens = world.tokens(scope=None, authorization_details=details(TEN))

    answer = world.introspect(tokens["refresh_token"], "web", SECRET)

    assert answer["authorization_details"] == [TEN]
    assert "scope" not in answer


@pytest.mark.spec("RFC 9396", "10", "authorization_details_types_supported")
def test_discovery_lists_the_types_that_can_be_asked_for(world):
    def listed() -> list[str] | None:
        answer = world.ask(Request("GET", "/.well-known/openid-configuration"))
        return json.loads(answer.body).get("authorization_details_types_supported")

    assert listed() == ["file_access", "payment"]
    apply_types([{**TYPES[0], "enabled": False}], world.now, "system:test")
    assert listed() == ["file_access"]


# -- less ---------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 9396", "6", "a token request narrows the details")
def test_token_requests_name_some_of_the_details(world):
    code = world.code(scope="openid", authorization_details=details(TEN, FOUR))
    first = json.loads(world.exchange(code, authorization_details=details(FOUR)).body)

    second = json.loads(world.refresh(first["refresh_token"], authorization_details=details(TEN)).body)

    assert (first["authorization_details"], second["authorization_details"]) == ([FOUR], [TEN])
    assert claims_of(second["access_token"])["authorization_details"] == [TEN]


@pytest.mark.spec("RFC 9396", "6", "nothing that was not granted")
@pytest.mark.parametrize(
    "asked",
    [details({**TEN, "amount": "9.00"}), details(TEN, FOLDER), "[]", "x", details({"type": "payment"})],
)
def test_token_requests_for_other_details_are_refused(world, asked):
    tokens = world.tokens(scope="openid", authorization_details=details(TEN))
    code = world.code(scope="openid", authorization_details=details(TEN))

    assert refusal(world.exchange(code, authorization_details=asked)) == "invalid_authorization_details"
    assert (
        refusal(world.refresh(tokens["refresh_token"], authorization_details=asked))
        == "invalid_authorization_details"
    )
    assert world.refresh(tokens["refresh_token"]).status == 200


def test_token_request_cannot_add_details_where_none_were_granted(world):
    assert (
        refusal(world.exchange(world.code(), authorization_details=details(TEN)))
        == "invalid_authorization_details"
    )


def test_token_request_for_a_resource_whose_details_it_leaves_out_is_invalid_target(world):
    code = world.code(scope="openid", authorization_details=details(TEN, FOLDER))

    response = world.exchange(code, authorization_details=details(FOLDER), resource=LEDGER)

    assert refusal(response) == "invalid_target"


# -- machines, and other roads --------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 9396", "5", "authorization_details at the token endpoint")
def test_machine_gets_details_of_its_types_and_no_scope_unasked(world):
    response = world.post(
        "/token", "service", SECRET, grant_type="client_credentials", authorization_details=details(TEN)
    )

    answer = json.loads(response.body)
    assert answer["authorization_details"] == [TEN]
    assert "scope" not in answer
    assert claims_of(answer["access_token"])["aud"] == [LEDGER]


@pytest.mark.parametrize("asked", [details({"type": "payment"}), details({"type": "x"}), "[]", "{"])
def test_machine_asking_for_what_no_type_says_is_refused(world, asked):
    response = world.post(
        "/token", "service", SECRET, grant_type="client_credentials", authorization_details=asked
    )

    assert refusal(response) == "invalid_authorization_details"


def test_machine_without_types_gets_none(world):
    apply_all([changed("service")], world.now, "system:test")

    response = world.post(
        "/token", "service", SECRET, grant_type="client_credentials", authorization_details=details(TEN)
    )

    assert refusal(response) == "invalid_authorization_details"


@pytest.mark.spec("RFC 9126", "2.1", "authorization_details through PAR")
def test_pushed_details_arrive(world):
    name = world.pushed(scope=None, authorization_details=details(TEN))

    code = answer_of(world.visit(client_id="web", request_uri=name))["code"]

    assert json.loads(world.exchange(code).body)["authorization_details"] == [TEN]


@pytest.mark.spec("RFC 9101", "4", "what is no text in a request object is JSON")
@pytest.mark.parametrize("by_par", [False, True])
def test_signed_request_carries_details_claims_and_resources(world, signer, by_par):
    wanted = {
        "scope": "openid ledger.read", "authorization_details": [TEN, FOLDER], "resource": [LEDGER, ARCHIVE],
        "claims": {"id_token": {"acr": {"essential": True, "values": ["aal2"]}}, "userinfo": {"office": None}},
    }  # fmt: skip
    if by_par:
        visit = {"request_uri": json.loads(signer.push(**wanted).body)["request_uri"]}
    else:
        visit = {"request": signer.sign(**wanted)}

    code = answer_of(world.visit(client_id="web", **visit))["code"]
    first = json.loads(world.exchange(code, resource=LEDGER).body)
    second = json.loads(world.refresh(first["refresh_token"], resource=ARCHIVE).body)

    for tokens, resource, detail in ((first, LEDGER, TEN), (second, ARCHIVE, FOLDER)):
        claims = claims_of(tokens["access_token"])
        assert (claims["aud"], claims["acr"]) == ([resource], "aal2")
        assert claims["authorization_details"] == [detail]


@pytest.mark.parametrize(
    "wanted", [{"authorization_details": {"type": "payment"}}, {"authorization_details": [{"type": "x"}]}, {"claims": []}, {"resource": ["x"]}]
)  # fmt: skip
def test_signed_request_is_judged_as_any_other(world, signer, wanted):
    answer = answer_of(world.visit(client_id="web", request=signer.sign(**wanted)))

    assert answer["error"] in {"invalid_authorization_details", "invalid_request", "invalid_target"}


@pytest.mark.parametrize("grant", [TOKEN_EXCHANGE, JWT_BEARER])
def test_grants_that_know_nothing_of_details_refuse_them(world, grant):
    Client.objects.filter(client_id="service").update(grant_types=["client_credentials", grant])

    response = world.post("/token", "service", SECRET, grant_type=grant, authorization_details=details(TEN))

    assert refusal(response) == "invalid_authorization_details"


def test_pushed_details_that_no_type_allows_are_refused_at_once(world):
    response = world.push(authorization_details=details({**TEN, "more": 1}))

    assert refusal(response) == "invalid_authorization_details"


@pytest.mark.parametrize(
    "asked",
    ["", "[]", "{}", "x", details({"type": "nothing"}), details({**TEN, "amount": "1"}), details(*[TEN] * 11), "[" * 5000,
     details({**TEN, "to": "x" * 71}), details({**TEN, "to": "\u202e00.01"})],
)  # fmt: skip
def test_details_that_are_not_what_a_type_says_are_refused_at_the_clients_address(world, asked):
    answer = answer_of(world.authorize(authorization_details=asked or " "))

    assert (answer["error"], answer["state"]) == ("invalid_authorization_details", "st")


def test_details_doubled_are_refused(world):
    answer = answer_of(world.visit(**world.wanted(), authorization_details=[details(TEN), details(FOUR)]))

    assert answer["error"] == "invalid_request"


def test_neither_scope_nor_details_is_still_refused(world):
    assert answer_of(world.authorize(scope=None))["error"] == "invalid_scope"


# -- consent (A10) ----------------------------------------------------------------------------------------------------------


def test_details_are_shown_and_survive_the_parking(world):
    flow = parked(world, scope="openid", authorization_details=details(TEN))

    answer = evaluate(world, flow)

    assert isinstance(answer, Interaction)
    assert (answer.need, answer.disclosure.scopes, answer.disclosure.details) == (
        Need.CONSENT,
        ("openid",),
        (TEN,),
    )
    assert ParkedRequest.objects.get().parameters["asked"] == {"authorization_details": [TEN]}


def test_a10_consent_to_details_is_asked_every_time_and_never_remembered(world):
    flow = parked(world, scope="openid", authorization_details=details(TEN))
    interactions.give_consent(flow, world.session, FACTS, world.now)
    code = answer_of(evaluate(world, flow))["code"]
    assert json.loads(world.exchange(code, "other").body)["authorization_details"] == [TEN]

    same = world.authorize("other", scope="openid", authorization_details=details(TEN))
    silent = world.authorize("other", scope="openid", authorization_details=details(TEN), prompt="none")
    without = world.authorize("other", scope="openid")

    assert isinstance(same, Interaction)
    assert (same.need, same.disclosure.details) == (Need.CONSENT, (TEN,))
    assert answer_of(silent)["error"] == "consent_required"
    assert "code" in answer_of(without)
    consent = Consent.objects.get()
    assert (consent.scopes, consent.claims) == (["openid"], [])
    assert AuditEvent.objects.get(action="person:consent:give").method == "openid type:payment"


def test_a10_consent_to_one_payment_in_a_flow_is_none_to_another_amount_in_it(world):
    flow = parked(world, scope="openid", authorization_details=details(TEN))
    interactions.give_consent(flow, world.session, FACTS, world.now)
    row = ParkedRequest.objects.get()
    row.parameters["asked"]["authorization_details"] = [{**TEN, "amount": "99999.00"}]
    row.save()

    answer = evaluate(world, flow)

    assert isinstance(answer, Interaction)
    assert (answer.need, answer.disclosure.details[0]["amount"]) == (Need.CONSENT, "99999.00")


def test_a10_declined_details_give_no_code(world):
    flow = parked(world, scope="openid", authorization_details=details(TEN))

    answer = interactions.refuse_consent(flow, world.session, FACTS, world.now)

    assert answer_of(answer)["error"] == "access_denied"
    assert interactions.load(flow.handle, BROWSER, world.now) is None


def test_trusted_client_is_not_asked_for_consent(world):
    assert "code" in answer_of(world.authorize("web", scope="openid", authorization_details=details(TEN)))


# -- changed since (A24) --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["client", "type", "owner"])
def test_a24_details_whose_type_was_taken_away_are_given_no_more(world, change):
    code = world.code(scope="openid", authorization_details=details(TEN))
    tokens = world.tokens(scope="openid", authorization_details=details(TEN))
    match change:
        case "client":
            Client.objects.filter(client_id="web").update(options={})
        case "type":
            AuthorizationDetailType.objects.filter(name="payment").update(enabled=False)
        case "owner":
            Client.objects.filter(client_id="ledger").update(enabled=False)

    assert refusal(world.exchange(code)) == "invalid_grant"
    assert refusal(world.refresh(tokens["refresh_token"])) == "invalid_grant"
    assert world.introspect(tokens["refresh_token"], "web", SECRET) == {"active": False}


# -- registration -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": ""}, "type must be"), ({"type": None}, "type must be"), ({"type": "a b"}, "type must be"),
        ({"type": "x" * 129}, "type must be"), ({"resource_server": "web"}, "no resource server"),
        ({"resource_server": ""}, "no resource server"), ({"schema": None}, "schema"), ({"schema": {"type": "object"}}, "schema"),
        ({"description": {"en": "x"}}, "description"), ({"description": {**WORDS, "ar": ""}}, "description"),
        ({"description": {**WORDS, "de": "x"}}, "description"), ({"description": "x"}, "description"),
        ({"description": {**WORDS, "en": "x" * 301}}, "at most 300"), ({"labels": []}, "labels"),
        ({"labels": {"amount": {"en": "x"}}}, r"labels\.amount"), ({"enabled": "yes"}, "enabled"), ({"colour": "red"}, "colour"),
    ],
)  # fmt: skip
def test_type_that_is_not_right_is_refused_by_name_and_nothing_is_changed(world, changes, words):
    with pytest.raises(MetadataError, match=words):
        apply_types([{**TYPES[1], "enabled": False}, {**TYPES[0], **changes}], world.now, "system:test")

    assert AuthorizationDetailType.objects.filter(enabled=True).count() == 2


def test_type_applied_again_changes_nothing_and_a_change_is_recorded(world):
    before = AuditEvent.objects.count()
    (same,) = apply_types(
        [describe(AuthorizationDetailType.objects.get(name="payment"))], world.now, "operator:x"
    )
    assert (same.created, same.changed, AuditEvent.objects.count()) == (False, (), before)

    (other,) = apply_types([{**TYPES[0], "labels": {}}], world.now, "operator:x")

    assert other.changed == ("labels",)
    event = AuditEvent.objects.order_by("-pk").filter(action="administrator:type:change").first()
    assert (event.actor, event.object) == ("operator:x", "client:ledger")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"authorization_details_types": ["nothing"]}, "there is no 'nothing'"),
        (
            {"authorization_details_types": ["file_access"], "resources": ["ledger"]},
            "not among its resources",
        ),
        ({"authorization_details_types": "payment"}, "list"),
    ],
)
def test_client_with_a_type_that_it_cannot_have_is_refused(world, changes, words):
    with pytest.raises(MetadataError, match=words):
        apply_all([changed("web", scope="openid ledger.read", **changes)], world.now, "system:test")


def test_resource_server_that_owns_a_type_cannot_be_deleted_under_it(world):
    with pytest.raises(ProtectedError):
        Client.objects.get(client_id="ledger").delete()


def test_constraint_every_type_is_described(world):
    with pytest.raises(IntegrityError, match="detail_type_described"), transaction.atomic():
        AuthorizationDetailType.objects.filter(name="payment").update(description_ar="")


def test_device_may_ask_for_details_and_the_person_sees_them(world):
    from iam.oauth.protocol.device import GRANT_TYPE

    apply_all(
        [changed("other", grant_types=["authorization_code", GRANT_TYPE], **OPTIONS)],
        world.now,
        "system:test",
    )

    response = world.post("/device_authorization", "other", SECRET, authorization_details=details(TEN))
    wrong = world.post("/device_authorization", "other", SECRET, authorization_details=details({"type": "x"}))

    assert response.status == 200
    assert refusal(wrong) == "invalid_authorization_details"
