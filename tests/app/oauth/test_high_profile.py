"""A client of profile `high`, from its registration to its tokens, and everything that it may not do.

FAPI 2.0 Security Profile and Message Signing: a request that is signed and pushed by a client that proves a key, an
answer that is signed, tokens that are bound to a key.
"""

import json
import secrets
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from iam.oauth import state
from iam.oauth.clients import apply_all, lacks
from iam.oauth.models import Client, Grant, PushedRequest
from iam.oauth.protocol.client_auth import ASSERTION_TYPE
from iam.oauth.protocol.dpop import nonce_at
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.messages import ErrorPage, FormPost, Request, Response
from tests.proofs import Prover, private_key

from .conftest import ISSUER, World, answer_of, claims_of

pytestmark = pytest.mark.django_db
CALLBACK = "https://bank.example/cb"
KEY = private_key("ES256", "bank-1")
RSA = private_key("RS256", "bank-2")
REGISTERED: dict[str, Any] = {
    "client_id": "bank", "profile": "high", "redirect_uris": [CALLBACK], "scope": "openid roles", "trusted": True,
    "grant_types": ["authorization_code", "refresh_token"], "application": "mail",
    "token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256",
    "jwks": {"keys": [KEY.jwk(), RSA.jwk()]}, "require_pushed_authorization_requests": True,
    "require_signed_request_object": True, "dpop_bound_access_tokens": True,
}  # fmt: skip


class Bank:
    """The client, with another library's word for it that what it gets is right."""

    def __init__(self, world: World) -> None:
        self.world = world
        apply_all([REGISTERED], world.now, "system:test")
        world.prover = Prover()
        self.renew()

    def renew(self) -> None:
        """Take the nonce of now into the proofs."""
        assert self.world.prover is not None
        self.world.prover.nonce = nonce_at(state.DatabaseState().nonce_key, self.world.now)

    def assertion(self, **changes: Any) -> dict[str, str]:
        at = int(self.world.now.timestamp())
        claims = {
            "iss": "bank", "sub": "bank", "aud": ISSUER, "iat": at, "exp": at + 60, "jti": secrets.token_urlsafe(9),
        }  # fmt: skip
        return {
            "client_assertion": KEY.sign("JWT", {**claims, **changes}), "client_assertion_type": ASSERTION_TYPE,
        }  # fmt: skip

    def signed(self, key=KEY, typ: str = "oauth-authz-req+jwt", **changes: Any) -> str:
        at = int(self.world.now.timestamp())
        wanted = self.world.wanted("bank", redirect_uri=CALLBACK, response_mode="jwt")
        claims = {**wanted, "iss": "bank", "aud": ISSUER, "exp": at + 300, "nbf": at, **changes}
        return key.sign(typ, {name: value for name, value in claims.items() if value is not None})

    def push(self, **changes: Any) -> Response:
        return self.world.post("/par", None, None, request=self.signed(**changes), **self.assertion())

    def visit(self, pushed: Response):
        assert pushed.status == 201, pushed.body
        return self.world.visit(client_id="bank", request_uri=json.loads(pushed.body)["request_uri"])

    def exchange(self, code: str, **assertion: Any) -> Response:
        return self.world.post(
            "/token", None, None, grant_type="authorization_code", code=code, redirect_uri=CALLBACK,
            code_verifier=self.world.verifier, **self.assertion(**assertion),
        )  # fmt: skip


@pytest.fixture
def bank(world: World) -> Bank:
    return Bank(world)


def error_of(response: Response) -> str:
    assert response.status in {400, 401}, response.body
    return json.loads(response.body)["error"]


def opened(answer) -> dict[str, Any]:
    """Return what a signed answer says; it was signed with a key that we publish."""
    (token,) = answer_of(answer).values()
    published = {key.kid: key.jwk() for key in state.DatabaseState().published_keys()}
    key = jwt.PyJWK(published[jwt.get_unverified_header(token)["kid"]])
    return jwt.decode(
        token, key, algorithms=["ES256"], audience="bank", issuer=ISSUER,
        options={"verify_exp": False, "verify_iat": False},
    )  # fmt: skip


@pytest.mark.spec("FAPI 2.0 Security Profile", "5.3.2", "the whole flow of a high client")
@pytest.mark.spec("FAPI 2.0 Message Signing", "5.4.1", "the answer is signed")
@pytest.mark.rules(
    "fapi/5.3.2.1/5",
    "fapi/5.3.2.2/2",
    "fapi/5.3.2.2/7",
    "fapi/5.3.2.3/oidc",
    "fapi-ms/5.3.1/1-support",
    "fapi-ms/5.4.1/1-issue",
)
def test_high_client_from_its_pushed_request_to_its_bound_token(bank: Bank, world: World) -> None:
    world.sign_in()

    answer = opened(bank.visit(bank.push()))
    tokens = json.loads(bank.exchange(answer["code"]).body)

    assert (answer["state"], answer["iss"]) == ("st", ISSUER)
    assert tokens["token_type"] == "DPoP"
    assert world.prover is not None
    assert claims_of(tokens["access_token"])["cnf"] == {"jkt": world.prover.jkt}
    assert claims_of(tokens["id_token"])["aud"] == "bank"


