"""Tokens bound to the certificate of the connection (RFC 8705 §3)."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from iam.oauth.clients import apply_all
from iam.oauth.protocol.messages import Request, Response
from iam.oauth.protocol.mtls import certificate_thumbprint
from tests.proofs import Prover

from .conftest import CLIENTS, World, claims_of

pytestmark = pytest.mark.django_db


def certificate(name: str) -> str:
    """Return a certificate as the door hands it on."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begun = datetime.now(UTC) - timedelta(days=1)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begun)
        .not_valid_after(begun + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    return base64.b64encode(built.public_bytes(serialization.Encoding.DER)).decode()


MINE, OTHER = certificate("mine"), certificate("other")


def error_of(response: Response) -> str:
    return json.loads(response.body)["error"]


@pytest.fixture
def bound(world: World) -> World:
    """Every client is set to certificate-bound tokens, and its connection has one."""
    items = [
        {**item, "tls_client_certificate_bound_access_tokens": True}
        for item in CLIENTS
        if item["client_id"] != "resource"
    ]
    apply_all(items, world.now, "system:test")
    world.sign_in()
    world.certificate = MINE
    return world


@pytest.mark.spec(
    "RFC 8705", "3.1", "the token carries the certificate's thumbprint and is still a bearer token by type"
)
def test_token_carries_the_thumbprint(bound: World) -> None:
    tokens = bound.tokens(scope="openid demo.read")

    assert tokens["token_type"] == "Bearer"
    assert claims_of(tokens["access_token"])["cnf"] == {"x5t#S256": certificate_thumbprint(MINE)}


@pytest.mark.spec("RFC 8705", "3.2", "introspection shows the thumbprint")
def test_introspection_shows_the_thumbprint(bound: World) -> None:
    token = json.loads(bound.post("/token", "service", grant_type="client_credentials").body)["access_token"]

    assert bound.introspect(token)["cnf"] == {"x5t#S256": certificate_thumbprint(MINE)}


@pytest.mark.spec("RFC 8705", "3", "without the certificate, or with another, the token opens nothing")
@pytest.mark.parametrize("certificate", ["", OTHER], ids=["none", "another"])
def test_a13_stolen_bound_token_opens_nothing(certificate: str, bound: World) -> None:
    token = bound.tokens()["access_token"]
    assert bound.userinfo(token).status == 200

    bound.certificate = certificate
    answer = bound.userinfo(token)

    assert (answer.status, error_of(answer)) == (401, "invalid_token")


def test_client_without_its_certificate_gets_nothing_and_keeps_its_code(bound: World) -> None:
    code = bound.code()
    bound.certificate = ""

    refused = bound.exchange(code)
    bound.certificate = MINE

    assert (refused.status, error_of(refused)) == (400, "invalid_request")
    assert bound.exchange(code).status == 200


def test_certificate_of_a_client_that_is_not_set_so_binds_nothing(world: World) -> None:
    """A browser's or proxy's certificate, of which the application knows nothing, must not lock it out."""
    world.sign_in()
    world.certificate = MINE

    assert "cnf" not in claims_of(world.tokens()["access_token"])


def test_token_bound_to_a_key_and_a_certificate_needs_both(bound: World) -> None:
    bound.prover = Prover()
    token = bound.tokens()["access_token"]

    assert claims_of(token)["cnf"].keys() == {"jkt", "x5t#S256"}
    assert bound.userinfo(token, "DPoP").status == 200
    bound.certificate = OTHER
    assert bound.userinfo(token, "DPoP").status == 401


def test_refresh_token_of_a_confidential_client_with_its_certificate_stays(bound: World) -> None:
    token = bound.tokens()["refresh_token"]

    assert json.loads(bound.refresh(token).body)["refresh_token"] == token


@pytest.mark.spec("RFC 8705", "4", "a public client's refresh token is bound to its certificate")
def test_a15_refresh_token_of_a_public_client_needs_its_certificate(bound: World) -> None:
    token = bound.tokens("public", None, scope="openid")["refresh_token"]

    bound.certificate = OTHER
    assert error_of(bound.refresh(token, "public", None)) == "invalid_grant"
    bound.certificate = MINE
    assert bound.refresh(token, "public", None).status == 200


def test_discovery_says_that_tokens_can_be_bound_to_certificates(world: World) -> None:
    answer = world.ask(Request("GET", "/.well-known/openid-configuration"))

    assert isinstance(answer, Response)
    assert json.loads(answer.body)["tls_client_certificate_bound_access_tokens"] is True
