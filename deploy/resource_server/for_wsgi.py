"""Guard a WSGI application: every request below it brings a good token, or is answered with a challenge. Spec: PEP 3333."""

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from .challenge import Challenge
from .proofs import read_certificate
from .verifier import NOTHING, Needs, Verifier

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

TOKEN = "resource_server.token"  # noqa: S105 -- the name under which the application finds it
# What may stand in a path as it is; the rest is escaped again as the client sent it. Spec: RFC 3986 §3.3.
PATH_SAFE = "/-._~!$&'()*+,;=:@"


class Guard:
    """A WSGI middleware. The application finds the verified token at `environ[TOKEN]`."""

    def __init__(
        self,
        application: "WSGIApplication",
        verifier: Verifier,
        needs: Needs | Callable[["WSGIEnvironment"], Needs] = NOTHING,
        *,
        prefix: str = "",
        certificate_header: str = "",
    ) -> None:
        """Guard all of `application`.

        In: `needs` may depend on the request; `prefix` is what a proxy took from the path; `certificate_header` is the header in
        which your own proxy, which removes it from what clients send, hands on the client's certificate.
        """
        self._application, self._verifier, self._needs = application, verifier, needs
        self._prefix = prefix
        self._certificate = (
            "HTTP_" + certificate_header.upper().replace("-", "_") if certificate_header else ""
        )

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a challenge, the metadata, or let the application answer."""
        path = self._prefix + _path(environ)
        if path == self._verifier.metadata_path:
            body = json.dumps(self._verifier.metadata()).encode()
            start_response("200 OK", [("Content-Type", "application/json"), ("Cache-Control", "max-age=300")])
            return [body]
        try:
            environ[TOKEN] = self._verifier.verify(
                environ.get("HTTP_AUTHORIZATION", ""),
                environ["REQUEST_METHOD"],
                self._verifier.origin + path,
                environ.get("HTTP_DPOP", ""),
                read_certificate(environ.get(self._certificate, "")) if self._certificate else b"",
                self._needs if isinstance(self._needs, Needs) else self._needs(environ),
            )
        except Challenge as refused:
            start_response(f"{refused.status} {HTTPStatus(refused.status).phrase}", list(refused.headers))
            return [refused.body]
        return self._application(environ, start_response)


def _path(environ: "WSGIEnvironment") -> str:
    """Return the path as it was sent: WSGI unescapes it and writes each byte as one character."""
    raw = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return quote(raw.encode("latin-1"), safe=PATH_SAFE)
