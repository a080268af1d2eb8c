"""Signed and encrypted answers, as each client is registered (OIDC Core §5.3.2, §10; RFC 9701)."""

import base64
import hashlib
import json

import pytest
from joserfc import jwt as other
from joserfc.jwk import KeySet
from jwcrypto import jwe
from jwcrypto.jwk import JWK

from iam.oauth.clients import apply_all
from iam.oauth.models import Client
from iam.oauth.protocol.jose import ALGORITHMS
from iam.oauth.protocol.messages import Request, Response
from iam.oauth.versions import touch
from tests.proofs import Prover

from .conftest import CLIENTS, ISSUER, SECRET, SERVER_SECRET, World, answer_of, claims_of

pytestmark = [
    pytest.mark.django_db,
    # The other library prefers the newer name of the algorithm (RFC 9864).
    pytest.mark.filterwarnings("ignore:EdDSA is deprecated"),
]

SIGNED = "application/token-introspection+jwt"
KEY = JWK.generate(kty="EC", crv="P-256", use="enc", kid="mine")
JWKS = {"keys": [json.loads(KEY.export_public())]}


def register(world: World, client_id: str, **changes: object) -> None:
    (item,) = [item for item in CLIENTS if item["client_id"] == client_id]
    apply_all([{**item, **changes}], world.now, "system:test")


def verified(world: World, token: str, algorithm: str) -> dict:
    """Return a token's claims, verified by another library with the published keys."""
    answer = world.ask(Request("GET", "/jwks"))
    assert isinstance(answer, Response)
    return other.decode(token, KeySet.import_key_set(json.loads(answer.body)), algorithms=[algorithm]).claims


def header_of(token: str) -> dict:
    head = token.split(".", maxsplit=1)[0]
    return json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))


def decrypted(text: str) -> str:
    read = jwe.JWE(algs=["ECDH-ES", "ECDH-ES+A256KW", "A128CBC-HS256", "A256GCM"])
    read.deserialize(text, KEY)
    return read.payload.decode()


