"""Find the parameters of an authorization request: in the address, in a signed object, or pushed before.

Whichever road they took, only those found at its end count; what stands beside them in the browser's address
is not looked at, because anybody could have put it there (A08). Spec: RFC 9126 §4, RFC 9101 §5, §6.3.
"""

import hashlib
from datetime import datetime

from iam.oauth.ports import State
from iam.oauth.protocol.arrival import Arrival
from iam.oauth.protocol.authorization import check_client, refuse_unclear
from iam.oauth.protocol.errors import OAuthError, Unshowable
from iam.oauth.protocol.messages import ClientFacts
from iam.oauth.protocol.parameters import Parameters
from iam.oauth.protocol.request_object import open_request_object

REQUEST_URI_PREFIX = "urn:ietf:params:oauth:request_uri:"


def pushed_digest(request_uri: str) -> str:
    """Return the digest under which a pushed request is kept; its name holds 256 random bits."""
    return hashlib.sha256(request_uri.encode()).hexdigest()


def arrived(outside: Parameters, state: State, now: datetime) -> Arrival:
    """Return the parameters that count, of those in the browser's address.

    Raises: Unshowable when nothing in the request says reliably where an answer may go.
    """
    refuse_unclear(outside, "client_id", "request", "request_uri")
    if "request" in outside:
        if "request_uri" in outside:  # RFC 9101 §5
            raise Unshowable("invalid_request", "Use request or request_uri, not both.")
        client = check_client(outside, state.client)
        try:
            return opened(outside["request"], client, state, now)
        except OAuthError as problem:
            raise Unshowable(
                problem.error, problem.description, client_id=client.client_id, reason=problem.reason
            ) from problem
    request_uri = outside.get("request_uri", "")
    if request_uri.startswith(REQUEST_URI_PREFIX):
        return _taken(request_uri, check_client(outside, state.client), state, now)
    return Arrival(outside)


def opened(token: str, client: ClientFacts, state: State, now: datetime) -> Arrival:
    """Return the parameters of a signed request object. Raises: OAuthError invalid_request_object."""
    parameters = open_request_object(
        token, client, lambda kid: state.client_keys(client, kid), state.issuer, now
    )
    return Arrival(parameters, signed=True)


def _taken(request_uri: str, client: ClientFacts, state: State, now: datetime) -> Arrival:
    """Take a pushed request away; unknown, used, expired and another client's look the same. Spec: RFC 9126 §7.3."""
    found = state.store.take_pushed(pushed_digest(request_uri), client, now)
    if found is None:
        raise Unshowable(
            "invalid_request_uri",
            "request_uri is unknown, was used before, or has expired.",
            client_id=client.client_id,
        )
    return restored(found)


def kept(arrival: Arrival) -> dict[str, object]:
    """Return a pushed request in a form that survives JSON; `restored` reads it back."""
    return {"parameters": arrival.parameters.pairs(), "signed": arrival.signed}


def restored(value: dict[str, object]) -> Arrival:
    """Read what `kept` wrote."""
    pairs = value["parameters"]
    if not isinstance(pairs, list):
        raise TypeError("a pushed request is kept as a list of pairs")
    parameters = Parameters([(str(name), str(text)) for name, text in pairs])
    return Arrival(parameters, pushed=True, signed=value["signed"] is True)
