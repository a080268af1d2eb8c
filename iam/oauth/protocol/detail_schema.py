"""Judge and compile the JSON Schema of a type of authorization details. Pure.

A schema is written by an operator, and read with what anybody sends. So it is a small part of JSON Schema 2020-12: no
reference leaves it, none goes round in a circle, no pattern can be made slow, and a word that is not known is refused,
because a word with a typing error would let everything pass. Why so: docs/adr/0021. Spec: RFC 9396 §2, §5, §10.
"""

import re
from collections.abc import Mapping
from typing import Any, Protocol

from .bounded_json import BadJSON, canonical, require_bounds
from .fields import MetadataError

SCHEMA_SIZE_MAX = 16_384
SCHEMA_DEPTH_MAX = 30
# With every reference put in its place: what one value can cost.
SCHEMA_NODES_MAX = 500
DIALECT = "https://json-schema.org/draft/2020-12/schema"
FORMATS = ("date", "email", "ipv4", "ipv6", "uuid")

_ONE = ("items", "not")
_MANY = ("anyOf", "oneOf", "allOf")
_NAMED = ("properties", "$defs")
_WORDS = frozenset(
    {
        *_ONE, *_MANY, *_NAMED, "$schema", "$ref", "$comment", "title", "description", "examples", "type", "enum", "const",
        "required", "additionalProperties", "dependentRequired", "minProperties", "maxProperties", "minItems",
        "maxItems", "uniqueItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
        "minLength", "maxLength", "pattern", "format",
    }
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_REF = re.compile(r"#/\$defs/([A-Za-z0-9_.-]{1,64})", re.ASCII)
# A quantifier that can match in more than one way ({3} cannot), and how often at most: "" says without end.
_QUANTIFIER = re.compile(r"[*+?]|\{[0-9]*,([0-9]*)\}")
_REPEATED_MAX = 100
_PATTERN_LENGTH_MAX = 200

Schema = Mapping[str, Any]  # Any: JSON


class Validator(Protocol):
    """What a compiled schema can do."""

    def problem(self, value: Any) -> str:  # Any: JSON
        """Say where and by which word a value does not fit, "" when it does; never repeat what was sent."""


def compile_schema(name: str, schema: Schema) -> Validator:
    """Return the validator of a type whose schema was judged. The member `type` is the type's own name."""
    from jsonschema import (
        Draft202012Validator,
    )  # a tenth of a second, and most installations have no such type
    from referencing import Registry

    whole = {
        **schema,
        "properties": {**schema["properties"], "type": {"const": name}},
        "required": sorted({*schema.get("required", ()), "type"}),
    }
    # An empty registry finds nothing anywhere, so that nothing is ever fetched.
    validator = Draft202012Validator(
        whole, registry=Registry(), format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    return _Compiled(validator)


class _Compiled:
    def __init__(self, validator: Any) -> None:  # Any: jsonschema's own
        self._validator = validator

    def problem(self, value: Any) -> str:  # Any: JSON
        for error in self._validator.iter_errors(value):
            place = ".".join(str(step) for step in error.absolute_path)
            return f"{place[:80] or 'the object'} does not meet {error.validator}"
        return ""


def check_schema(schema: Any) -> Schema:  # Any: JSON from outside
    """Return a schema that may be used.

    Raises: MetadataError that names the place.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    if not isinstance(schema, dict) or schema.get("type") != "object" or "properties" not in schema:
        raise MetadataError('schema must be an object with "type": "object" and "properties"')
    try:
        require_bounds(schema, SCHEMA_DEPTH_MAX)
    except BadJSON as problem:
        raise MetadataError(f"schema {problem}") from problem
    if len(canonical(schema)) > SCHEMA_SIZE_MAX:
        raise MetadataError(f"schema is larger than {SCHEMA_SIZE_MAX} characters")
    if schema.get("$schema", DIALECT) != DIALECT:
        raise MetadataError(f"schema: $schema must be {DIALECT}")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as problem:
        raise MetadataError(f"schema is no JSON Schema: {str(problem).splitlines()[0][:200]}") from problem
    if "type" in schema["properties"]:
        raise MetadataError("schema: leave the property type out; it is always the type's name")
    definitions = schema.get("$defs", {})
    _check_words(schema, "schema")
    costs: dict[str, int] = {}
    total = _cost({**schema, "$defs": {}}, definitions, costs, ())
    if total > SCHEMA_NODES_MAX:
        raise MetadataError(f"schema has more than {SCHEMA_NODES_MAX} parts")
    return schema


def _check_words(schema: Any, place: str, *, is_top: bool = True) -> None:  # Any: JSON
    if isinstance(schema, bool):
        return
    unknown = sorted(set(schema) - _WORDS)
    if unknown:
        raise MetadataError(f"{place}: {unknown[0][:40]} is not allowed in a schema here")
    if "$defs" in schema and not is_top:
        raise MetadataError(f"{place}: $defs stands at the top only")
    if "properties" in schema and schema.get("additionalProperties") is not False:
        # RFC 9396 §5: a member that the type does not know must be refused.
        raise MetadataError(f'{place}: an object with properties needs "additionalProperties": false')
    if "additionalProperties" in schema and not isinstance(schema["additionalProperties"], bool):
        raise MetadataError(f"{place}: additionalProperties must be true or false")
    if "pattern" in schema:
        problem = _problem_with_pattern(schema["pattern"])
        if problem:
            raise MetadataError(f"{place}: pattern {problem}")
    if "format" in schema and schema["format"] not in FORMATS:
        raise MetadataError(f"{place}: format must be one of {', '.join(FORMATS)}")
    for inner, where in _parts(schema):
        _check_words(inner, f"{place}.{where}", is_top=False)


def _parts(schema: Schema) -> list[tuple[Any, str]]:  # Any: JSON
    """Return the schemas inside a schema, each with its place."""
    found = [(schema[word], word) for word in _ONE if word in schema]
    found += [(inner, f"{word}.{n}") for word in _MANY for n, inner in enumerate(schema.get(word, ()))]
    for word in _NAMED:
        for name, inner in schema.get(word, {}).items():
            if not _NAME.fullmatch(name):
                raise MetadataError(f"{word}: {name[:40]!r} must be letters, digits, '_', '.' and '-'")
            found.append((inner, name))
    return found


def _cost(schema: Any, definitions: Schema, known: dict[str, int], on_the_way: tuple[str, ...]) -> int:
    """Return how many schemas a value can meet. Raises: MetadataError for a reference that leads nowhere or round."""
    if isinstance(schema, bool):
        return 1
    total = 1 + sum(_cost(inner, definitions, known, on_the_way) for inner, _ in _parts(schema))
    if "$ref" in schema:
        target = _REF.fullmatch(schema["$ref"])
        name = target[1] if target else ""
        if name not in definitions:
            raise MetadataError("schema: $ref must name one of the schema's own $defs, as #/$defs/NAME")
        if name in on_the_way:
            raise MetadataError(f"schema: $ref goes round in a circle at {name}")
        if name not in known:
            known[name] = _cost(definitions[name], definitions, known, (*on_the_way, name))
        total += known[name]
    return min(total, SCHEMA_NODES_MAX + 1)


def _problem_with_pattern(pattern: str) -> str:
    """Say why a pattern could be slow, "" when it cannot.

    Without groups and alternatives, anchored at its beginning, with two quantifiers of which one is without end, it
    looks at each character of a bounded text a bounded number of times.
    """
    if len(pattern) > _PATTERN_LENGTH_MAX or not pattern.isascii():
        return f"must be at most {_PATTERN_LENGTH_MAX} ASCII characters"
    try:
        re.compile(pattern)
    except re.error:
        return "is no regular expression"
    # What stands between brackets, or after a backslash, is a character and no sign of the language.
    plain = re.sub(r"\[\^?\]?(?:\\.|[^\]\\])*\]", "C", re.sub(r"\\.", "C", pattern))
    if not plain.startswith("^"):
        return "must begin with ^"
    if "(" in plain or "|" in plain:
        return "must have no groups and no alternatives; use enum or anyOf"
    quantifiers = [(found[0], found[1] or "") for found in _QUANTIFIER.finditer(plain)]
    endless = [sign for sign, most in quantifiers if sign in "*+" or (sign != "?" and not most)]
    if len(quantifiers) > 2 or len(endless) > 1:
        return "must have at most two quantifiers, of which one may be without end"
    if any(most and int(most) > _REPEATED_MAX for _, most in quantifiers):
        return f"must repeat at most {_REPEATED_MAX} times, or without end"
    return ""
