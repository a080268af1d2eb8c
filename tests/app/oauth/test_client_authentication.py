"""Clients that prove themselves without a secret, through the whole engine: assertions and certificates."""

import base64
import ipaddress
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.test import Client as Browser

from iam.oauth import engine, state
from iam.oauth.clients import apply_all, describe
from iam.oauth.models import Client, UsedIdentifier
from iam.oauth.protocol import jose
from iam.oauth.protocol.client_auth import ASSERTION_TYPE
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.jose import Key, MemorySigner
from iam.oauth.protocol.messages import Request, Response

from .conftest import SECRET, World

ISSUER = "http://localhost:8000"
FORM = "application/x-www-form-urlencoded"


def new_key(kid: str, algorithm: str = "ES256") -> Key:
    private = jose.generate(algorithm)
    return Key(kid, algorithm, private.public_key(), MemorySigner(algorithm, private))


KEY, OTHER = new_key("k1"), new_key("k1")
SIGNER = {
    "client_id": "signer", "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [KEY.jwk()]},
    "grant_types": ["client_credentials", "authorization_code"], "redirect_uris": ["https://signer.example/cb"],
    "scope": "openid demo.read",
}  # fmt: skip


def assertion(world: World, client: str = "signer", key: Key = KEY, **changes: Any) -> str:
    now = int(world.now.timestamp())
    claims = {
        "iss": client, "sub": client, "aud": ISSUER, "iat": now, "exp": now + 60, "jti": secrets.token_urlsafe(12),
        **changes,
    }  # fmt: skip
    return key.sign("JWT", claims)


def post(world: World, path: str = "/token", *, certificate: str = "", **form: str | None) -> Response:
    given = {"grant_type": "client_credentials", **form} if path == "/token" else form
    body = urlencode({name: value for name, value in given.items() if value is not None}).encode()
    answer = world.ask(Request("POST", path, body=body, content_type=FORM, certificate=certificate))
    assert isinstance(answer, Response)
    return answer


def asserted(world: World, text: str, path: str = "/token", **form: str | None) -> Response:
    return post(world, path, client_assertion=text, client_assertion_type=ASSERTION_TYPE, **form)


def error_of(response: Response) -> str:
    assert response.status in {400, 401}, response
    return json.loads(response.body)["error"]


@pytest.fixture
def signer(world: World) -> World:
    apply_all([SIGNER], world.now, "system:test")
    return world


# -- private_key_jwt ------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 7523", "2.2", "a client authenticates with a JWT that its key signed")
@pytest.mark.rules("rfc9700/2.5/authentication")
def test_assertion_gives_a_token(signer: World):
    response = asserted(signer, assertion(signer))

    assert response.status == 200
    assert json.loads(response.body)["token_type"] == "Bearer"


@pytest.mark.parametrize("path", ["/token", "/introspect", "/revoke", "/par"])
@pytest.mark.rules("rfc7009/2.1/authenticated")
def test_assertion_authenticates_at_every_endpoint_that_asks(path: str, signer: World):
    more = (
        {"response_type": "code", "redirect_uri": "https://signer.example/cb"}
        if path == "/par"
        else {"token": "x"}
    )

    assert asserted(signer, assertion(signer), path, **more).status != 401
    assert error_of(asserted(signer, assertion(signer, key=OTHER), path, **more)) == "invalid_client"


@pytest.mark.spec("RFC 7523", "3", "a jti is accepted once")
@pytest.mark.rules("core/9/jwt-jti")
def test_assertion_replayed_is_refused_at_any_endpoint_until_it_could_not_count_anyway(signer: World):
    text = assertion(signer)

    assert asserted(signer, text).status == 200
    assert error_of(asserted(signer, text)) == "invalid_client"
    assert error_of(asserted(signer, text, "/introspect", token="x")) == "invalid_client"
    signer.later(seconds=69)
    assert error_of(asserted(signer, text)) == "invalid_client"
    assert UsedIdentifier.objects.get().expires_at > signer.now + timedelta(seconds=1)


def test_assertion_with_the_same_jti_and_other_claims_is_refused(signer: World):
    asserted(signer, assertion(signer, jti="one"))

    assert (
        error_of(asserted(signer, assertion(signer, jti="one", exp=int(signer.now.timestamp()) + 90)))
        == "invalid_client"
    )


