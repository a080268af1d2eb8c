"""Read a request of the protocol from a WSGI environment: the one reader of both doors."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from iam.audit.facts import RequestFacts

from .protocol.messages import PARAMETERS_SIZE_MAX, Request
from .protocol.mtls import certificate_from_proxy

# What stands for a body that is too large: just too large itself, and nothing of what was sent.
TOO_LARGE = b"x" * (PARAMETERS_SIZE_MAX + 1)


def clock() -> datetime:
    """Return the instant of a request, aware and UTC; read here only, once a request."""
    return datetime.now(UTC)


def body_length(environment: Mapping[str, Any]) -> int:  # Any: a WSGI environment
    """Return how long the body says it is, 0 when it does not say."""
    try:
        return int(environment.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def read(
    environment: Mapping[str, Any], body: bytes, cookies: Mapping[str, str], facts: RequestFacts
) -> Request:  # Any: as above
    """Return the request as the engine knows it."""
    return Request(
        method=environment.get("REQUEST_METHOD", "").upper(),
        path=environment.get("PATH_INFO", ""),
        query=environment.get("QUERY_STRING", ""),
        body=body,
        content_type=environment.get("CONTENT_TYPE", ""),
        authorization=environment.get("HTTP_AUTHORIZATION", ""),
        cookies=cookies,
        source=facts.address,
        request_id=facts.request_id,
        dpop=environment.get("HTTP_DPOP", ""),
        accept=environment.get("HTTP_ACCEPT", ""),
        certificate=_certificate(environment),
    )


def _certificate(environment: Mapping[str, Any]) -> str:  # Any: as above
    header = environment.get(settings.IAM_CLIENT_CERTIFICATE_VARIABLE, "")
    if not header:
        return ""
    return certificate_from_proxy(environment.get("REMOTE_ADDR", ""), header, settings.IAM_TRUSTED_PROXIES)
