"""The fast door: requests of the protocol are answered before Django is asked at all.

The same engine, the same state, the same transaction as the Django door (views.py), and the same headers; what needs
a page is answered by Django, which is handed the engine's answer and does not ask again. Every test of the
protocol goes through both doors and compares them (tests/app/oauth/doors.py).
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from http.client import responses
from threading import local
from typing import Any, cast

from django.conf import settings
from django.db import connection
from django.http import parse_cookie
from django.http.request import split_domain_port, validate_host

from iam.audit.facts import HANDED_ON, RequestFacts, facts_from

from . import attempts, engine, memory
from .environment import TOO_LARGE, body_length, clock, read
from .ports import State
from .protocol.messages import PARAMETERS_SIZE_MAX, Answer, Response
from .state import MemoryState

logger = logging.getLogger(__name__)

Environment = MutableMapping[str, Any]  # Any: WSGI's
StartResponse = Callable[[str, list[tuple[str, str]]], Any]
Application = Callable[[Environment, StartResponse], Iterable[bytes]]

# What an answer that is no page tells a browser that shows it all the same.
NOT_A_PAGE = "default-src 'none'; frame-ancestors 'none'"
# Where the answer of the engine, or what went wrong, waits for the other door; no header can have such a name.
ANSWERED = "iam.answer"
FAILED = "iam.failure"

_HOSTS_MAX = 64
# Kinds of answers that come from memory: each has its few headers, always the same.
_STARTS_MAX = 64
NO_COOKIES: Mapping[str, str] = {}  # nothing that is answered at once looks at any
# A connection that rested longer is asked whether it still lives, before a request depends on it.
_RESTED_SECONDS = 1.0
# A body that is refused unread is read all the same, up to here (portal/middleware.py says why).
_DRAINED_MAX = 2_097_152
_STATUS = {status: f"{status} {phrase}" for status, phrase in responses.items()}


class FastPath:
    """A WSGI application in front of another one; `begin` is called before a request is answered."""

    def __init__(self, django: Application, begin: Callable[[], None] = memory.listen) -> None:
        self._django = django
        self._begin = begin
        self._hosts: set[str] = set()
        self._thread = local()
        self._headers = _headers_of_every_answer()
        self._state: MemoryState | None = None
        self._starts: dict[tuple[tuple[str, str], ...], str] = {}

    def __call__(self, environment: Environment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, or let Django answer."""
        path = environment.get("PATH_INFO", "")
        if engine.endpoint_for(path) is None or not self._is_our_host(environment.get("HTTP_HOST", "")):
            return self._django(environment, start_response)
        facts = facts_from(environment)
        try:
            answer = self._answer(environment, facts)
        except Exception as problem:  # noqa: BLE001 -- the other door shows it, logs it, and counts as the place it happened
            _let_go_of_a_broken_connection()
            environment[FAILED], environment[HANDED_ON] = problem, facts
            return self._django(environment, start_response)
        if not isinstance(answer, Response) or answer.cookies_ended:
            environment[ANSWERED], environment[HANDED_ON] = answer, facts
            return self._django(environment, start_response)
        headers = [
            *answer.headers,
            ("Content-Length", str(len(answer.body))),
            *self._headers,
            ("X-Request-Id", facts.request_id),
        ]
        if not any(name == "Referrer-Policy" for name, _ in answer.headers):
            headers.append(("Referrer-Policy", settings.SECURE_REFERRER_POLICY))
        start_response(_STATUS.get(answer.status, f"{answer.status} Unknown"), headers)
        return (answer.body,)

    def at_once(self, environment: Environment, body: bytes) -> tuple[bytes, bytes] | None:
        """Return head and body of the answer if memory has it, None when anything has to be waited for.

        Whoever calls this has one thread for all clients: nothing here reads the database, the network or the disk.
        What is refused is counted in the database, so only good answers come from here.
        """
        method, path = environment["REQUEST_METHOD"], environment["PATH_INFO"]
        if "HTTP_DPOP" in environment or not engine.may_know_at_once(method, path, body):
            return None  # a proof is used up in the database
        if not self._is_our_host(environment.get("HTTP_HOST", "")):
            return None
        self._begin()
        remembered = memory.fresh()
        if remembered is None:
            return None
        state = self._state
        if state is None or state.of is not remembered:
            state = self._state = MemoryState(remembered)
        try:
            facts = facts_from(environment)
            answer = engine.handle(read(environment, body, NO_COOKIES, facts), cast("State", state), clock())
        except Exception:  # noqa: BLE001 -- NotInMemory, or a fault, which the other door will meet and show
            return None
        if not isinstance(answer, Response) or answer.cookies_ended:
            return None
        start = self._starts.get(answer.headers)
        if start is None:
            start = self._start_of(answer.headers)
        body = answer.body
        head = f"HTTP/1.1 {_STATUS[answer.status]}{start}\r\nContent-Length: {len(body)}\r\nX-Request-Id: {facts.request_id}"
        return head.encode("latin-1"), body

    def _start_of(self, own: tuple[tuple[str, str], ...]) -> str:
        """Return an answer's own headers and those of every answer, as text; what is asked for again is remembered."""
        headers = [*own, *self._headers]
        if not any(name == "Referrer-Policy" for name, _ in own):
            headers.append(("Referrer-Policy", settings.SECURE_REFERRER_POLICY))
        start = "".join(f"\r\n{name}: {value}" for name, value in headers)
        if len(self._starts) < _STARTS_MAX:
            self._starts[own] = start
        return start

    def _answer(self, environment: Environment, facts: RequestFacts) -> Answer:
        self._begin()
        self._wake_connection()
        cookie = environment.get("HTTP_COOKIE", "")
        cookies = parse_cookie(cookie.encode("latin-1").decode(errors="replace")) if cookie else {}
        request = read(environment, _body(environment), cookies, facts)
        return attempts.run(request, clock, lambda answer, _now: answer)

    def _is_our_host(self, host: str) -> bool:
        if host in self._hosts:
            return True
        if not validate_host(split_domain_port(host)[0], settings.ALLOWED_HOSTS):
            return False
        if len(self._hosts) < _HOSTS_MAX:
            self._hosts.add(host)
        return True

    def _wake_connection(self) -> None:
        """Replace a connection that died while it rested; Django does so before each of its own requests."""
        now = time.monotonic()
        if now - getattr(self._thread, "used_at", 0.0) > _RESTED_SECONDS:
            connection.health_check_done = False  # type: ignore[attr-defined]
            connection.close_if_health_check_failed()
        self._thread.used_at = now


