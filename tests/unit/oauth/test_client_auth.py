"""Client authentication without a database: what is read, and what proves a client."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from iam.oauth.protocol import jose
from iam.oauth.protocol.assertions import LIFE_MAX, use_until
from iam.oauth.protocol.client_auth import (
    ASSERTION_TYPE,
    Credentials,
    allowed_algorithms,
    authenticate,
    read_credentials,
)
from iam.oauth.protocol.errors import InvalidClient, OAuthError
from iam.oauth.protocol.jose import Key, MemorySigner, encode_segment
from iam.oauth.protocol.messages import ClientFacts, Request
from iam.oauth.protocol.options import ClientOptions
from iam.oauth.protocol.parameters import parse

ISSUER = "https://id.example"
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
UNIFORM = "Unknown client, or wrong client authentication."


def key_of(kid: str, algorithm: str, private: jose.PrivateKey) -> Key:
    return Key(kid, algorithm, private.public_key(), MemorySigner(algorithm, private))


KEYS = {
    algorithm: key_of(f"k-{algorithm}", algorithm, jose.generate(algorithm)) for algorithm in jose.ALGORITHMS
}
JWKS = tuple(key.jwk() for key in KEYS.values())
STRANGER = key_of("k-ES256", "ES256", jose.generate("ES256"))

CLIENT = ClientFacts(
    pk=1, client_id="app", name="App", application=None, enabled=True, trusted=True,
    auth_method="client_secret_basic", secret_digest="d:right", grant_types=frozenset({"authorization_code"}),
    redirect_uris=(), post_logout_redirect_uris=(), scopes=frozenset(), is_resource_server=False,
    owned_scopes=frozenset(), id_token_alg="ES256", default_max_age=None, default_acr_values=(), generation=0,
)  # fmt: skip
SIGNER = replace(CLIENT, auth_method="private_key_jwt", secret_digest="", jwks=JWKS)
HIGH = replace(SIGNER, options=ClientOptions(profile="high"))
TOKEN = Request("POST", "/token")


@dataclass
class Known:
    """What the engine's State says of clients; counts what it was asked for."""

    issuer: str = ISSUER
    trusted: bool = True
    digests: int = 0
    kids: tuple[str, ...] = ()

    def secret_digest(self, secret: str) -> str:
        self.digests += 1
        return "d:" + secret

    def client_keys(self, client: ClientFacts, kid: str) -> tuple[Mapping[str, Any], ...]:
        self.kids += (kid,)
        return client.jwks

    def trusts_certificate(self, certificate: str, now: datetime) -> bool:
        return self.trusted


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def claims(**changes: Any) -> dict[str, Any]:
    said = {
        "iss": "app",
        "sub": "app",
        "aud": ISSUER,
        "exp": EPOCH + 60,
        "iat": EPOCH,
        "jti": "j-1",
        **changes,
    }
    return {name: value for name, value in said.items() if value is not ...}


def form(assertion: str, **fields: str) -> str:
    return urlencode({"client_assertion": assertion, "client_assertion_type": ASSERTION_TYPE, **fields})


def sent(
    assertion: str, client: ClientFacts | None = SIGNER, *, path: str = "/token", **fields: str
) -> ClientFacts:
    """Authenticate as the endpoint at `path` would."""
    credentials = read_credentials("", parse(form(assertion, **fields)))
    return authenticate(credentials, client, Request("POST", path), Known(), NOW)


def raw(header: Any, body: Any, sign: Callable[[bytes], bytes] = lambda data: b"") -> str:
    """Return a JWS with any header and body."""
    head, payload = (
        encode_segment(part if isinstance(part, bytes) else json.dumps(part).encode())
        for part in (header, body)
    )
    return f"{head}.{payload}.{encode_segment(sign(f'{head}.{payload}'.encode()))}"


