"""Read JSON that somebody sent inside a parameter: bounded, without doubled names, fit for any database. Pure.

Spec: RFC 8259 §4 (names SHOULD be unique: two readers of one text must not see two things), RFC 7493 §2 (I-JSON).
"""

import json
import math
from typing import Any

from .text import UNUSABLE

# Beyond this, readers disagree about which number was meant. Spec: RFC 7493 §2.2.
_INTEGER_MAX = 2**53 - 1


class BadJSON(ValueError):
    """The text is not JSON that can be taken; the words are for the developer."""


def read_json(text: str, *, size_max: int, depth_max: int) -> Any:  # Any: JSON
    """Return what a text holds. Raises: BadJSON."""
    if len(text) > size_max:
        raise BadJSON(f"is longer than {size_max} characters")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_whole,
        )
    except BadJSON:
        raise
    except (ValueError, RecursionError) as problem:
        raise BadJSON("is not JSON") from problem
    require_bounds(value, depth_max)
    return value


def canonical(value: Any) -> str:  # Any: JSON
    """Return one text for one value. Compare these, not the values: to Python `true` equals 1."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:  # Any: JSON
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadJSON("has a name twice in one object")
    return found


def _no_number(text: str) -> Any:
    raise BadJSON(f"has {text}, which is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadJSON("has a number that is too large")
    return number


def _whole(text: str) -> int:
    if len(text) > 17 or abs(number := int(text)) > _INTEGER_MAX:
        raise BadJSON("has a number that is too large")
    return number or 0


def require_bounds(value: Any, depth_max: int) -> None:  # Any: JSON
    """Refuse a value that is nested too deep or has text that cannot be kept. Raises: BadJSON.

    It walks level by level, so that the depth of what was sent is never the depth of our stack.
    """
    level = [value]
    for _ in range(depth_max):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise BadJSON(f"is nested deeper than {depth_max}")


def _inside(value: Any) -> list[Any]:  # Any: JSON
    if isinstance(value, str) and UNUSABLE.search(value):
        raise BadJSON("has text that is not valid")
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []
