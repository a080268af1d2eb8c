"""What the profiles ask of a registration, and of a client at work."""

from dataclasses import replace
from typing import Any

import pytest

from iam.oauth.protocol.arrival import Arrival, check_road
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.messages import ClientFacts, ResponseMode
from iam.oauth.protocol.options import ClientOptions
from iam.oauth.protocol.parameters import Parameters
from iam.oauth.protocol.profiles import missing
from iam.oauth.protocol.registration import ClientMetadata, check_metadata, read_metadata
from iam.oauth.protocol.response_mode import check_mode, mode_of_errors

JWKS = ({"kty": "EC"},)
HIGH_OPTIONS = ClientOptions(
    profile="high",
    token_endpoint_auth_signing_alg="ES256",
    require_signed_request_object=True,
    require_pushed_authorization_requests=True,
    dpop_bound_access_tokens=True,
)
PLAIN = check_metadata({"client_id": "app", "redirect_uris": ["https://app.example/cb"], "scope": "openid"})
GOOD = replace(PLAIN, token_endpoint_auth_method="private_key_jwt", jwks=JWKS, options=HIGH_OPTIONS)


def with_options(metadata: ClientMetadata, **changes: Any) -> ClientMetadata:
    return replace(metadata, options=replace(metadata.options, **changes))


def test_missing_client_that_holds_high_lacks_nothing() -> None:
    assert missing(GOOD, "high") == []
    assert missing(GOOD, "standard") == []


def test_missing_plain_client_holds_standard_and_is_told_all_that_high_asks() -> None:
    sentences = missing(PLAIN, "high")

    assert missing(PLAIN, "standard") == []
    assert len(sentences) == 5
    assert all(one[0].isupper() and one.endswith(".") for one in sentences)