def test_assertion_is_used_up_by_a_request_that_is_refused_otherwise(signer: World):
    text = assertion(signer)

    assert error_of(asserted(signer, text, grant_type="password")) == "unsupported_grant_type"
    assert error_of(asserted(signer, text)) == "invalid_client"


def test_assertion_that_nobody_signed_uses_up_nothing(signer: World):
    assert error_of(asserted(signer, assertion(signer, key=OTHER, jti="one"))) == "invalid_client"

    assert asserted(signer, assertion(signer, jti="one")).status == 200


def test_assertion_jti_of_another_client_is_another(signer: World):
    apply_all([SIGNER, {**SIGNER, "client_id": "second"}], signer.now, "system:test")

    assert asserted(signer, assertion(signer, jti="one")).status == 200
    assert asserted(signer, assertion(signer, "second", jti="one")).status == 200


def test_assertion_of_somebody_else_is_refused(signer: World):
    """A key of the client's own proves only this client, whatever the form says."""
    apply_all(
        [SIGNER, {**SIGNER, "client_id": "second", "jwks": {"keys": [OTHER.jwk()]}}],
        signer.now,
        "system:test",
    )

    assert error_of(asserted(signer, assertion(signer, "second"))) == "invalid_client"
    assert error_of(asserted(signer, assertion(signer), client_id="second")) == "invalid_request"
    assert error_of(asserted(signer, assertion(signer, "web"))) == "invalid_client"
    assert error_of(asserted(signer, assertion(signer, "nobody"))) == "invalid_client"


@pytest.mark.parametrize("name", ["client_assertion", "client_assertion_type"])
def test_assertion_parameter_given_twice_is_refused(name: str, signer: World):
    text = assertion(signer)
    body = urlencode(
        {
            "grant_type": "client_credentials",
            "client_assertion": text,
            "client_assertion_type": ASSERTION_TYPE,
        }
    )
    doubled = {"client_assertion": text, "client_assertion_type": ASSERTION_TYPE}[name]

    answer = signer.ask(
        Request("POST", "/token", body=f"{body}&{urlencode({name: doubled})}".encode(), content_type=FORM)
    )

    assert isinstance(answer, Response)
    assert error_of(answer) == "invalid_request"


def test_assertion_beside_a_secret_is_refused(signer: World):
    text = assertion(signer)
    body = urlencode(
        {
            "grant_type": "client_credentials",
            "client_assertion": text,
            "client_assertion_type": ASSERTION_TYPE,
        }
    )
    basic = "Basic " + base64.b64encode(f"signer:{SECRET}".encode()).decode()

    answer = signer.ask(Request("POST", "/token", body=body.encode(), content_type=FORM, authorization=basic))

    assert isinstance(answer, Response)
    assert error_of(answer) == "invalid_request"
    assert error_of(asserted(signer, text, client_secret=SECRET)) == "invalid_request"


def test_a14_assertion_of_a_megabyte_is_refused(signer: World):
    assert error_of(asserted(signer, "A" * 1_000_000)) == "invalid_request"
    assert error_of(asserted(signer, "A" * 9_000)) == "invalid_request"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"aud": "https://other.example"}, "aud must be"),
        ({"exp": 1}, "exp"),
        ({"jti": None}, "jti"),
        ({"exp": 4_000_000_000}, "60 minutes ahead"),
    ],
)
def test_assertion_refusal_says_what_is_wrong_and_has_a_reference(
    changes: dict[str, Any], word: str, signer: World
):
    value = json.loads(asserted(signer, assertion(signer, **changes)).body)

    assert word in value["error_description"]
    assert "(reference r-1)" in value["error_description"]


# -- registration ----------------------------------------------------------------------------------------------


def test_apply_client_with_keys_has_no_secret_and_shows_its_keys(world: World):
    applied = apply_all([SIGNER], world.now, "system:test")

    row = Client.objects.get(client_id="signer")
    assert (applied[0].generated_secret, row.secret_digest, row.client_type) == (None, "", "confidential")
    assert describe(row)["jwks"] == {"keys": [KEY.jwk()]}
    assert apply_all([SIGNER], world.now, "system:test")[0].changes == ()