def half(hashed: bytes) -> str:
    return base64.urlsafe_b64encode(hashed[: len(hashed) // 2]).rstrip(b"=").decode()


# -- ID tokens ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.spec("OIDC Core", "3.1.3.6", "at_hash is the left half of the hash of the signature's algorithm")
@pytest.mark.spec("OIDC Registration", "2", "the ID token is signed with id_token_signed_response_alg")
@pytest.mark.rules("core/3.1.3.6/at-hash", "core/10.1/alg-of-recipient")
def test_id_token_is_signed_with_the_clients_algorithm(algorithm: str, world: World) -> None:
    register(world, "web", id_token_signed_response_alg=algorithm)
    world.sign_in()

    tokens = world.tokens()

    claims = verified(world, tokens["id_token"], algorithm)
    digest = hashlib.sha512 if algorithm == "EdDSA" else hashlib.sha256
    assert claims["at_hash"] == half(digest(tokens["access_token"].encode()).digest())
    assert header_of(tokens["id_token"])["alg"] == algorithm
    refreshed = json.loads(world.refresh(tokens["refresh_token"]).body)["id_token"]
    assert header_of(refreshed)["alg"] == algorithm


@pytest.mark.parametrize(
    ("algorithm", "content"), [("ECDH-ES", ""), ("ECDH-ES+A256KW", "A256GCM")], ids=["default", "named"]
)
@pytest.mark.spec(
    "OIDC Core", "10.2", "an encrypted ID token is signed first, then encrypted to the client's key"
)
@pytest.mark.rules(
    "core/2/signed-then-encrypted",
    "core/10/signed-then-encrypted",
    "core/10.2/alg-of-recipient",
    "core/10.2/kid",
)
def test_id_token_is_encrypted_for_the_client(algorithm: str, content: str, world: World) -> None:
    named = {"id_token_encrypted_response_enc": content} if content else {}
    register(world, "web", jwks=JWKS, id_token_encrypted_response_alg=algorithm, **named)
    world.sign_in()

    text = world.tokens()["id_token"]

    head = header_of(text)
    assert (head["alg"], head["enc"], head["cty"], head["kid"]) == (
        algorithm, content or "A128CBC-HS256", "JWT", "mine",
    )  # fmt: skip
    assert verified(world, decrypted(text), "ES256")["aud"] == "web"


def test_id_token_never_leaves_in_the_clear_for_want_of_a_key(world: World) -> None:
    register(world, "web", id_token_encrypted_response_alg="ECDH-ES", jwks=JWKS)
    world.sign_in()
    code = world.code()
    Client.objects.filter(client_id="web").update(client_jwks={"keys": []})
    touch()

    answer = world.exchange(code)

    assert (answer.status, json.loads(answer.body)["error"]) == (400, "invalid_request")


def test_hint_that_the_client_decrypted_is_understood(world: World) -> None:
    register(world, "web", jwks=JWKS, id_token_encrypted_response_alg="ECDH-ES")
    world.sign_in()
    hint = decrypted(world.tokens()["id_token"])

    assert "code" in answer_of(world.authorize(id_token_hint=hint))


# -- userinfo -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.spec("OIDC Core", "5.3.2", "a signed userinfo answer is application/jwt with iss and aud")
@pytest.mark.rules("core/5.3.2/content-type", "core/5.3.2/signed-iss-aud")
def test_userinfo_is_signed_for_the_client(algorithm: str, world: World) -> None:
    register(world, "web", userinfo_signed_response_alg=algorithm)
    world.sign_in()

    answer = world.userinfo(world.tokens()["access_token"])

    assert dict(answer.headers)["Content-Type"] == "application/jwt"
    assert dict(answer.headers)["Cache-Control"] == "no-store"
    claims = verified(world, answer.body.decode(), algorithm)
    assert (claims["iss"], claims["aud"], claims["sub"]) == (ISSUER, "web", world.person.sub)
    assert claims["office"] == "NIM"


@pytest.mark.spec("OIDC Core", "5.3.2", "a userinfo answer that is signed and encrypted is a nested JWT")
@pytest.mark.rules("core/5.3.2/signed-then-encrypted", "core/10/signed-then-encrypted")
def test_userinfo_is_signed_and_encrypted(world: World) -> None:
    register(
        world, "web", jwks=JWKS, userinfo_signed_response_alg="PS256", userinfo_encrypted_response_alg="ECDH-ES",
        userinfo_encrypted_response_enc="A256GCM",
    )  # fmt: skip
    world.sign_in()

    text = world.userinfo(world.tokens()["access_token"]).body.decode()

    assert header_of(text)["cty"] == "JWT"
    assert verified(world, decrypted(text), "PS256")["aud"] == "web"


@pytest.mark.rules("core/5.3.2/content-type")
def test_userinfo_is_encrypted_alone(world: World) -> None:
    register(world, "web", jwks=JWKS, userinfo_encrypted_response_alg="ECDH-ES")
    world.sign_in()

    answer = world.userinfo(world.tokens()["access_token"])

    assert dict(answer.headers)["Content-Type"] == "application/jwt"
    assert "cty" not in header_of(answer.body.decode())
    assert json.loads(decrypted(answer.body.decode()))["sub"] == world.person.sub


def test_a13_signed_userinfo_answer_is_no_hint_and_no_access_token(world: World) -> None:
    register(world, "web", userinfo_signed_response_alg="ES256")
    world.sign_in()
    text = world.userinfo(world.tokens()["access_token"]).body.decode()

    assert answer_of(world.authorize(id_token_hint=text))["error"] == "invalid_request"
    assert world.userinfo(text).status == 401
    assert world.introspect(text) == {"active": False}


# -- introspection ----------------------------------------------------------------------------------------------------------


def signed_introspection(
    world: World, token: str, client: str = "resource", secret: str = SERVER_SECRET
) -> str:
    basic = base64.b64encode(f"{client}:{secret}".encode()).decode()
    answer = world.ask(
        Request(
            "POST", "/introspect", body=f"token={token}".encode(), content_type="application/x-www-form-urlencoded",
            authorization=f"Basic {basic}", accept=SIGNED,
        )
    )  # fmt: skip
    assert isinstance(answer, Response)
    assert answer.status == 200
    assert dict(answer.headers)["Content-Type"] == SIGNED
    return answer.body.decode()


@pytest.mark.parametrize("algorithm", ["", *ALGORITHMS])
@pytest.mark.spec(
    "RFC 9701", "5", "iss, aud, iat and the answer in token_introspection, typ token-introspection+jwt"
)
@pytest.mark.rules("fapi-ms/5.5.1/1")
def test_introspection_is_signed_for_the_asker(algorithm: str, world: World) -> None:
    named = {"introspection_signed_response_alg": algorithm} if algorithm else {}
    register(world, "resource", **named)
    world.sign_in()
    token = world.tokens(scope="openid demo.read")["access_token"]

    text = signed_introspection(world, token)

    claims = verified(world, text, algorithm or "RS256")
    assert header_of(text)["typ"] == "token-introspection+jwt"
    assert claims.keys() == {"iss", "aud", "iat", "token_introspection"}
    assert (claims["iss"], claims["aud"], claims["iat"]) == (ISSUER, "resource", int(world.now.timestamp()))
    assert claims["token_introspection"] == world.introspect(token)


@pytest.mark.spec("RFC 9701", "5", "a token that is not active is said to be so, signed")
def test_introspection_of_an_inactive_token_is_signed_too(world: World) -> None:
    text = signed_introspection(world, "nothing")

    assert verified(world, text, "RS256")["token_introspection"] == {"active": False}


def test_introspection_without_the_header_stays_json(world: World) -> None:
    register(world, "resource", introspection_signed_response_alg="ES256")

    assert world.introspect("nothing") == {"active": False}


def test_a13_signed_introspection_is_no_token(world: World) -> None:
    world.sign_in()
    token = world.tokens(scope="openid demo.read")["access_token"]
    text = signed_introspection(world, token)

    assert world.userinfo(text).status == 401
    assert world.introspect(text) == {"active": False}
    assert answer_of(world.authorize(id_token_hint=text))["error"] == "invalid_request"


def test_introspection_of_a_refresh_token_shows_its_key(world: World) -> None:
    world.sign_in()
    world.prover = Prover()
    tokens = world.tokens()

    assert world.introspect(tokens["refresh_token"], "web", SECRET)["cnf"] == {"jkt": world.prover.jkt}
    assert claims_of(tokens["access_token"])["cnf"] == {"jkt": world.prover.jkt}


def test_discovery_lists_what_is_done(world: World) -> None:
    answer = world.ask(Request("GET", "/.well-known/openid-configuration"))

    assert isinstance(answer, Response)
    document = json.loads(answer.body)
    for name in ("id_token_signing", "userinfo_signing", "introspection_signing"):
        assert document[f"{name}_alg_values_supported"] == list(ALGORITHMS)
    for name in ("id_token", "userinfo"):
        assert "RSA1_5" not in document[f"{name}_encryption_alg_values_supported"]
        assert "A256GCM" in document[f"{name}_encryption_enc_values_supported"]
