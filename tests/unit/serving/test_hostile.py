"""What a hostile client tried and got, kept so that it stays refused."""

import contextlib
import json
import socket
import struct
import threading
import time
from types import SimpleNamespace

from iam.oauth import memory
from iam.serving import http

from .conftest import rest


def _wait(said, seconds=5.0):
    ends = time.monotonic() + seconds
    while not said() and time.monotonic() < ends:
        time.sleep(0.01)
    return said()


def test_a51_long_invented_header_names_are_not_remembered(running):
    """Otherwise 512 names of 120 KB stay in memory for ever."""
    for number in range(3):
        name = b"x%d" % number + b"n" * 60_000
        running.ask(b"GET /now HTTP/1.1\r\nHost: a\r\n" + name + b": 1\r\nConnection: close\r\n\r\n")
    assert sum(len(name) for name in running.server.names) < 10_000


def test_last_answer_is_whole_for_a_client_that_reads_slowly(running):
    """The connection lingers after the answer is out, not while it is on its way. Spec: RFC 9112 §9.6."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(10)
        client.connect(("127.0.0.1", running.port))
        client.sendall(b"GET /eight HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert _wait(lambda: any(one._is_lingering for one in running.server.connections))
        running.wait_seconds(http.LINGER_SECONDS + 3)
        seen = rest(client)
    assert len(seen.partition(b"\r\n\r\n")[2]) == 8_000_000


def test_a51_bodies_of_requests_that_wait_for_a_thread_are_bounded(running, monkeypatch):
    """Also of clients that are gone: whoever sends and leaves, and again, does not fill the memory."""
    monkeypatch.setattr(http, "BODIES_KEPT_MAX", 2_000_000)
    held = [running.connect() for _ in range(2)]
    for one in held:
        one.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    assert _wait(lambda: len(running.application.asked) == 2)
    body = b"x" * 200_000
    refused = 0
    for _ in range(30):
        client = running.connect()
        client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        client.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            refused += b" 503 " in client.recv(1000)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # a reset
    assert refused >= 18
    running.application.go.set()
    for one in held:
        one.close()
    assert _wait(lambda: running.server.bodies_kept == 0)
    assert len(running.application.asked) == 2  # nobody waits for the others any more


def test_thread_outlives_whatever_an_application_raises(running):
    for _ in range(3):
        assert b" 500 " in running.ask(b"GET /exits HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b" 200 " in running.ask(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")


def test_header_with_a_line_end_and_no_body_is_a_500(running):
    said = running.ask(b"GET /split-empty HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b" 500 " in said
    assert b"stolen" not in said


def test_requests_ahead_of_a_closed_half_are_all_answered(running):
    many = b"".join(
        b"GET /%d HTTP/1.1\r\nHost: a\r\nX-Filler: %b\r\n\r\n" % (n, b"f" * 3_000) for n in range(6)
    )
    assert running.ask(many).count(b"HTTP/1.1 200") == 6


def test_a50_fragment_in_an_absolute_target_is_refused(running):
    assert b" 400 " in running.ask(b"GET http://a/x#y HTTP/1.1\r\nHost: a\r\n\r\n")


def test_address_of_version_six_keeps_its_brackets(running):
    said = running.ask(b"GET http://[::1]:81/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["HTTP_HOST"] == "[::1]:81"


def test_expectation_of_a_request_that_waited_is_met(running):
    with running.connect() as client:
        client.sendall(
            b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
            b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        assert _wait(lambda: running.application.asked)
        running.application.go.set()
        client.settimeout(3)
        seen = b""
        with contextlib.suppress(TimeoutError):
            while b" 100 " not in seen:
                block = client.recv(65_536)
                assert block
                seen += block
    assert b" 100 Continue" in seen


def test_loop_does_not_wait_for_a_thread_that_reads_the_memory_from_sqlite(monkeypatch):
    monkeypatch.setattr(memory, "connection", SimpleNamespace(vendor="sqlite"))
    with memory._lock:
        one = threading.Thread(target=memory.listen, daemon=True)
        one.start()
        one.join(2)
        assert not one.is_alive()
