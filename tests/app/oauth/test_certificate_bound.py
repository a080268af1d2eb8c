"""Tokens bound to the certificate of the connection (RFC 8705 §3)."""

import base64
import ipaddress
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from iam.checks import certificate_address
from iam.oauth.clients import apply_all
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.messages import Request, Response
from iam.oauth.protocol.mtls import certificate_thumbprint
from tests.proofs import Prover

from .conftest import CLIENTS, SECRET, World, claims_of

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
def proxied(world: World, settings: Any) -> World:
    """There is a proxy, which hands certificates on."""
    settings.IAM_TRUSTED_PROXIES = (ipaddress.ip_network(world.source),)
    return world


@pytest.fixture
def bound(proxied: World) -> World:
    """Every client is set to certificate-bound tokens, and its connection has one."""
    world = proxied
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
@pytest.mark.rules("fapi/5.3.2.1/5", "rfc9700/2.2.1/sender-constrained")
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
@pytest.mark.rules("fapi/5.3.4/5")
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


def described(world: World, path: str = "/.well-known/openid-configuration") -> dict:
    answer = world.ask(Request("GET", path))
    assert isinstance(answer, Response)
    return json.loads(answer.body)


@pytest.mark.spec("RFC 8705", "3.3", "the metadata says whether tokens can be bound to certificates")
def test_discovery_says_that_tokens_can_be_bound_only_where_certificates_arrive(
    world: World, settings: Any
) -> None:
    paths = ["/.well-known/openid-configuration", "/.well-known/oauth-protected-resource/userinfo"]
    assert [described(world, path)["tls_client_certificate_bound_access_tokens"] for path in paths] == [
        False
    ] * 2

    settings.IAM_TRUSTED_PROXIES = (ipaddress.ip_network("10.0.0.0/8"),)

    assert [described(world, path)["tls_client_certificate_bound_access_tokens"] for path in paths] == [
        True
    ] * 2


def test_client_cannot_be_set_to_certificates_where_none_arrive(world: World) -> None:
    with pytest.raises(MetadataError, match="IAM_TRUSTED_PROXIES"):
        apply_all(
            [{**CLIENTS[0], "tls_client_certificate_bound_access_tokens": True}], world.now, "system:test"
        )


@pytest.mark.spec("RFC 8705", "5", "endpoint aliases are listed where they are configured, and nowhere else")
def test_discovery_lists_aliases_where_there_is_another_address(proxied: World, settings: Any) -> None:
    assert "mtls_endpoint_aliases" not in described(proxied)

    settings.IAM_CLIENT_CERTIFICATE_ADDRESS = "https://mtls.example"

    aliases = described(proxied)["mtls_endpoint_aliases"]
    assert aliases["token_endpoint"] == "https://mtls.example/token"
    assert "authorization_endpoint" not in aliases


def test_proof_for_the_other_address_is_accepted(bound: World, settings: Any) -> None:
    settings.IAM_CLIENT_CERTIFICATE_ADDRESS = "https://mtls.example"
    prover = Prover()
    basic = base64.b64encode(f"service:{SECRET}".encode()).decode()

    def asked(address: str) -> Response:
        answer = bound.ask(
            Request(
                "POST", "/token", body=b"grant_type=client_credentials", authorization=f"Basic {basic}",
                content_type="application/x-www-form-urlencoded", dpop=prover.proof("POST", address, bound.now),
            )
        )  # fmt: skip
        assert isinstance(answer, Response)
        return answer

    assert asked("https://mtls.example/token").status == 200
    assert error_of(asked("https://mtls.evil.example/token")) == "invalid_dpop_proof"


@pytest.mark.parametrize(
    ("address", "proxies"),
    [
        ("http://mtls.example", True),
        ("https://mtls.example/x", True),
        ("mtls.example", True),
        ("https://mtls.example", False),
    ],
)
def test_start_with_a_wrong_second_address_is_refused(address: str, proxies: bool, settings: Any) -> None:
    settings.IAM_TRUSTED_PROXIES = (ipaddress.ip_network("10.0.0.0/8"),) if proxies else ()
    settings.IAM_CLIENT_CERTIFICATE_ADDRESS = address

    assert [problem.id for problem in certificate_address(None)] == ["iam.E014"]


def test_start_with_a_right_second_address_or_none_is_allowed(settings: Any) -> None:
    assert certificate_address(None) == []
    settings.IAM_TRUSTED_PROXIES = (ipaddress.ip_network("10.0.0.0/8"),)
    settings.IAM_CLIENT_CERTIFICATE_ADDRESS = "https://mtls.example"
    assert certificate_address(None) == []