@pytest.mark.spec("FAPI 2.0 Security Profile", "5.3.2.1", "what a high client must be")
@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        (replace(GOOD, token_endpoint_auth_method="none"), "public"),
        (replace(GOOD, token_endpoint_auth_method="client_secret_basic"), "client_secret_basic"),
        (replace(GOOD, token_endpoint_auth_method="client_secret_post"), "client_secret_post"),
        (with_options(GOOD, dpop_bound_access_tokens=False), "dpop_bound_access_tokens"),
        (with_options(GOOD, require_pushed_authorization_requests=False), "require_pushed"),
        (with_options(GOOD, require_signed_request_object=False), "require_signed_request_object"),
        (replace(GOOD, jwks=()), "jwks"),
        (replace(with_options(GOOD, require_signed_request_object=False), jwks=()), "jwks"),
        (replace(GOOD, id_token_signed_response_alg="RS256"), "id_token_signed_response_alg"),
        (with_options(GOOD, token_endpoint_auth_signing_alg="RS256"), "token_endpoint_auth_signing_alg"),
        (with_options(GOOD, request_object_signing_alg="RS256"), "request_object_signing_alg"),
        (with_options(GOOD, authorization_signed_response_alg="RS256"), "authorization_signed_response_alg"),
        (with_options(GOOD, userinfo_signed_response_alg="RS256"), "userinfo_signed_response_alg"),
        (with_options(GOOD, introspection_signed_response_alg="RS256"), "introspection_signed_response_alg"),
        (replace(GOOD, redirect_uris=("http://localhost/cb",)), "http://localhost/cb"),
        (replace(GOOD, redirect_uris=("org.example.app:/cb",)), "org.example.app"),
        (replace(GOOD, redirect_uris=("https://app.example/cb", "http://127.0.0.1.evil.example/cb")), "evil"),
        (replace(GOOD, grant_types=(*GOOD.grant_types, "urn:ietf:params:oauth:grant-type:device_code")), "device"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
@pytest.mark.rules("fapi/5.3.2.1/3", "fapi/5.3.2.1/6", "fapi/5.3.2.2/8", "fapi/5.3.2.1/4")
def test_missing_names_each_thing_that_high_forbids(metadata: ClientMetadata, word: str) -> None:
    assert any(word in sentence for sentence in missing(metadata, "high"))


@pytest.mark.parametrize(
    "metadata",
    [
        replace(GOOD, token_endpoint_auth_method="tls_client_auth"),
        replace(GOOD, token_endpoint_auth_method="self_signed_tls_client_auth"),
        with_options(GOOD, dpop_bound_access_tokens=False, tls_client_certificate_bound_access_tokens=True),
        replace(GOOD, jwks=(), jwks_uri="https://app.example/keys"),
        replace(GOOD, redirect_uris=("http://127.0.0.1/cb", "http://[::1]:8000/cb")),
        replace(GOOD, id_token_signed_response_alg="PS256"),
        replace(
            with_options(GOOD, require_signed_request_object=False, require_pushed_authorization_requests=False),
            grant_types=("client_credentials",), redirect_uris=(),
        ),
    ],
    ids=["mtls", "own certificate", "bound by mtls", "jwks_uri", "loopback", "PS256", "machine"],
)  # fmt: skip
def test_missing_other_ways_to_hold_high(metadata: ClientMetadata) -> None:
    assert missing(metadata, "high") == []


@pytest.mark.parametrize(
    "change", [{"require_signed_request_object": True}, {"request_object_signing_alg": "ES256"}]
)
def test_missing_signer_without_keys_does_not_even_hold_standard(change: dict[str, Any]) -> None:
    (sentence,) = missing(with_options(PLAIN, **change), "standard")

    assert "jwks" in sentence


def test_missing_unknown_profile_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown profile"):
        missing(PLAIN, "higher")


def test_check_metadata_refuses_what_the_profile_forbids_and_says_all_of_it() -> None:
    given = {
        "client_id": "app", "redirect_uris": ["https://app.example/cb"], "scope": "openid", "profile": "high",
    }  # fmt: skip

    with pytest.raises(MetadataError, match=r"profile high: .*dpop_bound_access_tokens.*require_pushed"):
        check_metadata(given)
    assert read_metadata(given).options.profile == "high"


# -- at work -----------------------------------------------------------------------------------------------------------

CLIENT = ClientFacts(
    pk=1, client_id="app", name="App", application=None, enabled=True, trusted=True, auth_method="private_key_jwt",
    secret_digest="", grant_types=frozenset({"authorization_code"}), redirect_uris=("https://app.example/cb",),
    post_logout_redirect_uris=(), scopes=frozenset({"openid"}), is_resource_server=False, owned_scopes=frozenset(),
    id_token_alg="ES256", default_max_age=None, default_acr_values=(), generation=0, options=HIGH_OPTIONS,
)  # fmt: skip
NOTHING = Parameters([])


@pytest.mark.spec("FAPI 2.0 Security Profile", "5.3.2.2", "pushed requests only")
@pytest.mark.parametrize(("pushed", "signed"), [(False, False), (True, False), (False, True)])
def test_check_road_of_a_high_client_is_pushed_and_signed(pushed: bool, signed: bool) -> None:
    check_road(CLIENT, Arrival(NOTHING, pushed=True, signed=True))
    with pytest.raises(OAuthError, match="invalid_request"):
        check_road(CLIENT, Arrival(NOTHING, pushed=pushed, signed=signed))


@pytest.mark.parametrize(
    ("pushed", "signed", "reason"), [(False, True, "not_pushed"), (True, False, "not_signed")]
)
def test_check_road_high_is_enough_whatever_else_a_row_says(pushed: bool, signed: bool, reason: str) -> None:
    """The profile closes the roads by itself: a row that somebody changed by hand opens none."""
    options = replace(
        HIGH_OPTIONS, require_pushed_authorization_requests=False, require_signed_request_object=False
    )

    with pytest.raises(OAuthError) as refused:
        check_road(replace(CLIENT, options=options), Arrival(NOTHING, pushed=pushed, signed=signed))

    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "client",
    [
        replace(CLIENT, auth_method="none"),
        replace(CLIENT, auth_method="client_secret_basic"),
        replace(CLIENT, options=replace(HIGH_OPTIONS, dpop_bound_access_tokens=False)),
    ],
    ids=["public", "secret", "unbound"],
)
def test_check_road_high_client_that_could_not_be_saved_so_gets_nothing(client: ClientFacts) -> None:
    with pytest.raises(OAuthError, match="unauthorized_client"):
        check_road(client, Arrival(NOTHING, pushed=True, signed=True))


@pytest.mark.spec("RFC 9101", "10.5", "require_signed_request_object")
def test_check_road_options_of_a_standard_client_close_roads_one_by_one() -> None:
    signs = replace(CLIENT, options=ClientOptions(require_signed_request_object=True))
    pushes = replace(CLIENT, options=ClientOptions(require_pushed_authorization_requests=True))

    check_road(signs, Arrival(NOTHING, signed=True))
    check_road(pushes, Arrival(NOTHING, pushed=True))
    check_road(replace(CLIENT, options=ClientOptions()), Arrival(NOTHING))
    for client in (signs, pushes):
        with pytest.raises(OAuthError, match="invalid_request"):
            check_road(client, Arrival(NOTHING))


@pytest.mark.spec("FAPI 2.0 Message Signing", "5.4.1", "signed answers")
@pytest.mark.parametrize("mode", [None, "query", "form_post"])
def test_check_mode_high_client_must_ask_for_a_signed_answer(mode: str | None) -> None:
    parameters = Parameters([("response_mode", mode)] if mode else [])

    with pytest.raises(OAuthError, match="response_mode=jwt"):
        check_mode(parameters, CLIENT, "https://app.example/cb")
    assert mode_of_errors(parameters, CLIENT, "https://app.example/cb") is ResponseMode.QUERY


def test_check_mode_high_client_gets_signed_errors() -> None:
    parameters = Parameters([("response_mode", "jwt")])

    assert mode_of_errors(parameters, CLIENT, "https://app.example/cb") is ResponseMode.JWT
