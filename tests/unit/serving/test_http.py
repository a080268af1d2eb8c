"""HTTP as the server reads and writes it. What is unclear is refused, and the connection closed."""

import json
import threading
import time

import pytest

from iam.serving import http

from .conftest import rest

HOST = b"Host: localhost\r\n"


def said(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), answer
    return json.loads(body)


# -- requests that are clear ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET /a%20b?c=%20d HTTP/1.1\r\n" + HOST + b"\r\n",
         {"REQUEST_METHOD": "GET", "PATH_INFO": "/a b", "QUERY_STRING": "c=%20d", "HTTP_HOST": "localhost", "SCRIPT_NAME": ""}),
        (b"GET http://other.example:81/x?y HTTP/1.1\r\n" + HOST + b"\r\n",
         {"PATH_INFO": "/x", "QUERY_STRING": "y", "HTTP_HOST": "other.example:81"}),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", {"REQUEST_METHOD": "OPTIONS", "PATH_INFO": "/*"}),
        (b"GET /x HTTP/1.0\r\n\r\n", {"SERVER_PROTOCOL": "HTTP/1.0", "REMOTE_ADDR": "127.0.0.1"}),
        (b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
         {"CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "5", "body": 5, "begins": "hello"}),
        (b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Trailer: 1\r\n\r\n",
         {"CONTENT_LENGTH": "5", "body": 5, "begins": "hello"}),
        (b"GET /x HTTP/1.1\r\n" + HOST + b"X-Forwarded-For: 10.0.0.1 \t\r\nX-Forwarded-For: 10.0.0.2\r\n\r\n",
         {"HTTP_X_FORWARDED_FOR": "10.0.0.1,10.0.0.2"}),
        (b"GET /x HTTP/1.1\r\n" + HOST + b"Cookie: a=1\r\nCookie: b=2\r\n\r\n", {"HTTP_COOKIE": "a=1; b=2"}),
        (b"GET /x HTTP/1.1\r\n" + HOST + b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n", {"PATH_INFO": "/x"}),
    ],
    ids=["encoded", "absolute", "asterisk", "http-1.0", "body", "chunked", "joined", "cookies", "upgrade-ignored"],
)  # fmt: skip
def test_request_is_told_to_the_application(running, request_, expected):
    answer = said(running.ask(request_))

    assert expected.items() <= answer.items()
    assert not {"HTTP_TRANSFER_ENCODING", "HTTP_X_TRAILER"} & answer.keys()


def test_a41_header_with_an_underscore_does_not_pass_for_the_proxys(running):
    request = b"GET /x HTTP/1.1\r\n" + HOST + b"X_Forwarded_For: 10.9.9.9\r\nClient_Cert: :x:\r\n\r\n"

    answer = said(running.ask(request))

    assert not {"HTTP_X_FORWARDED_FOR", "HTTP_CLIENT_CERT"} & answer.keys()


def test_requests_on_one_connection_are_answered_in_their_order(running):
    paths = ["/now", "/x", "/now", "/y", "/now"]

    answer = running.ask(b"".join(f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n" for path in paths))

    assert answer.count(b"HTTP/1.1 200 OK") == len(paths)
    assert [path for _, path in running.application.asked] == paths
    assert answer.index(b'"PATH_INFO": "/x"') < answer.index(b'"PATH_INFO": "/y"')


def test_request_that_comes_byte_by_byte_is_one(running):
    with running.connect() as client:
        for byte in b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc":
            client.sendall(bytes([byte]))

        assert said(rest(client))["begins"] == "abc"


def test_expectation_is_met_before_the_body(running):
    with running.connect() as client:
        client.sendall(
            b"POST /x HTTP/1.1\r\n"
            + HOST
            + b"Content-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")

        assert said(rest(client))["begins"] == "abc"


# -- requests that are not -----------------------------------------------------------------------------------------

_CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n" + _CHUNKED + b"\r\n0\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\n" + HOST + _CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: +3\r\n\r\nabc", 400),
        (b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\nabc", 400),
        (b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length : 3\r\n\r\nabc", 400),
        (b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST /x HTTP/1.0\r\n" + HOST + _CHUNKED + b"\r\n0\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\n" + HOST + _CHUNKED + b"\r\n3\nabc\r\n0\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\n" + HOST + _CHUNKED + b"\r\n-3\r\nabc\r\n0\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\n" + HOST + b"\r\n", 400),
        (b"GET /x HTTP/1.1\r\n" + HOST + b"X: a\r\n folded\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\n" + HOST + b" X: a\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        (b"GET /x HTTP/1.1\r\n" + HOST + b"Expect: more\r\n\r\n", 417),
        (b"GET /x#y HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET ftp://localhost/x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://me@localhost/x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT localhost:443 HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"GET /x HTTP/0.9\r\n" + HOST + b"\r\n", 505),
        (b"GET /x HTTP/1.2\r\n" + HOST + b"\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"EVIL /x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /x HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: 1\r\n" % n for n in range(http.HEADERS_MAX)) + b"\r\n", 431),
        (b"GET /" + b"x" * (http.HEAD_BYTES_MAX + http.SLICE_BYTES) + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
        (b"GET /x HTTP/1.1\r\n" + HOST + b"X: " + b"x" * (2 * http.HEAD_BYTES_MAX), 431),
    ],
)  # fmt: skip
def test_a50_unclear_request_is_refused_and_nothing_behind_it_is_read(running, request_, status):
    behind = b"GET /behind HTTP/1.1\r\n" + HOST + b"\r\n"

    answer = running.ask(request_ + behind)

    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert running.application.asked == []


def test_request_behind_the_last_one_is_not_read(running):
    last = b"GET /now HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"

    answer = running.ask(last + b"GET /behind HTTP/1.1\r\n" + HOST + b"\r\n")

    assert answer.count(b"HTTP/1.1 200") == 1
    assert running.application.asked == [("GET", "/now")]


def test_what_follows_an_upgrade_is_not_read(running):
    asks = b"GET /now HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"

    answer = running.ask(asks + b"GET /behind HTTP/1.1\r\n" + HOST + b"\r\n")

    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"Connection: close" in answer
    assert running.application.asked == [("GET", "/now")]


def test_many_requests_at_once_while_one_is_worked_on_are_refused_in_the_end(running):
    asked = (b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n") * (http.PIPELINED_MAX + 20)

    with running.connect() as client:
        client.sendall(asked)
        time.sleep(0.1)
        running.application.go.set()
        answer = rest(client)

    assert answer.count(b"HTTP/1.1 200") == http.PIPELINED_MAX + 1


# -- limits --------------------------------------------------------------------------------------------------------


def test_large_body_is_read_to_its_end_and_kept_in_part(running):
    size = http.BODY_KEPT_MAX + 100_000
    request = b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % size

    answer = said(running.ask(request + b"b" * size))

    assert answer["CONTENT_LENGTH"] == str(size)
    assert answer["body"] == http.BODY_KEPT_MAX
    assert running.server.bodies_kept == 0


def test_body_without_end_is_answered_and_the_connection_closed(running):
    request = b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 999999999\r\n\r\n"
    with running.connect() as client:
        client.sendall(request + b"b" * (http.BODY_READ_MAX + 20_000))

        answer = rest(client)

    assert b"Connection: close" in answer
    assert said(answer)["CONTENT_LENGTH"] == "999999999"


def test_chunks_without_end_are_answered_and_the_connection_closed(running):
    request = b"POST /x HTTP/1.1\r\n" + HOST + _CHUNKED + b"\r\n"
    with running.connect() as client:
        client.sendall(request + b"1\r\nb\r\n" * (http.BODY_READ_MAX // 6 + 4_000))

        answer = rest(client)

    assert b"Connection: close" in answer


def test_bodies_of_all_clients_together_are_bounded(running, monkeypatch):
    monkeypatch.setattr(http, "BODIES_KEPT_MAX", 1_000)

    answer = running.ask(b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 2000\r\n\r\n" + b"b" * 2_000)

    assert answer.startswith(b"HTTP/1.1 503 ")
    assert running.server.bodies_kept == 0


def test_more_clients_than_there_may_be_are_turned_away(running, monkeypatch):
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 2)
    with running.connect() as first, running.connect() as second, running.connect() as third:
        for client in (first, second):
            client.sendall(b"GET /now HTTP/1.1\r\n" + HOST + b"\r\n")
            assert client.recv(100)

        assert rest(third) == b""


@pytest.mark.parametrize(
    "begun",
    [b"GET /now HT", b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\na"],
    ids=["head", "body"],
)
def test_a51_client_that_never_ends_its_request_is_told_so(running, begun):
    with running.connect() as client:
        client.sendall(begun)
        time.sleep(0.1)
        running.wait_seconds(http.REQUEST_SECONDS + 1)

        assert rest(client).startswith(b"HTTP/1.1 408 ")


def test_a51_client_that_sends_a_byte_now_and_then_gains_no_time(running):
    with running.connect() as client:
        for byte in b"GET /now HTTP/1.":
            client.sendall(bytes([byte]))
            time.sleep(0.005)
            running.wait_seconds(2)

        assert rest(client).startswith(b"HTTP/1.1 408 ")


def test_connection_that_rests_is_closed_without_a_word(running):
    with running.connect() as client:
        client.sendall(b"GET /now HTTP/1.1\r\n" + HOST + b"\r\n")
        assert client.recv(1_000).endswith(b"now")
        running.wait_seconds(http.IDLE_SECONDS - 1)
        client.sendall(b"GET /now HTTP/1.1\r\n" + HOST + b"\r\n")
        assert client.recv(1_000).endswith(b"now")
        running.wait_seconds(http.IDLE_SECONDS + 1)

        assert rest(client) == b""


def test_client_that_does_not_read_is_cut_off_and_its_thread_set_free(running):
    with running.connect() as client:
        client.sendall(b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n")
        client.recv(10)
        time.sleep(0.3)
        running.wait_seconds(http.WRITE_SECONDS + 1)
        assert len(rest(client)) < 64_000_000

    assert said(running.ask(b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"))


def test_client_that_asks_and_asks_and_does_not_read_is_not_served_for_ever(running):
    with running.connect() as client:
        client.settimeout(0.5)
        many = (b"GET /now HTTP/1.1\r\n" + HOST + b"\r\n") * 400_000
        with pytest.raises(TimeoutError):
            client.sendall(many)

        assert 0 < len(running.application.asked) < 400_000


# -- answers -------------------------------------------------------------------------------------------------------


def test_streamed_answer_is_chunked(running):
    answer = running.ask(b"GET /stream HTTP/1.1\r\n" + HOST + b"\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nTransfer-Encoding: chunked" in head
    assert body == b"7\r\npart 0;\r\n7\r\npart 1;\r\n7\r\npart 2;\r\n0\r\n\r\n"


def test_streamed_answer_to_an_old_client_ends_with_the_connection(running):
    answer = running.ask(b"GET /stream HTTP/1.0\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert body == b"part 0;part 1;part 2;"


def test_large_answer_arrives_whole(running):
    _, _, body = running.ask(b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n").partition(b"\r\n\r\n")

    assert len(body) == 64_000_000


@pytest.mark.parametrize("path", ["/now", "/x", "/stream", "/long"])
def test_head_has_no_body(running, path):
    answer = running.ask(f"HEAD {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n")
    assert answer.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize(("path", "status"), [("/nothing", 204), ("/unchanged", 304)])
def test_status_without_a_body_has_none_and_the_connection_stays(running, path, status):
    answer = running.ask(
        f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\nGET /now HTTP/1.1\r\n" + HOST + b"\r\n"
    )

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"not sent" not in answer
    assert answer.endswith(b"now")


def test_every_answer_is_dated(running):
    assert running.ask(b"GET /now HTTP/1.1\r\n" + HOST + b"\r\n").count(b"\r\nDate: ") == 1
    assert running.ask(b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n").count(b"\r\nDate: ") == 1


def test_failure_is_a_500_and_the_thread_goes_on(running, caplog):
    for _ in range(4):
        assert running.ask(b"GET /fails HTTP/1.1\r\n" + HOST + b"\r\n").startswith(b"HTTP/1.1 500 ")

    assert said(running.ask(b"GET /x HTTP/1.1\r\n" + HOST + b"\r\n"))
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("path", ["/fails-later", "/short"])
def test_answer_that_breaks_off_closes_the_connection(running, path):
    with running.connect() as client:
        client.sendall(f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n")
        answer = rest(client)

    assert b"chunked" not in answer
    assert len(answer.partition(b"\r\n\r\n")[2]) < 100


def test_answer_that_is_longer_than_it_says_is_cut(running):
    answer = running.ask(b"GET /long HTTP/1.1\r\n" + HOST + b"\r\nGET /now HTTP/1.1\r\n" + HOST + b"\r\n")

    assert b"\r\n\r\nlongeHTTP/1.1 200 OK" in answer


def test_header_with_a_line_end_is_not_sent(running):
    answer = running.ask(b"GET /split HTTP/1.1\r\n" + HOST + b"\r\n")

    assert b"stolen" not in answer
    assert not answer.startswith(b"HTTP/1.1 200")


def test_client_that_closed_its_half_is_answered(running):
    with running.connect() as client:
        client.sendall(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n")
        client.shutdown(1)
        threading.Timer(0.1, running.application.go.set).start()

        assert said(rest(client))


# -- stopping ------------------------------------------------------------------------------------------------------


def test_stopping_lets_an_answer_end_and_closes_what_rests(running):
    with running.connect() as resting, running.connect() as asking:
        resting.sendall(b"GET /now HTTP/1.1\r\n" + HOST + b"\r\n")
        assert resting.recv(1_000).endswith(b"now")
        asking.sendall(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n")
        time.sleep(0.1)

        running.on_loop(running.server.stop)

        assert rest(resting) == b""
        running.application.go.set()
        answer = rest(asking)
        assert b"Connection: close" in answer
        assert said(answer)
