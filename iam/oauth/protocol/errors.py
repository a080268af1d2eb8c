"""Errors of the protocol: registered codes, the status and headers they travel with.

Spec: RFC 6749 §4.1.2.1, §5.2; RFC 6750 §3.1; OIDC Core §3.1.2.6.
"""

from .binding import DPOP_ALGORITHMS
from .messages import NO_STORE, Response, json_response

REALM = "Secretariat sign-in"


class OAuthError(Exception):
    """A refusal with a registered code. `description` is for the developer: one line, no internals, no secrets.

    `reason` is a stable word for the audit; it defaults to the code.
    """

    def __init__(self, error: str, description: str, *, status: int = 400, reason: str = "") -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status
        self.reason = reason or error


class InvalidClient(OAuthError):
    """Client authentication failed. Spec: RFC 6749 §5.2 (401, and the scheme that was tried)."""

    def __init__(self, description: str, *, reason: str = "invalid_client") -> None:
        super().__init__("invalid_client", description, status=401, reason=reason)


class BearerError(OAuthError):
    """A protected resource refuses a token; `scheme` is how it came. Spec: RFC 6750 §3, RFC 9449 §7.1."""

    def __init__(
        self, error: str, description: str, *, status: int = 400, scheme: str = "Bearer", reason: str = ""
    ) -> None:
        super().__init__(error, description, status=status, reason=reason)
        self.scheme = scheme


class Unshowable(Exception):
    """An authorization request that must not be answered by a redirect. Spec: RFC 6749 §4.1.2.1."""

    def __init__(
        self, error: str, description: str, *, client_id: str = "", status: int = 400, reason: str = ""
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.client_id = client_id
        self.reason = reason or error
        self.status = status


def error_response(problem: OAuthError, request_id: str) -> Response:
    """Build the JSON answer of the token, introspection and revocation endpoints.

    The reference number stands in the description, where every client library shows it. Spec: RFC 6749 §5.2.
    """
    headers = list(NO_STORE)
    if problem.status == 401:
        headers.append(("WWW-Authenticate", f'Basic realm="{REALM}", charset="UTF-8"'))
    if problem.status == 405:
        headers.append(("Allow", "POST"))
    value = {"error": problem.error, "error_description": described(problem.description, request_id)}
    return json_response(problem.status, value, tuple(headers))


def bearer_error_response(
    problem: OAuthError, request_id: str, scope: str = "", resource_metadata: str = ""
) -> Response:
    """Build the answer of a protected resource; `resource_metadata` is where it describes itself.

    Both schemes are offered, first the one that was used, which also says what was wrong.
    Spec: RFC 6750 §3 (no error code when no token was sent), RFC 9449 §7.1, RFC 9728 §5.1.
    """
    used = problem.scheme if isinstance(problem, BearerError) else "Bearer"
    own = {
        "Bearer": [f'realm="{REALM}"'],
        "DPoP": [f'realm="{REALM}"', f'algs="{" ".join(DPOP_ALGORITHMS)}"'],
    }
    if problem.error:
        own[used].append(f'error="{problem.error}"')
        own[used].append(f'error_description="{described(problem.description, request_id)}"')
    if scope:
        own[used].append(f'scope="{scope}"')
    if resource_metadata:
        for parts in own.values():
            parts.append(f'resource_metadata="{resource_metadata}"')
    challenges = [f"{scheme} {', '.join(own[scheme])}" for scheme in sorted(own, key=lambda one: one != used)]
    value = {"error": problem.error, "error_description": described(problem.description, request_id)}
    headers = [*NO_STORE, ("WWW-Authenticate", ", ".join(challenges))]
    if problem.status == 405:
        headers.append(("Allow", "GET, POST"))
    return json_response(problem.status, value if problem.error else {}, tuple(headers))


def described(description: str, request_id: str) -> str:
    """Add the reference number. Spec: RFC 6749 §5.2 (%x20-21 / %x23-5B / %x5D-7E only)."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in description)
    return f"{plain} (reference {request_id})" if request_id else plain
