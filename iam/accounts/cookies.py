"""The service's own cookies: their names, and how they are set.

On https always `__Host-` and Secure; on an http loopback issuer neither, because a browser would drop them.
Names begin with `iam-`, so that they differ from those of applications on the same host name.
"""

import secrets
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse


def name_of(word: str) -> str:
    """Return the full name of a cookie of ours."""
    return f"{settings.IAM_COOKIE_PREFIX}{word}"


SESSION = name_of("session")
BROWSER = name_of("browser")

_TOKEN_LENGTH = 43


def _options() -> dict[str, Any]:  # Any: set_cookie's keyword arguments
    return {"secure": settings.IAM_HTTPS, "httponly": True, "samesite": "Lax", "path": "/"}


def set_session(response: HttpResponse, secret: str) -> None:
    """Give the browser the secret of its sign-in session, until it is closed."""
    response.set_cookie(SESSION, secret, **_options())


def end_session(response: HttpResponse) -> None:
    """Make the browser forget its sign-in session."""
    response.delete_cookie(SESSION, path="/", samesite="Lax")


def browser_of(request: HttpRequest) -> str:
    """Return the browser's random mark, a new one if it has none or sent something else."""
    mark = request.COOKIES.get(BROWSER, "")
    return mark if len(mark) == _TOKEN_LENGTH and mark.isascii() else secrets.token_urlsafe(32)


def set_browser(response: HttpResponse, mark: str) -> None:
    """Keep the browser's mark: parked requests are bound to it."""
    response.set_cookie(BROWSER, mark, **_options())
