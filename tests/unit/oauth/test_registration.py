"""Metadata of clients: what is taken, and what is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.registration import KNOWN, NOT_BUILT, check_metadata

GOOD = {"client_id": "app-1", "redirect_uris": ["https://app.example/cb"], "scope": "openid roles"}


@pytest.mark.rules("core/9/default")
def test_check_metadata_defaults_are_the_standards_and_the_houses():
    metadata = check_metadata(GOOD)

    assert metadata.grant_types == ("authorization_code",)
    assert metadata.token_endpoint_auth_method == "client_secret_basic"
    assert metadata.id_token_signed_response_alg == "ES256"
    assert (metadata.trusted, metadata.enabled, metadata.is_resource_server) == (False, True, False)


def test_check_metadata_names_with_an_underscore_are_comments():
    assert check_metadata({**GOOD, "_note": {"anything": 1}}) == check_metadata(GOOD)


@pytest.mark.parametrize("name", sorted(NOT_BUILT))
def test_check_metadata_not_built_name_is_refused_by_name(name):
    with pytest.raises(MetadataError, match=f"{name} is not built yet"):
        check_metadata({**GOOD, name: "x"})


def test_known_and_not_built_do_not_overlap():
    assert not KNOWN & NOT_BUILT


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"colour": "red"}, "colour"),
        ({"client_id": "a"}, "client_id"),
        ({"client_id": "a b c"}, "client_id"),
        ({"client_id": "0" * 40}, "person"),
        ({"client_id": 5}, "client_id"),
        ({"client_secret": "short"}, "client_secret"),
        ({"client_secret": "x" * 31}, "client_secret"),
        ({"client_secret": "x" * 40 + "\n"}, "client_secret"),
        ({"client_secret": "x" * 40, "token_endpoint_auth_method": "none"}, "client_secret"),
        ({"redirect_uris": []}, "redirect_uris"),
        ({"redirect_uris": "https://app.example/cb"}, "redirect_uris"),
        ({"redirect_uris": ["http://app.example/cb"]}, "https"),
        ({"redirect_uris": ["https://*.example/cb"]}, "wildcard"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "redirect_uris"),
        ({"post_logout_redirect_uris": ["//x"]}, "post_logout_redirect_uris"),
        ({"grant_types": ["password"]}, "grant_types"),
        ({"grant_types": ["implicit"]}, "grant_types"),
        ({"grant_types": ["refresh_token"]}, "authorization_code"),
        ({"grant_types": ["client_credentials"], "token_endpoint_auth_method": "none"}, "client_credentials"),
        ({"response_types": ["token"]}, "response_types"),
        ({"response_types": ["code", "code id_token"]}, "response_types"),
        ({"subject_type": "secret"}, "subject_type"),
        ({"application_type": "robot"}, "application_type"),
        ({"token_endpoint_auth_method": "client_secret_jwt"}, "token_endpoint_auth_method"),
        ({"id_token_signed_response_alg": "none"}, "id_token_signed_response_alg"),
        ({"id_token_signed_response_alg": "HS256"}, "id_token_signed_response_alg"),
        ({"scope": ["openid"]}, "scope"),
        ({"scope": 'a"b'}, "scope"),
        ({"default_max_age": -1}, "default_max_age"),
        ({"default_max_age": True}, "default_max_age"),
        ({"default_max_age": "300"}, "default_max_age"),
        ({"default_acr_values": ["gold"]}, "default_acr_values"),
        ({"trusted": "yes"}, "trusted"),
        ({"enabled": 1}, "enabled"),
        ({"resource_server": ["openid"]}, "openid"),
        ({"resource_server": "demo.read"}, "resource_server"),
        ({"client_name": "a\u202eb"}, "client_name"),
        ({"client_uri": "javascript:alert(1)"}, "client_uri"),
    ],
)
@pytest.mark.rules("rp-logout/3.1/registration", "core/2/no-none")
def test_check_metadata_wrong_value_is_refused_and_named(changes, word):
    with pytest.raises(MetadataError, match=word):
        check_metadata({**GOOD, **changes})


# -- how a client proves itself -----------------------------------------------------------------------------

EC = {
    "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}  # fmt: skip
SET = {"keys": [EC]}
SIGNS = {**GOOD, "token_endpoint_auth_method": "private_key_jwt", "jwks": SET}
SHOWS = {
    **GOOD, "token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": "CN=app,O=Secretariat",
}  # fmt: skip
OWN = {
    **GOOD,
    "token_endpoint_auth_method": "self_signed_tls_client_auth",
    "jwks_uri": "https://app.example/jwks",
}


@pytest.mark.parametrize(
    "metadata",
    [
        SIGNS,
        {**SIGNS, "token_endpoint_auth_signing_alg": "ES256"},
        {**GOOD, "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://app.example/jwks"},
        SHOWS,
        OWN,
        {**GOOD, "jwks": SET},
        {**GOOD, "jwks": SET, "client_secret": "x" * 40},
        {**SIGNS, "jwks_uri": ""},
        {**SIGNS, "jwks": {"keys": [EC, {"kty": "EC", "crv": "P-384", "x": "a", "y": "b"}, {"kty": "oct"}]}},
    ],
)
def test_check_metadata_proofs_that_fit_are_taken(metadata):
    checked = check_metadata(metadata)

    assert (len(checked.jwks), checked.jwks_uri) in {
        (1, ""),
        (0, "https://app.example/jwks"),
        (0, ""),
    }


@pytest.mark.parametrize(
    ("metadata", "word"),
    [
        ({**SIGNS, "jwks": None}, "needs jwks or jwks_uri"),
        ({**SIGNS, "jwks": {}}, "jwks: a key set"),
        ({**SIGNS, "jwks": {"keys": []}}, "no usable key"),
        ({**SIGNS, "jwks": [EC]}, "jwks: a key set"),
        ({**SIGNS, "jwks": {"keys": [{**EC, "d": "AAAA"}]}}, "private"),
        ({**SIGNS, "jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}}, "private or symmetric"),
        ({**SIGNS, "jwks": {"keys": [EC] * 21}}, "at most 20"),
        ({**SIGNS, "jwks": {"keys": [{**EC, "y": EC["x"]}]}}, "no usable key"),
        ({**SIGNS, "jwks": {"keys": [{**EC, "use": "enc"}]}}, "no key with which"),
        ({**SIGNS, "token_endpoint_auth_signing_alg": "PS256"}, "no key with which"),
        ({**SIGNS, "token_endpoint_auth_signing_alg": "none"}, "token_endpoint_auth_signing_alg"),
        ({**SIGNS, "token_endpoint_auth_signing_alg": "HS256"}, "token_endpoint_auth_signing_alg"),
        ({**SIGNS, "jwks_uri": "https://app.example/jwks"}, "exclude each other"),
        ({**SIGNS, "jwks": None, "jwks_uri": "http://app.example/jwks"}, "https"),
        ({**SIGNS, "jwks": None, "jwks_uri": "file:///etc/passwd"}, "jwks_uri"),
        ({**SIGNS, "jwks": None, "jwks_uri": "https://user@app.example/jwks"}, "jwks_uri"),
        ({**SIGNS, "jwks": None, "jwks_uri": 5}, "jwks_uri"),
        ({**SIGNS, "client_secret": "x" * 40}, "client_secret"),
        ({**SHOWS, "client_secret": "x" * 40}, "client_secret"),
        ({**OWN, "client_secret": "x" * 40}, "client_secret"),
        ({**GOOD, "token_endpoint_auth_signing_alg": "ES256"}, "is for token_endpoint_auth_method private_key_jwt"),
        ({**GOOD, "tls_client_auth_san_dns": "app.example"}, "is for token_endpoint_auth_method tls_client_auth"),
        ({**OWN, "tls_client_auth_san_dns": "app.example"}, "is for token_endpoint_auth_method tls_client_auth"),
        ({**OWN, "jwks_uri": ""}, "needs jwks or jwks_uri"),
        ({**SHOWS, "tls_client_auth_subject_dn": ""}, "exactly one"),
        ({**SHOWS, "tls_client_auth_san_dns": "app.example"}, "exactly one"),
        ({**SHOWS, "tls_client_auth_subject_dn": "app"}, "tls_client_auth_subject_dn"),
        ({**SHOWS, "tls_client_auth_subject_dn": "FAVOURITE=blue"}, "tls_client_auth_subject_dn"),
        *(
            ({**SHOWS, "tls_client_auth_subject_dn": "", f"tls_client_auth_san_{kind}": value}, f"san_{kind}")
            for kind, value in (
                ("dns", "*.example.org"), ("dns", "a b"), ("dns", "https://app.example"), ("ip", "10.0.0.0/8"),
                ("ip", "localhost"), ("uri", "app"), ("email", "app"), ("email", "@"),
            )
        ),
    ],
)  # fmt: skip
@pytest.mark.spec("RFC 8705", "2.1.2", "a tls_client_auth client registers exactly one subject field")
def test_check_metadata_proofs_that_do_not_fit_are_refused(metadata, word):
    with pytest.raises(MetadataError, match=word):
        check_metadata(metadata)


@pytest.mark.parametrize(
    ("given_value", "owned"),
    [(["demo.read"], ("demo.read",)), ({"scopes": ["demo.read"]}, ("demo.read",)), (True, ()), (False, ())],
)
def test_check_metadata_resource_server_in_its_forms(given_value, owned):
    metadata = check_metadata({**GOOD, "resource_server": given_value})

    assert (metadata.is_resource_server, metadata.owned_scopes) == (given_value is not False, owned)


def test_check_metadata_resource_server_true_owns_the_scopes_it_names():
    metadata = check_metadata({**GOOD, "scope": "openid demo.read", "resource_server": True})

    assert metadata.owned_scopes == ("demo.read",)


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_check_metadata_anything_but_an_object_is_refused(value):
    with pytest.raises(MetadataError):
        check_metadata(value)


@given(
    st.dictionaries(
        st.sampled_from(sorted(KNOWN)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=4,
        ),
        max_size=6,
    )
)
def test_check_metadata_any_values_are_taken_or_refused(values):
    try:
        check_metadata(values)
    except MetadataError as problem:
        assert str(problem)
