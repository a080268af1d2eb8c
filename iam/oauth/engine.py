"""The protocol engine: one request and what may be known go in, one answer comes out.

Free of Django, of the clock and of the network; both doors call nothing else.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from .endpoints import (
    authorize,
    device,
    introspect,
    logout,
    metadata,
    par,
    register,
    resource_metadata,
    revoke,
    token,
    userinfo,
)
from .endpoints.senders import PROVING, named_client
from .ports import State
from .protocol.dpop import nonce_at
from .protocol.errors import BearerError, OAuthError, Unshowable, bearer_error_response, error_response
from .protocol.messages import Answer, ErrorPage, Request, Response
from .protocol.resources import RESOURCES, metadata_address

Endpoint = Callable[[Request, State, datetime], Answer]

ENDPOINTS: dict[str, Endpoint] = {
    "/.well-known/openid-configuration": metadata.discovery,
    "/.well-known/oauth-authorization-server": metadata.discovery,
    "/jwks": metadata.jwks,
    "/par": par.push,
    "/authorize": authorize.authorize,
    "/token": token.token,
    "/device_authorization": device.device_authorization,
    "/userinfo": userinfo.userinfo,
    "/introspect": introspect.introspect,
    "/revoke": revoke.revoke,
    "/logout": logout.logout,
    register.ADDRESS: register.register,
    **{metadata_address(path): resource_metadata.resource_metadata for path in RESOURCES},
}

# Addresses that end in a client's name, as `/register/CLIENT_ID`: the part before the name, and who answers.
# The name is one segment, not empty.
NAMED: dict[str, Endpoint] = {
    f"{register.ADDRESS}/": register.manage,
    "/jwks/": metadata.client_jwks,
}


def endpoint_for(path: str) -> Endpoint | None:
    """Return who answers at a path, None when it is no address of the protocol."""
    endpoint = ENDPOINTS.get(path)
    if endpoint is None:
        before, slash, name = path.rpartition("/")
        endpoint = NAMED.get(before + slash) if name else None
    return endpoint


# These read, or write statements that stand for themselves (a `jti` used up, a request kept, a refusal recorded).
_ASKING = frozenset({"/userinfo", "/introspect", "/jwks", "/par"})
_MACHINE_GRANT = b"grant_type=client_credentials"
# These decide first and then write once, all that belongs together in one (`State.store`, presented.py); the first
# stores nothing.
_ONE_WRITE = frozenset({_MACHINE_GRANT, b"grant_type=authorization_code", b"grant_type=refresh_token"})
# What a client shows beside its request and is used up before anything is decided: given back if nothing can be signed.
_USED_UP = (b"client_assertion=", b"request_uri=")


def may_write(request: Request) -> bool:
    """Say whether a request needs a transaction around it: whether it may write more than once what belongs together.

    A parameter given twice is refused before any grant is asked, so the one that is seen here is the one that counts.
    """
    path = request.path
    if path in _ASKING or path.startswith(("/.well-known/", "/jwks/")):
        return False
    sent = request.body if request.method == "POST" else request.query.encode(errors="replace")
    if request.dpop or any(name in sent for name in _USED_UP):
        return not (path == "/token" and _MACHINE_GRANT in sent.split(b"&"))
    return path != "/authorize" and not (path == "/token" and _ONE_WRITE & set(sent.split(b"&")))


_AT_ONCE = frozenset({
    ("GET", "/.well-known/openid-configuration"), ("GET", "/.well-known/oauth-authorization-server"), ("GET", "/jwks"),
    ("HEAD", "/jwks"), ("POST", "/introspect"), ("GET", "/userinfo"), ("POST", "/userinfo"),
})  # fmt: skip


def may_know_at_once(method: str, path: str, body: bytes) -> bool:
    """Say whether a request is of a kind that memory often answers; whether it does, only asking tells."""
    if b"client_assertion" in body:  # it is used up in the database: its signature would be verified twice
        return False
    if path == "/token":
        return method == "POST" and _MACHINE_GRANT in body
    return (method, path) in _AT_ONCE


def handle(request: Request, state: State, now: datetime) -> Answer:
    """Answer one request to a protocol endpoint.

    In: `now` aware and UTC. Out: a Response to send as it is, an ErrorPage to render, or an Interaction
    to lead the person through. A refusal is an answer, never an exception: the caller commits what the
    refusal wrote (a replay's revocation, the audit). Raises: KeyError for a path that is no endpoint;
    SigningUnavailable when nothing can be signed: what was written is to be undone, so that a code is not
    used up for nothing, and the answer is `unavailable`.
    """
    endpoint = endpoint_for(request.path)
    if endpoint is None:
        raise KeyError(request.path)
    answer = _answer(endpoint, request, state, now)
    if request.dpop and request.path in PROVING and isinstance(answer, Response):
        nonce = ("DPoP-Nonce", nonce_at(state.nonce_key, now))
        return replace(answer, headers=(*answer.headers, nonce))
    return answer


def unavailable(path: str, request_id: str) -> Response | ErrorPage:
    """Return the answer when no key can sign; it denies, and says that trying again makes sense."""
    text = "The service cannot sign at present; try again in a few seconds."
    if path == "/authorize":
        return ErrorPage(503, "temporarily_unavailable", text)
    answer = error_response(OAuthError("temporarily_unavailable", text, status=503), request_id)
    return replace(answer, headers=(*answer.headers, ("Retry-After", "5")))


def _answer(endpoint: Endpoint, request: Request, state: State, now: datetime) -> Answer:
    try:
        return endpoint(request, state, now)
    except Unshowable as problem:
        state.tally(request.source, problem.client_id, problem.reason, now, request.request_id)
        return ErrorPage(problem.status, problem.error, problem.description, problem.client_id)
    except BearerError as problem:
        whose = named_client(request, state) if request.path in RESOURCES else ""
        state.tally(request.source, whose, problem.reason or "no_token", now, request.request_id)
        scope = "openid" if problem.status == 403 else ""
        return bearer_error_response(problem, request.request_id, scope, _metadata(request, state))
    except OAuthError as problem:
        if request.path == "/userinfo":  # a form that could not be read
            state.tally(request.source, "", problem.reason, now, request.request_id)
            return bearer_error_response(problem, request.request_id, "", _metadata(request, state))
        return error_response(problem, request.request_id)


def _metadata(request: Request, state: State) -> str:
    """Return where a protected resource of ours describes itself. Spec: RFC 9728 §5.1."""
    return state.issuer + metadata_address(request.path) if request.path in RESOURCES else ""
