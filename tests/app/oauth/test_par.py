"""Pushed authorization requests: what is taken, what is refused, and that a name works once."""

import base64
import json
from datetime import timedelta

import pytest

from iam.audit.models import AuditEvent
from iam.oauth.models import Client, Grant, PushedRequest
from iam.oauth.protocol.messages import ErrorPage, Interaction, Need, Request, Response
from iam.oauth.purge import purge

from .conftest import SECRET, World, answer_of

pytestmark = pytest.mark.django_db
PREFIX = "urn:ietf:params:oauth:request_uri:"


def error_of(response: Response) -> str:
    return json.loads(response.body)["error"]


@pytest.mark.spec("RFC 9126", "2.2", "201 with a name that cannot be guessed and a life in seconds")
@pytest.mark.rules("fapi/5.3.2.2/12")
def test_push_good_request_gets_a_name_and_a_life(world: World) -> None:
    response = world.push()

    value = json.loads(response.body)
    assert response.status == 201
    assert value["request_uri"].startswith(PREFIX)
    assert len(value["request_uri"]) >= len(PREFIX) + 43
    assert 60 <= value["expires_in"] <= 90
    assert dict(response.headers)["Cache-Control"] == "no-store"
    assert PushedRequest.objects.get().digest not in value["request_uri"]
    assert PREFIX not in json.dumps(list(PushedRequest.objects.values("digest", "parameters")))


@pytest.mark.spec("RFC 9126", "4", "the name stands for the request at the authorization endpoint")
def test_authorize_with_a_pushed_request_gives_its_code(world: World) -> None:
    world.sign_in()

    answer = answer_of(world.visit(client_id="web", request_uri=world.pushed(state="pushed-state")))

    assert answer["state"] == "pushed-state"
    assert world.exchange(answer["code"]).status == 200


@pytest.mark.spec("RFC 9126", "2", "a public client may push, by naming itself")
def test_push_by_a_public_client_on_a_loopback_address(world: World) -> None:
    world.sign_in()

    name = world.pushed("public", None, redirect_uri="http://127.0.0.1:61234/cb")
    answer = answer_of(world.visit(client_id="public", request_uri=name))

    assert "code" in answer


@pytest.mark.spec("RFC 9126", "2.1", "the client authenticates as at the token endpoint")
@pytest.mark.parametrize(
    ("client", "secret"),
    [("web", "wrong" * 8), ("web", None), ("nobody", SECRET), (None, None), ("public", SECRET)],
)
@pytest.mark.rules("fapi/5.3.2.2/4")
def test_push_without_the_clients_own_authentication_is_refused(
    client: str | None, secret: str | None, world: World
) -> None:
    response = world.post("/par", client, secret, **{**world.wanted("web"), "client_id": client or None})

    assert (response.status, error_of(response)) == (401, "invalid_client")
    assert not PushedRequest.objects.exists()


@pytest.mark.spec("RFC 9126", "2.1", "the pushed client_id is the authenticated client")
def test_push_in_the_name_of_another_client_is_refused(world: World) -> None:
    response = world.post("/par", "web", SECRET, **world.wanted("other"))

    assert (response.status, error_of(response)) == (400, "invalid_request")


@pytest.mark.spec("RFC 9126", "2.1", "client_id may be left to the client authentication")
def test_push_without_client_id_is_the_authenticated_clients(world: World) -> None:
    world.sign_in()
    response = world.post("/par", "web", SECRET, **world.wanted("web", client_id=None))

    name = json.loads(response.body)["request_uri"]

    assert "code" in answer_of(world.visit(client_id="web", request_uri=name))


@pytest.mark.spec("RFC 9126", "2.1", "the request is checked when it is pushed")
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"redirect_uri": "https://evil.example/cb"}, "invalid_request"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"redirect_uri": "https://web.example/cb?a=b"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"scope": "openid secrets"}, "invalid_scope"),
        ({"scope": None}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"id_token_hint": "x.y.z"}, "invalid_request"),
        ({"nonce": "n" * 256}, "invalid_request"),
        ({"state": "s" * 5000}, "invalid_request"),
        ({"registration": "{}"}, "registration_not_supported"),
        ({"request_uri": PREFIX + "x"}, "invalid_request"),
        ({"request_uri": "https://web.example/request.jwt"}, "invalid_request"),
        ({"state": "a\0b"}, "invalid_request"),
        ({"state": "x" * 9000}, "invalid_request"),
    ],
    ids=str,
)
@pytest.mark.rules("fapi/5.3.2.2/6")
def test_a01_a06_push_that_authorize_would_refuse_is_refused_at_once(
    changes: dict[str, str | None], error: str, world: World
) -> None:
    response = world.push(**changes)

    assert (response.status, error_of(response)) == (400, error)
    assert not PushedRequest.objects.exists()


