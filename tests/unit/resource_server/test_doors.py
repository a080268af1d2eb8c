"""The same request through WSGI, ASGI and Django: the same answer."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from deploy.resource_server import Needs, Verifier, for_asgi, for_django, for_wsgi
from iam.oauth.protocol.jose import encode_segment

from .issuer import Holder, Issuer

NEEDS = Needs(scopes=("payments.read",))


@dataclass(frozen=True)
class Answer:
    status: int
    challenges: str
    body: bytes


Ask = Callable[..., Answer]


def through_wsgi(verifier: Verifier, path: str, headers: dict[str, str], needs: Needs) -> Answer:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ[for_wsgi.TOKEN].subject.encode()]

    guard = validator(for_wsgi.Guard(application, verifier, needs, certificate_header="Client-Cert"))
    environ: dict[str, Any] = {
        "PATH_INFO": path.encode().decode("latin-1"),
        "HTTP_HOST": "evil.example",
        "QUERY_STRING": "",
        "SCRIPT_NAME": "",
    }
    setup_testing_defaults(environ)
    environ |= {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()}
    started: list[Any] = []
    result = guard(environ, lambda status, given, exc=None: started.extend([status, given]))
    body = b"".join(result)
    result.close()
    challenges = [value for name, value in started[1] if name == "WWW-Authenticate"]
    return Answer(int(started[0].split()[0]), ", ".join(challenges), body)


def through_asgi(verifier: Verifier, path: str, headers: dict[str, str], needs: Needs) -> Answer:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope[for_asgi.TOKEN].subject.encode()})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": b"",
        "headers": [(b"host", b"evil.example"), *((n.lower().encode(), v.encode("latin-1")) for n, v in headers.items())],
    }  # fmt: skip
    guard = for_asgi.Guard(application, verifier, needs, certificate_header="Client-Cert")
    asyncio.run(guard(scope, None, send))  # type: ignore[arg-type]
    challenges = [value.decode() for name, value in sent[0]["headers"] if name == b"www-authenticate"]
    return Answer(sent[0]["status"], ", ".join(challenges), sent[1]["body"])


def _django(verifier: Verifier, path: str, headers: dict[str, str], needs: Needs, view: Any) -> Answer:
    guard = for_django.Guard(verifier, certificate_header="Client-Cert")
    request = RequestFactory().get(path, headers={"Host": "evil.example", **headers})
    if path == verifier.metadata_path:
        response = guard.metadata(request)
    else:
        guarded = guard(needs)(view)
        assert guarded.csrf_exempt
        response = guarded(request)
    if asyncio.iscoroutine(response):
        response = asyncio.run(response)
    return Answer(response.status_code, response.headers.get("WWW-Authenticate", ""), response.content)


def through_django(verifier: Verifier, path: str, headers: dict[str, str], needs: Needs) -> Answer:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.token.subject)  # type: ignore[attr-defined]

    return _django(verifier, path, headers, needs, view)


def through_async_django(verifier: Verifier, path: str, headers: dict[str, str], needs: Needs) -> Answer:
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.token.subject)  # type: ignore[attr-defined]

    return _django(verifier, path, headers, needs, view)


@pytest.fixture(
    params=[through_wsgi, through_asgi, through_django, through_async_django], ids=lambda door: door.__name__
)
def door(request: pytest.FixtureRequest) -> Ask:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def test_good_token_reaches_the_application(door: Ask, issuer: Issuer) -> None:
    answer = door(issuer.verifier(), "/api/payments", {"Authorization": f"Bearer {issuer.token()}"}, NEEDS)

    assert (answer.status, answer.body) == (200, b"a" * 40)


def test_refusals_are_the_same_through_every_door(door: Ask, issuer: Issuer) -> None:
    verifier = issuer.verifier()
    for headers, needs, status, error in (
        ({}, NEEDS, 401, ""),
        ({"Authorization": "Bearer x"}, NEEDS, 401, "invalid_token"),
        ({"Authorization": f"Bearer {issuer.token()}, Bearer x"}, NEEDS, 400, "invalid_request"),
        ({"Authorization": f"Bearer {issuer.token()}"}, Needs(scopes=("admin",)), 403, "insufficient_scope"),
        (
            {"Authorization": f"Bearer {issuer.token()}"},
            Needs(acr="phr"),
            401,
            "insufficient_user_authentication",
        ),
    ):
        answer = door(verifier, "/api/payments", headers, needs)
        assert answer.status == status
        assert json.loads(answer.body).get("error", "") == error
        assert f'error="{error}"' in answer.challenges or not error
        assert answer.challenges


def test_proof_is_for_the_configured_address_whatever_host_is_named(door: Ask, issuer: Issuer) -> None:
    holder = Holder()
    token = issuer.token(cnf={"jkt": holder.jkt})
    ours = {
        "Authorization": f"DPoP {token}",
        "DPoP": holder.proof(token, url="https://finance.test.example/api/p%C3%A9"),
    }
    theirs = {
        "Authorization": f"DPoP {token}",
        "DPoP": holder.proof(token, url="http://evil.example/api/p%C3%A9"),
    }
    verifier = issuer.verifier()

    assert door(verifier, "/api/pé", ours, NEEDS).status == 200
    assert door(verifier, "/api/pé", ours, NEEDS).status == 401  # again
    assert door(verifier, "/api/pé", theirs, NEEDS).status == 401


def test_certificate_comes_from_the_named_header(door: Ask, issuer: Issuer) -> None:
    der = b"certificate"
    token = issuer.token(cnf={"x5t#S256": encode_segment(hashlib.sha256(der).digest())})
    headers = {"Authorization": f"Bearer {token}", "Client-Cert": f":{base64.b64encode(der).decode()}:"}

    assert door(issuer.verifier(), "/api/payments", headers, NEEDS).status == 200
    assert door(issuer.verifier(), "/api/payments", {**headers, "Client-Cert": "x"}, NEEDS).status == 401


@pytest.mark.spec("RFC 9728", "3.1", "the resource's metadata at its well-known address")
def test_metadata_needs_no_token(door: Ask, issuer: Issuer) -> None:
    verifier = issuer.verifier()
    answer = door(verifier, verifier.metadata_path, {}, NEEDS)

    assert answer.status == 200
    assert json.loads(answer.body) == verifier.metadata()


def test_asgi_websocket_is_refused_before_it_opens_and_lifespan_passes(issuer: Issuer) -> None:
    called, sent = [], []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope["type"])

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    guard = for_asgi.Guard(application, issuer.verifier())
    asyncio.run(guard({"type": "lifespan"}, receive, send))
    asyncio.run(
        guard({"type": "websocket", "path": "/api/x", "raw_path": b"/api/x", "headers": []}, receive, send)
    )
    good = [(b"authorization", f"Bearer {issuer.token()}".encode())]
    asyncio.run(guard({"type": "websocket", "path": "/api/x", "headers": good}, receive, send))

    assert called == ["lifespan", "websocket"]
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_asgi_two_headers_of_one_name_are_refused(issuer: Issuer) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("let in")

    value = f"Bearer {issuer.token()}".encode()
    scope = {"type": "http", "method": "GET", "path": "/api/x", "headers": [(b"authorization", value)] * 2}
    asyncio.run(for_asgi.Guard(application, issuer.verifier())(scope, None, send))  # type: ignore[arg-type]

    assert sent[0]["status"] == 400


def test_needs_may_depend_on_the_request(issuer: Issuer) -> None:
    def needs(environ: Any) -> Needs:
        return Needs(acr="phr") if environ["PATH_INFO"].endswith("approve") else Needs()

    guard = for_wsgi.Guard(lambda environ, start: start("200 OK", []) or [], issuer.verifier(), needs)  # type: ignore[arg-type]
    for path, status in (("/api/list", "200 OK"), ("/api/approve", "401 Unauthorized")):
        environ: dict[str, Any] = {"PATH_INFO": path, "HTTP_AUTHORIZATION": f"Bearer {issuer.token()}"}
        setup_testing_defaults(environ)
        started: list[str] = []
        guard(environ, lambda status, given, exc=None, started=started: started.append(status))  # type: ignore[arg-type,misc]
        assert started == [status]


def test_django_middleware_answers_a_challenge_that_a_view_raised(issuer: Issuer) -> None:
    guard = for_django.Guard(issuer.verifier())
    request = RequestFactory().get("/api/payments")
    middleware = for_django.ChallengeMiddleware(lambda request: HttpResponse())
    try:
        guard.verify(request, NEEDS)
    except Exception as problem:
        answer = middleware.process_exception(request, problem)

    assert answer is not None
    assert answer.status_code == 401
    assert middleware.process_exception(request, ValueError()) is None
    assert middleware(request).status_code == 200


def test_django_cache_remembers_used_proofs(issuer: Issuer) -> None:
    store = for_django.CacheReplayStore(LocMemCache("proofs", {}))

    assert [store.use(name, 60) for name in ("a", "a", "b" * 500)] == [True, False, True]
