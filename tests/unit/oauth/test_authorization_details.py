"""Authorization details: what is read, what is refused, what is less."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol.authorization_details import DetailType, check_details, narrowed_details
from iam.oauth.protocol.detail_schema import compile_schema
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.options import STANDARD

from .clients import client
from .test_detail_schema import PAYMENT

LEDGER = client(
    pk=2, client_id="ledger", is_resource_server=True, options=replace(STANDARD, resource_uri="urn:ledger")
)
TYPES = {
    "payment": DetailType("payment", LEDGER, compile_schema("payment", PAYMENT), {}, {}),
    "file": DetailType(
        "file",
        LEDGER,
        compile_schema(
            "file", {"properties": {"locations": {"type": "array"}}, "additionalProperties": False}
        ),
        {},
        {},
    ),
    "any": DetailType("any", LEDGER, compile_schema("any", {"properties": {}}), {}, {}),
    "unregistered": DetailType(
        "unregistered", LEDGER, compile_schema("unregistered", {"properties": {}}), {}, {}
    ),
}
APP = client(options=replace(STANDARD, authorization_details_types=("payment", "file", "any", "gone")))
TEN = {"type": "payment", "amount": {"value": "10.00", "currency": "XOF"}, "creditor": "A"}
FOUR = {**TEN, "amount": {"value": "4.00", "currency": "XOF"}}


def check(value, who=APP):
    return check_details(value if isinstance(value, str) else json.dumps(value), who, TYPES.get)


def test_details_of_registered_types_are_returned_as_sent():
    assert check([TEN, FOUR, TEN]) == (TEN, FOUR, TEN)
    assert check_details(None, APP, TYPES.get) == ()


@pytest.mark.spec("RFC 9396", "5", "invalid_authorization_details")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "details_malformed"), ("{}", "details_malformed"), ("[]", "details_malformed"), ("[", "details_malformed"),
        ("null", "details_malformed"), ('["payment"]', "details_malformed"), ("[{}]", "details_malformed"),
        ([{"type": 1}], "details_malformed"), ([{"type": None}], "details_malformed"), ([{"type": ["payment"]}], "details_malformed"),
        ([TEN] * 11, "details_malformed"), ('[{"type":"any","type":"payment"}]', "details_malformed"),
        ([{"type": "any", "a": "x" * 5000}], "details_malformed"), ('[{"type":"any","a":NaN}]', "details_malformed"),
        ([{"type": "any", "a": [[[[[[[1]]]]]]]}], "details_malformed"), ('[{"type":"any","a":"\\u0000"}]', "details_malformed"),
        ([{"type": "nothing"}], "details_type"), ([{"type": "gone"}], "details_type"), ([{"type": ""}], "details_type"),
        ([{"type": "unregistered"}], "details_type"), ([{"type": "Payment"}], "details_type"),
        ([TEN, {"type": "unregistered"}], "details_type"),
        ([{**TEN, "more": 1}], "details_schema"), ([{"type": "payment"}], "details_schema"),
        ([{**TEN, "creditor": "UNICEF\u202e00.1"}], "details_deceiving"), ([{"type": "any", "\u2066": 1}], "details_deceiving"),
        ([{"type": "any", "a": [["\x07"]]}], "details_deceiving"), ([{"type": "any", "a": "two\nlines"}], "details_deceiving"),
        ([{"type": "file", "locations": ["https://evil.example"]}], "details_locations"),
        ([{"type": "file", "locations": ["ledger"]}], "details_locations"),
        ([{"type": "any", "locations": "urn:ledger"}], "details_locations"),
        ([{"type": "any", "locations": {"urn:ledger": 1}}], "details_locations"),
    ],
)  # fmt: skip
def test_details_that_are_not_what_a_type_says_are_refused(value, reason):
    with pytest.raises(OAuthError) as caught:
        check(value)

    assert (caught.value.error, caught.value.reason) == ("invalid_authorization_details", reason)
    assert len(caught.value.description) < 220


def test_details_location_of_the_owner_is_taken():
    assert check([{"type": "file", "locations": ["urn:ledger"]}])


def test_details_writing_of_every_script_is_taken():
    names = ["اليونيسف", "می‌خواهم", "Société générale", "中文", "👩‍🚒"]

    assert len(check([{"type": "any", "a": names}])) == 1


def test_details_client_without_types_may_ask_for_none():
    with pytest.raises(OAuthError):
        check([TEN], client())


@pytest.mark.spec("RFC 9396", "6", "a token request names some of the details granted")
@pytest.mark.parametrize("asked", [[TEN], [FOUR], [FOUR, TEN], [TEN, TEN]])
def test_narrowed_details_are_some_of_those_granted(asked):
    assert narrowed_details((TEN, FOUR), json.dumps(asked)) == tuple(asked)


@pytest.mark.spec("RFC 9396", "6.1", "nothing beyond what was granted")
@pytest.mark.parametrize(
    "asked",
    [
        [{**TEN, "amount": {"value": "1.00", "currency": "XOF"}}], [TEN, {**FOUR, "creditor": "B"}],
        [{k: v for k, v in TEN.items() if k != "creditor"}], [{"type": "payment"}], [{**TEN, "type": "any"}],
    ],
)  # fmt: skip
def test_narrowed_details_another_is_refused_even_if_it_seems_less(asked):
    with pytest.raises(OAuthError) as caught:
        narrowed_details((TEN, FOUR), json.dumps(asked))

    assert caught.value.reason == "details_widened"


def test_narrowed_details_true_is_not_one():
    with pytest.raises(OAuthError):
        narrowed_details(({"type": "any", "a": 1},), '[{"type":"any","a":true}]')


texts = st.text(max_size=60) | st.text(alphabet='[]{}":,typeaymn01\\u', max_size=60)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "amount", "creditor", "locations", "a"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)
typed = st.builds(
    lambda name, more: {**more, "type": name},
    st.sampled_from([*TYPES, "gone", "x"]),
    st.dictionaries(st.sampled_from(["amount", "creditor", "locations", "a"]), json_values, max_size=3),
)


@given(texts | json_values.map(json.dumps) | st.lists(typed, max_size=3).map(json.dumps))
def test_fuzz_details_whatever_is_sent_is_as_its_type_says_or_refused(text):
    try:
        details = check(text)
    except OAuthError as problem:
        assert problem.error == "invalid_authorization_details"
        return
    assert details
    for detail in details:
        assert detail["type"] in {"payment", "file", "any"}
        assert TYPES[detail["type"]].validator.problem(detail) == ""
    assert list(details) == json.loads(text)
    assert narrowed_details(details, text) == details