@pytest.mark.spec("RFC 9126", "2.3", "405 for another method, 413 for too much")
def test_push_by_get_and_by_the_megabyte_say_so(world: World) -> None:
    get = world.ask(Request("GET", "/par", query="client_id=web"))
    huge = world.post("/par", "web", SECRET, state="x" * 70_000)

    assert isinstance(get, Response)
    assert (get.status, dict(get.headers)["Allow"]) == (405, "POST")
    assert (huge.status, error_of(huge)) == (413, "invalid_request")


@pytest.mark.rules("rfc6749/3.1/repeated")
def test_push_with_a_parameter_twice_is_refused(world: World) -> None:
    basic = base64.b64encode(f"web:{SECRET}".encode()).decode()
    body = b"state=a&state=b&client_id=web&response_type=code"
    answer = world.ask(
        Request(
            "POST", "/par", body=body, content_type="application/x-www-form-urlencoded",
            authorization=f"Basic {basic}",
        )
    )  # fmt: skip

    assert isinstance(answer, Response)
    assert (answer.status, error_of(answer)) == (400, "invalid_request")


def test_push_refused_is_an_event_of_the_client_and_a_public_ones_is_counted(world: World) -> None:
    world.push(scope="openid secrets")
    world.push("public", None, scope="openid secrets")

    events = AuditEvent.objects.filter(action="client:request:push")
    assert [(one.actor, one.outcome, one.reason) for one in events] == [
        ("client:web", "refused", "scope_unknown")
    ]


def test_push_keeps_no_credential(world: World) -> None:
    world.post("/par", None, None, client_secret=SECRET, **world.wanted("web"))
    Client.objects.filter(client_id="web").update(token_endpoint_auth_method="client_secret_post")

    response = world.post("/par", None, None, client_secret=SECRET, **world.wanted("web"))

    assert response.status == 201
    assert SECRET not in json.dumps(PushedRequest.objects.get().parameters)


# -- A08 ------------------------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 9126", "4", "request_uri is used once")
def test_a08_request_uri_used_again_ends_on_a_page_and_makes_no_second_code(world: World) -> None:
    world.sign_in()
    name = world.pushed()

    first, second = (world.visit(client_id="web", request_uri=name) for _ in range(2))

    assert "code" in answer_of(first)
    assert isinstance(second, ErrorPage)
    assert (second.status, second.error, second.client_id) == (400, "invalid_request_uri", "web")
    assert Grant.objects.count() == 1


@pytest.mark.spec("RFC 9126", "4", "request_uri is bound to the client that pushed")
def test_a08_request_uri_of_another_client_is_refused_and_stays_its_owners(world: World) -> None:
    world.sign_in()
    name = world.pushed("web")

    stranger = world.visit(client_id="other", request_uri=name)

    assert isinstance(stranger, ErrorPage)
    assert (stranger.error, stranger.client_id) == ("invalid_request_uri", "other")
    assert "code" in answer_of(world.visit(client_id="web", request_uri=name))


@pytest.mark.spec("RFC 9126", "4", "only client_id and request_uri count")
def test_a08_parameters_beside_request_uri_are_not_looked_at(world: World) -> None:
    world.sign_in()
    name = world.pushed(state="mine", scope="openid")

    answer = world.visit(
        client_id="web", request_uri=name, redirect_uri="https://evil.example/cb", state="theirs",
        scope="openid roles email", response_type="token", prompt="none", code_challenge="x" * 43, nonce="theirs",
    )  # fmt: skip

    assert answer_of(answer)["state"] == "mine"
    assert dict(answer.headers)["Location"].startswith("https://web.example/cb?")  # type: ignore[union-attr]
    grant = Grant.objects.get()
    assert (grant.scope, grant.nonce) == ("openid", "no")


@pytest.mark.spec("RFC 9126", "2.2", "request_uri expires")
def test_a08_request_uri_after_its_life_is_refused(world: World) -> None:
    world.sign_in()
    name = world.pushed()

    answer = world.later(seconds=91).visit(client_id="web", request_uri=name)

    assert isinstance(answer, ErrorPage)
    assert answer.error == "invalid_request_uri"


