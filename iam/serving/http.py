"""HTTP/1.1 between a socket and an application: one Connection for each client. Knows neither Django nor OAuth.

What a request's bytes mean is llhttp's decision (through httptools, in its strict mode); here are the limits, and
what an application is told. Whatever is unclear is refused and the connection closed: two readers that disagree
about where a request ends are how one is smuggled past a proxy. Spec: RFC 9112 §2.2, §3.2, §6.3, §9.3, §9.6.
"""

import asyncio
import logging
import threading
from collections import deque
from email.utils import formatdate
from http.client import responses
from typing import Any, Protocol, cast
from urllib.parse import unquote_to_bytes

import httptools

logger = logging.getLogger(__name__)

# The longest honest request is an authorization request with its parameters in the address, 64 KB of them.
HEAD_BYTES_MAX = 131_072
HEADERS_MAX = 100
# The application refuses what is longer; so much is kept of a body that it sees that it is.
BODY_KEPT_MAX = 262_144 + 1
# A client that sends more than it may is listened to up to here, so that it hears the answer. Spec: RFC 9112 §9.6.
BODY_READ_MAX = 2_097_152
# Of all clients of a worker together; beyond it the answer is 503.
BODIES_KEPT_MAX = 67_108_864
CONNECTIONS_MAX = 1_000
PIPELINED_MAX = 32
# So much is parsed before it is looked at whether to go on.
SLICE_BYTES = 8_192
WRITE_BUFFER_BYTES = 262_144
# A request that began is whole within this, a connection that rests is closed after this, a client that is written
# to reads within this, and one that was refused may go on sending for so long.
REQUEST_SECONDS = 30
IDLE_SECONDS = (
    75  # longer than the proxies in front of us: they close first, and no request meets a closed door
)
WRITE_SECONDS = 30
LINGER_SECONDS = 2

_NAMES_MAX = 512
_NAME_BYTES_MAX = 64

Environment = dict[str, Any]  # Any: WSGI's


class Application(Protocol):
    """Who answers requests."""

    def at_once(self, environment: Environment, body: bytes) -> tuple[bytes, bytes] | None:
        """Return head and body of the answer if nothing has to be waited for, else None. Never blocks, never raises.

        The head is the status line and headers, without the line end of the last one.
        """

    def later(self, environment: Environment, body: bytes, reply: "Reply") -> None:
        """Let a thread answer; returns at once."""


