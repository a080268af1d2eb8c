"""The key client: cached, cooled down, tolerant for a while, and nobody's tool."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from deploy.resource_server import Challenge, Unavailable
from deploy.resource_server import keys as module
from deploy.resource_server.keys import KeySource, check_address, fetch

from .issuer import ISSUER, URL, Issuer, new_key


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def test_keys_are_fetched_once_while_they_are_fresh(issuer: Issuer) -> None:
    source = issuer.source()

    assert source.key("k1") is not None
    issuer.now += 59
    assert source.key("k1") is not None
    assert issuer.fetched == [f"{ISSUER}/.well-known/oauth-authorization-server", f"{ISSUER}/jwks"]


def test_withdrawn_key_is_forgotten_after_a_minute(issuer: Issuer) -> None:
    source = issuer.source()
    source.key("k1")
    issuer.keys = {"k2": new_key(kid="k2")}

    issuer.now += 60

    assert source.key("k1") is None


def test_new_key_is_found_at_once_but_not_more_often_than_the_cool_down(issuer: Issuer) -> None:
    source = issuer.source()
    source.key("k1")
    issuer.keys["k2"] = new_key(kid="k2")
    assert source.key("k2") is None  # looked just now
    issuer.now += 10
    assert source.key("k2") is not None

    before = len(issuer.fetched)
    for number in range(500):
        assert source.key(f"made-up-{number}") is None
        issuer.now += 0.01
    assert len(issuer.fetched) == before
    issuer.now += 10
    source.key("made-up")
    assert len(issuer.fetched) == before + 1


def test_stale_keys_go_on_while_the_service_is_away_and_then_end(issuer: Issuer) -> None:
    source = issuer.source(stale_seconds=600)
    source.key("k1")
    issuer.down = True

    issuer.now += 660
    assert source.key("k1") is not None
    issuer.now += 1
    with pytest.raises(Unavailable):
        source.key("k1")
    issuer.down = False
    issuer.now += 10
    assert source.key("k1") is not None


def test_without_any_key_the_answer_is_503_and_the_service_is_not_hammered(issuer: Issuer) -> None:
    issuer.down = True
    verifier = issuer.verifier()
    for _ in range(20):
        with pytest.raises(Challenge) as caught:
            verifier.verify(f"Bearer {issuer.token()}", "GET", URL)
        assert caught.value.status == 503
        assert ("Retry-After", "10") in caught.value.headers
    assert len(issuer.fetched) == 1


def test_fifty_threads_at_once_fetch_once(issuer: Issuer) -> None:
    slow = issuer.fetch

    def fetch_slowly(url: str) -> bytes:
        time.sleep(0.05)
        return slow(url)

    source = KeySource(ISSUER, f"{ISSUER}/jwks", fetch=fetch_slowly, clock=lambda: issuer.now)
    found: list[object] = []
    crew = [threading.Thread(target=lambda: found.append(source.key("k1"))) for _ in range(50)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()

    assert len(found) == 50
    assert all(found)
    assert len(issuer.fetched) == 1


def test_refresh_holds_nobody_up_whose_key_is_known(issuer: Issuer) -> None:
    going, go_on = threading.Event(), threading.Event()

    def fetch_when_told(url: str) -> bytes:
        if issuer.now > before:
            going.set()
            go_on.wait(5)
        return issuer.fetch(url)

    before = issuer.now
    source = KeySource(ISSUER, f"{ISSUER}/jwks", fetch=fetch_when_told, clock=lambda: issuer.now)
    source.key("k1")
    issuer.now += 61
    thread = threading.Thread(target=source.key, args=("k1",))
    thread.start()
    going.wait(5)

    begun = time.monotonic()
    assert source.key("k1") is not None
    assert time.monotonic() - begun < 1
    go_on.set()
    thread.join()


@pytest.mark.parametrize(
    "document",
    [
        b"", b"[]", b"{}", b'{"keys":{}}', b"\xff", b'{"keys":[],"keys":[]}', b"[" * 100_000,
        json.dumps({"keys": [{}] * 51}).encode(),
        json.dumps({"keys": [new_key().jwk(), new_key().jwk()]}).encode(),  # two of one name
    ],
    ids=lambda document: document[:20].decode("latin-1"),
)  # fmt: skip
def test_a14_answer_that_is_no_key_set_changes_nothing(issuer: Issuer, document: bytes) -> None:
    good = True
    source = KeySource(
        ISSUER,
        f"{ISSUER}/jwks",
        fetch=lambda url: issuer.fetch(url) if good else document,
        clock=lambda: issuer.now,
    )
    before = source.key("k1")
    good = False
    issuer.now += 61

    assert source.key("k1") is before


def test_keys_of_other_kinds_are_left_out(issuer: Issuer) -> None:
    odd = [
        {"kty": "oct", "k": "eA", "kid": "a"}, {"kty": "EC", "crv": "P-521", "kid": "b"}, {"kid": "c"}, 5, None,
        {**new_key(kid="d").jwk(), "use": "enc"}, {**new_key(kid="e").jwk(), "d": "x"}, {**new_key(kid="f").jwk(), "alg": "HS256"},
        {**new_key(kid="g").jwk(), "x": "AA"}, {**new_key(kid="h").jwk(), "x": new_key().jwk()["x"]},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "i"}, {"kty": ["EC"], "kid": "j"}, {**new_key(kid="k").jwk(), "kid": 5},
    ]  # fmt: skip
    document = json.dumps({"keys": [*odd, issuer.keys["k1"].jwk()]}).encode()
    source = KeySource(ISSUER, f"{ISSUER}/jwks", fetch=lambda _: document, clock=lambda: issuer.now)

    assert source.key("k1") is not None
    assert not any(source.key(kid) for kid in "abcdefghij")


@pytest.mark.spec("RFC 8414", "3.3", "the metadata's issuer must be the one that was asked")
@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example", "jwks_uri": f"{ISSUER}/jwks"}, {"jwks_uri": f"{ISSUER}/jwks"}, {"issuer": ISSUER},
        {"issuer": ISSUER, "jwks_uri": 5}, {"issuer": ISSUER, "jwks_uri": "http://signin.test.example/jwks"},
        {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"},
    ],
    ids=str,
)  # fmt: skip
def test_metadata_of_another_issuer_or_with_an_unsafe_address_gives_no_keys(
    metadata: dict[str, object],
) -> None:
    asked: list[str] = []

    def answer(url: str) -> bytes:
        asked.append(url)
        return json.dumps(metadata).encode()

    with pytest.raises(Unavailable):
        KeySource(ISSUER, fetch=answer).key("k1")
    assert len(asked) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://signin.example/", "ftp://signin.example/", "file:///etc/passwd", "signin.example", "", "https://",
        "https://u:p@signin.example/", "https://signin.example/?a=b", "https://signin.example/#f",
    ],
)  # fmt: skip
def test_addresses_that_are_not_safe_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be an"):
        check_address(url)


# -- the real client against a real server ------------------------------------------------------------------------


class _Answers(BaseHTTPRequestHandler):
    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.seen.append(self.path)
        match self.path:
            case "/good":
                self._send(200, b"{}")
            case "/redirect":
                self.send_response(302)
                self.send_header("Location", "/good")
                self.end_headers()
            case "/empty":
                self._send(204, b"")
            case "/huge":
                self._send(200, b"x" * (module.ANSWER_SIZE_MAX + 1))
            case "/silent":
                time.sleep(1)
            case "/drip":
                self.send_response(200)
                self.end_headers()
                for _ in range(40):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
            case _:
                self._send(500, b"{}")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *args: object) -> None:
        """Say nothing of clients that went away."""


@pytest.fixture
def server() -> Iterator[str]:
    running = _Server(("127.0.0.1", 0), _Answers)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    thread.join()
    running.server_close()


def test_fetch_returns_a_good_answer(server: str) -> None:
    assert fetch(f"{server}/good") == b"{}"


@pytest.mark.parametrize("path", ["/redirect", "/huge", "/error", "/empty"])
def test_fetch_follows_nothing_and_takes_no_flood(server: str, path: str) -> None:
    _Answers.seen.clear()
    with pytest.raises(Unavailable):
        fetch(server + path)
    assert _Answers.seen == [path]


def test_fetch_waits_for_nobody(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(module, "ANSWER_SECONDS_MAX", 0.4)
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        fetch(f"{server}/silent")
    with pytest.raises(Unavailable):
        fetch(f"{server}/drip")
    assert time.monotonic() - begun < 3


def test_fetch_says_unavailable_when_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unavailable):
        fetch(f"http://127.0.0.1:{port}/")
