"""DPoP through the whole engine: tokens bound to a key, worth nothing without it (RFC 9449)."""

import base64
import json
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlencode

import pytest

from iam.accounts import cookies
from iam.oauth import issuance, state
from iam.oauth.clients import apply_all
from iam.oauth.models import TokenFamily, UsedIdentifier
from iam.oauth.protocol.binding import UNBOUND
from iam.oauth.protocol.dpop import NONCE_WINDOW
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import Request, Response
from iam.oauth.protocol.pkce import challenge_of
from tests.proofs import Prover, private_key

from .conftest import CLIENTS, ISSUER, SECRET, World, answer_of, claims_of

pytestmark = pytest.mark.django_db

ME = Prover()
THIEF = Prover()


def error_of(response: Response) -> str:
    return json.loads(response.body)["error"]


def register(world: World, client_id: str, **changes: object) -> None:
    (item,) = [item for item in CLIENTS if item["client_id"] == client_id]
    apply_all([{**item, **changes}], world.now, "system:test")


@pytest.fixture
def bound(world: World) -> World:
    """A world in which every request proves one key."""
    world.sign_in()
    world.prover = ME
    return world


# -- where tokens are made ----------------------------------------------------------------------------------------


@pytest.mark.spec(
    "RFC 9449", "5", "a token asked for with a proof is bound to its key, and token_type says so"
)
@pytest.mark.parametrize("algorithm", ["ES256", "PS256", "EdDSA"])
@pytest.mark.rules("rfc9700/2.2.1/sender-constrained")
def test_code_exchanged_with_a_proof_gives_a_bound_token(algorithm: str, bound: World) -> None:
    bound.prover = Prover(private_key(algorithm))

    tokens = bound.tokens(scope="openid demo.read")

    assert tokens["token_type"] == "DPoP"
    assert claims_of(tokens["access_token"])["cnf"] == {"jkt": bound.prover.jkt}
    seen = bound.introspect(tokens["access_token"])
    assert (seen["token_type"], seen["cnf"]) == ("DPoP", {"jkt": bound.prover.jkt})


def test_client_credentials_with_a_proof_give_a_bound_token(bound: World) -> None:
    answer = json.loads(bound.post("/token", "service", grant_type="client_credentials").body)

    assert answer["token_type"] == "DPoP"
    assert claims_of(answer["access_token"])["cnf"] == {"jkt": ME.jkt}


def test_token_without_a_proof_is_bound_to_nothing(world: World) -> None:
    world.sign_in()

    tokens = world.tokens()

    assert tokens["token_type"] == "Bearer"
    assert "cnf" not in claims_of(tokens["access_token"])


@pytest.mark.spec("RFC 9449", "5.2", "a client with dpop_bound_access_tokens gets nothing without a proof")
def test_client_that_must_prove_gets_nothing_without_a_proof(world: World) -> None:
    register(world, "web", dpop_bound_access_tokens=True)
    world.sign_in()
    code = world.code()

    assert error_of(world.exchange(code)) == "invalid_dpop_proof"
    world.prover = ME
    assert json.loads(world.exchange(code).body)["token_type"] == "DPoP"  # the code was not consumed in vain


@pytest.mark.spec("RFC 9449", "5", "a wrong proof is answered with invalid_dpop_proof and gives no token")
@pytest.mark.parametrize(
    "changes",
    [
        {"htu": f"{ISSUER}/par"},
        {"htm": "GET"},
        {"jti": None},
        {"header": {"typ": "JWT"}},
        {"header": {"alg": "none"}},
    ],
    ids=str,
)
def test_wrong_proof_gives_no_token_and_consumes_no_code(changes: dict, world: World) -> None:
    world.sign_in()
    code = world.code()
    wrong = ME.proof("POST", f"{ISSUER}/token", world.now, **changes)

    answer = exchange_with(world, code, wrong)

    assert (answer.status, error_of(answer)) == (400, "invalid_dpop_proof")
    assert not UsedIdentifier.objects.exists()
    assert world.exchange(code).status == 200


def exchange_with(world: World, code: str, proof: str) -> Response:
    form = (
        f"grant_type=authorization_code&code={code}&code_verifier={world.verifier}"
        "&redirect_uri=https%3A%2F%2Fweb.example%2Fcb"
    )
    basic = base64.b64encode(f"web:{SECRET}".encode()).decode()
    answer = world.ask(
        Request(
            "POST",
            "/token",
            body=form.encode(),
            content_type="application/x-www-form-urlencoded",
            authorization=f"Basic {basic}",
            dpop=proof,
        )
    )
    assert isinstance(answer, Response)
    return answer