def test_apply_client_that_changes_to_keys_loses_its_secret_and_what_was_issued_with_it(world: World):
    plain = {
        name: value for name, value in SIGNER.items() if name not in {"jwks", "token_endpoint_auth_method"}
    }
    apply_all([{**plain, "client_secret": SECRET}], world.now, "system:test")
    token = json.loads(world.post("/token", "signer", grant_type="client_credentials").body)["access_token"]
    assert world.introspect(token)["active"]

    apply_all([SIGNER], world.now, "system:test")

    assert not world.introspect(token)["active"]
    assert error_of(world.post("/token", "signer", grant_type="client_credentials")) == "invalid_client"


@pytest.mark.parametrize(
    ("uri", "word"),
    [
        ("https://keys.elsewhere.example/jwks", "IAM_OUTBOUND_ALLOW has no keys.elsewhere.example"),
        ("https://169.254.169.254/latest", "IAM_OUTBOUND_ALLOW"),
        ("https://keys.example:8443/jwks", "IAM_OUTBOUND_ALLOW"),
    ],
)
def test_a62_apply_key_address_that_may_not_be_called_is_refused(
    uri: str, word: str, world: World, settings: Any
):
    settings.IAM_OUTBOUND_ALLOW = ("keys.example",)
    client = {name: value for name, value in SIGNER.items() if name != "jwks"}

    apply_all([{**client, "jwks_uri": "https://keys.example/jwks"}], world.now, "system:test")
    with pytest.raises(MetadataError, match=word):
        apply_all([{**client, "jwks_uri": uri}], world.now, "system:test")


# -- certificates ----------------------------------------------------------------------------------------------

_KEY = ec.generate_private_key(ec.SECP256R1())
_CA_KEY = ec.generate_private_key(ec.SECP256R1())


def _name(*values: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in values])


CA_NAME = _name((NameOID.ORGANIZATION_NAME, "Secretariat"), (NameOID.COMMON_NAME, "Machines"))
SUBJECT = _name(
    (NameOID.COUNTRY_NAME, "CH"), (NameOID.ORGANIZATION_NAME, "Secretariat"), (NameOID.COMMON_NAME, "app")
)


def authority(key: ec.EllipticCurvePrivateKey = _CA_KEY, *, usage: bool = True) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(CA_NAME)
        .issuer_name(CA_NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if usage:
        allowed = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "crl_sign", "encipher_only", "decipher_only"), False,
        )  # fmt: skip
        builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, **allowed), critical=True)
    return builder.sign(key, hashes.SHA256())


def certificate(
    *,
    subject: x509.Name = SUBJECT,
    issuer: ec.EllipticCurvePrivateKey = _CA_KEY,
    issuer_name: x509.Name = CA_NAME,
    names: tuple[x509.GeneralName, ...] = (),
    begin: timedelta = timedelta(days=-1),
    end: timedelta = timedelta(days=1),
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
    key: ec.EllipticCurvePrivateKey = _KEY,
    is_ca: bool = False,
) -> str:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        .serial_number(2)
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if is_ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    made = builder.sign(issuer, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.DER)).decode()


NAMES = (
    x509.DNSName("app.example.org"),
    x509.UniformResourceIdentifier("urn:app:1"),
    x509.RFC822Name("app@example.org"),
    x509.IPAddress(ipaddress.ip_address("2001:db8::7")),
)
TLS = {
    "client_id": "tls", "token_endpoint_auth_method": "tls_client_auth", "grant_types": ["client_credentials"],
    "scope": "demo.read", "tls_client_auth_subject_dn": "CN=app,O=Secretariat,C=CH",
}  # fmt: skip
SELF_SIGNED = {
    "client_id": "own", "token_endpoint_auth_method": "self_signed_tls_client_auth",
    "grant_types": ["client_credentials"], "scope": "demo.read",
    "jwks": {"keys": [KEY.jwk(), Key("k2", "ES256", _KEY.public_key()).jwk()]},
}  # fmt: skip