def signed(header: Mapping[str, Any], body: Any = None, key: Key = KEYS["ES256"]) -> str:
    """Return a JWS with any header, signed by a key of the client."""
    body = claims() if body is None else body
    return raw({"alg": key.algorithm, "kid": key.kid, **header}, body, key._signature)


def refusal(assertion: str, client: ClientFacts | None = SIGNER, **more: str) -> str:
    with pytest.raises(InvalidClient) as problem:
        sent(assertion, client, **more)
    assert problem.value.error == "invalid_client"
    assert problem.value.status == 401
    return problem.value.reason


# -- secrets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        "Bearer x",
        "Basic",
        "Basic !!!",
        "Basic " + "A" * 3000,
        basic("nocolon"),
        "Basic " + base64.b64encode(b"\xff:x").decode(),
        basic("a\0:b"),
        "DPoP x",
        f"{basic('app:right')},{basic('app:right')}",
    ],
)
def test_read_credentials_broken_header_is_invalid_client(header):
    with pytest.raises(InvalidClient):
        read_credentials(header, parse(""))


@pytest.mark.spec("RFC 6749", "2.3", "a client uses one authentication method a request")
@pytest.mark.parametrize(
    ("header", "body"),
    [
        (basic("app:right"), "client_secret=right"),
        (basic("app:right"), form("a.b.c")),
        (basic("app:right"), "client_assertion=a.b.c"),
        (basic("app:right"), urlencode({"client_assertion_type": ASSERTION_TYPE})),
        ("", form("a.b.c", client_secret="right")),
        (basic("app:right"), form("a.b.c", client_secret="right")),
    ],
)
def test_read_credentials_two_methods_are_invalid_request(header, body):
    with pytest.raises(OAuthError) as problem:
        read_credentials(header, parse(body))

    assert (problem.value.error, problem.value.reason) == ("invalid_request", "two_methods")


def test_read_credentials_other_client_in_the_body_is_invalid_request():
    with pytest.raises(OAuthError, match="differs"):
        read_credentials(basic("app:right"), parse("client_id=other"))


def test_read_credentials_nothing_is_invalid_client():
    with pytest.raises(InvalidClient):
        read_credentials("", parse("grant_type=x"))


@pytest.mark.spec("RFC 6749", "2.3.1", "both halves of the Basic header are form-encoded")
@pytest.mark.rules("core/9/basic", "rfc6749/2.3.1/encoded")
def test_read_credentials_halves_are_decoded():
    credentials = read_credentials(basic("a%3Ab:p+q%25"), parse(""))

    assert (credentials.client_id, credentials.unverified_secret) == ("a:b", "p q%")


@pytest.mark.parametrize(
    ("header", "body", "client", "reason"),
    [
        (basic("app:wrong"), "", CLIENT, "wrong_secret"),
        (basic("app:"), "", CLIENT, "wrong_secret"),
        (basic("app:right"), "", None, "unknown_client"),
        (basic("app:right"), "", replace(CLIENT, enabled=False), "client_disabled"),
        ("", "client_id=app&client_secret=right", CLIENT, "wrong_method"),
        ("", "client_id=app", CLIENT, "wrong_method"),
        (basic("app:"), "", SIGNER, "wrong_method"),
        ("", "client_id=app", SIGNER, "wrong_method"),
        ("", "client_id=app&client_secret=x", SIGNER, "wrong_method"),
    ],
)
def test_authenticate_wrong_client_gets_the_same_words(header, body, client, reason):
    with pytest.raises(InvalidClient) as problem:
        authenticate(read_credentials(header, parse(body)), client, TOKEN, Known(), NOW)

    assert problem.value.reason == reason
    assert problem.value.description == UNIFORM


def test_authenticate_right_secret_returns_the_client():
    known = Known()

    assert authenticate(read_credentials(basic("app:right"), parse("")), CLIENT, TOKEN, known, NOW) is CLIENT