@pytest.mark.spec("RFC 9449", "11.1", "a proof is accepted once")
def test_a15_proof_used_twice_is_refused_the_second_time(world: World) -> None:
    world.sign_in()
    first, second = world.code(), world.code()
    proof = ME.proof("POST", f"{ISSUER}/token", world.now)

    assert exchange_with(world, first, proof).status == 200
    replay = exchange_with(world, second, proof)

    assert (replay.status, error_of(replay)) == (400, "invalid_dpop_proof")


def test_jti_of_somebody_else_is_not_used_up_by_a_stranger(world: World) -> None:
    world.sign_in()
    first, second = world.code(), world.code()

    assert (
        exchange_with(world, first, THIEF.proof("POST", f"{ISSUER}/token", world.now, jti="j")).status == 200
    )
    assert exchange_with(world, second, ME.proof("POST", f"{ISSUER}/token", world.now, jti="j")).status == 200


# -- nonces ---------------------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 9449", "8", "a client is told use_dpop_nonce and the nonce, and succeeds with it")
def test_client_with_a_wrong_clock_succeeds_with_the_nonce_that_it_is_given(world: World) -> None:
    world.sign_in()
    code, late = world.code(), world.now - timedelta(hours=3)

    refused = exchange_with(world, code, ME.proof("POST", f"{ISSUER}/token", late))

    assert (refused.status, error_of(refused)) == (400, "use_dpop_nonce")
    nonce = dict(refused.headers)["DPoP-Nonce"]
    assert exchange_with(world, code, ME.proof("POST", f"{ISSUER}/token", late, nonce=nonce)).status == 200


@pytest.mark.spec("RFC 9449", "8.2", "an answer carries the nonce to use next")
def test_every_answer_to_a_proof_carries_a_nonce_that_changes_with_time(bound: World) -> None:
    first = dict(bound.exchange(bound.code()).headers)["DPoP-Nonce"]

    bound.later(seconds=NONCE_WINDOW.total_seconds())

    assert dict(bound.exchange(bound.code()).headers)["DPoP-Nonce"] != first


def test_answer_to_a_request_without_a_proof_carries_no_nonce(world: World) -> None:
    world.sign_in()

    assert "DPoP-Nonce" not in dict(world.exchange(world.code()).headers)


# -- the code -------------------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 9449", "10", "a code bound by dpop_jkt is exchanged with that key only")
@pytest.mark.parametrize("prover", [None, THIEF], ids=["no proof", "another key"])
@pytest.mark.rules("fapi/5.3.2.1/12")
def test_a07_code_bound_to_a_key_is_not_exchanged_without_it(prover: Prover | None, world: World) -> None:
    world.sign_in()
    code = world.code(dpop_jkt=ME.jkt)

    world.prover = prover
    assert error_of(world.exchange(code)) == "invalid_grant"
    world.prover = ME
    assert world.exchange(code).status == 200  # and the thief has not used it up


@pytest.mark.spec("RFC 9449", "10.1", "a request pushed with a proof binds its code to the key")
def test_request_pushed_with_a_proof_binds_the_code(bound: World) -> None:
    code = pushed_code(bound)

    bound.prover = THIEF
    assert error_of(bound.exchange(code)) == "invalid_grant"
    bound.prover = ME
    assert bound.exchange(code).status == 200


def pushed_code(world: World, **changes: str) -> str:
    pushed = push(world, **changes)
    assert pushed.status == 201, pushed.body
    asked = {"client_id": "web", "request_uri": json.loads(pushed.body)["request_uri"]}
    answer = world.ask(
        Request("GET", "/authorize", query=urlencode(asked), cookies={cookies.SESSION: world.cookie})
    )
    return answer_of(answer)["code"]


def push(world: World, **changes: str) -> Response:
    return world.post(
        "/par", response_type="code", redirect_uri="https://web.example/cb", scope="openid",
        code_challenge=challenge_of(world.verifier), code_challenge_method="S256", **changes,
    )  # fmt: skip


@pytest.mark.spec("RFC 9449", "10.1", "dpop_jkt that is not the key of the proof is refused")
def test_request_pushed_with_a_proof_and_another_dpop_jkt_is_refused(bound: World) -> None:
    assert error_of(push(bound, dpop_jkt=THIEF.jkt)) == "invalid_request"
    assert push(bound, dpop_jkt=ME.jkt).status == 201


