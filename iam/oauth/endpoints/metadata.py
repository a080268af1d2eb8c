"""Discovery and the key set. Spec: OIDC Discovery §4, RFC 8414 §3, RFC 7517 §5."""

from datetime import datetime

from iam.oauth.ports import State
from iam.oauth.protocol.messages import Request, Response, json_response
from iam.oauth.protocol.metadata import build_metadata

# A client that caches longer than this would meet a new key too late; "next" keys are published a day before.
METADATA_CACHE = (("Cache-Control", "public, max-age=300"), ("Access-Control-Allow-Origin", "*"))


def discovery(request: Request, state: State, now: datetime) -> Response:
    """Return what this provider can do."""
    return json_response(200, build_metadata(state.issuer, state.owned_scopes()), METADATA_CACHE)


def jwks(request: Request, state: State, now: datetime) -> Response:
    """Return the public keys."""
    return json_response(200, {"keys": [key.jwk() for key in state.published_keys()]}, METADATA_CACHE)