@pytest.mark.parametrize("client", [CLIENT, SIGNER, None])
def test_authenticate_takes_the_digest_whoever_asks(client):
    known = Known()
    with pytest.raises(InvalidClient):
        authenticate(Credentials("app", "wrong", "client_secret_post"), client, TOKEN, known, NOW)

    assert known.digests == 1


# -- private_key_jwt: what is taken ---------------------------------------------------------------------------------


@pytest.mark.spec("RFC 7523", "3", "an assertion that the client's key signed authenticates it")
@pytest.mark.parametrize("algorithm", jose.ALGORITHMS)
@pytest.mark.rules("disco/3/auth-algs")
def test_assertion_of_each_algorithm_is_taken(algorithm):
    assert sent(KEYS[algorithm].sign("JWT", claims())) is SIGNER


@pytest.mark.parametrize("typ", [..., "JWT", "jwt", "client-authentication+jwt", "Client-Authentication+JWT"])
def test_assertion_typ_that_is_for_this_use_is_taken(typ):
    assert sent(signed({} if typ is ... else {"typ": typ})) is SIGNER


@pytest.mark.spec("RFC 7523", "3", "the audience is the issuer or the token endpoint")
@pytest.mark.parametrize("aud", [ISSUER, [ISSUER], f"{ISSUER}/token", [f"{ISSUER}/token"]])
@pytest.mark.rules("core/9/jwt-aud")
def test_assertion_for_issuer_or_token_endpoint_is_taken_from_a_standard_client(aud):
    assert sent(signed({}, claims(aud=aud))) is SIGNER
    assert sent(signed({}, claims(aud=aud)), path="/introspect") is SIGNER


@pytest.mark.spec("RFC 9126", "2", "the endpoint's own address is an audience too")
def test_assertion_for_the_asked_endpoint_is_taken_there_and_nowhere_else():
    assertion = signed({}, claims(aud=f"{ISSUER}/par"))

    assert sent(assertion, path="/par") is SIGNER
    assert refusal(assertion, path="/token") == "assertion_audience"


@pytest.mark.spec("FAPI 2.0 Security Profile", "5.3.2.1", "aud is the issuer as a string, nothing else")
@pytest.mark.parametrize(
    ("aud", "taken"),
    [(ISSUER, True), ([ISSUER], False), (f"{ISSUER}/token", False), ([f"{ISSUER}/token"], False)],
)
@pytest.mark.rules("fapi/5.3.2.1/8")
def test_assertion_audience_of_a_high_client(aud, taken):
    assertion = signed({}, claims(aud=aud))

    assert (sent(assertion, HIGH) is HIGH) if taken else (refusal(assertion, HIGH) == "assertion_audience")


@pytest.mark.spec("FAPI 2.0 Security Profile", "5.4.1", "PS256, ES256 or EdDSA")
@pytest.mark.rules("fapi/5.4.1/1-2")
def test_assertion_with_rs256_of_a_high_client_is_refused():
    assert set(allowed_algorithms(HIGH)) == {"PS256", "ES256", "EdDSA", "Ed25519"}  # one algorithm, two names
    assert refusal(KEYS["RS256"].sign("JWT", claims()), HIGH) == "assertion_signature"


@pytest.mark.spec(
    "OIDC Registration", "2", "token_endpoint_auth_signing_alg is the only algorithm when it is given"
)
def test_assertion_with_another_algorithm_than_registered_is_refused():
    client = replace(SIGNER, options=ClientOptions(token_endpoint_auth_signing_alg="PS256"))

    assert sent(KEYS["PS256"].sign("JWT", claims()), client) is client
    assert refusal(KEYS["ES256"].sign("JWT", claims()), client) == "assertion_signature"


