"""Send one request through all doors, undo each, and compare what a client would see: status, headers, body."""

import hashlib
import io
import ipaddress
import re
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from unittest import mock

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.conf import settings
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection, transaction

from iam.oauth import engine, memory, state
from iam.oauth.fastpath import FastPath
from iam.oauth.protocol import jose
from iam.oauth.protocol.messages import Request
from iam.wsgi import Handler

Seen = tuple[str, list[tuple[str, str]], bytes]

# What differs by nature: what is encrypted, a signature over a random nonce, and Django's masked form tokens.
_ENCRYPTED = re.compile(rb"(ey)[\w-]+\.[\w-]*\.[\w-]+\.[\w-]+\.[\w-]+")
_SIGNATURE = re.compile(rb"(ey[\w-]+\.[\w-]+)\.[\w-]{20,}")
_FORM_TOKEN = re.compile(rb'(name="csrfmiddlewaretoken" value=)"[^"]*"')
_CSRF_COOKIE = re.compile(rb"(csrf=)\w+")


def compare(request: Request, now: datetime) -> None:
    """Fail if the two doors differ in anything that a client can see."""
    slow, fast = both(request, now)
    assert fast[0] == slow[0], (request.path, fast, slow)
    assert sorted(fast[1]) == sorted(slow[1]), (request.path, sorted(fast[1]), sorted(slow[1]))
    assert fast[2] == slow[2], (request.path, fast[2], slow[2])
    if engine.may_know_at_once(request.method, request.path, request.body):
        known = at_once(request, now)
        assert known is None or (known[0], sorted(known[1]), known[2]) == (fast[0], sorted(fast[1]), fast[2])


def at_once(request: Request, now: datetime) -> Seen | None:
    """Ask for an answer from memory of a worker that was asked the same just before; None when there is none."""
    state.forget()
    door = FastPath(Handler(), begin=_no_listener)
    proxies = (ipaddress.ip_network(request.source),) if request.certificate else settings.IAM_TRUSTED_PROXIES
    # As if every change were heard: on PostgreSQL `current` begins with `fresh` itself.
    asks = memory.current if connection.vendor == "sqlite" else memory._reread
    hears = mock.patch.multiple(memory, fresh=asks, remembers_tokens=lambda: True)
    trusting = mock.patch.object(settings, "IAM_TRUSTED_PROXIES", proxies)
    with hears, _clock_at(now), trusting, _connection_kept(), transaction.atomic():
        # The first one learns what is so; a token is kept only if nothing changed meanwhile. What a request writes is
        # undone: the next one draws the same random values, and would write the same.
        for _ in range(2):
            with _nothing_random(), transaction.atomic():
                b"".join(door(_environ(request), lambda status, headers: None))
                transaction.set_rollback(True)
        with _nothing_random():
            found = door.at_once(_environ(request), request.body)
        transaction.set_rollback(True)
    state.forget()
    if found is None:
        return None
    status, *lines = _steady(found[0]).decode("latin-1").split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    return status.removeprefix("HTTP/1.1 "), [(name, value) for name, value in pairs], _steady(found[1])


def both(request: Request, now: datetime, **more: str) -> tuple[Seen, Seen]:
    """Return what each door answers; `more` is what the server adds to the environment of the request."""
    return (
        _through(Handler(), request, now, more),
        _through(FastPath(Handler(), begin=_no_listener), request, now, more),
    )


def _no_listener() -> None:
    """The changes of a test are never committed: nobody could hear of them."""


def _through(door, request: Request, now: datetime, more: dict[str, str]) -> Seen:
    seen: dict[str, object] = {}

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        seen["status"], seen["headers"] = status, headers

    state.forget()
    proxies = (ipaddress.ip_network(request.source),) if request.certificate else settings.IAM_TRUSTED_PROXIES
    trusting = mock.patch.object(settings, "IAM_TRUSTED_PROXIES", proxies)
    with _nothing_random(), _clock_at(now), trusting, _connection_kept(), transaction.atomic():
        answer = door({**_environ(request), **more}, start_response)
        body = b"".join(answer)
        transaction.set_rollback(True)
    state.forget()
    headers = [(name, _steady(value.encode()).decode()) for name, value in seen["headers"]]
    return str(seen["status"]), headers, _steady(body)


def _steady(seen: bytes) -> bytes:
    """Return what was seen without what differs by nature."""
    for pattern in (_ENCRYPTED, _SIGNATURE, _FORM_TOKEN, _CSRF_COOKIE):
        seen = pattern.sub(rb"\1", seen)
    return seen


@contextmanager
def _connection_kept() -> Iterator[None]:
    """Django closes a connection that is in a transaction before a request begins: here the test's own."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    try:
        yield
    finally:
        for signal in (request_started, request_finished):
            signal.connect(close_old_connections)


@contextmanager
def _clock_at(now: datetime) -> Iterator[None]:
    """Both doors import the clock by name; Django dates what it signs by one of its own."""
    with (
        mock.patch("django.core.signing.time", SimpleNamespace(time=now.timestamp)),
        mock.patch("iam.oauth.fastpath.clock", return_value=now),
        mock.patch("iam.oauth.views.clock", return_value=now),
    ):
        yield


@contextmanager
def _nothing_random() -> Iterator[None]:
    """Let chance fall the same way in both doors: the n-th random value of a request is always the same."""
    drawn = 0

    def draw(size: int | None = None) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(f"chance {drawn}".encode()).digest(size or 32)

    with (
        mock.patch.object(secrets, "token_bytes", draw),
        mock.patch.object(
            secrets, "token_urlsafe", lambda size=None: draw(size).hex()[: (size or 32) * 4 // 3 + 1]
        ),
        mock.patch.object(secrets, "choice", lambda options: options[draw(4)[0] % len(options)]),
        mock.patch.object(secrets, "token_hex", lambda size=None: draw(size).hex()),
        mock.patch(
            "iam.audit.facts.new_request_id", side_effect=lambda: str(uuid.UUID(bytes=draw(16), version=4))
        ),
        mock.patch.object(uuid, "uuid4", side_effect=lambda: uuid.UUID(bytes=draw(16), version=4)),
        mock.patch.object(jose, "_ES256", ec.ECDSA(hashes.SHA256(), deterministic_signing=True)),
    ):
        yield


def _environ(request: Request) -> dict[str, object]:
    cookie = "; ".join(f"{name}={value}" for name, value in request.cookies.items())
    given = {
        "CONTENT_TYPE": request.content_type, "HTTP_AUTHORIZATION": request.authorization, "HTTP_COOKIE": cookie,
        "HTTP_DPOP": request.dpop, "HTTP_ACCEPT": request.accept, "HTTP_CLIENT_CERT": f":{request.certificate}:" if request.certificate else "", "CONTENT_LENGTH": str(len(request.body)) if request.body else "",
    }  # fmt: skip
    return {
        "REQUEST_METHOD": request.method, "PATH_INFO": request.path, "QUERY_STRING": request.query,
        "SERVER_NAME": "testserver", "SERVER_PORT": "80", "HTTP_HOST": "testserver", "SERVER_PROTOCOL": "HTTP/1.1",
        "SCRIPT_NAME": "", "REMOTE_ADDR": request.source or "127.0.0.1", "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body), "wsgi.errors": io.StringIO(), "wsgi.version": (1, 0),
        "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False,
        **{name: value for name, value in given.items() if value},
    }  # fmt: skip