@pytest.fixture
def machines(world: World, settings: Any, tmp_path: Any) -> World:
    """A world in which certificates are switched on, with one authority."""
    file = tmp_path / "machines.pem"
    file.write_bytes(authority().public_bytes(serialization.Encoding.PEM))
    settings.IAM_TRUSTED_PROXIES = (ipaddress.ip_network("127.0.0.1/32"),)
    settings.IAM_CLIENT_CERTIFICATE_CA_FILE = str(file)
    apply_all([TLS, SELF_SIGNED], world.now, "system:test")
    return world


def by_certificate(world: World, text: str, client: str = "tls", **form: str) -> Response:
    return post(world, certificate=text, client_id=client, **form)


@pytest.mark.spec(
    "RFC 8705", "2.1", "a certificate of a trusted authority with the registered subject authenticates"
)
def test_certificate_with_the_registered_subject_gives_a_token(machines: World):
    assert by_certificate(machines, certificate()).status == 200
    assert by_certificate(machines, certificate(names=NAMES, usage=None)).status == 200


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("tls_client_auth_san_dns", "APP.example.org"),
        ("tls_client_auth_san_uri", "urn:app:1"),
        ("tls_client_auth_san_email", "app@example.org"),
        ("tls_client_auth_san_ip", "2001:0db8:0::7"),
    ],
)
@pytest.mark.spec("RFC 8705", "2.1.2", "a subject alternative name may be registered instead")
def test_certificate_with_the_registered_alternative_name_gives_a_token(
    field: str, expected: str, machines: World
):
    apply_all(
        [{**{k: v for k, v in TLS.items() if "subject_dn" not in k}, field: expected}],
        machines.now,
        "system:test",
    )

    assert by_certificate(machines, certificate(names=NAMES)).status == 200
    assert error_of(by_certificate(machines, certificate())) == "invalid_client"
    assert (
        error_of(by_certificate(machines, certificate(names=(x509.DNSName("b.example"),))))
        == "invalid_client"
    )


@pytest.mark.parametrize(
    "shown",
    [
        "",
        certificate(subject=_name((NameOID.COMMON_NAME, "app"))),
        certificate(subject=_name((NameOID.COUNTRY_NAME, "CH"), (NameOID.ORGANIZATION_NAME, "Secretariat"), (NameOID.COMMON_NAME, "App"))),
        certificate(subject=_name((NameOID.COMMON_NAME, "app"), (NameOID.ORGANIZATION_NAME, "Secretariat"), (NameOID.COUNTRY_NAME, "CH"))),
        certificate(subject=_name((NameOID.COMMON_NAME, "app,O=Secretariat,C=CH"))),
        certificate(issuer=_KEY, issuer_name=SUBJECT),
        certificate(issuer=_KEY),
        certificate(issuer=ec.generate_private_key(ec.SECP256R1())),
        certificate(begin=timedelta(days=1), end=timedelta(days=2)),
        certificate(begin=timedelta(days=-2), end=timedelta(days=-1)),
        certificate(usage=ExtendedKeyUsageOID.SERVER_AUTH),
        certificate(is_ca=True),
    ],
    ids=["none", "short", "case", "order", "injected", "self-signed", "forged", "unknown-ca", "early", "late", "server", "ca"],
)  # fmt: skip
@pytest.mark.spec("RFC 8705", "2.1", "any other certificate is refused")
def test_certificate_that_is_not_the_registered_one_is_refused(shown: str, machines: World):
    assert error_of(by_certificate(machines, shown)) == "invalid_client"


def test_certificate_is_judged_at_the_time_of_the_request(machines: World):
    shown = certificate()
    machines.later(days=2)

    assert error_of(by_certificate(machines, shown)) == "invalid_client"


def test_certificate_of_an_authority_that_says_nothing_of_its_usage_counts(
    machines: World, settings: Any, tmp_path: Any
):
    file = tmp_path / "plain.pem"
    file.write_bytes(authority(usage=False).public_bytes(serialization.Encoding.PEM))
    settings.IAM_CLIENT_CERTIFICATE_CA_FILE = str(file)

    assert by_certificate(machines, certificate()).status == 200


def test_certificate_without_configured_authorities_is_refused(machines: World, settings: Any):
    settings.IAM_CLIENT_CERTIFICATE_CA_FILE = ""

    assert error_of(by_certificate(machines, certificate())) == "invalid_client"