def _headers_of_every_answer() -> tuple[tuple[str, str], ...]:
    """Return what Django's and our own middleware add to an answer that is no page."""
    headers = [
        ("Content-Security-Policy", NOT_A_PAGE),
        ("X-Frame-Options", settings.X_FRAME_OPTIONS),
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Opener-Policy", settings.SECURE_CROSS_ORIGIN_OPENER_POLICY),
    ]
    if settings.IAM_HTTPS:
        value = f"max-age={settings.SECURE_HSTS_SECONDS}"
        value += "; includeSubDomains" if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS else ""
        value += "; preload" if settings.SECURE_HSTS_PRELOAD else ""
        headers.append(("Strict-Transport-Security", value))
    return tuple(headers)


def _body(environment: Environment) -> bytes:
    length = body_length(environment)
    if length <= 0:
        return b""
    source = environment["wsgi.input"]
    if length <= PARAMETERS_SIZE_MAX:
        return bytes(source.read(length))
    left = min(length, _DRAINED_MAX)
    with contextlib.suppress(OSError):
        while left > 0 and (block := source.read(min(left, 65_536))):
            left -= len(block)
    return TOO_LARGE


def _let_go_of_a_broken_connection() -> None:
    """Close what cannot be used any more, so that the next request opens another."""
    with contextlib.suppress(Exception):
        if connection.connection is not None and not connection.is_usable():
            connection.close()
