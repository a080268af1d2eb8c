"""What our own protected resources say of themselves. Spec: RFC 9728."""

from datetime import datetime

from iam.oauth.ports import State
from iam.oauth.protocol.messages import Request, Response, json_response
from iam.oauth.protocol.resources import WELL_KNOWN, build_resource_metadata

from .metadata import METADATA_CACHE


def resource_metadata(request: Request, state: State, now: datetime) -> Response:
    """Describe the resource whose path follows the well-known one. Spec: RFC 9728 §3.1, §3.2."""
    document = build_resource_metadata(
        state.issuer, request.path.removeprefix(WELL_KNOWN), has_certificates=state.has_certificates
    )
    return json_response(200, document, METADATA_CACHE)