@pytest.mark.spec("RFC 9864", "2.2", "Ed25519 is another name of EdDSA with that curve, in assertions too")
@pytest.mark.parametrize("written", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("registered", ["", "EdDSA", "Ed25519"])
@pytest.mark.parametrize("published", ["", "EdDSA", "Ed25519"])
def test_assertion_with_either_name_of_eddsa_is_accepted(written, registered, published):
    key = KEYS["EdDSA"]
    jwk = {name: value for name, value in {**key.jwk(), "alg": published}.items() if value}
    client = replace(SIGNER, jwks=(jwk,), options=ClientOptions(token_endpoint_auth_signing_alg=registered))
    header = {"alg": written, "kid": key.kid}

    assert sent(raw(header, claims(), key._signature), client) is client
    assert sent(raw(header, claims(), key._signature), replace(client, options=HIGH.options)) is not None


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a11_assertion_with_the_newer_name_of_eddsa_and_another_key_is_refused(algorithm):
    key = KEYS[algorithm]
    header = {"alg": "Ed25519", "kid": key.kid}

    assert refusal(raw(header, claims(), key._signature)) == "assertion_signature"
    only = replace(SIGNER, options=ClientOptions(token_endpoint_auth_signing_alg=algorithm))
    named = {"alg": "Ed25519", "kid": "k-EdDSA"}
    assert refusal(raw(named, claims(), KEYS["EdDSA"]._signature), only) == "assertion_signature"


@pytest.mark.rules("core/9/jwt-others")
def test_assertion_with_claims_that_nobody_knows_is_taken():
    assert sent(signed({}, claims(shoe_size=42, roles=["admin"]))) is SIGNER


@pytest.mark.parametrize("kid", ["k-ES256", ...])
def test_assertion_with_and_without_kid_finds_its_key(kid):
    key = KEYS["ES256"]
    header = {"alg": "ES256"} | ({} if kid is ... else {"kid": kid})

    assert sent(raw(header, claims(), key._signature)) is SIGNER


@pytest.mark.spec(
    "FAPI 2.0 Security Profile", "5.3.2.1", "iat and nbf up to 10 s ahead pass, more than 60 s do not"
)
@pytest.mark.parametrize("name", ["iat", "nbf"])
@pytest.mark.parametrize(("ahead", "taken"), [(-9999, True), (0, True), (10, True), (60, True), (61, False)])
@pytest.mark.rules("fapi/5.3.2.1/13-accept", "fapi/5.3.2.1/13-refuse")
def test_assertion_begin_ahead(name, ahead, taken):
    assertion = signed({}, claims(**{name: EPOCH + ahead}))

    assert (sent(assertion) is SIGNER) if taken else (refusal(assertion) == "assertion_time")


@pytest.mark.parametrize(
    ("exp", "reason"),
    [
        (EPOCH + 3600, ""), (EPOCH + 3600.5, ""), (EPOCH + 3611, "assertion_time"), (EPOCH + 86400, "assertion_time"),
        (EPOCH - 9, ""), (EPOCH - 10, "assertion_expired"), (EPOCH - 3600, "assertion_expired"),
    ],
)  # fmt: skip
@pytest.mark.spec("RFC 7523", "3", "exp is required, bounded, and past it the assertion is refused")
@pytest.mark.rules("core/9/jwt-exp")
def test_assertion_end(exp, reason):
    assertion = signed({}, claims(exp=exp))

    assert (refusal(assertion) == reason) if reason else (sent(assertion) is SIGNER)


def test_use_until_outlives_whatever_judge_would_pass():
    latest = EPOCH + LIFE_MAX.total_seconds()

    assert use_until({"exp": latest}).timestamp() > latest + 10
    assert use_until({"exp": EPOCH + 0.5}).timestamp() > EPOCH + 10.5


# -- private_key_jwt: what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": ...}, "assertion_issuer"),
        ({"sub": ...}, "assertion_issuer"),
        ({"iss": "other"}, "assertion_issuer"),
        ({"iss": ["app"], "sub": ["app"]}, "assertion_issuer"),
        ({"iss": "", "sub": ""}, "assertion_issuer"),
        ({"iss": 1, "sub": 1}, "assertion_issuer"),
        ({"aud": ...}, "assertion_audience"),
        ({"aud": ""}, "assertion_audience"),
        ({"aud": []}, "assertion_audience"),
        ({"aud": [ISSUER, ISSUER]}, "assertion_audience"),
        ({"aud": [ISSUER, "https://other.example"]}, "assertion_audience"),
        ({"aud": [[ISSUER]]}, "assertion_audience"),
        ({"aud": {"0": ISSUER}}, "assertion_audience"),
        ({"aud": 1}, "assertion_audience"),
        ({"aud": None}, "assertion_audience"),
        ({"aud": ISSUER + "/"}, "assertion_audience"),
        ({"aud": ISSUER.upper()}, "assertion_audience"),
        ({"aud": "https://id.example.evil"}, "assertion_audience"),
        ({"aud": f"{ISSUER}/introspect"}, "assertion_audience"),
        ({"exp": ...}, "assertion_time"),
        ({"exp": None}, "assertion_time"),
        ({"exp": True}, "assertion_time"),
        ({"exp": str(EPOCH + 60)}, "assertion_time"),
        ({"exp": [EPOCH + 60]}, "assertion_time"),
        ({"exp": float("nan")}, "assertion_time"),
        ({"exp": float("inf")}, "assertion_time"),
        ({"exp": float("-inf")}, "assertion_time"),
        ({"exp": 0}, "assertion_time"),
        ({"exp": -1}, "assertion_time"),
        ({"exp": 10**300}, "assertion_time"),
        ({"exp": 1e300}, "assertion_time"),
        ({"exp": (EPOCH + 60) * 1000}, "assertion_time"),
        ({"iat": "now"}, "assertion_time"),
        ({"iat": True}, "assertion_time"),
        ({"nbf": float("nan")}, "assertion_time"),
        ({"nbf": {}}, "assertion_time"),
        ({"jti": ...}, "assertion_jti"),
        ({"jti": None}, "assertion_jti"),
        ({"jti": ""}, "assertion_jti"),
        ({"jti": 7}, "assertion_jti"),
        ({"jti": ["j"]}, "assertion_jti"),
        ({"jti": "j" * 257}, "assertion_jti"),
    ],
)  # fmt: skip
@pytest.mark.spec("RFC 7523", "3", "iss, sub, aud, exp and jti are judged each")
@pytest.mark.rules("core/9/jwt-iss-sub", "core/9/jwt-aud", "core/9/jwt-jti")
def test_assertion_with_a_wrong_claim_is_refused_by_its_name(changes, reason):
    assert refusal(signed({}, claims(**changes))) == reason


