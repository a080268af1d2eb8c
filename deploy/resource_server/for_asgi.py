"""Guard an ASGI application: every request below it brings a good token, or is answered with a challenge. Spec: ASGI 3."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import quote

from .challenge import Challenge
from .for_wsgi import PATH_SAFE
from .proofs import read_certificate
from .verifier import NOTHING, Needs, Verifier

TOKEN = "resource_server.token"  # noqa: S105 -- the name under which the application finds it

Scope = MutableMapping[str, Any]  # Any: as ASGI has it
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """An ASGI middleware. The application finds the verified token at `scope[TOKEN]`."""

    def __init__(
        self,
        application: Application,
        verifier: Verifier,
        needs: Needs | Callable[[Scope], Needs] = NOTHING,
        *,
        prefix: str = "",
        certificate_header: str = "",
    ) -> None:
        """Guard all of `application`; the arguments are those of `for_wsgi.Guard`."""
        self._application, self._verifier, self._needs = application, verifier, needs
        self._prefix, self._certificate = prefix, certificate_header.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a challenge, the metadata, or let the application answer; a WebSocket is refused before it opens."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        path = self._prefix + _path(scope)
        if scope["type"] == "http" and path == self._verifier.metadata_path:
            body = json.dumps(self._verifier.metadata()).encode()
            headers = (("Content-Type", "application/json"), ("Cache-Control", "max-age=300"))
            await _answer(send, 200, headers, body)
            return
        certificate = _header(scope, self._certificate) if self._certificate else ""
        try:
            # In a thread: now and then the keys are fetched, and nobody else should wait for that.
            scope[TOKEN] = await asyncio.to_thread(
                self._verifier.verify,
                _header(scope, "authorization"),
                scope.get("method", "GET"),
                self._verifier.origin + path,
                _header(scope, "dpop"),
                read_certificate(certificate),
                self._needs if isinstance(self._needs, Needs) else self._needs(scope),
            )
        except Challenge as refused:
            if scope["type"] == "http":
                await _answer(send, refused.status, refused.headers, refused.body)
            else:
                await receive()  # websocket.connect
                await send({"type": "websocket.close", "code": 1008})  # a server answers 403 to the handshake
            return
        await self._application(scope, receive, send)


def _path(scope: Scope) -> str:
    """Return the path as it was sent, as far as the server tells."""
    raw = scope.get("raw_path")
    if raw:
        return bytes(raw).partition(b"?")[0].decode("latin-1")
    return quote(str(scope["path"]), safe=PATH_SAFE)


def _header(scope: Scope, name: str) -> str:
    """Return a header; several are joined, and then are nothing that anybody reads as one."""
    return ", ".join(
        value.decode("latin-1") for key, value in scope["headers"] if key.decode("latin-1").lower() == name
    )


async def _answer(send: Send, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        }
    )
    await send({"type": "http.response.body", "body": body})