def test_certificate_beside_a_secret_or_an_assertion_does_not_prove_a_certificate_client(machines: World):
    assert error_of(by_certificate(machines, certificate(), client_secret=SECRET)) == "invalid_client"
    text = assertion(machines, "tls")
    more = {"client_assertion": text, "client_assertion_type": ASSERTION_TYPE}
    assert error_of(by_certificate(machines, certificate(), **more)) == "invalid_client"


def test_certificate_proves_no_client_of_another_method(machines: World):
    assert error_of(by_certificate(machines, certificate(), "web")) == "invalid_client"
    assert error_of(by_certificate(machines, certificate(), "nobody")) == "invalid_client"


@pytest.mark.spec("RFC 8705", "2.2", "a self-signed certificate with a registered key authenticates")
def test_self_signed_certificate_with_a_registered_key_gives_a_token(machines: World):
    own = certificate(issuer=_KEY, issuer_name=SUBJECT)

    assert by_certificate(machines, own, "own").status == 200
    assert (
        by_certificate(machines, certificate(subject=_name(), issuer=_KEY, issuer_name=_name()), "own").status
        == 200
    )


@pytest.mark.parametrize(
    "shown", ["", certificate(key=ec.generate_private_key(ec.SECP256R1()), issuer=_CA_KEY)]
)
def test_self_signed_certificate_with_another_key_is_refused(shown: str, machines: World):
    assert error_of(by_certificate(machines, shown, "own")) == "invalid_client"


@pytest.mark.rules("rfc9700/4.13/proxy")
def test_certificate_through_the_door_counts_from_the_proxy_only(machines: World, settings: Any):
    header = f":{certificate()}:"
    encoded = urlencode({"grant_type": "client_credentials", "client_id": "tls"})

    trusted = Browser(REMOTE_ADDR="127.0.0.1").post(
        "/token", encoded, content_type=FORM, headers={"Client-Cert": header}
    )
    stranger = Browser(REMOTE_ADDR="192.0.2.9").post(
        "/token", encoded, content_type=FORM, headers={"Client-Cert": header}
    )
    settings.IAM_TRUSTED_PROXIES = (ipaddress.ip_network("10.0.0.0/8"),)
    moved = Browser(REMOTE_ADDR="127.0.0.1").post(
        "/token", encoded, content_type=FORM, headers={"Client-Cert": header}
    )

    assert [answer.status_code for answer in (trusted, stranger, moved)] == [200, 401, 401]


@pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth"])
def test_apply_certificate_client_where_certificates_are_off_is_refused(method: str, world: World):
    client = TLS if method == "tls_client_auth" else SELF_SIGNED
    with pytest.raises(MetadataError, match="switched off here: set IAM_TRUSTED_PROXIES"):
        apply_all([client], world.now, "system:test")


# -- discovery ---------------------------------------------------------------------------------------------------


def described(world: World) -> dict[str, Any]:
    state.forget()  # what is configured changes with a restart, in life
    answer = engine.handle(
        Request("GET", "/.well-known/openid-configuration"), state.DatabaseState(), world.now
    )
    assert isinstance(answer, Response)
    return json.loads(answer.body)


@pytest.mark.spec("RFC 8414", "2", "the methods of client authentication and their algorithms are listed")
def test_discovery_lists_what_is_switched_on(machines: World, settings: Any):
    every = [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "tls_client_auth",
        "self_signed_tls_client_auth",
        "none",
    ]
    assert described(machines)["token_endpoint_auth_methods_supported"] == every
    assert "none" not in described(machines)["introspection_endpoint_auth_methods_supported"]

    settings.IAM_CLIENT_CERTIFICATE_CA_FILE = ""
    assert "tls_client_auth" not in described(machines)["token_endpoint_auth_methods_supported"]
    settings.IAM_TRUSTED_PROXIES = ()
    for endpoint in ("token", "revocation", "introspection"):
        value = described(machines)
        assert "private_key_jwt" in value[f"{endpoint}_endpoint_auth_methods_supported"]
        assert "self_signed_tls_client_auth" not in value[f"{endpoint}_endpoint_auth_methods_supported"]
        assert value[f"{endpoint}_endpoint_auth_signing_alg_values_supported"] == [
            "ES256",
            "RS256",
            "PS256",
            "EdDSA",
            "Ed25519",
        ]