@pytest.mark.parametrize(
    "typ", ["", "at+jwt", "dpop+jwt", "logout+jwt", "oauth-authz-req+jwt", "JWT ", 1, None, ["JWT"]]
)
def test_a13_assertion_of_another_type_is_refused(typ):
    expected = "assertion_type" if isinstance(typ, str) else "bad_assertion"
    assert refusal(signed({"typ": typ})) == expected


@pytest.mark.parametrize(
    "alg",
    ["none", "None", "nOnE", "", "HS256", "HS384", "HS512", "RS1", "ES384", "dir", 1, None, ["ES256"], {}],
)
@pytest.mark.rules("fapi/5.4.1/1-3", "disco/3/auth-none")
def test_a11_assertion_of_no_allowed_algorithm_is_refused(alg):
    expected = "assertion_algorithm" if isinstance(alg, str) else "bad_assertion"
    assert refusal(raw({"alg": alg, "kid": "k-ES256"}, claims())) == expected
    assert refusal(raw({"kid": "k-ES256"}, claims())) == "assertion_algorithm"


def test_a11_assertion_with_hs256_and_a_public_key_as_secret_is_refused():
    for jwk in JWKS:
        secret = json.dumps(jwk).encode()
        forged = raw(
            {"alg": "HS256"}, claims(), lambda data, key=secret: hmac.new(key, data, hashlib.sha256).digest()
        )
        assert refusal(forged) == "assertion_algorithm"


