"""Signed request objects at the authorization endpoint and at the PAR endpoint."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from iam.oauth.models import Client, Grant, PushedRequest
from iam.oauth.protocol.messages import ErrorPage, FormPost, Interaction, Request, Response

from .conftest import SECRET, World, answer_of, claims_of

pytestmark = pytest.mark.django_db
ISSUER = "http://localhost:8000"
EVIL = "https://evil.example/cb"


@dataclass
class Signer:
    """A client that signs its requests with another library than ours."""

    world: World
    private: ec.EllipticCurvePrivateKey
    client: str = "web"

    def sign(self, *, typ: str = "oauth-authz-req+jwt", key: Any = None, **changes: Any) -> str:
        at = int(self.world.now.timestamp())
        claims = {
            "iss": self.client, "aud": ISSUER, "exp": at + 300, "nbf": at, "iat": at,
            **self.world.wanted(self.client), **changes,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key or self.private, algorithm="ES256", headers={"typ": typ, "kid": "c1"})

    def push(self, **changes: Any) -> Response:
        return self.world.post("/par", self.client, SECRET, request=self.sign(**changes))


@pytest.fixture
def signer(world: World) -> Signer:
    private = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(private.public_key()))
    Client.objects.filter(client_id="web").update(
        client_jwks={"keys": [{**public, "kid": "c1", "alg": "ES256"}]}
    )
    return Signer(world, private)


@pytest.mark.spec("RFC 9101", "5.1", "a request object by value")
def test_object_by_value_gives_its_code(world: World, signer: Signer) -> None:
    world.sign_in()

    answer = answer_of(world.visit(client_id="web", request=signer.sign(state="signed")))

    assert (answer["state"], answer["iss"]) == ("signed", ISSUER)
    assert world.exchange(answer["code"]).status == 200


@pytest.mark.spec("RFC 9126", "3", "a request object through PAR")
@pytest.mark.rules("fapi-ms/5.3.1/1-support")
def test_object_through_par_gives_its_code(world: World, signer: Signer) -> None:
    world.sign_in()
    pushed = signer.push(state="signed")
    assert pushed.status == 201

    answer = answer_of(world.visit(client_id="web", request_uri=json.loads(pushed.body)["request_uri"]))

    assert answer["state"] == "signed"
    assert world.exchange(answer["code"]).status == 200


@pytest.mark.spec("RFC 9101", "6.3", "only the parameters of the object count")
@pytest.mark.rules("core/6.1/supersede")
def test_a08_parameters_beside_the_object_are_not_looked_at(world: World, signer: Signer) -> None:
    world.sign_in()
    beside = {
        "redirect_uri": EVIL, "state": "theirs", "scope": "openid roles email", "response_type": "token", "nonce": "n2",
        "prompt": "none consent", "code_challenge": "x" * 43, "response_mode": "form_post", "max_age": "x",
    }  # fmt: skip

    answer = world.visit(client_id="web", request=signer.sign(state=None, scope="openid"), **beside)

    assert isinstance(answer, Response)
    assert dict(answer.headers)["Location"].startswith("https://web.example/cb?")
    assert "state" not in answer_of(answer)
    assert Grant.objects.get().scope == "openid"


@pytest.mark.spec("RFC 9126", "3", "parameters beside a pushed object do not count")
def test_a08_parameters_pushed_beside_the_object_are_not_looked_at(world: World, signer: Signer) -> None:
    response = world.post(
        "/par",
        "web",
        SECRET,
        request=signer.sign(state=None),
        redirect_uri=EVIL,
        state="theirs",
        scope="openid",
    )

    assert response.status == 201
    kept = dict(PushedRequest.objects.get().parameters["parameters"])
    assert (kept["redirect_uri"], kept.get("state")) == ("https://web.example/cb", None)
    assert kept["scope"] == "openid roles"


@pytest.mark.parametrize("through", ["value", "par"])
@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"}, {"aud": "https://other.example"}, {"client_id": "other"}, {"client_id": None}, {"exp": 1},
        {"nbf": 9_999_999_999}, {"typ": "at+jwt"}, {"sub": "web"}, {"request_uri": "https://evil.example/r"},
        {"request": "a.b.c"}, {"key": ec.generate_private_key(ec.SECP256R1())},
    ],
    ids=lambda changes: "-".join(changes),
)  # fmt: skip
@pytest.mark.spec("RFC 9101", "6.2", "a wrong object is invalid_request_object")
def test_a11_object_that_is_wrong_is_refused_and_never_redirected(
    through: str, changes: dict[str, Any], world: World, signer: Signer
) -> None:
    world.sign_in()
    token = signer.sign(**changes)

    if through == "par":
        response = world.post("/par", "web", SECRET, request=token)
        assert (response.status, json.loads(response.body)["error"]) == (400, "invalid_request_object")
    else:
        answer = world.visit(client_id="web", request=token, redirect_uri=EVIL, state="s")
        assert isinstance(answer, ErrorPage)
        assert (answer.error, answer.client_id) == ("invalid_request_object", "web")
    assert not Grant.objects.exists()
    assert not PushedRequest.objects.exists()


@pytest.mark.rules("core/6.1/match")
def test_a11_object_signed_by_one_client_is_nothing_in_anothers_name(world: World, signer: Signer) -> None:
    world.sign_in()

    answer = world.visit(client_id="other", request=signer.sign())
    pushed = world.post("/par", "other", SECRET, request=signer.sign())

    assert isinstance(answer, ErrorPage)
    assert answer.error == "invalid_request_object"
    assert json.loads(pushed.body)["error"] == "invalid_request_object"


@pytest.mark.parametrize("through", ["value", "par"])
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"scope": "openid secrets"}, "invalid_scope"),
        ({"scope": ["openid"]}, "invalid_scope"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"max_age": True}, "invalid_request"),
        ({"max_age": -1}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"nonce": "n" * 256}, "invalid_request"),
    ],
    ids=str,
)
@pytest.mark.rules("core/6.3.3/assembled")
def test_a05_a06_object_is_checked_like_any_request(
    through: str, changes: dict[str, Any], error: str, world: World, signer: Signer
) -> None:
    world.sign_in()

    if through == "par":
        assert json.loads(signer.push(**changes).body)["error"] == error
    else:
        answer = answer_of(world.visit(client_id="web", request=signer.sign(**changes)))
        assert (answer["error"], answer["state"]) == (error, "st")
    assert not Grant.objects.exists()


@pytest.mark.parametrize(
    "uri", [EVIL, "https://web.example/cb/", "https://web.example/cb?x=y", None, 5, "javascript:x"]
)
def test_a01_a02_address_in_the_object_that_is_not_registered_is_a_page(
    uri: Any, world: World, signer: Signer
) -> None:
    answer = world.visit(client_id="web", request=signer.sign(redirect_uri=uri, prompt="none"))
    pushed = signer.push(redirect_uri=uri)

    assert isinstance(answer, ErrorPage)
    assert (pushed.status, json.loads(pushed.body)["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "query",
    [
        "request=TOKEN",
        "client_id=other&request=TOKEN",
        "client_id=nobody&request=TOKEN",
        "client_id=web&request=TOKEN&request=TOKEN",
        "client_id=web&client_id=other&request=TOKEN",
        "client_id=web&request=TOKEN&request_uri=urn:x",
        "client_id=web&request=TOKEN&request_uri=https://evil.example/r",
        "client_id=web&request=TOKENx",
        f"client_id=web&request={'x' * 9000}",
    ],
    ids=lambda query: query[:40],
)
@pytest.mark.spec("RFC 9101", "5", "client_id beside the object, and not both ways at once")
@pytest.mark.rules("core/6.2/both")
def test_object_in_an_unclear_request_is_a_page(query: str, world: World, signer: Signer) -> None:
    world.sign_in()

    answer = world.ask(Request("GET", "/authorize", query=query.replace("TOKEN", signer.sign())))

    assert isinstance(answer, ErrorPage)
    assert not Grant.objects.exists()


def test_object_by_post_to_the_authorization_endpoint(world: World, signer: Signer) -> None:
    body = urlencode({"client_id": "web", "request": signer.sign()}).encode()

    answer = world.ask(
        Request("POST", "/authorize", body=body, content_type="application/x-www-form-urlencoded")
    )

    assert isinstance(answer, Interaction)


def test_client_without_keys_is_told_so(world: World, signer: Signer) -> None:
    Client.objects.filter(client_id="web").update(client_jwks=None)

    answer = world.visit(client_id="web", request=signer.sign())

    assert isinstance(answer, ErrorPage)
    assert answer.error == "invalid_request_object"
    assert "No registered key" in answer.description


@pytest.mark.spec("RFC 9101", "10.5", "require_signed_request_object of a client")
def test_client_that_must_sign_cannot_ask_without(world: World, signer: Signer) -> None:
    world.sign_in()
    Client.objects.filter(client_id="web").update(options={"require_signed_request_object": True})

    plain = answer_of(world.authorize())
    pushed = world.push()
    signed = answer_of(world.visit(client_id="web", request=signer.sign()))
    signed_and_pushed = signer.push()

    assert plain["error"] == "invalid_request"
    assert json.loads(pushed.body)["error"] == "invalid_request"
    assert "code" in signed
    assert signed_and_pushed.status == 201


def test_object_decides_how_its_answer_travels(world: World, signer: Signer) -> None:
    world.sign_in()

    answer = world.visit(client_id="web", request=signer.sign(response_mode="form_post.jwt", max_age=600))

    assert isinstance(answer, FormPost)
    claims = claims_of(dict(answer.fields)["response"])
    assert (claims["state"], claims["aud"]) == ("st", "web")
    assert "code" in claims


def test_a13_object_is_no_token_and_no_hint(world: World, signer: Signer) -> None:
    world.sign_in()
    token = signer.sign()

    assert world.userinfo(token).status == 401
    assert world.introspect(token) == {"active": False}
    assert answer_of(world.authorize(id_token_hint=token))["error"] == "invalid_request"
