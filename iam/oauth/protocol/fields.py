"""Judge one field of a client's metadata: right type, bounded, one of what is allowed. Pure."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from .redirects import problem_with


class MetadataError(Exception):
    """A client's metadata cannot be taken; the text names the field and says what to do."""


Values = Mapping[str, Any]  # Any: JSON from outside


def text(value: Values, name: str, length: int) -> str:
    """Return printable text of at most `length` characters; "" when it is not given."""
    found = value.get(name, "")
    if found is None:
        return ""
    if not isinstance(found, str) or len(found) > length or not (found == "" or found.isprintable()):
        raise MetadataError(f"{name} must be at most {length} printable characters")
    return found


def strings(value: Values, name: str, allowed: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return a list of at most 50 texts, each once; `allowed` bounds what they may be."""
    items = value.get(name, [])
    if (
        not isinstance(items, list)
        or not all(isinstance(item, str) and item for item in items)
        or len(items) > 50
    ):
        raise MetadataError(f"{name} must be a list of at most 50 texts")
    for item in items:
        if allowed is not None and item not in allowed:
            raise MetadataError(f"{name}: {item[:64]!r} is not one of {', '.join(allowed)}")
    return tuple(dict.fromkeys(items))


def one_of(value: Values, name: str, allowed: tuple[str, ...], default: str) -> str:
    """Return one of a few words."""
    item = value.get(name, default)
    if item not in allowed and item != default:
        raise MetadataError(f"{name}: {str(item)[:64]!r} is not one of {', '.join(allowed)}")
    return str(item)


def flag(value: Values, name: str, default: bool) -> bool:
    """Return true or false."""
    item = value.get(name, default)
    if not isinstance(item, bool):
        raise MetadataError(f"{name} must be true or false")
    return item


def seconds(value: Values, name: str) -> int | None:
    """Return a number of seconds up to a year, None when it is not given."""
    item = value.get(name)
    if item is None:
        return None
    if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= 31_536_000:
        raise MetadataError(f"{name} must be a number of seconds up to a year")
    return item


def number(value: Values, name: str, low: int, high: int, default: int) -> int:
    """Return a whole number within bounds."""
    item = value.get(name, default)
    if isinstance(item, bool) or not isinstance(item, int) or not low <= item <= high:
        raise MetadataError(f"{name} must be a whole number from {low} to {high}")
    return item


def page(value: Values, name: str) -> str:
    """Return the address of a page or of a machine: https, or a loopback address in development."""
    found = text(value, name, 2000)
    if found and (problem_with(found) or urlsplit(found).scheme not in {"https", "http"}):
        raise MetadataError(f"{name} must be an https address")
    return found
