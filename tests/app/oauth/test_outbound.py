"""The guarded client against real servers on this machine, honest and hostile ones (A62, A65)."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.demo import testca
from iam.oauth import outbound
from iam.oauth.outbound import Guard, Refused
from iam.oauth.protocol.outbound_rules import read_rules

LOOPBACK = "127.0.0.1/32"
Behave = Callable[[socket.socket, bytes], None]


class Server:
    """A server that takes every connection and does with it what a test says; remembers what was asked."""

    def __init__(self, behave: Behave, tls: ssl.SSLContext | None = None) -> None:
        self._behave, self._tls = behave, tls
        self.asked: list[bytes] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack, peer:
            peer.settimeout(20)
            stream = stack.enter_context(self._tls.wrap_socket(peer, server_side=True)) if self._tls else peer
            request = b""
            while b"\r\n\r\n" not in request:
                piece = stream.recv(4096)
                if not piece:
                    return
                request += piece
            head, _, body = request.partition(b"\r\n\r\n")
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    while len(body) < int(line.split(b":")[1]):
                        body += stream.recv(4096)
            self.asked.append(head + b"\r\n\r\n" + body)
            self._behave(stream, request)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with contextlib.ExitStack() as stack:

        def start(behave: Behave, tls: ssl.SSLContext | None = None) -> Server:
            server = Server(behave, tls)
            stack.callback(server.close)
            return server

        yield start


def says(body: bytes = b'{"keys": []}', status: str = "200 OK", **headers: str) -> Behave:
    given = {"Content_Type": "application/json", "Content_Length": str(len(body)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items() if value)
    return lambda peer, _: peer.sendall(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)


def guard(server: Server, *more: str, **changes: Any) -> Guard:
    """A guard that may call `server` without TLS on this machine."""
    rules = read_rules([f"http://app.example:{server.port}", LOOPBACK, *more])
    return Guard(rules, **{"resolve": lambda host, port: ["127.0.0.1"], "total_seconds": 1.0, **changes})


def url(server: Server, scheme: str = "http") -> str:
    return f"{scheme}://app.example:{server.port}/jwks?a=b"


def refusal(act: Callable[[], Any]) -> str:
    begun = time.monotonic()
    with pytest.raises(Refused) as problem:
        act()
    assert time.monotonic() - begun < 2.5
    assert str(problem.value).endswith(".")
    return problem.value.reason


# -- what goes well -------------------------------------------------------------------------------------------


def test_get_json_reads_a_document_and_sends_nothing_about_us(serve: Callable[..., Server]):
    server = serve(says(b'{"keys": [1]}'))

    assert guard(server).get_json(url(server)) == {"keys": [1]}
    head = server.asked[0].decode()
    assert head.startswith("GET /jwks?a=b HTTP/1.1\r\n")
    names = {line.split(":")[0].lower() for line in head.split("\r\n")[1:] if line}
    assert names == {"host", "user-agent", "connection", "accept", "accept-encoding"}
    assert f"Host: app.example:{server.port}" in head


@pytest.mark.parametrize(
    "kind",
    ["application/json; charset=utf-8", "application/jwk-set+json", "Application/JSON", "application/x+json"],
)
def test_get_json_takes_the_types_of_json(kind: str, serve: Callable[..., Server]):
    server = serve(says(Content_Type=kind))

    assert guard(server).get_json(url(server)) == {"keys": []}


def test_get_json_takes_a_chunked_answer_and_one_without_length(serve: Callable[..., Server]):
    chunked = serve(
        says(b"6\r\n[1, 2,\r\n3\r\n 3]\r\n0\r\n\r\n", Content_Length="", Transfer_Encoding="chunked")
    )
    endless = serve(says(b"[1]", Content_Length=""))

    assert guard(chunked).get_json(url(chunked)) == [1, 2, 3]
    assert guard(endless).get_json(url(endless)) == [1]


@pytest.mark.parametrize(
    "status",
    ["200 OK", "204 No Content", "400 Bad Request", "401 Unauthorized", "500 Oh", "501 Not Implemented"],
)
def test_post_form_returns_the_status_of_the_answer(status: str, serve: Callable[..., Server]):
    server = serve(says(b"", status=status))

    assert guard(server).post_form(url(server), {"logout_token": "a.b&c", "é": "ü"}) == int(status[:3])
    head, _, body = server.asked[0].partition(b"\r\n\r\n")
    assert body == b"logout_token=a.b%26c&%C3%A9=%C3%BC"
    assert b"Content-Type: application/x-www-form-urlencoded" in head


def test_post_form_does_not_read_the_body(serve: Callable[..., Server]):
    def endless(peer: socket.socket, _: bytes) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.sendall(b"x" * 65536)

    server = serve(endless)

    assert guard(server).post_form(url(server), {"a": "b"}) == 200


# -- where a call may go ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "::", "::ffff:127.0.0.1", "fe80::1%lo",
        "fd00:ec2::254", "224.0.0.1", "64:ff9b::7f00:1",
    ],
)  # fmt: skip
def test_a62_listed_name_that_leads_to_a_private_address_is_not_called(
    address: str, serve: Callable[..., Server]
):
    server = serve(says())
    rules = read_rules([f"http://app.example:{server.port}"])
    careful = Guard(rules, resolve=lambda host, port: [address])

    assert refusal(lambda: careful.get_json(url(server))) == "private_address"
    assert refusal(lambda: careful.post_form(url(server), {})) == "private_address"
    assert server.connections == 0


def test_a62_only_the_allowed_ones_of_several_addresses_are_called(serve: Callable[..., Server]):
    server = serve(says())
    mixed = guard(server, resolve=lambda host, port: ["169.254.169.254", "::1", "127.0.0.1"])

    assert mixed.get_json(url(server)) == {"keys": []}


@pytest.mark.parametrize(
    "where",
    [
        "http://localhost:{port}/",
        "http://127.0.0.1:{port}/",
        "https://app.example:{port}/",
        "http://app.example/",
    ],
)
def test_a62_place_that_is_not_listed_is_not_called(where: str, serve: Callable[..., Server]):
    server = serve(says())

    assert refusal(lambda: guard(server).get_json(where.format(port=server.port))) == "not_allowed"
    assert server.connections == 0


def test_a62_name_is_looked_up_once_and_the_connection_goes_there(serve: Callable[..., Server]):
    """DNS rebinding: the second answer, and what the system itself would say, never matter."""
    server = serve(says())
    answers = [["127.0.0.1"], ["169.254.169.254"]]
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers.pop(0)

    pinned = guard(server, resolve=rebinding)

    assert pinned.get_json(url(server)) == {"keys": []}
    assert asked == ["app.example"]
    assert refusal(lambda: pinned.get_json(url(server))) == "private_address"


@pytest.mark.parametrize(
    "status",
    [
        "301 Moved",
        "302 Found",
        "303 See Other",
        "307 Temporary",
        "308 Permanent",
        "300 Choices",
        "304 Not Modified",
    ],
)
def test_a62_redirect_is_not_followed(status: str, serve: Callable[..., Server]):
    inner = serve(says(b'{"secret": true}'))
    server = serve(says(b"", status=status, Location=f"http://127.0.0.1:{inner.port}/"))
    allowing = guard(server, f"http://127.0.0.1:{inner.port}")

    assert refusal(lambda: allowing.get_json(url(server))) == "redirect"
    assert refusal(lambda: allowing.post_form(url(server), {})) == "redirect"
    assert inner.connections == 0


def test_a62_proxy_of_the_environment_is_not_asked(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
):
    server, proxy = serve(says()), serve(says(b'{"proxied": true}'))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")

    assert guard(server).get_json(url(server)) == {"keys": []}
    assert proxy.connections == 0


@pytest.mark.parametrize("found", [[], OSError, UnicodeError])
def test_name_that_cannot_be_looked_up_is_refused(found: Any, serve: Callable[..., Server]):
    def resolve(host: str, port: int) -> list[str]:
        if found:
            raise found
        return []

    server = serve(says())

    assert refusal(lambda: guard(server, resolve=resolve).get_json(url(server))) == "unresolved"


def test_nobody_listening_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    alone = Guard(read_rules([f"http://127.0.0.1:{port}", LOOPBACK]), total_seconds=1.0)

    assert refusal(lambda: alone.get_json(f"http://127.0.0.1:{port}/")) == "unreachable"


def test_second_address_is_tried_when_the_first_does_not_answer(serve: Callable[..., Server]):
    server = serve(says())
    both = guard(server, "127.0.0.2/32", resolve=lambda host, port: ["127.0.0.2", "127.0.0.1"])

    assert both.get_json(url(server)) == {"keys": []}


# -- how long, how much -----------------------------------------------------------------------------------------


def drip(before: bytes, piece: bytes) -> Behave:
    def behave(peer: socket.socket, _: bytes) -> None:
        peer.sendall(before)
        for _ in range(200):
            peer.sendall(piece)
            time.sleep(0.1)

    return behave


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "behave",
    [
        lambda peer, _: time.sleep(10),
        drip(b"", b"H"),
        drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        drip(HEAD + b"Content-Length: 5000\r\n\r\n", b" "),
        drip(HEAD + b"\r\n", b" "),
        drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        drip(HEAD + b"\r\n{}", b""),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["silent", "status", "headers", "header", "body", "endless", "chunks", "open", "continue"],
)
def test_a65_slow_answer_ends_at_the_limit_however_it_drips(behave: Behave, serve: Callable[..., Server]):
    server = serve(behave)

    assert refusal(lambda: guard(server, total_seconds=0.6).get_json(url(server))) == "timeout"


@pytest.mark.parametrize("behave", [lambda peer, _: time.sleep(10), drip(b"", b"H")], ids=["silent", "drip"])
def test_a65_slow_answer_to_a_form_ends_at_the_limit(behave: Behave, serve: Callable[..., Server]):
    server = serve(behave)

    assert refusal(lambda: guard(server, total_seconds=0.6).post_form(url(server), {"a": "b"})) == "timeout"


def test_a65_slow_look_up_ends_at_the_limit_and_only_so_many_hang(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
):
    server, go_on = serve(says()), threading.Event()
    monkeypatch.setattr(outbound, "_lookups", threading.BoundedSemaphore(2))

    def hanging(host: str, port: int) -> list[str]:
        go_on.wait(10)
        return ["127.0.0.1"]

    hung = guard(server, resolve=hanging, total_seconds=0.2)

    reasons = [refusal(lambda: hung.get_json(url(server))) for _ in range(4)]
    go_on.set()

    assert reasons == ["timeout", "timeout", "busy", "busy"]


def test_a65_slow_greeting_of_tls_ends_at_the_limit(serve: Callable[..., Server]):
    server = serve(lambda peer, _: time.sleep(10))  # waits for a request, which TLS never sends
    rules = read_rules([f"app.example:{server.port}", LOOPBACK])
    hung = Guard(rules, resolve=lambda host, port: ["127.0.0.1"], total_seconds=0.6)

    assert refusal(lambda: hung.get_json(url(server, "https"))) in {"timeout", "unreachable", "tls"}


@pytest.mark.parametrize("length", ["", "exact", "chunked"])
def test_a65_huge_answer_is_not_read_to_its_end(length: str, serve: Callable[..., Server]):
    sent = [0]

    def huge(peer: socket.socket, _: bytes) -> None:
        more = {
            "": b"",
            "exact": b"Content-Length: 1000000000\r\n",
            "chunked": b"Transfer-Encoding: chunked\r\n",
        }[length]
        peer.sendall(HEAD + more + b"\r\n")
        piece = b"[" * 65536
        for _ in range(1000):
            peer.sendall(b"10000\r\n" + piece + b"\r\n" if length == "chunked" else piece)
            sent[0] += len(piece)

    server = serve(huge)

    assert refusal(lambda: guard(server).get_json(url(server))) == "too_large"
    assert sent[0] < 20_000_000


def test_answer_of_exactly_the_limit_is_taken_and_of_one_more_is_not(serve: Callable[..., Server]):
    exact, more = serve(says(b'"' + b"x" * 98 + b'"')), serve(says(b'"' + b"x" * 99 + b'"'))

    assert guard(exact, bytes_max=100).get_json(url(exact)) == "x" * 98
    assert refusal(lambda: guard(more, bytes_max=100).get_json(url(more))) == "too_large"


def test_a65_answer_with_too_many_headers_is_refused(serve: Callable[..., Server]):
    server = serve(lambda peer, _: peer.sendall(HEAD + b"X: y\r\n" * 500 + b"\r\n{}"))

    assert refusal(lambda: guard(server).get_json(url(server))) == "broken"


# -- what an answer must be --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (says(status="201 Created"), "status"),
        (says(status="404 Not Found"), "status"),
        (says(status="500 Oh"), "status"),
        (says(Content_Type="text/html"), "content_type"),
        (says(Content_Type="text/json"), "content_type"),
        (says(Content_Type=""), "content_type"),
        (says(Content_Type="application/octet-stream; x=application/json"), "content_type"),
        (says(Content_Encoding="gzip"), "content_encoding"),
        (says(Content_Encoding="br"), "content_encoding"),
        (says(b"\x1f\x8b\x08\x00"), "not_json"),
        (says(b""), "not_json"),
        (says(b"<html>"), "not_json"),
        (says(b"\xff\xfe"), "not_json"),
        (says(b"[" * 200_000), "not_json"),
        (says(b"9" * 10_000), "not_json"),
        (says(b"{}", Content_Length="50"), "broken"),
        (lambda peer, _: None, "broken"),
        (lambda peer, _: peer.sendall(b"SSH-2.0-OpenSSH\r\n\r\n"), "broken"),
        (lambda peer, _: peer.sendall(b"\0" * 100), "broken"),
        (lambda peer, _: peer.sendall(HEAD + b"Content-Length: x\r\n\r\n{"), "not_json"),
        (lambda peer, _: peer.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}"), "broken"),
        (lambda peer, _: peer.sendall(b"HTTP/1.1 999999 X\r\n\r\n"), "broken"),
    ],
    ids=range(22),
)  # fmt: skip
def test_answer_that_cannot_be_used_is_refused_by_its_reason(
    behave: Behave, reason: str, serve: Callable[..., Server]
):
    server = serve(behave)

    assert refusal(lambda: guard(server).get_json(url(server))) == reason


# -- TLS ----------------------------------------------------------------------------------------------------------


def _server_tls(made: testca.Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate_file, made.key_file)
    return context


def tls_guard(server: Server, ca_file: Path | str, **changes: Any) -> Guard:
    rules = read_rules([f"app.example:{server.port}", LOOPBACK])
    return Guard(
        rules, str(ca_file), **{"resolve": lambda host, port: ["127.0.0.1"], "total_seconds": 2.0, **changes}
    )


@pytest.mark.rules("fapi/5.2.1/5", "core/16.17/certificate")
def test_tls_verifies_the_name_that_was_registered_not_the_address(
    serve: Callable[..., Server], tmp_path: Path
):
    made = testca.make(tmp_path, names=("app.example",), addresses=())
    server = serve(says(), _server_tls(made))

    assert tls_guard(server, made.ca_file).get_json(url(server, "https")) == {"keys": []}
    assert tls_guard(server, made.ca_file).post_form(url(server, "https"), {"a": "b"}) == 200


@pytest.mark.parametrize("flaw", [testca.Flaw.WRONG_NAME, testca.Flaw.EXPIRED, testca.Flaw.UNKNOWN_CA])
@pytest.mark.rules("fapi/5.2.1/5")
def test_a62_tls_of_somebody_else_is_refused(flaw: testca.Flaw, serve: Callable[..., Server], tmp_path: Path):
    made = testca.make(tmp_path, names=("app.example",), flaw=flaw)
    server = serve(says(), _server_tls(made))

    assert refusal(lambda: tls_guard(server, made.ca_file).get_json(url(server, "https"))) == "tls"
    assert refusal(lambda: tls_guard(server, made.ca_file).post_form(url(server, "https"), {})) == "tls"
    assert server.asked == []


@pytest.mark.rules("fapi/5.2.1/5")
def test_a62_tls_certificate_for_the_address_alone_is_refused(serve: Callable[..., Server], tmp_path: Path):
    made = testca.make(tmp_path, names=("other.example",), addresses=("127.0.0.1",))
    server = serve(says(), _server_tls(made))

    assert refusal(lambda: tls_guard(server, made.ca_file).get_json(url(server, "https"))) == "tls"


def test_tls_without_a_configured_authority_trusts_the_systems_only(
    serve: Callable[..., Server], tmp_path: Path
):
    made = testca.make(tmp_path, names=("app.example",))
    server = serve(says(), _server_tls(made))

    assert refusal(lambda: tls_guard(server, "").get_json(url(server, "https"))) == "tls"


def test_tls_asked_of_a_server_without_it_is_refused(serve: Callable[..., Server]):
    server = serve(says())

    assert refusal(lambda: tls_guard(server, "").get_json(url(server, "https"))) in {
        "tls",
        "timeout",
        "unreachable",
    }


@pytest.mark.rules("fapi/5.2.1/2-connect")
def test_tls_1_1_is_refused(serve: Callable[..., Server], tmp_path: Path):
    made = testca.make(tmp_path, names=("app.example",))
    assert tls_guard(serve(says()), made.ca_file).tls.minimum_version == ssl.TLSVersion.TLSv1_2


def test_tls_answer_that_drips_ends_at_the_limit(serve: Callable[..., Server], tmp_path: Path):
    made = testca.make(tmp_path, names=("app.example",))
    server = serve(drip(HEAD + b"\r\n", b" "), _server_tls(made))

    assert (
        refusal(lambda: tls_guard(server, made.ca_file, total_seconds=0.8).get_json(url(server, "https")))
        == "timeout"
    )


# -- the face -----------------------------------------------------------------------------------------------------


def test_functions_use_what_is_configured(serve: Callable[..., Server], settings: Any):
    server = serve(says(json.dumps({"keys": ["k"]}).encode()))
    where = f"http://127.0.0.1:{server.port}/jwks"

    settings.IAM_OUTBOUND_ALLOW = ()
    assert refusal(lambda: outbound.require_allowed(where)) == "not_allowed"
    assert refusal(lambda: outbound.get_json(where)) == "not_allowed"
    settings.IAM_OUTBOUND_ALLOW = (f"http://127.0.0.1:{server.port}",)
    outbound.require_allowed(where)
    assert refusal(lambda: outbound.get_json(where)) == "private_address"
    settings.IAM_OUTBOUND_ALLOW = (f"http://127.0.0.1:{server.port}", "127.0.0.0/8")
    assert outbound.get_json(where) == {"keys": ["k"]}
    assert outbound.post_form(where, {"a": "b"}) == 200
