"""The claims parameter: what is read, what is left out, what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol.asked import RequestedClaim, RequestedClaims
from iam.oauth.protocol.claims import CLAIM_SCOPES
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.requested_claims import check_claims

from .clients import client

APP = client()


@pytest.mark.spec("OIDC Core", "5.5", "claims asked for in either place, by null or an object")
@pytest.mark.rules("core/5.5.1/null-or-object")
def test_claims_known_ones_are_read():
    text = json.dumps(
        {
            "userinfo": {"name": None, "email": {"essential": True}, "locale": {"value": "fr"}},
            "id_token": {
                "acr": {"essential": True, "values": ["aal2", "aal1"]},
                "sub": {"value": "s"},
                "auth_time": None,
            },
        }
    )

    assert check_claims(text, APP) == RequestedClaims(
        id_token={
            "acr": RequestedClaim(essential=True, values=("aal2", "aal1")),
            "sub": RequestedClaim(values=("s",)),
            "auth_time": RequestedClaim(),
        },
        userinfo={
            "name": RequestedClaim(),
            "email": RequestedClaim(essential=True),
            "locale": RequestedClaim(),
        },
    )


@pytest.mark.parametrize("name", ["name#ar", "name#AR", "name#Ar", "name#ar-EG", "name#ar-Arab-SD"])
@pytest.mark.rules("core/5.2/tags-any-case", "core/5.2/tags-match")
def test_claims_language_tag_finds_the_nearest_name(name: str):
    asked = check_claims(json.dumps({"userinfo": {name: {"essential": True}}}), APP)

    assert asked.userinfo == {"name#ar": RequestedClaim(essential=True)}


@pytest.mark.parametrize("name", ["name#fr", "name#a", "name#", "email#ar", "Name#ar", "sub#ar"])
def test_claims_language_that_we_do_not_have_asks_for_nothing(name: str):
    assert check_claims(json.dumps({"userinfo": {name: None}}), APP) == RequestedClaims()


def test_claims_none_sent_asks_for_nothing():
    assert check_claims(None, APP) == RequestedClaims()


@pytest.mark.spec("OIDC Core", "5.5", "what is not understood is ignored")
@pytest.mark.parametrize(
    "value",
    [
        {}, {"userinfo": None}, {"verified_claims": {"a": 1}}, {"userinfo": {"phone_number": {"essential": True}}},
        {"userinfo": {"roles": None}}, {"id_token": {"name#fr": None, "NAME": None, "": None}},
    ],
    ids=["empty", "null", "other member", "unknown", "scope not registered", "other names"],
)  # fmt: skip
@pytest.mark.rules("core/5.5/unknown-members")
def test_claims_unknown_or_out_of_reach_are_left_out(value):
    assert check_claims(json.dumps(value), APP) == RequestedClaims()


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", '"name"', "{", '{"userinfo": []}', '{"userinfo": "name"}', '{"userinfo": {"name": true}}',
        '{"userinfo": {"name": "x"}}', '{"userinfo": {"name": {"essential": "yes"}}}',
        '{"userinfo": {"name": {"essential": 1}}}', '{"id_token": {"acr": {"values": "aal2"}}}',
        '{"id_token": {"acr": {"values": [1]}}}', '{"id_token": {"acr": {"value": null}}}',
        '{"id_token": {"acr": {"value": ""}}}', '{"id_token": {"sub": {"value": {"a": 1}}}}',
        '{"id_token": {"acr": {"value": "aal1", "values": ["aal2"]}}}', '{"id_token": {"acr": null, "acr": null}}',
        '{"userinfo": {"unknown": {"values": 3}}}', '{"id_token": {"x": {"y": {"z": {"w": 1}}}}}',
        json.dumps({"id_token": {"acr": {"values": [str(n) for n in range(21)]}}}),
        json.dumps({"id_token": {"sub": {"value": "s" * 256}}}),
        json.dumps({"userinfo": {f"claim{n}": None for n in range(400)}}),
        '{"userinfo": {"\\u0000": null}}',
    ],
)  # fmt: skip
@pytest.mark.rules("core/5.5.1/null-or-object")
def test_claims_not_well_formed_are_refused(text):
    with pytest.raises(OAuthError) as caught:
        check_claims(text, APP)

    assert (caught.value.error, caught.value.reason) == ("invalid_request", "claims")


names = st.sampled_from([*CLAIM_SCOPES, "sub", "acr", "auth_time", "amr", "phone_number"]) | st.text(
    max_size=5
)
members = st.none() | st.dictionaries(
    st.sampled_from(["essential", "value", "values", "other"]),
    st.booleans()
    | st.none()
    | st.text(max_size=5)
    | st.lists(st.text(max_size=5) | st.integers(), max_size=3),
    max_size=3,
)
requests = st.dictionaries(
    st.sampled_from(["id_token", "userinfo", "other"]),
    st.dictionaries(names, members, max_size=4) | st.integers(),
)


@given(requests, st.sets(st.sampled_from(["openid", "profile", "email", "roles"])))
def test_claims_whatever_is_sent_only_claims_of_registered_scopes_are_honoured(value, scopes):
    try:
        asked = check_claims(json.dumps(value), client(scopes=frozenset(scopes)))
    except OAuthError as problem:
        assert problem.error == "invalid_request"
        return
    for place in (asked.id_token, asked.userinfo):
        for name, claim in place.items():
            assert name in {"sub", "acr", "auth_time", "amr"} or CLAIM_SCOPES[name] in scopes
            assert name in {"sub", "acr"} or claim.values == ()
    assert RequestedClaims.from_json(json.loads(json.dumps(asked.as_json()))) == asked


@given(st.text(max_size=80))
def test_claims_any_text_is_read_or_refused(text):
    try:
        check_claims(text, APP)
    except OAuthError as problem:
        assert problem.error == "invalid_request"
        assert len(problem.description) < 200