def test_high_client_lacks_nothing(bank: Bank) -> None:
    assert lacks(Client.objects.get(client_id="bank")) == {"standard": [], "high": []}


@pytest.mark.parametrize(
    "change",
    [
        {"token_endpoint_auth_method": "none", "token_endpoint_auth_signing_alg": None},
        {"token_endpoint_auth_method": "client_secret_basic", "token_endpoint_auth_signing_alg": None},
        {"token_endpoint_auth_signing_alg": "RS256"},
        {"id_token_signed_response_alg": "RS256"},
        {"authorization_signed_response_alg": "RS256"},
        {"request_object_signing_alg": "RS256"},
        {"require_pushed_authorization_requests": False},
        {"require_signed_request_object": False},
        {"dpop_bound_access_tokens": False},
        {"redirect_uris": ["http://localhost/cb"]},
        {"redirect_uris": [CALLBACK, "org.example.bank:/cb"]},
        {"jwks": None},
    ],
    ids=str,
)
@pytest.mark.rules("fapi/5.3.2.1/3", "fapi/5.3.2.1/4", "fapi/5.3.2.1/6", "fapi/5.3.2.2/8", "fapi/5.4.1/1-2")
def test_high_client_cannot_be_saved_in_a_state_that_its_profile_forbids(
    change: dict[str, Any], bank: Bank, world: World
) -> None:
    before = Client.objects.get(client_id="bank")
    changed = {name: value for name, value in {**REGISTERED, **change}.items() if value is not None}

    with pytest.raises(MetadataError):
        apply_all([changed], world.now, "system:test")

    after = Client.objects.get(client_id="bank")
    assert (after.options, after.token_endpoint_auth_method) == (
        before.options,
        before.token_endpoint_auth_method,
    )


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("FAPI 2.0 Security Profile", "5.3.2.2", "requests that were not pushed are refused")
@pytest.mark.rules("fapi/5.3.2.2/3")
def test_high_client_cannot_ask_through_the_browser_even_signed(bank: Bank, world: World) -> None:
    world.sign_in()

    plain = answer_of(world.authorize("bank", redirect_uri=CALLBACK))
    signed = opened(world.visit(client_id="bank", request=bank.signed()))

    assert (plain["error"], signed["error"]) == ("invalid_request", "invalid_request")
    assert not Grant.objects.exists()


@pytest.mark.spec("FAPI 2.0 Message Signing", "5.3.1", "a pushed request is signed")
@pytest.mark.rules("fapi-ms/5.3.1/1-require")
def test_high_client_cannot_push_what_it_did_not_sign(bank: Bank, world: World) -> None:
    wanted = world.wanted("bank", redirect_uri=CALLBACK, response_mode="jwt")

    assert error_of(world.post("/par", None, None, **wanted, **bank.assertion())) == "invalid_request"
    assert not PushedRequest.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"key": RSA}, {"typ": "JWT"}, {"exp": None}, {"nbf": None}, {"exp": 10**10}, {"nbf": 10**9},
        {"aud": "https://other.example"}, {"aud": f"{ISSUER}/par"}, {"sub": "bank"},
    ],
    ids=lambda changes: "-".join(changes),
)  # fmt: skip
@pytest.mark.rules("fapi-ms/5.3.1/1-verify", "fapi-ms/5.3.1/2", "fapi-ms/5.3.1/3", "fapi-ms/5.3.1/4")
def test_high_client_signs_its_requests_for_us_and_for_now(changes: dict[str, Any], bank: Bank) -> None:
    assert error_of(bank.push(**changes)) == "invalid_request_object"


@pytest.mark.parametrize("mode", [None, "query", "form_post"])
@pytest.mark.spec("FAPI 2.0 Message Signing", "5.4.1", "an answer that is not signed cannot be asked for")
@pytest.mark.rules("fapi-ms/5.4.1/1-require")
def test_high_client_cannot_ask_for_an_unsigned_answer(mode: str | None, bank: Bank) -> None:
    assert error_of(bank.push(response_mode=mode)) == "invalid_request"


@pytest.mark.parametrize("mode", ["jwt", "query.jwt", "form_post.jwt"])
def test_high_client_gets_signed_errors(mode: str, bank: Bank) -> None:
    answer = bank.visit(bank.push(response_mode=mode, prompt="none"))

    assert isinstance(answer, FormPost) is (mode == "form_post.jwt")
    assert opened(answer)["error"] == "login_required"


@pytest.mark.spec("FAPI 2.0 Security Profile", "5.3.2.1", "the assertion's audience is the issuer")
@pytest.mark.parametrize(
    "aud", [f"{ISSUER}/par", f"{ISSUER}/token", [ISSUER], "https://other.example"], ids=str
)
@pytest.mark.rules("fapi/5.3.2.1/8")
def test_high_client_names_the_issuer_in_its_assertion(aud: Any, bank: Bank, world: World) -> None:
    response = world.post("/par", None, None, request=bank.signed(), **bank.assertion(aud=aud))

    assert error_of(response) == "invalid_client"