@pytest.mark.parametrize(
    "extra",
    [
        {"jwk": STRANGER.jwk()},
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"kid": STRANGER.kid},
        {"kid": "../../../../dev/null"},
        {"kid": "' UNION SELECT 'k"},
        {"kid": ""},
        {"kid": "k-ES256\0"},
    ],
)
def test_a11_assertion_that_brings_or_names_its_own_key_is_refused(extra):
    assert refusal(signed(extra, key=STRANGER)) == "assertion_signature"


@pytest.mark.parametrize("kid", [1, None, ["k-ES256"], {"a": 1}, True])
def test_a11_assertion_whose_kid_is_no_text_is_refused(kid):
    assert refusal(signed({"kid": kid})) == "bad_assertion"


@pytest.mark.parametrize(
    "extra", [{"crit": ["exp"]}, {"crit": []}, {"crit": ["b64"], "b64": False}, {"b64": True}]
)
def test_a11_assertion_with_an_extension_is_refused(extra):
    assert refusal(signed(extra)) == "bad_assertion"


@pytest.mark.parametrize(
    ("header", "key"), [("RS256", "ES256"), ("ES256", "RS256"), ("PS256", "RS256"), ("EdDSA", "ES256")]
)
def test_a11_assertion_that_swaps_the_algorithm_is_refused(header, key):
    forged = raw({"alg": header, "kid": KEYS[key].kid}, claims(), KEYS[key]._signature)

    assert refusal(forged) == "assertion_signature"


@pytest.mark.parametrize(
    "assertion",
    [
        json.dumps({"payload": "e30", "signatures": []}),
        json.dumps({"payload": "e30", "protected": "e30", "signature": ""}),
        json.dumps({"payload": "e30", "signatures": [{"protected": "e30", "signature": "e30"}]}),
        "[]", ".", "..", "...", "a.b.c", "e30.e30.", "e30.e30", "e30.e30.e30.e30", "e30.e30.e30.e30.e30",
        "é.é.é", "e30=.e30.e30", "\0", " ", KEYS["ES256"].sign("JWT", claims()) + ".",
        KEYS["ES256"].sign("JWT", claims()) + "=", " " + KEYS["ES256"].sign("JWT", claims()),
        KEYS["ES256"].sign("JWT", claims()).replace(".", "..", 1),
        raw(b"[]", b"{}"), raw(b"null", b"{}"), raw({"alg": "ES256"}, b"[]"), raw({"alg": "ES256"}, b"null"),
        raw({"alg": "ES256"}, b"\xff"), raw({"alg": "ES256"}, b""), raw(b"{" * 500, b"{}"),
    ],
)  # fmt: skip
def test_a12_assertion_that_is_no_compact_jws_of_an_object_is_refused(assertion):
    assert refusal(assertion) in {"bad_assertion", "assertion_algorithm"}


