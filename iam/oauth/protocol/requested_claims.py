"""Read the `claims` parameter. Pure. Spec: OIDC Core §5.5.

A claim is released only if its scope is registered for the client; the person is shown it like a scope. What is not
known is left out, as the specification asks; what is not well formed is refused.
"""

from typing import Any

from .asked import RequestedClaim, RequestedClaims
from .bounded_json import BadJSON, read_json
from .claims import CLAIM_SCOPES
from .errors import OAuthError
from .messages import ClientFacts

SIZE_MAX = 4096
DEPTH_MAX = 5
# What is told of the sign-in itself. Their values are conditions, not wishes (OIDC Core §5.5.1, §5.5.1.1).
_OF_THE_SIGN_IN = ("sub", "acr", "auth_time", "amr")
_CONDITIONS = ("sub", "acr")
_VALUES_COUNT_MAX = 20
_VALUE_LENGTH_MAX = 255


def check_claims(text: str | None, client: ClientFacts) -> RequestedClaims:
    """Return the claims asked for, without those that are unknown or out of the client's reach.

    Raises: OAuthError invalid_request. Spec: OIDC Core §5.5 (members that are not understood are ignored).
    """
    if text is None:
        return RequestedClaims()
    try:
        given = read_json(text, size_max=SIZE_MAX, depth_max=DEPTH_MAX)
    except BadJSON as problem:
        raise _wrong(str(problem)) from problem
    if not isinstance(given, dict):
        raise _wrong("must be a JSON object")
    return RequestedClaims(_place(given, "id_token", client), _place(given, "userinfo", client))


def _place(given: dict[str, Any], place: str, client: ClientFacts) -> dict[str, RequestedClaim]:
    found = given.get(place)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _wrong(f"{place} must be an object")
    # Everything is judged, also what is then left out: a request is well formed or it is not.
    read = {_spelled(name): _claim(name, asked) for name, asked in found.items()}
    return {name: claim for name, claim in read.items() if _is_honoured(name, client)}


def _spelled(name: str) -> str:
    """Return a claim's name with its language tag as we write it: in any case, and without a region or script.

    Who asks for `name#ar-EG` is answered with `name#ar`, the nearest that there is. Spec: OIDC Core §5.2.
    """
    base, mark, tag = name.partition("#")
    return f"{base}{mark}{tag.partition('-')[0].lower()}" if mark else name


def _is_honoured(name: str, client: ClientFacts) -> bool:
    return name in _OF_THE_SIGN_IN or CLAIM_SCOPES.get(name) in client.scopes


def _claim(name: str, asked: Any) -> RequestedClaim:  # Any: JSON
    if asked is None:
        return RequestedClaim()
    if not isinstance(asked, dict):
        raise _wrong("asks for each claim with null or an object")
    essential = asked.get("essential", False)
    if not isinstance(essential, bool):
        raise _wrong("essential must be true or false")
    if "value" in asked and "values" in asked:
        raise _wrong("value and values exclude each other")
    values = asked["values"] if "values" in asked else [asked["value"]] if "value" in asked else []
    if not isinstance(values, list) or len(values) > _VALUES_COUNT_MAX:
        raise _wrong(f"values must be a list of at most {_VALUES_COUNT_MAX}")
    return RequestedClaim(essential, _conditions(name, values))


def _conditions(name: str, values: list[Any]) -> tuple[str, ...]:  # Any: JSON
    """Return the values that must be met; another claim is told as it is, whatever value was hoped for."""
    if name not in _CONDITIONS:
        return ()
    for value in values:
        if not isinstance(value, str) or not 0 < len(value) <= _VALUE_LENGTH_MAX:
            raise _wrong(f"asks for a value of {name} that is not a short text")
    return tuple(dict.fromkeys(values))


def _wrong(words: str) -> OAuthError:
    return OAuthError("invalid_request", f"The parameter claims {words}.", reason="claims")