def test_request_pushed_with_a_proof_used_before_is_refused(world: World) -> None:
    world.prover = Prover(ME.key)
    proof = ME.proof("POST", f"{ISSUER}/par", world.now)
    world.prover.proof = lambda *args: proof  # type: ignore[method-assign]

    assert push(world).status == 201
    again = push(world)

    assert (again.status, error_of(again)) == (400, "invalid_dpop_proof")
    assert dict(again.headers)["DPoP-Nonce"]


@pytest.mark.parametrize("text", ["x", "a" * 44, "%00"])
def test_dpop_jkt_that_is_no_thumbprint_is_refused_at_once(text: str, world: World) -> None:
    world.sign_in()

    assert answer_of(world.authorize(dpop_jkt=text))["error"] == "invalid_request"


# -- where tokens are used --------------------------------------------------------------------------------------------


@pytest.mark.spec(
    "RFC 9449", "7.1", "a bound token opens userinfo with the DPoP scheme and a proof of its key"
)
@pytest.mark.rules("fapi/5.3.4/1")
def test_userinfo_with_a_proof_is_answered(bound: World) -> None:
    token = bound.tokens()["access_token"]

    answer = bound.userinfo(token, "DPoP")

    assert answer.status == 200
    assert dict(answer.headers)["DPoP-Nonce"]


