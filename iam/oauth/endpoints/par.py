"""Pushed authorization requests: the client sends its request itself and gives the browser only its name.

Spec: RFC 9126.
"""

import secrets
from dataclasses import replace
from datetime import datetime, timedelta

from iam.oauth.ports import State
from iam.oauth.protocol.arrival import Arrival
from iam.oauth.protocol.authorization import check_target
from iam.oauth.protocol.errors import OAuthError, Unshowable
from iam.oauth.protocol.messages import ClientFacts, Request, Response, json_response
from iam.oauth.protocol.parameters import Parameters

from .arrival import REQUEST_URI_PREFIX, kept, opened, pushed_digest
from .authorize import check
from .clients import authenticated_client, refusals_recorded
from .senders import proved_key

# Time to send the browser on, not to sign in. FAPI 2.0 §5.3.2.2 asks for less than 600 s.
PUSHED_LIFE = timedelta(seconds=90)
# What says who the client is, and is no part of its request.
_OF_THE_CLIENT = frozenset({"client_secret", "client_assertion", "client_assertion_type"})


def push(request: Request, state: State, now: datetime) -> Response:
    """Check a request as the authorization endpoint would, and keep it under a name that works once.

    Raises: OAuthError. Spec: RFC 9126 §2.1, §2.2, §2.3.
    """
    try:
        client, form = authenticated_client(request, state, now)
    except OAuthError as problem:
        if problem.reason == "too_large":
            problem.status = 413
        raise
    with refusals_recorded(request, state, client, "client:request:push", now):
        form.require_clean()
        arrival = _sent(form, client, state, now)
        if request.dpop:
            arrival = _bound(arrival, proved_key(request, state, client, now))
        try:
            target = check_target(arrival.parameters, state.client)
        except Unshowable as problem:
            raise OAuthError(problem.error, problem.description, reason=problem.reason) from problem
        check(arrival, target, state, now)
    request_uri = REQUEST_URI_PREFIX + secrets.token_urlsafe(32)
    state.store.push_request(pushed_digest(request_uri), client, kept(arrival), now + PUSHED_LIFE)
    return json_response(201, {"request_uri": request_uri, "expires_in": int(PUSHED_LIFE.total_seconds())})


def _sent(form: Parameters, client: ClientFacts, state: State, now: datetime) -> Arrival:
    """Return the request without what proves who sent it. Spec: RFC 9126 §2.1, §3.

    Raises: OAuthError invalid_request, invalid_request_object.
    """
    if "request_uri" in form:
        raise OAuthError("invalid_request", "request_uri cannot be pushed.", reason="request_uri")
    if "request" in form:
        return replace(opened(form["request"], client, state, now), pushed=True)
    pairs = [pair for pair in form.pairs() if pair[0] not in {"client_id", *_OF_THE_CLIENT}]
    return Arrival(Parameters([("client_id", client.client_id), *pairs]), pushed=True)


def _bound(arrival: Arrival, jkt: str) -> Arrival:
    """Bind the code to the key that was proved while pushing.

    Raises: OAuthError invalid_request when the request names another one. Spec: RFC 9449 §10.1.
    """
    named = arrival.parameters.get("dpop_jkt")
    if named is None:
        return replace(arrival, parameters=Parameters([*arrival.parameters.pairs(), ("dpop_jkt", jkt)]))
    if named != jkt:
        raise OAuthError("invalid_request", "dpop_jkt is not the key of the DPoP proof.", reason="dpop_jkt")
    return arrival
