"""Discovery and the key set. Spec: OIDC Discovery §4, RFC 8414 §3, RFC 7517 §5."""

from datetime import datetime

from iam.oauth.ports import State
from iam.oauth.protocol.key_ring import JWKS_CACHE
from iam.oauth.protocol.messages import Request, Response, json_response
from iam.oauth.protocol.metadata import build_metadata

# A client that caches longer would meet a new key too late; next keys are published a day before (key_ring.py).
METADATA_CACHE = (
    ("Cache-Control", f"public, max-age={int(JWKS_CACHE.total_seconds())}"),
    ("Access-Control-Allow-Origin", "*"),
)


def discovery(request: Request, state: State, now: datetime) -> Response:
    """Return what this provider can do."""
    return json_response(200, build_metadata(state.issuer, state.owned_scopes()), METADATA_CACHE)


def jwks(request: Request, state: State, now: datetime) -> Response:
    """Return the public keys."""
    return json_response(200, {"keys": [key.jwk() for key in state.published_keys()]}, METADATA_CACHE)
