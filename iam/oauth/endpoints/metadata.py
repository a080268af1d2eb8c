"""Discovery and the key set. Spec: OIDC Discovery §4, RFC 8414 §3, RFC 7517 §5."""

from datetime import datetime

from iam.oauth.ports import State
from iam.oauth.protocol.key_ring import JWKS_CACHE
from iam.oauth.protocol.messages import Request, Response, json_response
from iam.oauth.protocol.metadata import build_metadata

Headers = tuple[tuple[str, str], ...]

# A client that caches longer would meet a new key too late; next keys are published a day before (key_ring.py).
METADATA_CACHE: Headers = (
    ("Cache-Control", f"public, max-age={int(JWKS_CACHE.total_seconds())}"),
    ("Access-Control-Allow-Origin", "*"),
)
# Not for caches that others share: each fetch by the application itself shall reach us.
_OWN_CACHE: Headers = (
    ("Cache-Control", METADATA_CACHE[0][1].replace("public", "private")),
    METADATA_CACHE[1],
)


def discovery(request: Request, state: State, now: datetime) -> Response:
    """Return what this provider can do."""
    return state.document("discovery", lambda: _discovery(state))


def jwks(request: Request, state: State, now: datetime) -> Response:
    """Return the public keys."""
    return state.document("jwks", lambda: _jwks(state))


def _discovery(state: State) -> Response:
    described = build_metadata(
        state.issuer,
        state.owned_scopes(),
        state.client_auth_methods(),
        state.detail_types(),
        has_certificates=state.has_certificates,
        certificate_address=state.certificate_address,
    )
    return json_response(200, described, METADATA_CACHE)


def _jwks(state: State, cache: Headers = METADATA_CACHE) -> Response:
    return json_response(200, {"keys": [key.jwk() for key in state.published_keys()]}, cache)


def client_jwks(request: Request, state: State, now: datetime) -> Response:
    """Return the same keys at a client's own address, and note which keys it has now.

    Only for clients with `dedicated_jwks`: whom we do not look at, we must not seem to know anything of.
    """
    client = state.client(request.path.rpartition("/")[2])
    if client is None or not client.enabled or not client.options.dedicated_jwks:
        text = "No client has a key set address of its own here; everybody's is /jwks."
        return json_response(404, {"error": "not_found", "error_description": text})
    if request.method == "GET":
        state.note_keys_fetched(client, frozenset(key.kid for key in state.published_keys()), now)
    return state.document("jwks of one", lambda: _jwks(state, _OWN_CACHE))