class Refused(Exception):
    """The server itself answers this request, and closes the connection."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Server:
    """What the connections of a worker share: the application, the second, and whether it is time to stop."""

    def __init__(self, application: Application, loop: asyncio.AbstractEventLoop) -> None:
        self.application = application
        self.loop = loop
        self.connections: set[Connection] = set()
        self.second = 0
        self.date = b""
        self.bodies_kept = 0
        self.is_stopping = False
        self.names: dict[bytes, str] = {}
        self.tick()

    def tick(self) -> None:
        """Move on by a second: write the date anew, and close what took too long."""
        self.second += 1
        self.date = f"\r\nDate: {formatdate(usegmt=True)}\r\n".encode()
        for connection in tuple(self.connections):
            connection.look_at_the_clock(self.second)

    def stop(self) -> None:
        """Close what rests; what is asked and answered now is closed afterwards."""
        self.is_stopping = True
        for connection in tuple(self.connections):
            connection.look_at_the_clock(self.second)

    def name_of(self, header: bytes) -> str:
        """Return the WSGI name of a header, "" for one that could pass for another: "_" looks like "-" there."""
        upper = header.upper().decode("latin-1")
        plain = upper.replace("-", "_")
        name = (
            "" if "_" in upper else plain if plain in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{plain}"
        )
        if (
            len(self.names) < _NAMES_MAX and len(header) <= _NAME_BYTES_MAX
        ):  # who invents names does not fill the memory
            self.names[header] = name
        return name


class Connection(asyncio.Protocol):
    """One client. Everything here happens in the loop's thread."""

    __slots__ = (
        "_body", "_body_kept", "_body_read", "_ends", "_environment", "_expects", "_head_read", "_headers", "_in_head",
        "_is_blocked", "_is_lingering", "_is_paused", "_is_whole", "_keeps_alive", "_parser", "_peer", "_server", "_since",
        "_stash", "_target", "_transport", "_waiting", "is_answered", "is_gone", "takes_more",
    )  # fmt: skip

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)  # until `connection_made`
        self._parser = httptools.HttpRequestParser(self)
        self._peer = ("", "")
        self._since = server.second
        self._stash = b""  # came while the one before was not answered yet
        self._waiting: deque[tuple[Environment, bytes, bool]] = deque()  # read, and not answered yet
        self.is_answered = True  # False while a thread works on the answer
        self.is_gone = False
        self.takes_more = threading.Event()  # while the client reads, and the part before is written
        self.takes_more.set()
        self._is_blocked = self._is_paused = self._is_lingering = False
        self._ends = False  # nothing more is read
        self._is_whole = True  # no request has begun
        self._in_head = self._expects = False
        self._head_read = self._body_read = self._body_kept = self._headers = 0
        self._keeps_alive = True
        self._target = b""
        self._environment: Environment = {}
        self._body: list[bytes] = []

    # -- what the loop says -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a client, or none when there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        server = self._server
        if len(server.connections) >= CONNECTIONS_MAX or server.is_stopping:
            self._ends = True
            self._transport.abort()
            return
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._peer = (str(peer[0]), str(peer[1]))
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        server.connections.add(self)

    def connection_lost(self, problem: Exception | None) -> None:
        """Forget the client, and wake a thread that waits for it."""
        self.is_gone = self._ends = True
        self._server.connections.discard(self)
        self._waiting.clear()
        self._drop_body()
        self.takes_more.set()

    def eof_received(self) -> bool:
        """Answer all the same what was asked before the client closed its half. Spec: RFC 9112 §9.6."""
        self._ends = True
        return not self._is_done()

    def pause_writing(self) -> None:
        """Read nothing from who does not read."""
        self._is_blocked, self._since = True, self._server.second
        self.takes_more.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_blocked, self._since = False, self._server.second
        self.takes_more.set()
        self._go_on()

    def data_received(self, data: bytes) -> None:
        """Read what came; what comes before the last answer is out has to wait."""
        if self._is_lingering or self._ends:
            return
        if self._stash or self._is_blocked or not self.is_answered:
            self._stash += data
            self._pause()
        else:
            self._feed(data)

    def look_at_the_clock(self, second: int) -> None:
        """Close the connection if the client takes too long for what is to be done now."""
        waited = second - self._since
        if self._is_lingering:
            # what is on its way is no linger yet: a slow client has the time of every other answer
            if waited > (WRITE_SECONDS if self._transport.get_write_buffer_size() else LINGER_SECONDS):
                self._transport.abort()
        elif self._is_blocked:
            if waited > WRITE_SECONDS:
                self._transport.abort()
        elif not self._is_done():
            pass
        elif self._ends:
            self._transport.close()
        elif not self._is_whole:
            if waited > REQUEST_SECONDS:
                self._refuse(408)
        elif waited > IDLE_SECONDS or (self._server.is_stopping and not self._stash):
            self._ends = True
            self._transport.close()

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def _is_done(self) -> bool:
        """Say whether everything that was asked is answered."""
        return self.is_answered and not self._waiting

    # -- reading ----------------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        while data:
            piece, data = (
                (data, b"") if len(data) <= SLICE_BYTES else (data[:SLICE_BYTES], data[SLICE_BYTES:])
            )
            self._parse(piece)
            if self._ends:
                return
            if data and (self._is_blocked or not self.is_answered):
                self._stash = data
                self._pause()  # the client's end is then seen behind what it sent, not before
                return

    def _parse(self, piece: bytes) -> None:
        if self._is_whole:
            self._is_whole, self._in_head, self._since = False, True, self._server.second
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            return  # nothing else is spoken here: `on_headers_complete` made this request the last one
        except httptools.HttpParserCallbackError as problem:
            cause = problem.__context__
            if not isinstance(cause, Refused):
                logger.exception("A request could not be read.", exc_info=cause)
            self._refuse(cause.status if isinstance(cause, Refused) else 500)
        except httptools.HttpParserError:
            self._refuse(400)  # or something behind the last request, which nobody reads
        if self._is_whole or self._ends:
            return
        if self._in_head:
            self._head_read += len(piece)
            if self._head_read > HEAD_BYTES_MAX:
                self._refuse(431)
        else:
            self._body_read += len(piece)
            if self._body_read > BODY_READ_MAX:
                self._keeps_alive = False
                self._complete()

    def on_message_begin(self) -> None:
        """Begin a request; httptools calls this and the following."""
        self._environment, self._target = {}, b""
        self._is_whole, self._in_head, self._expects = False, True, False
        self._head_read = self._body_read = self._headers = 0

    def on_url(self, target: bytes) -> None:
        """Take the target, or a part of it."""
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; of several of one name it makes one. Spec: RFC 9110 §5.3; RFC 9112 §7.1.2 (trailers are dropped)."""
        if not self._in_head:
            return
        self._headers += 1
        if self._headers > HEADERS_MAX:
            raise Refused(431)
        key = self._server.names.get(name)
        if key is None:
            key = self._server.name_of(name)
        if not key:
            return
        text = value.decode("latin-1").strip(" \t")
        environment = self._environment
        if key in environment:
            if key == "HTTP_HOST":
                raise Refused(400)
            text = environment[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
        environment[key] = text

    def on_headers_complete(self) -> None:
        """Judge the head. Raises: Refused. Spec: RFC 9112 §3.2, §6.1, §9.3; RFC 9110 §10.1.1."""
        self._in_head = False
        parser, environment = self._parser, self._environment
        version = parser.get_http_version()
        self._keeps_alive = version == "1.1" and parser.should_keep_alive() and not parser.should_upgrade()
        method = parser.get_method().decode("ascii")
        if version == "1.1":
            if "HTTP_HOST" not in environment:
                raise Refused(400)
        elif version != "1.0":
            raise Refused(505)
        if method == "CONNECT":
            raise Refused(405)
        environment["REQUEST_METHOD"] = method
        environment["SERVER_PROTOCOL"] = f"HTTP/{version}"
        environment["REMOTE_ADDR"], environment["REMOTE_PORT"] = self._peer
        self._read_target()
        if "HTTP_TRANSFER_ENCODING" in environment:
            coding = environment.pop("HTTP_TRANSFER_ENCODING")
            if version != "1.1":
                raise Refused(400)
            if coding.lower() != "chunked":
                raise Refused(501)
        if "HTTP_EXPECT" in environment:
            if environment["HTTP_EXPECT"].lower() != "100-continue":
                raise Refused(417)
            self._expects = version == "1.1"
            self._meet_expectation()

    def _meet_expectation(self) -> None:
        """Ask for the body, once every answer before is out."""
        if self._expects and self._is_done():
            self._expects = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _read_target(self) -> None:
        """Tell the application path and query. Raises: Refused. Spec: RFC 9112 §3.2."""
        target, environment = self._target, self._environment
        if b"#" in target:
            raise Refused(400)
        if target[:1] != b"/":
            target = self._target_of_another_form(target)
        path, _, query = target.partition(b"?")
        if b"%" in path:
            path = unquote_to_bytes(path)
        environment["PATH_INFO"] = path.decode("latin-1")
        environment["QUERY_STRING"] = query.decode("latin-1")

    def _target_of_another_form(self, target: bytes) -> bytes:
        if target == b"*":
            return b"/*"  # no address of anything: the application says so
        try:
            url = httptools.parse_url(target)
        except httptools.HttpParserInvalidURLError:
            raise Refused(400) from None
        if url.schema not in {b"http", b"https"} or not url.host or url.userinfo:
            raise Refused(400)
        port = b":%d" % url.port if url.port else b""
        host = b"[%b]" % url.host if b":" in url.host else url.host
        self._environment["HTTP_HOST"] = (host + port).decode("latin-1")  # RFC 9112 §3.2.2: this one counts
        return bytes(url.path or b"/") + (b"?" + url.query if url.query else b"")

    def on_body(self, data: bytes) -> None:
        """Keep a body as far as anybody wants to read it. Raises: Refused."""
        data = data[: BODY_KEPT_MAX - self._body_kept]
        if data:
            self._body.append(data)
            self._body_kept += len(data)
            self._server.bodies_kept += len(data)
            if self._server.bodies_kept > BODIES_KEPT_MAX:
                raise Refused(503)

    def on_message_complete(self) -> None:
        """Answer the request, or let it wait for its turn."""
        self._complete()

    def _complete(self) -> None:
        environment, body, keeps_alive = self._environment, b"", self._keeps_alive
        if self._body:
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._drop_body()
            environment.setdefault("CONTENT_LENGTH", str(len(body)))  # it came in chunks
        self._is_whole, self._expects = True, False
        if not keeps_alive:
            self._ends = True
        if self._is_done():
            self._answer(environment, body, keeps_alive)
        elif len(self._waiting) < PIPELINED_MAX:
            self._waiting.append((environment, body, keeps_alive))
        else:
            raise Refused(400)

    def _drop_body(self) -> None:
        self._server.bodies_kept -= self._body_kept
        self._body_kept = 0
        self._body = []

    # -- answering --------------------------------------------------------------------------------------------

    def _answer(self, environment: Environment, body: bytes, keeps_alive: bool) -> None:
        server = self._server
        ready = server.application.at_once(environment, body)
        if ready is None:
            if server.bodies_kept + len(body) > BODIES_KEPT_MAX:
                self._waiting.clear()
                self._say_no(503)
                return
            server.bodies_kept += len(
                body
            )  # until its thread is done with it, whether or not we are still here
            self.is_answered = False
            reply = Reply(server, self, environment, keeps_alive, len(body))
            server.application.later(environment, body, reply)
            return
        head, text = ready
        if environment["REQUEST_METHOD"] == "HEAD":
            text = b""
        if keeps_alive and not server.is_stopping:
            self._transport.write(head + server.date + b"\r\n" + text)
            self._since = server.second
        else:
            self._transport.write(head + server.date + b"Connection: close\r\n\r\n" + text)
            self._close()

    def send(self, data: bytes, is_last: bool, closes: bool) -> None:
        """Send a part of an answer that a thread makes."""
        if self.is_gone:
            return
        self._transport.write(data)
        if not is_last:
            if not self._is_blocked:
                self.takes_more.set()
        else:
            self.is_answered, self._since = True, self._server.second
            if closes:
                self._waiting.clear()
                self._close()
            else:
                self._go_on()

    def _go_on(self) -> None:
        """Answer and read what waited."""
        while self._waiting and self.is_answered and not self._is_blocked:
            self._answer(*self._waiting.popleft())
        if self._is_blocked or not self._is_done():
            return
        if self._ends:
            self._close()
            return
        if not self._stash:
            self._meet_expectation()
        else:
            data, self._stash = self._stash, b""
            self._feed(data)
        if self._is_paused and not self._stash and not self._ends:
            self._is_paused = False
            self._transport.resume_reading()

    def _refuse(self, status: int) -> None:
        """Say in a word why not, and close: where the next request begins nobody knows any more."""
        if self._ends:
            return
        self._ends = True
        if not self._is_done():
            return  # the answers before come first; then the connection is closed
        self._say_no(status)

    def _say_no(self, status: int) -> None:
        phrase = responses[status]
        self._transport.write(
            f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(phrase)}\r\n"
            "X-Content-Type-Options: nosniff\r\nCache-Control: no-store".encode()
            + self._server.date + b"Connection: close\r\n\r\n" + phrase.encode()
        )  # fmt: skip
        self._close()

    def _close(self) -> None:
        """Close our half, and the rest when the client has read: closing at once could take the answer from it.

        Spec: RFC 9112 §9.6.
        """
        self._ends = self._is_lingering = True
        self._since = self._server.second
        self._stash = b""
        self._drop_body()
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        else:
            self._transport.close()


class Reply:
    """The answer that a thread makes for one request; its methods are called in that thread, in this order."""

    __slots__ = (
        "_connection",
        "_is_chunked",
        "_is_head",
        "_keeps_alive",
        "_kept",
        "_left",
        "_protocol",
        "_server",
    )

    def __init__(
        self, server: Server, connection: Connection, environment: Environment, keeps_alive: bool, kept: int
    ) -> None:
        self._server = server
        self._connection = connection
        self._keeps_alive = keeps_alive
        self._kept = kept  # bytes of the body, which the server counts while a thread has it
        self._is_head = environment["REQUEST_METHOD"] == "HEAD"
        self._protocol = environment["SERVER_PROTOCOL"]
        self._is_chunked = False
        self._left = -1

    @property
    def is_wanted(self) -> bool:
        """Say whether the client is still there."""
        return not self._connection.is_gone

    def begin(self, status: int, head: bytes, length: int | None) -> bytes:
        """Return the head of the answer as it is to be sent. In: `length` of the body, None when nobody knows."""
        keeps_alive = self._keeps_alive and not self._server.is_stopping
        has_body = not self._is_head and status not in {204, 304} and status >= 200
        end = self._server.date
        if length is None and has_body:
            if self._protocol == "HTTP/1.1":
                self._is_chunked = True
                end += b"Transfer-Encoding: chunked\r\n"
            else:
                keeps_alive = False
        self._left = 0 if not has_body else -1 if length is None else length
        self._keeps_alive = keeps_alive
        return head + end + (b"\r\n" if keeps_alive else b"Connection: close\r\n\r\n")

    def part(self, data: bytes) -> bytes:
        """Return a part of the body as it is to be sent: never more than was announced."""
        if self._left >= 0:
            data = data[: self._left]
            self._left -= len(data)
            return data
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked and data else data

    def send(self, data: bytes) -> None:
        """Send something, waiting for a client that reads slowly. Raises: ConnectionError when it does not read at all."""
        takes_more = self._connection.takes_more
        if not takes_more.wait(2 * WRITE_SECONDS) or self._connection.is_gone:
            raise ConnectionError("the client does not read")
        takes_more.clear()
        self._server.loop.call_soon_threadsafe(self._connection.send, data, False, False)

    def finish(self, data: bytes) -> None:
        """Send the last part. An answer that is shorter than announced closes the connection, so that it shows."""
        if self._is_chunked:
            data += b"0\r\n\r\n"
        closes = not self._keeps_alive or self._left > 0
        self._tell(data, closes=closes)

    def fail(self) -> None:
        """Break off an answer that has begun: the client must not take what it has for the whole."""
        self._tell(b"", closes=True)

    def _tell(self, data: bytes, *, closes: bool) -> None:
        self._server.loop.call_soon_threadsafe(self._end, data, closes)

    def _end(self, data: bytes, closes: bool) -> None:
        self._server.bodies_kept -= self._kept
        self._kept = 0
        self._connection.send(data, True, closes)
