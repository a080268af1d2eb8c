"""Signed request objects: what is opened, and everything that is not."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.jose import Key, MemorySigner, encode_segment, generate
from iam.oauth.protocol.messages import ClientFacts
from iam.oauth.protocol.options import ClientOptions
from iam.oauth.protocol.parameters import Parameters
from iam.oauth.protocol.request_object import open_request_object
from tests import proofs

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
ISSUER = "https://login.example"
TYP = "oauth-authz-req+jwt"


def key(algorithm: str, kid: str = "k") -> Key:
    private = generate(algorithm)
    return Key(kid, algorithm, private.public_key(), MemorySigner(algorithm, private))


KEYS = {algorithm: key(algorithm, f"k-{algorithm}") for algorithm in ("ES256", "RS256", "PS256", "EdDSA")}
STRANGER = key("ES256", "k-ES256")
JWKS = [one.jwk() for one in KEYS.values()]
CLIENT = ClientFacts(
    pk=1, client_id="app", name="App", application=None, enabled=True, trusted=True, auth_method="none",
    secret_digest="", grant_types=frozenset({"authorization_code"}), redirect_uris=("https://app.example/cb",),
    post_logout_redirect_uris=(), scopes=frozenset({"openid"}), is_resource_server=False, owned_scopes=frozenset(),
    id_token_alg="ES256", default_max_age=None, default_acr_values=(), generation=0,
)  # fmt: skip
HIGH = replace(CLIENT, options=ClientOptions(profile="high"))
GOOD: dict[str, Any] = {
    "iss": "app", "aud": ISSUER, "client_id": "app", "exp": AT + 300, "nbf": AT, "iat": AT, "jti": "x",
    "response_type": "code", "scope": "openid", "redirect_uri": "https://app.example/cb", "state": "s",
}  # fmt: skip


def signed(typ: str = TYP, algorithm: str = "ES256", without: tuple[str, ...] = (), **changes: Any) -> str:
    claims = {name: value for name, value in {**GOOD, **changes}.items() if name not in without}
    return KEYS[algorithm].sign(typ, claims)


def opened(token: str, client: ClientFacts = CLIENT, now: datetime = NOW) -> Parameters:
    return open_request_object(token, client, lambda kid: JWKS, ISSUER, now)


def reason(token: str, client: ClientFacts = CLIENT) -> str:
    with pytest.raises(OAuthError) as caught:
        opened(token, client)
    assert caught.value.error == "invalid_request_object"
    assert caught.value.status == 400
    return caught.value.reason


@pytest.mark.spec("RFC 9101", "4", "claims are the parameters of the request")
def test_open_good_object_gives_the_parameters_without_the_envelope() -> None:
    assert dict(opened(signed())) == {
        "client_id": "app", "response_type": "code", "scope": "openid",
        "redirect_uri": "https://app.example/cb", "state": "s",
    }  # fmt: skip


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.spec("RFC 9101", "6.2", "signature by a key of the client")
def test_open_object_signed_with_any_algorithm_of_the_house(algorithm: str) -> None:
    assert opened(signed(algorithm=algorithm))["state"] == "s"


@pytest.mark.spec("RFC 9101", "4", "numbers and JSON values are parameters too")
def test_open_other_values_than_text_are_written_as_json() -> None:
    parameters = opened(
        signed(max_age=300, claims={"id_token": {"acr": None}}, authorization_details=[{"type": "t"}],
               resource=["https://a.example", "https://b.example"])
    )  # fmt: skip

    assert parameters["max_age"] == "300"
    assert json.loads(parameters["claims"]) == {"id_token": {"acr": None}}
    assert json.loads(parameters["authorization_details"]) == [{"type": "t"}]
    assert parameters.every("resource") == ("https://a.example", "https://b.example")


@pytest.mark.parametrize("aud", [ISSUER, [ISSUER], ["https://other.example", ISSUER]], ids=str)
@pytest.mark.spec("RFC 9101", "4", "aud is the issuer")
@pytest.mark.rules("fapi-ms/5.3.1/2")
def test_open_audience_may_be_a_list_that_has_us(aud: Any) -> None:
    assert opened(signed(aud=aud))["state"] == "s"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"iss": "other"}, "object_issuer"),
        ({"iss": ["app"]}, "object_issuer"),
        ({"client_id": "other"}, "object_issuer"),
        ({"client_id": None}, "object_issuer"),
        ({"aud": "https://other.example"}, "object_audience"),
        ({"aud": []}, "object_audience"),
        ({"aud": ISSUER + "/"}, "object_audience"),
        ({"aud": {"a": ISSUER}}, "object_audience"),
        ({"aud": 5}, "object_audience"),
        ({"sub": "app"}, "object_subject"),
        ({"request": "a.b.c"}, "object_nested"),
        ({"request_uri": "urn:x"}, "object_nested"),
        ({"exp": AT}, "object_expired"),
        ({"exp": AT - 1}, "object_expired"),
        ({"exp": "9999999999"}, "object_times"),
        ({"exp": True}, "object_times"),
        ({"exp": float("inf")}, "object_times"),
        ({"exp": float("nan")}, "object_times"),
        ({"exp": 10**400}, "object_times"),
        ({"nbf": AT + 31}, "object_future"),
        ({"iat": AT + 31}, "object_future"),
        ({"nbf": [AT]}, "object_times"),
        ({"state": None}, "object_null"),
    ],
    ids=str,
)
@pytest.mark.spec("RFC 9101", "5", "client_id, iss and aud are right, nothing is nested, the times hold")
@pytest.mark.rules("fapi/5.3.2.1/13-refuse", "fapi-ms/5.3.1/2", "core/6.1/match", "core/6.1/no-nesting")
def test_open_object_that_is_not_for_us_now_is_refused(changes: dict[str, Any], expected: str) -> None:
    assert reason(signed(**changes)) == expected


@pytest.mark.parametrize("name", ["iss", "aud", "client_id"])
def test_open_object_that_does_not_say_who_and_for_whom_is_refused(name: str) -> None:
    assert reason(signed(without=(name,))) in {"object_issuer", "object_audience"}


@pytest.mark.parametrize("ahead", [0, 10, 30])
@pytest.mark.spec(
    "FAPI 2.0 Security Profile", "5.3.2.1", "a clock ahead by 10 s is accepted, by 60 s refused"
)
@pytest.mark.rules("fapi/5.3.2.1/13-accept")
def test_open_clock_that_is_a_little_ahead_is_accepted(ahead: int) -> None:
    assert opened(signed(nbf=AT + ahead, iat=AT + ahead))["state"] == "s"


def test_open_standard_client_may_leave_the_times_out() -> None:
    assert opened(signed(without=("exp", "nbf", "iat", "jti")))["state"] == "s"


@pytest.mark.parametrize("typ", ["JWT", "jwt", "", TYP, f"application/{TYP}", "OAuth-AuthZ-Req+JWT"])
def test_open_types_that_a_standard_client_may_write(typ: str) -> None:
    assert opened(signed(typ))["state"] == "s"


@pytest.mark.parametrize(
    "typ", ["at+jwt", "dpop+jwt", "client-authentication+jwt", "logout+jwt", "oauth-authz-resp+jwt"]
)
def test_a13_open_other_kinds_of_jwt_are_no_request(typ: str) -> None:
    assert reason(signed(typ)) == "object_typ"


# -- the signature ---------------------------------------------------------------------------------------------------


def forged(change: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    """Return an object with another header than the one that was signed."""
    _, body, tail = signed().split(".")
    header = change({"alg": "ES256", "kid": "k-ES256", "typ": TYP})
    return f"{encode_segment(json.dumps(header).encode())}.{body}.{tail}"


@pytest.mark.parametrize(
    "token",
    [
        STRANGER.sign(TYP, GOOD),
        forged(lambda h: {**h, "alg": "none"}),
        forged(lambda h: {**h, "alg": "none"}).rsplit(".", 1)[0] + ".",
        forged(lambda h: {**h, "alg": "HS256"}),
        forged(lambda h: {**h, "alg": ["ES256"]}),
        forged(lambda h: {**h, "crit": ["x"]}),
        forged(lambda h: {**h, "jwk": STRANGER.jwk()}),
        forged(lambda h: {**h, "kid": "unknown"}),
        signed() + "x",
        signed()[:-4],
        signed().replace(".", "..", 1),
        "",
        "...",
        "a.b.c",
        "{}",
        "é.é.é",
        "x" * 20_000,
    ],
    ids=range(17),
)
@pytest.mark.rules("fapi/5.4.1/1-3", "fapi-ms/5.3.1/1-verify", "core/6.3.2/signature")
def test_a11_a12_open_object_that_the_client_did_not_sign_is_refused(token: str) -> None:
    assert reason(token) == "object_signature"


def test_a11_open_with_no_registered_key_is_refused() -> None:
    with pytest.raises(OAuthError, match="No registered key"):
        open_request_object(signed(), CLIENT, lambda kid: [], ISSUER, NOW)


def test_open_asks_for_the_named_key_and_for_none_when_the_algorithm_is_not_ours() -> None:
    asked: list[str] = []

    def keys_for(kid: str) -> list[dict[str, str]]:
        asked.append(kid)
        return JWKS

    open_request_object(signed(), CLIENT, keys_for, ISSUER, NOW)
    for token in (forged(lambda h: {**h, "alg": "HS256"}), "a.b.c", "x"):
        with pytest.raises(OAuthError):
            open_request_object(token, CLIENT, keys_for, ISSUER, NOW)

    assert asked == ["k-ES256"]


@pytest.mark.rules("core/6.3.1/decrypt")
def test_open_encrypted_object_is_refused_in_words() -> None:
    assert reason("a.b.c.d.e") == "object_encrypted"


@pytest.mark.spec("RFC 9101", "10.5", "request_object_signing_alg")
@pytest.mark.rules("core/6.3.2/alg")
def test_open_client_with_one_algorithm_is_held_to_it() -> None:
    client = replace(CLIENT, options=ClientOptions(request_object_signing_alg="PS256"))

    assert opened(signed(algorithm="PS256"), client)["state"] == "s"
    assert reason(signed(algorithm="ES256"), client) == "object_signature"


# -- high ------------------------------------------------------------------------------------------------------------


@pytest.mark.spec(
    "RFC 9864", "2.2", "Ed25519 is another name of EdDSA with that curve, in request objects too"
)
@pytest.mark.parametrize("written", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("registered", ["", "EdDSA", "Ed25519"])
def test_object_with_either_name_of_eddsa_is_opened(written: str, registered: str) -> None:
    key = KEYS["EdDSA"]
    for client in (CLIENT, HIGH):
        options = replace(client.options, request_object_signing_alg=registered)
        token = proofs.signed(key, {"alg": written, "kid": key.kid, "typ": TYP}, GOOD)

        assert opened(token, replace(client, options=options))["state"] == "s"


def test_a11_object_with_the_newer_name_of_eddsa_and_another_key_is_refused() -> None:
    key = KEYS["ES256"]

    assert (
        reason(proofs.signed(key, {"alg": "Ed25519", "kid": key.kid, "typ": TYP}, GOOD)) == "object_signature"
    )


@pytest.mark.parametrize("algorithm", ["ES256", "PS256", "EdDSA"])
@pytest.mark.spec("FAPI 2.0 Message Signing", "5.3.1", "nbf and exp within an hour")
@pytest.mark.rules("fapi-ms/5.3.1/5")
def test_open_high_good_object(algorithm: str) -> None:
    assert opened(signed(algorithm=algorithm), HIGH)["state"] == "s"
    assert opened(signed(nbf=AT - 3590, exp=AT + 10), HIGH)["state"] == "s"


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (signed(algorithm="RS256"), "object_signature"),
        (signed("JWT"), "object_typ"),
        (signed(""), "object_typ"),
        (signed(without=("exp",)), "object_times"),
        (signed(without=("nbf",)), "object_times"),
        (signed(nbf=AT - 3601, exp=AT + 5), "object_times"),
        (signed(exp=AT + 3601), "object_times"),
    ],
    ids=["RS256", "JWT", "no typ", "no exp", "no nbf", "old", "long"],
)
@pytest.mark.spec("FAPI 2.0 Message Signing", "5.3.1", "nbf and exp within an hour; no RS256")
@pytest.mark.rules("fapi-ms/5.3.1/3", "fapi-ms/5.3.1/4")
def test_open_high_refuses_what_a_standard_client_may_do(token: str, expected: str) -> None:
    assert reason(token, HIGH) == expected


# -- anything at all ---------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from([*GOOD, "sub", "request", "resource", "claims", "max_age", "", "\0"]) | st.text(
    max_size=9
)


@settings(max_examples=300, deadline=None, database=None)
@given(st.dictionaries(names, json_values, max_size=5), st.sampled_from([CLIENT, HIGH]))
def test_fuzz_open_any_claims_open_or_are_refused_with_the_one_error(
    claims: dict, client: ClientFacts
) -> None:
    try:
        token = KEYS["ES256"].sign(TYP, {**GOOD, **claims})
    except UnicodeEncodeError:  # a lone surrogate cannot be written
        return
    try:
        parameters = opened(token, client)
    except OAuthError as problem:
        assert problem.error == "invalid_request_object"
        assert problem.reason.startswith("object_")
        return
    assert parameters["client_id"] == "app"
    assert all(isinstance(value, str) for value in parameters.values())
    assert not {"iss", "aud", "exp", "request", "request_uri"} & set(parameters)


@settings(max_examples=300, deadline=None, database=None)
@given(
    st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,60}\.[A-Za-z0-9_-]{0,60}\.[A-Za-z0-9_-]{0,90}")
)
def test_fuzz_open_any_text_is_refused_with_the_one_error(text: str) -> None:
    assert reason(text) in {"object_signature", "object_encrypted"}
