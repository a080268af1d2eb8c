"""Which schemas an operator may give to a type of authorization details, and what a compiled one says."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol.detail_schema import check_schema, compile_schema
from iam.oauth.protocol.fields import MetadataError

AMOUNT = {
    "type": "object",
    "properties": {"value": {"type": "string", "pattern": "^[0-9]{1,9}\\.[0-9]{2}$"}, "currency": {"enum": ["XOF", "EUR"]}},
    "required": ["value", "currency"],
    "additionalProperties": False,
}  # fmt: skip
PAYMENT = {
    "type": "object",
    "properties": {
        "amount": {"$ref": "#/$defs/amount"},
        "creditor": {"type": "string", "maxLength": 70},
        "iban": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$"},
        "on": {"type": "string", "format": "date"},
        "references": {"type": "array", "items": {"type": "string", "maxLength": 35}, "maxItems": 3},
    },
    "required": ["amount", "creditor"],
    "additionalProperties": False,
    "$defs": {"amount": AMOUNT},
}


def schema(**properties: object) -> dict:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def test_schema_of_a_payment_is_taken_and_compiled():
    validator = compile_schema("payment", check_schema(PAYMENT))
    payment = {"type": "payment", "amount": {"value": "10.00", "currency": "XOF"}, "creditor": "UNICEF"}

    assert validator.problem(payment) == ""
    assert validator.problem({**payment, "on": "2026-11-25", "iban": "NE58NE0380100100130305000268"}) == ""


@pytest.mark.spec("RFC 9396", "5", "unknown members, wrong types and missing members are refused")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "other"}, "type does not meet const"),
        ({"more": 1}, "the object does not meet additionalProperties"),
        ({"amount": {"value": "10.00"}}, "amount does not meet required"),
        (
            {"amount": {"value": "10.00", "currency": "XOF", "x": 1}},
            "amount does not meet additionalProperties",
        ),
        ({"amount": {"value": "-1.00", "currency": "XOF"}}, "amount.value does not meet pattern"),
        ({"amount": {"value": 10, "currency": "XOF"}}, "amount.value does not meet type"),
        ({"amount": None}, "amount does not meet type"),
        ({"on": "2026-13-01"}, "on does not meet format"),
        ({"references": ["a", "b", "c", "d"]}, "references does not meet maxItems"),
        ({"references": ["a", 1]}, "references.1 does not meet type"),
        ({"creditor": True}, "creditor does not meet type"),
    ],
)
def test_problem_names_the_place_and_the_word_and_repeats_nothing(changes, words):
    validator = compile_schema("payment", check_schema(PAYMENT))
    payment = {
        "type": "payment",
        "amount": {"value": "10.00", "currency": "XOF"},
        "creditor": "UNICEF",
        **changes,
    }

    assert validator.problem(payment) == words


def test_problem_of_an_object_without_type_is_told():
    assert compile_schema("t", check_schema(schema())).problem({}) == "the object does not meet required"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "object"), ([], "object"), (True, "object"), ({}, "object"), ({"type": "object"}, "object"),
        ({"type": "string", "properties": {}}, "object"),
        ({"type": "object", "properties": {}}, "additionalProperties"),
        ({"type": "object", "properties": {}, "additionalProperties": True}, "additionalProperties"),
        ({"type": "object", "properties": {}, "additionalProperties": {}}, "additionalProperties"),
        (schema(type={"type": "string"}), "leave the property type out"),
        (schema(a={"type": "strin"}), "no JSON Schema"),
        (schema(a={"type": "string", "maxLength": "9"}), "no JSON Schema"),
        (schema(a={"requird": ["b"]}), "requird is not allowed"),
        (schema(a={"type": "object", "properties": {"b": {}}}), "additionalProperties"),
        (schema(a={"items": {"unknown": 1}}), "unknown is not allowed"),
        (schema(a={"anyOf": [{}, {"const": 1, "x": 2}]}), "x is not allowed"),
        (schema(a={"$ref": "https://evil.example/schema"}), r"\$ref must name"),
        (schema(a={"$ref": "file:///etc/passwd"}), r"\$ref must name"),
        (schema(a={"$ref": "#"}), r"\$ref must name"),
        (schema(a={"$ref": "#/$defs/nothing"}), r"\$ref must name"),
        (schema(a={"$dynamicRef": "#x"}), "dynamicRef is not allowed"),
        (schema(a={"$id": "https://evil.example"}), "is not allowed"),
        ({**schema(a={"$ref": "#/$defs/x"}), "$defs": {"x": {"$ref": "#/$defs/x"}}}, "circle"),
        ({**schema(a={"$ref": "#/$defs/x"}), "$defs": {"x": {"items": {"$ref": "#/$defs/y"}}, "y": {"not": {"$ref": "#/$defs/x"}}}}, "circle"),
        (schema(a={"$defs": {"x": {}}}), r"\$defs stands at the top"),
        ({**schema(), "$schema": "http://json-schema.org/draft-07/schema#"}, r"\$schema must be"),
        (schema(a={"format": "uri"}), "format must be"),
        (schema(a={"format": "regex"}), "format must be"),
        (schema(**{"a b": {}}), "must be letters"),
        (schema(**{"\u202e": {}}), "must be letters"),
        ({**schema(), "description": "x" * 17_000}, "larger"),
        (schema(**{f"p{n}": {} for n in range(600)}), "parts"),
        (schema(a={"pattern": "[a-z]"}), "begin with"),
        (schema(a={"pattern": "^(a+)+$"}), "groups"),
        (schema(a={"pattern": "^a|b$"}), "alternatives"),
        (schema(a={"pattern": "^a*a*$"}), "quantifiers"),
        (schema(a={"pattern": "^a{2,}b+$"}), "quantifiers"),
        (schema(a={"pattern": "^a?a?a?$"}), "quantifiers"),
        (schema(a={"pattern": "^a{1,999}$"}), "repeat"),
        (schema(a={"pattern": "^[a-z"}), "JSON Schema|regular"),
        (schema(a={"pattern": "^" + "a" * 200}), "200"),
        (schema(a={"pattern": "^é$"}), "ASCII"),
    ],
)  # fmt: skip
def test_schema_that_cannot_be_trusted_is_refused_by_name(value, words):
    with pytest.raises(MetadataError, match=words):
        check_schema(value)


def test_schema_whose_references_multiply_is_refused():
    definitions = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)} | {"d30": {}}

    with pytest.raises(MetadataError, match="parts"):
        check_schema({**schema(a={"$ref": "#/$defs/d0"}), "$defs": definitions})


def test_schema_nested_beyond_all_bounds_is_refused():
    deep: dict = {}
    for _ in range(2000):
        deep = {"items": deep}

    with pytest.raises(MetadataError):
        check_schema(schema(a=deep))


@pytest.mark.parametrize(
    "pattern",
    ["^[A-Z0-9]{11,30}$", "^[^\\]|(]*$", "^\\(a\\|b\\)+$", "^[0-9]{4}-[0-9]{2}$", "^a*[b]{0,100}$", "^$"],
)
@pytest.mark.parametrize("text", ["a" * 4000, "A" * 4000, "(a|b" + ")" * 4000, "aab" * 1300, ""])
def test_pattern_that_is_allowed_is_never_slow(pattern, text):
    validator = compile_schema("t", check_schema(schema(a={"type": "string", "pattern": pattern})))

    started = time.process_time()
    validator.problem({"type": "t", "a": text})

    assert time.process_time() - started < 0.2


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
words = st.sampled_from(
    [
        "type",
        "properties",
        "additionalProperties",
        "items",
        "$ref",
        "$defs",
        "pattern",
        "anyOf",
        "enum",
        "required",
        "not",
    ]
)


@given(st.dictionaries(words, values, max_size=4))
def test_schema_whatever_it_is_is_taken_or_refused_and_never_breaks(value):
    try:
        checked = check_schema({"type": "object", "properties": {}, "additionalProperties": False, **value})
    except MetadataError:
        return
    assert isinstance(compile_schema("t", checked).problem({"type": "t"}), str)


@given(
    st.dictionaries(st.sampled_from(list(PAYMENT["properties"])) | st.text(max_size=5), values, max_size=5)
)
def test_problem_of_whatever_is_sent_is_a_short_text(value):
    problem = compile_schema("payment", PAYMENT).problem({"type": "payment", **value})

    assert len(problem) < 140
    assert problem != "" or set(value) <= {*PAYMENT["properties"], "type"}
