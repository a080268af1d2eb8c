"""One TCP connection under TLS, bounded in time and bytes. Knows how LDAP messages are cut, and nothing inside them.

Nothing leaves through it in clear but the question for StartTLS, and nothing after it before the certificate was
checked. Every call has only the time that is left.
"""

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from directory.budget import Budget
from directory.config import Server
from directory.errors import DirectoryError, UnavailableReason

Answer = TypeVar("Answer")

ANSWER_BYTES_MAX = 8 * 1024 * 1024  # of one question: some 30,000 groups, or a directory gone mad
RECEIVE_BYTES = 64 * 1024
SEQUENCE_TAG = 0x30  # every LDAP message is one
INDEFINITE_LENGTH = 0x80  # above it: so many bytes of length follow
LONGEST_LENGTH = 0x84
ADDRESS_SECONDS = 60.0  # how long a looked-up address is used before it is looked up again


class Channel:
    """What ldap3 takes for its socket: every call has only the time and the bytes that are left.

    A time-out of the socket alone would begin anew with every byte of a server that answers drop by drop.
    Remembers what went wrong first, for ldap3 turns errors into texts.
    """

    def __init__(self, plain: socket.socket, budget: Budget) -> None:
        self.plain: socket.socket = plain  # an SSLSocket as soon as the channel is protected
        self.budget = budget
        self.fault: DirectoryError | None = None
        self._bytes_left = ANSWER_BYTES_MAX
        self._waiting = bytearray()  # received and not yet read

    def begin(self, budget: Budget) -> None:
        """Begin a new question."""
        self.budget, self.fault, self._bytes_left = budget, None, ANSWER_BYTES_MAX

    @property
    def is_protected(self) -> bool:
        """Say whether the certificate was checked and everything sent is encrypted."""
        return isinstance(self.plain, ssl.SSLSocket)

    def read_message(self) -> bytes:
        """Read one LDAP message, whole; raises OSError, with the reason in `fault`.

        Says at once that something is no LDAP: ldap3 would wait for the end of what it takes for a length.
        Spec: RFC 4511 §5.1 (definite lengths only).
        """
        head = self._exactly(2)
        if head[0] != SEQUENCE_TAG or head[1] == INDEFINITE_LENGTH or head[1] > LONGEST_LENGTH:
            self._fail(UnavailableReason.NONSENSE, "what came is no LDAP message")
        length = head[1]
        if length > INDEFINITE_LENGTH:
            written = self._exactly(length - INDEFINITE_LENGTH)
            head, length = head + written, int.from_bytes(written, "big")
        if length > ANSWER_BYTES_MAX:
            self._fail(UnavailableReason.NONSENSE, "the answer is longer than any real one")
        return head + self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        while len(self._waiting) < size:
            data = self._bounded(lambda: self.plain.recv(RECEIVE_BYTES))
            self._bytes_left -= len(data)
            if self._bytes_left < 0:
                self._fail(UnavailableReason.NONSENSE, "the answer is longer than any real one")
            if not data:
                self._fail(
                    UnavailableReason.UNREACHABLE, "the server ended the connection", is_dead_connection=True
                )
            self._waiting += data
        taken = bytes(self._waiting[:size])
        del self._waiting[:size]
        return taken

    def receive(self, seconds: float) -> bytes:
        """Return what has come, waiting up to `seconds` if there is nothing; raises DirectoryError.

        For answers that are streamed: the time is for this piece, and pieces are not counted.
        """
        if self._waiting:
            taken = bytes(self._waiting)
            self._waiting.clear()
            return taken
        if self.plain.gettimeout() != seconds:  # to set it is a system call, and pieces are many
            self.plain.settimeout(seconds)
        self.fault = None
        try:
            data = self._named(lambda: self.plain.recv(RECEIVE_BYTES))
        except OSError:
            raise self.fault or DirectoryError(UnavailableReason.UNREACHABLE, "it broke") from None
        if not data:
            raise DirectoryError(
                UnavailableReason.UNREACHABLE, "the server ended the connection", is_dead_connection=True
            )
        return data

    def sendall(self, data: bytes) -> None:
        """Send everything; raises OSError, with the reason in `fault`."""
        self._bounded(lambda: self.plain.sendall(data))

    def protect(self, context: ssl.SSLContext, host: str) -> None:
        """Begin TLS: the certificate must be one for `host` by a trusted authority, or nothing more is sent."""
        # Clear text written behind the answer to StartTLS would be read as if it had come protected.
        if self._waiting:
            self._fail(UnavailableReason.TLS, "something came between StartTLS and TLS")
        try:
            self.plain.settimeout(self.budget.left())
            self.plain = context.wrap_socket(self.plain, server_hostname=host)
        except TimeoutError:
            self._fail(UnavailableReason.TIMEOUT, "no TLS handshake in time")
        except ssl.SSLCertVerificationError as error:
            self._fail(UnavailableReason.TLS, f"certificate refused: {error.verify_message}")
        except ssl.SSLError as error:
            self._fail(UnavailableReason.TLS, f"TLS failed: {error.reason}")
        except (OSError, ValueError) as error:
            self._fail(UnavailableReason.UNREACHABLE, f"the connection broke in the handshake: {error}")

    def shutdown(self, how: int) -> None:
        """Say that nothing more will be sent."""
        self.plain.shutdown(how)

    def close(self) -> None:
        """Close the connection."""
        self.plain.close()

    def has_something(self, seconds: float = 0.0) -> bool:
        """Say whether bytes or the end of the connection are there, waiting for them up to `seconds`."""
        if self._waiting or (isinstance(self.plain, ssl.SSLSocket) and self.plain.pending()):
            return True
        poll = select.poll()
        poll.register(self.plain, select.POLLIN | select.POLLPRI | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(seconds * 1000))

    def _bounded(self, act: Callable[[], Answer]) -> Answer:
        try:
            self.plain.settimeout(self.budget.left())
        except DirectoryError as fault:
            self.fault = self.fault or fault
            raise OSError("out of time") from fault
        except OSError as error:
            self._fail(UnavailableReason.UNREACHABLE, f"the connection broke: {error.strerror}")
        return self._named(act)

    def _named(self, act: Callable[[], Answer]) -> Answer:
        """Do what may raise, and remember what it raised by our own reasons."""
        try:
            return act()
        except TimeoutError:
            self._fail(UnavailableReason.TIMEOUT, "no answer in time")
        except ssl.SSLEOFError:
            self._fail(UnavailableReason.UNREACHABLE, "the connection broke", is_dead_connection=True)
        except ssl.SSLError as error:
            self._fail(UnavailableReason.TLS, f"TLS broke: {error.reason}", is_dead_connection=True)
        except OSError as error:
            self._fail(UnavailableReason.UNREACHABLE, f"the connection broke: {error.strerror}",
                       is_dead_connection=True)  # fmt: skip
        raise AssertionError  # _fail always raises

    def _fail(self, reason: UnavailableReason, hint: str, *, is_dead_connection: bool = False) -> None:
        self.fault = self.fault or DirectoryError(reason, hint, is_dead_connection=is_dead_connection)
        raise OSError(hint)


