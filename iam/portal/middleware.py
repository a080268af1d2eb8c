"""What every request gets: its facts, a language, and on the way out the headers of a page."""

import contextlib
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.shortcuts import render
from django.utils import translation

from iam.audit.facts import facts_from
from iam.login.language import settle_language
from iam.oauth.fastpath import NOT_A_PAGE

Handler = Callable[[HttpRequest], HttpResponse]

# A body that is refused unread is read all the same, up to here: a connection closed in the middle of sending
# loses the answer, and the person sees the browser's page instead of ours.
DRAINED_MAX = 2_097_152
_DRAIN_CHUNK = 65_536
_LENGTH = re.compile(r"[0-9]{1,9}", re.ASCII)
# Any other character in a host could end the directive and begin another.
_HOST_SOURCE = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", re.ASCII)


class RequestFactsMiddleware:
    """Number the request and find out where it came from. The number is ours: a client's could collide or mislead."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Set `request.facts`; tell the number, so that support can find it."""
        facts = facts_from(request.META)
        request.facts = facts  # type: ignore[attr-defined]
        response = self.get_response(request)
        _drain(request)
        response["X-Request-Id"] = facts.request_id
        return response


def _drain(request: HttpRequest) -> None:
    """Read and forget what is left of a large body."""
    length = request.META.get("CONTENT_LENGTH", "")
    if not _LENGTH.fullmatch(length) or not _DRAIN_CHUNK < int(length) <= DRAINED_MAX:
        return
    with contextlib.suppress(OSError):
        while request.read(_DRAIN_CHUNK):
            pass


class PageGZipMiddleware(GZipMiddleware):
    """Compress pages. An answer with a token in it is never compressed: its length would tell of its content (BREACH)."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Compress what a person reads."""
        if not response.get("Content-Type", "").startswith("text/html"):
            return response
        return super().process_response(request, response)


class LanguageMiddleware:
    """Choose a language by cookie and browser; pages that know the person or the request choose again (language.py)."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Activate the language for this request only, and say it in the answer."""
        before = translation.get_language()
        settle_language(request)
        try:
            response = self.get_response(request)
            if response.get("Content-Type", "").startswith("text/html"):
                response["Content-Language"] = translation.get_language() or settings.LANGUAGE_CODE
            return response
        finally:
            translation.activate(before) if before else translation.deactivate()


class PageHeadersMiddleware:
    """Say to the browser what a page of ours may do: nothing but be read and sent back to us.

    A view adds to `request.form_targets` where its forms may lead in the end: Chromium applies `form-action` to
    every redirect that follows a post (https://github.com/w3c/webappsec-csp/issues/8); to `request.frame_targets`
    what it frames, which only the signed-out page does.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Add the headers; an answer of the protocol keeps what its endpoint said."""
        request.form_targets = []  # type: ignore[attr-defined]
        request.frame_targets = []  # type: ignore[attr-defined]
        response = self.get_response(request)
        if response.status_code == HTTPStatus.METHOD_NOT_ALLOWED and not response.content:
            response = _explained(request, response["Allow"])
        if not response.get("Content-Type", "").startswith("text/html"):
            response.setdefault("Content-Security-Policy", NOT_A_PAGE)
            return response
        response["Content-Security-Policy"] = content_security_policy(
            request.form_targets,  # type: ignore[attr-defined]
            request.frame_targets,  # type: ignore[attr-defined]
        )
        response["Permissions-Policy"] = (
            "camera=(), geolocation=(), microphone=(), payment=(), usb=(), publickey-credentials-get=(self)"
        )
        response.setdefault("Cache-Control", "no-store")
        return response


def _explained(request: HttpRequest, allowed: str) -> HttpResponse:
    """Return a page for a method that an address does not take: Django answers with an empty one."""
    response = render(request, "portal/error.html", {"kind": "bad"}, status=HTTPStatus.METHOD_NOT_ALLOWED)
    response["Allow"] = allowed
    return response


def content_security_policy(targets: Sequence[str], frames: Sequence[str] = ()) -> str:
    """Return the policy of a page whose forms may end at, and that may frame, these addresses and no others."""
    sources = " ".join(dict.fromkeys(["'self'", *(form_source(target) for target in targets)]))
    framed = " ".join(dict.fromkeys(form_source(frame) for frame in frames))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"form-action {sources}; {f'frame-src {framed}; ' if framed else ''}frame-ancestors 'none'; base-uri 'none'"
    )


def form_source(uri: str) -> str:
    """Return the CSP source of a registered address: its origin, or its scheme where CSP cannot write the host.

    CSP has no form for an IPv6 literal nor for a private scheme's host. Spec: CSP3 §2.3.1 (host-source).
    """
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme not in {"http", "https"} or not _HOST_SOURCE.fullmatch(host):
        return f"{parts.scheme}:"
    return f"{parts.scheme}://{host}"
