"""JSON inside a parameter: what is taken, what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol.bounded_json import BadJSON, canonical, read_json
from iam.oauth.protocol.text import UNUSABLE


def read(text, size_max=4000, depth_max=6):
    return read_json(text, size_max=size_max, depth_max=depth_max)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "{'a':1}", "[1,]", "nul", "{}{}", '{"a":1,"a":2}', '{"a":{"b":1,"b":1}}', "NaN", "[Infinity]",
        "[-Infinity]", "[1e999]", "[9007199254740992]", "[-9007199254740992]", "1" * 3000, '["\\u0000"]',
        '{"\\u0000":1}', '["\\ud800"]', '["\ufffd"]', '["\x00"]', '["\n"]', "[[[[[[1]]]]]]", '{"a":{"a":{"a":{"a":{"a":{"a":1}}}}}}',
        "[" * 1999 + "]" * 1999, '[{"a":' * 600, "a" * 4001,
    ],
)  # fmt: skip
def test_read_json_what_is_doubled_huge_deep_or_no_json_is_refused(text):
    with pytest.raises(BadJSON):
        read(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None), ("[]", []), ("[[[[[]]]]]", [[[[[]]]]]), ('{"a":[true,1.5,"\\u0627"]}', {"a": [True, 1.5, "ا"]}),
        ("[9007199254740991]", [9007199254740991]), ("-0", 0),
    ],
)  # fmt: skip
def test_read_json_what_is_bounded_is_returned(text, value):
    assert read(text) == value


@given(st.text(max_size=60) | st.text(alphabet='{}[]",:01e-\\u"ntrf ', max_size=60))
def test_read_json_whatever_is_sent_is_a_value_or_bad_json(text):
    try:
        value = read(text)
    except BadJSON:
        return
    again = json.dumps(value)
    assert not UNUSABLE.search(again)
    assert read(again) == value


@pytest.mark.parametrize(("one", "other"), [({"a": True}, {"a": 1}), ([0], [False]), ({"a": 1}, {"a": "1"})])
def test_canonical_what_is_not_the_same_json_is_not_the_same_text(one, other):
    assert canonical(one) != canonical(other)


def test_canonical_order_of_names_does_not_matter():
    assert canonical({"a": 1, "b": {"c": 2, "d": 3}}) == canonical({"b": {"d": 3, "c": 2}, "a": 1})
