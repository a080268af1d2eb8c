"""Parameters, client credentials, PKCE, refresh tokens: what is read from outside."""

import hashlib
import hmac
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol import refresh_tokens
from iam.oauth.protocol.errors import InvalidClient, OAuthError, described, error_response
from iam.oauth.protocol.messages import Request, redirect
from iam.oauth.protocol.parameters import parse, parse_form, words
from iam.oauth.protocol.pkce import challenge_of, check_challenge

# -- parameters -------------------------------------------------------------------------------------------


@pytest.mark.rules("rfc6749/3.1/empty")
def test_parse_empty_value_counts_as_absent():
    assert "scope" not in parse("scope=&a=1")


@pytest.mark.parametrize("text", ["a=1&a=2", "a=1&a=1", "a=&a=1"])
@pytest.mark.spec("RFC 6749", "3.1", "a parameter given twice is refused")
@pytest.mark.rules("rfc6749/3.1/repeated")
def test_require_clean_doubled_parameter_is_invalid_request(text):
    with pytest.raises(OAuthError) as problem:
        parse(text).require_clean()

    assert (problem.value.error, problem.value.reason) == ("invalid_request", "doubled")


@pytest.mark.parametrize("text", ["a=%00", "%00=a", "a=" + "x" * 8193, "a=%ff"])
def test_require_clean_unusable_value_is_invalid_request(text):
    with pytest.raises(OAuthError) as problem:
        parse(text).require_clean()

    assert problem.value.reason == "unusable"


@pytest.mark.parametrize("text", ["a" * 70_000, "&".join(f"p{n}=1" for n in range(100))])
def test_a65_parse_too_much_is_invalid_request(text):
    with pytest.raises(OAuthError, match="too large"):
        parse(text)


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (Request("GET", "/token"), 405, "method"),
        (Request("PUT", "/token"), 405, "method"),
        (Request("POST", "/token", content_type="application/json", body=b"{}"), 400, "content_type"),
        (Request("POST", "/token"), 400, "content_type"),
        (
            Request("POST", "/token", content_type="application/x-www-form-urlencoded", body=b"x" * 70_000),
            400,
            "too_large",
        ),
    ],
)
def test_parse_form_wrong_request_is_refused(request_, status, reason):
    with pytest.raises(OAuthError) as problem:
        parse_form(request_)

    assert (problem.value.status, problem.value.reason) == (status, reason)


def test_parse_form_content_type_with_charset_is_read():
    request = Request(
        "POST", "/token", content_type="Application/X-WWW-Form-Urlencoded; charset=UTF-8", body=b"a=%D8%A8"
    )

    assert parse_form(request)["a"] == "ب"


@given(st.binary(max_size=300))
def test_parse_form_any_bytes_are_read_or_refused(body):
    try:
        parse_form(
            Request("POST", "/token", content_type="application/x-www-form-urlencoded", body=body)
        ).require_clean()
    except OAuthError as problem:
        assert problem.error == "invalid_request"


def test_words_keeps_the_order_and_drops_repetitions():
    assert words("b a  b c") == ("b", "a", "c")


# -- errors -----------------------------------------------------------------------------------------------


@pytest.mark.rules("rfc6749/5.2/characters")
def test_described_keeps_to_the_characters_that_the_standard_allows():
    text = described('a"b\\c\nd\u0628', "ref-1")

    assert text == "a?b?c?d? (reference ref-1)"


def test_error_response_invalid_client_names_the_scheme():
    response = error_response(InvalidClient("no"), "r")

    assert response.status == 401
    assert dict(response.headers)["WWW-Authenticate"].startswith("Basic ")
    assert dict(response.headers)["Cache-Control"] == "no-store"


@pytest.mark.rules("fapi/5.3.2.2/11", "core/16.22/no-307", "rfc6749/3.1.2/query-retained")
def test_redirect_adds_to_an_existing_query_and_uses_303():
    response = redirect("https://app.example/cb?a=1", {"state": "x y&z"})

    assert response.status == 303
    assert dict(response.headers)["Location"] == "https://app.example/cb?a=1&state=x+y%26z"


# -- PKCE -------------------------------------------------------------------------------------------------

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.mark.spec("RFC 7636", "B", "the example of the standard")
def test_challenge_of_the_standards_example():
    assert challenge_of(VERIFIER) == CHALLENGE


@pytest.mark.parametrize("verifier", ["short", "x" * 129, VERIFIER + " ", "é" * 43, VERIFIER + "\n"])
@pytest.mark.spec("RFC 7636", "4.1", "a verifier is 43 to 128 unreserved characters")
@pytest.mark.rules("rfc7636/4.6/verified")
def test_challenge_of_malformed_verifier_is_invalid_grant(verifier):
    with pytest.raises(OAuthError) as problem:
        challenge_of(verifier)

    assert problem.value.error == "invalid_grant"


def test_challenge_of_missing_verifier_is_invalid_request():
    with pytest.raises(OAuthError) as problem:
        challenge_of(None)

    assert problem.value.error == "invalid_request"


@pytest.mark.parametrize(
    ("challenge", "method"),
    [
        (None, "S256"),
        (None, None),
        (CHALLENGE, "plain"),
        (CHALLENGE, None),
        (CHALLENGE[:-1], "S256"),
        (CHALLENGE + "=", "S256"),
    ],
)
@pytest.mark.spec("RFC 9700", "2.1.1", "PKCE with S256 for every client")
def test_a06_check_challenge_anything_but_s256_is_refused(challenge, method):
    with pytest.raises(OAuthError) as problem:
        check_challenge(challenge, method)

    assert problem.value.error == "invalid_request"


# -- refresh tokens ---------------------------------------------------------------------------------------

KEY, SEED, FAMILY = b"k" * 32, b"s" * 32, UUID(int=77)


def test_refresh_token_is_genuine_and_says_where_it_stands():
    position = refresh_tokens.parse(refresh_tokens.build(KEY, SEED, FAMILY, 3))

    assert position is not None
    assert (position.family_id, position.number) == (FAMILY, 3)
    assert refresh_tokens.is_genuine(position, KEY, SEED)


@pytest.mark.parametrize(
    ("key", "seed"), [(b"x" * 32, SEED), (KEY, b"x" * 32)], ids=["other key", "other seed"]
)
def test_refresh_token_of_another_installation_or_family_is_not_genuine(key, seed):
    position = refresh_tokens.parse(refresh_tokens.build(KEY, SEED, FAMILY, 3))

    assert position is not None
    assert not refresh_tokens.is_genuine(position, key, seed)


def test_refresh_token_with_a_changed_number_is_not_genuine():
    mac = hmac.new(
        KEY, b"refresh-token\0" + SEED + FAMILY.bytes + (3).to_bytes(4, "big"), hashlib.sha256
    ).digest()
    position = refresh_tokens.Position(FAMILY, 4, mac)

    assert not refresh_tokens.is_genuine(position, KEY, SEED)


@pytest.mark.parametrize("text", ["", "rt_", "x" * 73, "rt_" + "!" * 70, "at_" + "A" * 70, "rt_" + "A" * 69])
def test_parse_anything_else_is_none(text):
    assert refresh_tokens.parse(text) is None


@given(st.text(max_size=90))
def test_parse_any_text_never_raises(text):
    refresh_tokens.parse(text)
