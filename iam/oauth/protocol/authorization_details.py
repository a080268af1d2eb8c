"""Read and compare `authorization_details`. Pure. Spec: RFC 9396 §2, §5, §6."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .audience import audience_of
from .bounded_json import BadJSON, canonical, read_json
from .detail_schema import Validator
from .errors import OAuthError
from .messages import ClientFacts

# They travel in the access token, whose header a resource server reads whole: common servers end at 8 KB.
SIZE_MAX = 4096
DEPTH_MAX = 8
COUNT_MAX = 10
# Signs that nobody sees, or that turn the direction of what is written: the consent page would show another text.
_DECEIVING = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]")

Detail = Mapping[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class DetailType:
    """A registered type: whose it is, how its objects look, and how people are told of it, by language."""

    name: str
    owner: ClientFacts
    validator: Validator
    descriptions: Mapping[str, str]
    # What to call a member, by its path ("creditor.name") and language.
    labels: Mapping[str, Mapping[str, str]]


FindType = Callable[[str], DetailType | None]


def check_details(text: str | None, client: ClientFacts, find: FindType) -> tuple[Detail, ...]:
    """Return the details asked for: of types registered for the client, each as its schema says.

    Raises: OAuthError invalid_authorization_details. Spec: RFC 9396 §5.
    """
    if text is None:
        return ()
    details = read_details(text)
    for number, detail in enumerate(details):
        _check(detail, client, find, f"authorization_details[{number}]")
    return details


def read_details(text: str) -> tuple[Detail, ...]:
    """Return a bounded list of objects that have a type.

    Raises: OAuthError invalid_authorization_details. Spec: RFC 9396 §2.
    """
    try:
        given = read_json(text, size_max=SIZE_MAX, depth_max=DEPTH_MAX)
    except BadJSON as problem:
        raise _wrong(f"authorization_details {problem}", "details_malformed") from problem
    if not isinstance(given, list) or not 0 < len(given) <= COUNT_MAX:
        raise _wrong(f"authorization_details must be a list of 1 to {COUNT_MAX} objects", "details_malformed")
    for detail in given:
        if not isinstance(detail, dict) or not isinstance(detail.get("type"), str):
            raise _wrong("authorization_details must hold objects that name their type", "details_malformed")
        if _is_deceiving(detail):
            raise _wrong("authorization_details has signs that cannot be shown", "details_deceiving")
    return tuple(given)


def _is_deceiving(value: Any) -> bool:  # Any: JSON; its depth is bounded
    if isinstance(value, str):
        return _DECEIVING.search(value) is not None
    if isinstance(value, dict):
        return any(_is_deceiving(name) or _is_deceiving(inner) for name, inner in value.items())
    return isinstance(value, list) and any(_is_deceiving(inner) for inner in value)


def _check(detail: Detail, client: ClientFacts, find: FindType, place: str) -> None:
    known = detail["type"] in client.options.authorization_details_types
    found = find(detail["type"]) if known else None
    if found is None:
        raise _wrong(f"{place}: this client may not ask for this type", "details_type")
    problem = found.validator.problem(detail)
    if problem:
        raise _wrong(f"{place}: {problem}", "details_schema")
    locations = detail.get("locations", [])
    if not isinstance(locations, list) or any(name != audience_of(found.owner) for name in locations):
        raise _wrong(f"{place}: locations must name the resource that owns the type", "details_locations")


def narrowed_details(granted: tuple[Detail, ...], text: str) -> tuple[Detail, ...]:
    """Return those of the granted details that a token request names, each exactly as it was granted.

    Raises: OAuthError invalid_authorization_details. Spec: RFC 9396 §6, §6.1 (what is less is for each type to say; no
    type says so here, so that only the same is the same).
    """
    known = {canonical(detail) for detail in granted}
    asked = read_details(text)
    if any(canonical(detail) not in known for detail in asked):
        raise _wrong("authorization_details were not granted so", "details_widened")
    return asked


def _wrong(words: str, reason: str) -> OAuthError:
    return OAuthError("invalid_authorization_details", f"{words}.", reason=reason)
