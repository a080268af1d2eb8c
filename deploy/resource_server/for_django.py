"""Guard views of a Django application, ordinary ones and asynchronous ones; remember proofs in Django's cache."""

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import quote

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.cache import BaseCache
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from .challenge import Challenge
from .for_wsgi import PATH_SAFE
from .proofs import read_certificate
from .tokens import Token
from .verifier import NOTHING, Needs, Verifier

View = Callable[..., Any]  # Any: a view's own arguments


class Guard:
    """Makes decorators for views. A guarded view finds the verified token at `request.token`.

    It is exempt from CSRF checks: what lets the request in is a header that no browser sends by itself.
    """

    def __init__(self, verifier: Verifier, *, prefix: str = "", certificate_header: str = "") -> None:
        """Take what `for_wsgi.Guard` takes."""
        self._verifier, self._prefix, self._certificate = verifier, prefix, certificate_header

    def __call__(self, needs: Needs = NOTHING) -> Callable[[View], View]:
        """Return a decorator: `@guard(Needs(scopes=("letters.read",)))`."""

        def decorate(view: View) -> View:
            @wraps(view)
            def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
                try:
                    request.token = self.verify(request, needs)  # type: ignore[attr-defined]
                except Challenge as refused:
                    return response_of(refused)
                answer: HttpResponseBase = view(request, *args, **kwargs)
                return answer

            @wraps(view)
            async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
                try:
                    request.token = await sync_to_async(self.verify)(request, needs)  # type: ignore[attr-defined]
                except Challenge as refused:
                    return response_of(refused)
                answer: HttpResponseBase = await view(request, *args, **kwargs)
                return answer

            chosen: View = guarded_async if iscoroutinefunction(view) else guarded
            return csrf_exempt(chosen)

        return decorate

    def verify(self, request: HttpRequest, needs: Needs = NOTHING) -> Token:
        """Return the token of a request. Raises: Challenge, which ChallengeMiddleware turns into an answer."""
        return self._verifier.verify(
            request.headers.get("Authorization", ""),
            request.method or "",
            self._verifier.origin + self._prefix + quote(request.path, safe=PATH_SAFE),
            request.headers.get("DPoP", ""),
            read_certificate(request.headers.get(self._certificate, "")) if self._certificate else b"",
            needs,
        )

    def metadata(self, request: HttpRequest) -> HttpResponse:
        """Answer at the verifier's `metadata_path`: `path(verifier.metadata_path.lstrip("/"), guard.metadata)`."""
        response = JsonResponse(self._verifier.metadata())
        response["Cache-Control"] = "max-age=300"
        return response


class ChallengeMiddleware:
    """For views that call `guard.verify` themselves, because what they need depends on the request."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        """As Django makes a middleware."""
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Let the request pass."""
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer a refusal; leave everything else alone."""
        return response_of(exception) if isinstance(exception, Challenge) else None


def response_of(refused: Challenge) -> HttpResponse:
    """Return a refusal as Django's answer."""
    response = HttpResponse(refused.body, status=refused.status)
    challenges = []
    for name, value in refused.headers:
        if name == "WWW-Authenticate":
            challenges.append(value)
        else:
            response[name] = value
    if challenges:
        response["WWW-Authenticate"] = ", ".join(challenges)  # one header for several (RFC 9110 §11.6.1)
    return response


class CacheReplayStore:
    """Remembers used proofs in a Django cache that all processes share (Redis, Memcached or the database; not local memory)."""

    def __init__(self, cache: BaseCache, prefix: str = "dpop:") -> None:
        """Use `cache`; its `add` is one step for all that share it."""
        self._cache, self._prefix = cache, prefix

    def use(self, identifier: str, seconds: float) -> bool:
        """See ReplayStore."""
        name = self._prefix + hashlib.sha256(identifier.encode()).hexdigest()
        return bool(self._cache.add(name, True, timeout=int(seconds) + 1))
