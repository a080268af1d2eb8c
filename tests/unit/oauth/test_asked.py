"""What is asked beyond scopes survives being stored, whatever it is."""

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol.asked import NOTHING, Asked, RequestedClaim, RequestedClaims
from iam.oauth.protocol.messages import AuthorizationRequest

texts = st.text(max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
claims = st.dictionaries(
    texts, st.builds(RequestedClaim, st.booleans(), st.lists(texts, max_size=3).map(tuple)), max_size=3
)
anything = st.builds(
    Asked,
    resources=st.lists(texts, max_size=3).map(tuple),
    claims=st.builds(RequestedClaims, claims, claims),
    authorization_details=st.lists(st.dictionaries(texts, values, max_size=3), max_size=2).map(tuple),
    dpop_jkt=texts,
    cnf=st.dictionaries(texts, texts, max_size=1),
)


@given(anything)
def test_asked_whatever_it_is_survives_json(asked):
    assert Asked.from_json(json.loads(json.dumps(asked.as_json()))) == asked


@given(anything)
def test_authorization_request_keeps_what_was_asked_while_it_is_parked(asked):
    request = AuthorizationRequest(
        "app",
        "https://app.example/cb",
        ("openid",),
        datetime(2026, 11, 25, tzinfo=UTC),
        "c" * 43,
        asked=asked,
    )

    assert AuthorizationRequest.from_json(json.loads(json.dumps(request.as_json()))) == request


def test_asked_nothing_is_an_empty_object():
    assert NOTHING.as_json() == {}
    assert Asked.from_json({}) == NOTHING


def test_authorization_request_parked_before_there_was_anything_asked_asks_for_nothing():
    request = AuthorizationRequest(
        "app", "https://app.example/cb", ("openid",), datetime(2026, 11, 25, tzinfo=UTC), "c" * 43
    )
    parked = request.as_json()
    del parked["asked"]

    assert AuthorizationRequest.from_json(parked) == request