@pytest.mark.parametrize(
    "assertion",
    [
        "A" * 1_000_000,
        "." * 1_000_000,
        "A" * 500_000 + "." + "A" * 500_000 + ".",
        raw(b"[" * 6000, b"[" * 5000),
        raw(b'{"a":' * 1900, b"{}"),
        raw({"alg": "ES256"}, b"[" * 11_000),
        raw({"alg": "ES256"}, b'{"exp":' + b"9" * 9000 + b"}"),
        signed({}, claims(jti="j" * 7000)),
        signed({"kid": "k" * 7000}),
        signed({"x": "y" * 7000}, claims(aud=["a"] * 500)),
    ],
    ids=range(10),
)
def test_a14_assertion_that_is_huge_or_deep_is_refused_at_once(assertion):
    begun = time.perf_counter()
    try:
        read_credentials("", parse(form(assertion)))
    except OAuthError:
        pass
    else:
        assert refusal(assertion)

    assert time.perf_counter() - begun < 0.05


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("client_assertion=a.b.c", "invalid_request"),
        (urlencode({"client_assertion_type": ASSERTION_TYPE}), "invalid_request"),
        (form(""), "invalid_request"),
        ("client_assertion=a.b.c&client_assertion_type=jwt", "invalid_client"),
        ("client_assertion=a.b.c&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:saml2-bearer", "invalid_client"),
        (form(KEYS["ES256"].sign("JWT", claims()), client_id="other"), "invalid_request"),
    ],
)  # fmt: skip
@pytest.mark.spec(
    "RFC 7521", "4.2", "client_assertion and its type go together; client_id must be the same client"
)
@pytest.mark.rules("core/9/jwt-type")
def test_assertion_parameters_that_do_not_fit_are_refused(body, error):
    with pytest.raises(OAuthError) as problem:
        read_credentials("", parse(body))

    assert problem.value.error == error


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (None, "unknown_client"),
        (CLIENT, "wrong_method"),
        (replace(CLIENT, jwks=JWKS), "wrong_method"),
        (replace(SIGNER, auth_method="none"), "wrong_method"),
        (replace(SIGNER, auth_method="self_signed_tls_client_auth"), "wrong_method"),
        (replace(SIGNER, jwks=()), "no_client_keys"),
        (replace(SIGNER, jwks=(STRANGER.jwk(),)), "assertion_signature"),
        (replace(SIGNER, enabled=False), "client_disabled"),
    ],
)
def test_assertion_of_a_client_that_it_does_not_prove_gets_the_same_words(client, reason):
    with pytest.raises(InvalidClient) as problem:
        sent(KEYS["ES256"].sign("JWT", claims()), client)

    assert (problem.value.reason, problem.value.description) == (reason, UNIFORM)


def test_assertion_signed_by_a_printed_key_never_counts():
    """The keys with which an unknown client's assertion is checked are public with their private halves."""
    edwards = ed25519.Ed25519PrivateKey.from_private_bytes(
        base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    )
    number = int.from_bytes(base64.urlsafe_b64decode("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI="), "big")
    elliptic = ec.derive_private_key(number, ec.SECP256R1())
    for algorithm, private in (("EdDSA", edwards), ("ES256", elliptic)):
        assertion = key_of("", algorithm, private).sign("JWT", claims())
        for client in (None, CLIENT, replace(SIGNER, auth_method="none"), SIGNER, replace(SIGNER, jwks=())):
            assert refusal(assertion, client)


@pytest.mark.parametrize("algorithm", jose.ALGORITHMS)
@pytest.mark.rules("core/16.12/timing")
def test_assertion_of_an_unknown_client_takes_as_long_as_a_wrong_one(algorithm):
    """A signature is checked either way; a hundredth of its time would give the unknown client away."""

    def seconds(client: ClientFacts | None) -> float:
        assertion = KEYS[algorithm].sign("JWT", claims())
        wrong = assertion[:-12] + ("A" * 12)
        credentials = read_credentials("", parse(form(wrong)))
        taken = []
        for _ in range(60):
            begun = time.perf_counter()
            with pytest.raises(InvalidClient):
                authenticate(credentials, client, TOKEN, Known(), NOW)
            taken.append(time.perf_counter() - begun)
        return min(taken)

    assert 0.4 < seconds(None) / seconds(replace(SIGNER, jwks=(KEYS[algorithm].jwk(),))) < 2.5


def test_client_keys_are_asked_for_the_kid_of_the_header():
    known = Known()
    authenticate(
        read_credentials("", parse(form(KEYS["ES256"].sign("JWT", claims())))), SIGNER, TOKEN, known, NOW
    )

    assert known.kids == ("k-ES256",)