@pytest.mark.spec("RFC 9449", "7.2", "a bound token that is presented as Bearer is refused")
@pytest.mark.parametrize("with_proof", [True, False])
@pytest.mark.rules("fapi/5.3.4/5")
def test_a13_bound_token_sent_as_bearer_is_refused(with_proof: bool, bound: World) -> None:
    token = bound.tokens()["access_token"]
    bound.prover = ME if with_proof else None

    answer = bound.userinfo(token)

    assert (answer.status, error_of(answer)) == (401, "invalid_token")
    challenge = dict(answer.headers)["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="Secretariat sign-in", error="invalid_token"')
    assert ', DPoP realm="Secretariat sign-in", algs="ES256 PS256 EdDSA Ed25519"' in challenge


def test_a13_bound_token_in_the_body_is_refused(bound: World) -> None:
    token = bound.tokens()["access_token"]

    answer = bound.post("/userinfo", None, None, access_token=token)

    assert (answer.status, error_of(answer)) == (401, "invalid_token")


def test_unbound_token_sent_as_dpop_is_refused(world: World) -> None:
    world.sign_in()
    token = world.tokens()["access_token"]
    world.prover = ME

    answer = world.userinfo(token, "DPoP")

    assert (answer.status, error_of(answer)) == (401, "invalid_token")
    assert dict(answer.headers)["WWW-Authenticate"].startswith("DPoP realm=")


@pytest.mark.spec("RFC 9449", "7.1", "a proof by another key, for another token or request, opens nothing")
@pytest.mark.parametrize(
    ("prover", "changes", "error"),
    [
        pytest.param(THIEF, {}, "invalid_token", id="another key"),
        pytest.param(ME, {"ath": None}, "invalid_dpop_proof", id="no ath"),
        pytest.param(ME, {"ath": "x"}, "invalid_dpop_proof", id="of another token"),
        pytest.param(ME, {"htm": "POST"}, "invalid_dpop_proof", id="of another method"),
        pytest.param(ME, {"htu": f"{ISSUER}/token"}, "invalid_dpop_proof", id="of another address"),
        pytest.param(ME, {"iat": 1}, "use_dpop_nonce", id="old"),
    ],
)
@pytest.mark.rules("fapi/5.3.4/5")
def test_a13_stolen_bound_token_opens_nothing(
    prover: Prover, changes: dict, error: str, bound: World
) -> None:
    token = bound.tokens()["access_token"]
    proof = prover.proof("GET", f"{ISSUER}/userinfo", bound.now, token, **changes)

    answer = bound.userinfo(token, "DPoP", dpop=proof)

    assert (answer.status, error_of(answer)) == (401, error)
    challenge = dict(answer.headers)["WWW-Authenticate"]
    assert challenge.startswith("DPoP realm=")
    assert f'error="{error}"' in challenge.split(", Bearer ")[0]


def test_userinfo_without_a_proof_is_refused(bound: World) -> None:
    token = bound.tokens()["access_token"]
    bound.prover = None

    assert error_of(bound.userinfo(token, "DPoP")) == "invalid_dpop_proof"


def test_proof_used_twice_at_userinfo_is_refused(bound: World) -> None:
    token = bound.tokens()["access_token"]
    proof = ME.proof("GET", f"{ISSUER}/userinfo", bound.now, token)

    assert bound.userinfo(token, "DPoP", dpop=proof).status == 200
    assert bound.userinfo(token, "DPoP", dpop=proof).status == 401


def test_refusal_without_a_token_offers_both_schemes(world: World) -> None:
    answer = world.ask(Request("GET", "/userinfo"))

    assert isinstance(answer, Response)
    challenge = dict(answer.headers)["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="Secretariat sign-in", resource_metadata=')
    assert ', DPoP realm="Secretariat sign-in", algs="ES256 PS256 EdDSA Ed25519"' in challenge
    assert "error=" not in challenge


# -- refresh tokens -------------------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 9449", "5", "a public client's refresh token is bound to the key of its proof")
@pytest.mark.rules("rfc9700/2.2.2/refresh")
def test_a15_refresh_token_of_a_public_client_needs_its_key(bound: World) -> None:
    token = bound.tokens("public", None, scope="openid")["refresh_token"]

    for prover in (None, THIEF):
        bound.prover = prover
        assert error_of(bound.refresh(token, "public", None)) == "invalid_grant"
    bound.prover = ME
    again = json.loads(bound.refresh(token, "public", None).body)

    assert claims_of(again["access_token"])["cnf"] == {"jkt": ME.jkt}
    assert again["refresh_token"] != token  # a public client's rotate as ever
    assert error_of(bound.later(minutes=1).refresh(token, "public", None)) == "invalid_grant"
    assert TokenFamily.objects.get().revoke_reason == "refresh_replayed"


def test_bound_refresh_token_of_a_confidential_client_stays(bound: World) -> None:
    """docs/adr/0026: whoever has it needs the key besides, so nothing is won by changing it."""
    token = bound.tokens()["refresh_token"]

    for _ in range(3):
        answer = json.loads(bound.later(minutes=3).refresh(token).body)
        assert answer["refresh_token"] == token
        assert claims_of(answer["access_token"])["cnf"] == {"jkt": ME.jkt}

    assert TokenFamily.objects.get().position == 0


def test_a15_thief_with_secret_and_refresh_token_but_another_key_is_found_out(bound: World) -> None:
    token = bound.tokens()["refresh_token"]
    bound.prover = THIEF

    stolen = json.loads(bound.refresh(token).body)

    assert stolen["refresh_token"] != token
    bound.prover = ME
    assert error_of(bound.later(minutes=1).refresh(token)) == "invalid_grant"
    bound.prover = THIEF
    assert error_of(bound.refresh(stolen["refresh_token"])) == "invalid_grant"


def test_a15_bound_family_goes_on_bound(bound: World) -> None:
    """Without a proof a thief would get tokens that need none."""
    token = bound.tokens()["refresh_token"]
    bound.prover = None

    assert error_of(bound.refresh(token)) == "invalid_grant"
    bound.prover = ME
    assert bound.refresh(token).status == 200


def test_unbound_family_can_become_bound_and_still_rotates(world: World) -> None:
    world.sign_in()
    token = world.tokens()["refresh_token"]
    world.prover = ME

    answer = json.loads(world.refresh(token).body)

    assert answer["token_type"] == "DPoP"
    assert answer["refresh_token"] != token


def test_bound_refresh_token_that_stays_ends_with_session_family_and_client(bound: World) -> None:
    token = bound.tokens()["refresh_token"]
    bound.post("/revoke", token=token)
    assert error_of(bound.refresh(token)) == "invalid_grant"

    token = bound.tokens()["refresh_token"]
    assert bound.refresh(token).status == 200
    assert error_of(bound.later(hours=13).refresh(token)) == "invalid_grant"


# -- what a client can be -----------------------------------------------------------------------------------------------


def test_discovery_says_what_proofs_may_be_signed_with(world: World) -> None:
    answer = world.ask(Request("GET", "/.well-known/openid-configuration"))

    assert isinstance(answer, Response)
    assert json.loads(answer.body)["dpop_signing_alg_values_supported"] == [
        "ES256",
        "PS256",
        "EdDSA",
        "Ed25519",
    ]


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ("dpop_bound_access_tokens", "invalid_dpop_proof"),
        ("tls_client_certificate_bound_access_tokens", "invalid_request"),
    ],
)
def test_gate_makes_no_token_for_a_grant_that_lost_the_binding(option: str, error: str, world: World) -> None:
    """Whatever a grant of the future forgets: there is no token without the key that its client must prove."""
    known = state.DatabaseState()
    client = known.client("service")
    assert client is not None
    bound = replace(client, options=replace(client.options, **{option: True}))
    clearance = issuance.clear_machine(bound, ("demo.read",), world.now)

    with pytest.raises(OAuthError) as refusal:
        issuance.access_token(known, clearance, "m", UNBOUND)

    assert refusal.value.error == error
