"""Our own protected resources, and how each describes itself. Pure.

One row a resource: its path below the issuer, and the scopes that open something there. A token for any of them
has the issuer among its audiences. Spec: RFC 9728 §2, §3.
"""

from collections.abc import Mapping
from typing import Any

from .binding import DPOP_ALGORITHMS
from .claims import PERSON_SCOPES

WELL_KNOWN = "/.well-known/oauth-protected-resource"
RESOURCES: Mapping[str, tuple[str, ...]] = {
    "": PERSON_SCOPES,  # the service as a whole: what a client finds that knows nothing but the issuer
    "/userinfo": PERSON_SCOPES,
}
NAMES = {
    "resource_name": "Secretariat sign-in",
    "resource_name#fr": "Connexion du Secrétariat",
    "resource_name#ar": "تسجيل الدخول إلى الأمانة العامة",
}


def metadata_address(path: str) -> str:
    """Return where the resource at `path` describes itself. Spec: RFC 9728 §3 (the suffix goes before the path)."""
    return WELL_KNOWN + path


def build_resource_metadata(
    issuer: str, path: str, *, has_certificates: bool = False
) -> dict[str, Any]:  # Any: JSON
    """Return the metadata of one of our resources.

    Raises: KeyError for a path that is none. Spec: RFC 9728 §2, §3.3 (`resource` is exactly what the suffix was put into).
    """
    return {
        "resource": issuer + path,
        "authorization_servers": [issuer],
        "scopes_supported": list(RESOURCES[path]),
        "bearer_methods_supported": ["header", "body"],
        "dpop_signing_alg_values_supported": list(DPOP_ALGORITHMS),
        "tls_client_certificate_bound_access_tokens": has_certificates,
        **NAMES,
    }