# -- codes and tokens --------------------------------------------------------------------------------------------------


@pytest.mark.spec("FAPI 2.0 Security Profile", "5.3.2.1", "a code lives 60 seconds at most")
@pytest.mark.rules("fapi/5.3.2.1/11")
def test_high_clients_code_is_worth_nothing_after_a_minute(bank: Bank, world: World) -> None:
    world.sign_in()
    code = opened(bank.visit(bank.push()))["code"]

    world.later(seconds=61)
    bank.renew()

    assert error_of(bank.exchange(code)) == "invalid_grant"


@pytest.mark.spec("FAPI 2.0 Security Profile", "5.3.2.1", "only sender-constrained tokens")
@pytest.mark.rules("fapi/5.3.2.1/4")
def test_high_client_without_a_proof_gets_no_token_and_keeps_its_code(bank: Bank, world: World) -> None:
    world.sign_in()
    code = opened(bank.visit(bank.push()))["code"]

    prover, world.prover = world.prover, None
    refused = bank.exchange(code)
    world.prover = prover

    assert refused.status == 400
    assert bank.exchange(code).status == 200


@pytest.mark.rules("fapi/5.3.2.1/12")
def test_a07_code_pushed_with_one_key_is_worth_nothing_with_another(bank: Bank, world: World) -> None:
    world.sign_in()
    code = opened(bank.visit(bank.push()))["code"]
    world.prover = Prover()
    bank.renew()

    assert bank.exchange(code).status == 400


@pytest.mark.parametrize(
    "row",
    [
        {"token_endpoint_auth_method": "none"},
        {"options": {"profile": "high", "require_pushed_authorization_requests": True}},
    ],
    ids=["public", "unbound"],
)
@pytest.mark.rules("fapi/5.3.2.1/3")
def test_high_row_written_around_the_check_opens_nothing(
    row: dict[str, Any], bank: Bank, world: World
) -> None:
    world.sign_in()
    name = json.loads(bank.push().body)["request_uri"]
    Client.objects.filter(client_id="bank").update(**row)

    answer = opened(world.visit(client_id="bank", request_uri=name))

    assert answer["error"] == "unauthorized_client"
    assert not Grant.objects.exists()


def test_high_clients_name_used_twice_is_a_page(bank: Bank, world: World) -> None:
    world.sign_in()
    pushed = bank.push()
    bank.visit(pushed)

    assert isinstance(bank.visit(pushed), ErrorPage)


# -- what its tokens can be ---------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 9449", "8", "a high client's proof needs a nonce, and is given one")
def test_high_client_that_proves_without_a_nonce_is_given_one(bank: Bank, world: World) -> None:
    world.sign_in()
    code = opened(bank.visit(bank.push()))["code"]
    assert world.prover is not None
    world.prover.nonce = ""

    refused = bank.exchange(code)

    assert error_of(refused) == "use_dpop_nonce"
    world.prover.nonce = dict(refused.headers)["DPoP-Nonce"]
    assert bank.exchange(code).status == 200


@pytest.mark.spec("FAPI 2.0 Security Profile", "5.3.2.1", "refresh tokens are not rotated")
@pytest.mark.rules("fapi/5.3.2.1/9")
def test_high_clients_refresh_token_stays_though_its_proof_key_changes(bank: Bank, world: World) -> None:
    """The client is known by the key of its assertions; RFC 9449 §5 lets it change the other one."""
    world.sign_in()
    token = json.loads(bank.exchange(opened(bank.visit(bank.push()))["code"]).body)["refresh_token"]

    for minutes in (1, 30):
        world.prover = Prover()
        world.later(minutes=minutes)
        bank.renew()
        answer = json.loads(
            world.post(
                "/token", None, None, grant_type="refresh_token", refresh_token=token, **bank.assertion()
            ).body
        )
        assert answer["refresh_token"] == token
        assert claims_of(answer["access_token"])["cnf"] == {"jkt": world.prover.jkt}


@pytest.mark.spec("FAPI 2.0 Message Signing", "5.5.1", "introspection answers are signed, and not with RS256")
@pytest.mark.rules("fapi/5.4.1/1-2", "fapi-ms/5.5.1/1")
def test_high_client_that_introspects_is_answered_with_ps256(bank: Bank, world: World) -> None:
    form = urlencode({"token": "nothing", **bank.assertion()}).encode()
    answer = world.ask(
        Request(
            "POST", "/introspect", body=form, content_type="application/x-www-form-urlencoded",
            accept="application/token-introspection+jwt",
        )
    )  # fmt: skip

    assert isinstance(answer, Response)
    assert jwt.get_unverified_header(answer.body.decode())["alg"] == "PS256"