@pytest.mark.parametrize(
    "name", [PREFIX, PREFIX + "x", PREFIX + "x" * 43, PREFIX + "%00", PREFIX + "é" * 4000]
)
def test_a08_request_uri_that_was_guessed_is_a_page(name: str, world: World) -> None:
    world.sign_in()
    world.pushed()

    answer = world.visit(client_id="web", request_uri=name)

    assert isinstance(answer, ErrorPage)
    assert answer.error in {"invalid_request_uri", "invalid_request"}


@pytest.mark.parametrize(
    "query",
    [
        "client_id=web&request_uri=NAME&request_uri=NAME",
        "client_id=web&client_id=web&request_uri=NAME",
        "request_uri=NAME",
        "client_id=&request_uri=NAME",
        "client_id=nobody&request_uri=NAME",
        "client_id=web&request_uri=NAME&request=a.b.c",
    ],
)
def test_a08_request_uri_in_an_unclear_request_is_a_page_and_stays(query: str, world: World) -> None:
    name = world.pushed()

    answer = world.ask(Request("GET", "/authorize", query=query.replace("NAME", name)))

    assert isinstance(answer, ErrorPage)
    assert PushedRequest.objects.count() == 1


def test_a08_pushed_request_of_a_client_switched_off_since_is_a_page(world: World) -> None:
    name = world.pushed()
    Client.objects.filter(client_id="web").update(enabled=False)

    answer = world.visit(client_id="web", request_uri=name)

    assert isinstance(answer, ErrorPage)
    assert answer.error == "unauthorized_client"


def test_a02_pushed_address_withdrawn_since_is_a_page(world: World) -> None:
    name = world.pushed()
    Client.objects.filter(client_id="web").update(redirect_uri_list=["https://web.example/other"])

    answer = world.visit(client_id="web", request_uri=name)

    assert isinstance(answer, ErrorPage)
    assert answer.error == "invalid_request"


@pytest.mark.parametrize(
    "change", [{"scope_list": ["openid"]}, {"grant_types": ["client_credentials"]}], ids=str
)
def test_a05_pushed_request_is_checked_again_when_it_is_used(change: dict, world: World) -> None:
    world.sign_in()
    name = world.pushed()
    Client.objects.filter(client_id="web").update(**change)

    answer = answer_of(world.visit(client_id="web", request_uri=name))

    assert answer["error"] in {"invalid_scope", "unauthorized_client"}
    assert not Grant.objects.exists()


@pytest.mark.spec("RFC 9101", "5.2", "a request object is never fetched")
@pytest.mark.parametrize(
    "uri", ["https://web.example/r.jwt", "http://169.254.169.254/", "file:///etc/passwd", "urn:x"]
)
@pytest.mark.rules("core/6.2/not-supported")
def test_request_uri_of_somebody_elses_is_not_fetched(uri: str, world: World) -> None:
    answer = answer_of(world.authorize(request_uri=uri))

    assert answer["error"] == "request_uri_not_supported"


# -- what else it must do --------------------------------------------------------------------------------------------


def test_pushed_request_without_a_session_waits_parked_and_its_name_is_used_up(world: World) -> None:
    name = world.pushed(login_hint="amina")

    first = world.visit(client_id="web", request_uri=name)
    again = world.visit(client_id="web", request_uri=name)

    assert isinstance(first, Interaction)
    assert first.need is Need.LOGIN
    assert first.request is not None
    assert first.request.login_hint == "amina"
    assert first.request.started_at == world.now
    assert isinstance(again, ErrorPage)


@pytest.mark.spec("RFC 9126", "6", "require_pushed_authorization_requests of a client")
def test_client_that_must_push_cannot_ask_through_the_browser(world: World) -> None:
    world.sign_in()
    Client.objects.filter(client_id="web").update(options={"require_pushed_authorization_requests": True})

    plain = answer_of(world.authorize())
    pushed = answer_of(world.visit(client_id="web", request_uri=world.pushed()))

    assert plain["error"] == "invalid_request"
    assert plain["iss"] == "http://localhost:8000"
    assert "code" in pushed


def test_purge_takes_expired_pushed_requests_only(world: World) -> None:
    world.pushed()
    world.later(seconds=60).pushed()

    purge(world.now + timedelta(seconds=45))

    assert PushedRequest.objects.count() == 1