def build_context(ca_file: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Written out although they are this protocol's defaults: they are why a password may be sent at all.
    context.check_hostname = True
    context.verify_mode = ssl.CERT_REQUIRED
    context.hostname_checks_common_name = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        context.load_verify_locations(ca_file)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


# -- reaching a server --------------------------------------------------------------------------------------

_addresses: dict[tuple[str, int], tuple[float, list[Any]]] = {}  # Any: getaddrinfo's own tuples


def dial(server: Server, budget: Budget, connect_seconds: float) -> socket.socket:
    """Open a TCP connection to the first address that takes it; raises DirectoryError."""
    fault = DirectoryError(UnavailableReason.UNREACHABLE, "the name has no address")
    for family, kind, protocol, _, address in _look_up(
        server.host, server.port, budget.at_most(connect_seconds)
    ):
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(budget.at_most(connect_seconds).left())
            plain.connect(address)
            # Without it the first request after a TLS 1.3 handshake waits some 40 ms for a delayed ACK.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A stream may be silent for hours; firewalls forget such connections, and then nobody hears of it.
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
            return plain
        except TimeoutError:
            fault = DirectoryError(UnavailableReason.TIMEOUT, "no connection in time")
        except OSError as error:
            fault = DirectoryError(UnavailableReason.UNREACHABLE, f"no connection: {error.strerror}")
        except DirectoryError:
            plain.close()
            raise
        plain.close()
    raise fault


def _look_up(host: str, port: int, budget: Budget) -> list[Any]:  # Any: getaddrinfo's own tuples
    """Return the addresses of a host, without waiting longer than the budget for a resolver that is down.

    getaddrinfo() cannot be interrupted, so it runs beside us; an older answer is better than none.
    """
    known = _addresses.get((host, port))
    if known and time.monotonic() - known[0] < ADDRESS_SECONDS:
        return known[1]
    found: list[Any] = []

    def ask() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            _addresses[host, port] = (time.monotonic(), list(found))

    asker = threading.Thread(target=ask, name="directory-address", daemon=True)
    asker.start()
    asker.join(budget.left())
    return list(found) or (known[1] if known else [])
