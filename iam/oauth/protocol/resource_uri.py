"""Judge the text that names a resource server. Pure. Spec: RFC 8707 §2, RFC 3986 §4.3."""

import re
from urllib.parse import urlsplit

RESOURCE_LENGTH_MAX = 512
# A scheme, then something that is not empty; only characters that a URI has, so no space and no '#'.
_ABSOLUTE_URI = re.compile(
    r"[a-z][a-z0-9+.-]*:[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+", re.ASCII | re.IGNORECASE
)


def problem_with_resource(uri: str) -> str:
    """Say in words why a text cannot name a resource, "" when it can. Spec: RFC 8707 §2."""
    if len(uri) > RESOURCE_LENGTH_MAX:
        return f"must have at most {RESOURCE_LENGTH_MAX} characters"
    if "#" in uri:
        return "must have no fragment"
    if not _ABSOLUTE_URI.fullmatch(uri):
        return "must be an absolute URI"
    try:
        parts = urlsplit(uri)
        if parts.scheme in {"http", "https"} and (not parts.hostname or "@" in parts.netloc):
            return "must name a host, and nobody's password"
    except ValueError:
        return "must be an absolute URI"
    return ""
