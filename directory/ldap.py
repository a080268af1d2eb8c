"""Speaks LDAP: the only file that knows ldap3, and the only one that sends a password anywhere.

ldap3 is used for messages, filters and results. What it gets wrong by default is done here: it does not check
certificates, waits for ever, follows referrals with the password in hand, reads the schema at each bind,
takes a limited result for a whole one, and waits 40 ms for each new TLS connection (no TCP_NODELAY).

Connections that search and connections that try people's passwords are kept apart, so that nothing is ever
searched with a person's rights. A connection is thrown away on any error.
"""

import contextlib
import logging
import os
import select
import socket
import ssl
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from pathlib import Path
from typing import Any, TypeVar, assert_never

with warnings.catch_warnings():
    # ldap3 2.9.1 reads names that pyasn1 0.6 renamed; nobody but ldap3 can change that.
    warnings.simplefilter("ignore", DeprecationWarning)
    import ldap3
    from ldap3.core.exceptions import (
        LDAPExceptionError,
        LDAPSessionTerminatedByServerError,
        LDAPStartTLSError,
    )
    from ldap3.strategy.sync import SyncStrategy
    from pyasn1.error import PyAsn1Error

from directory.budget import Budget
from directory.config import Server, Source
from directory.entries import RawEntry
from directory.errors import DirectoryError, UnavailableReason

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

PASSWORD_MAX = 1024  # code points; no directory takes longer ones, and ten megabytes must not travel
ANSWER_BYTES_MAX = 8 * 1024 * 1024  # of one question: some 30,000 groups, or a directory gone mad
RECEIVE_BYTES = 64 * 1024
SEQUENCE_TAG = 0x30  # every LDAP message is one
INDEFINITE_LENGTH = 0x80  # above it: so many bytes of length follow
LONGEST_LENGTH = 0x84
KEPT_IDLE_SECONDS = 60.0  # below the idle limits of common servers and firewalls
KEPT_LIFE_SECONDS = 600.0  # a changed certificate or authority is noticed within this time
COOLING_SECONDS = 30.0  # a server that gave no answer is asked last for so long
ADDRESS_SECONDS = 60.0  # how long a looked-up address is used before it is looked up again

SUCCESS = 0
TIME_LIMIT = 3
SIZE_LIMIT = 4
# Answers that judge the pair of name and password, whatever words the server chose (RFC 4511 §4.1.9): wrong, no
# password there, no such entry, not a name, locked, not willing for this account. Everything else but success
# is the server's own trouble and no judgement.
REJECTIONS = frozenset({49, 48, 32, 34, 19, 53})
# busy, unavailable, other: this server cannot, another one may
PASSING = frozenset({51, 52, 80})

# What ldap3's decoder raises when the bytes are no LDAP: it indexes, converts and looks up without checking.
GARBAGE = (LDAPExceptionError, PyAsn1Error, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
           RecursionError, OSError)  # fmt: skip


class Purpose(StrEnum):
    """What a connection is for; the two are never mixed."""

    SEARCH = "search"  # bound as the service account
    JUDGE = "judge"  # bound as whoever's password was tried last


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The entries of a search; `is_cut` when our own `entries_max` was reached and there may be more."""

    entries: tuple[RawEntry, ...]
    is_cut: bool


class _BoundedSocket:
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

    def has_something_unasked(self) -> bool:
        """Say whether bytes or the end of the connection wait although nothing was asked."""
        if self._waiting or (isinstance(self.plain, ssl.SSLSocket) and self.plain.pending()):
            return True
        poll = select.poll()
        poll.register(self.plain, select.POLLIN | select.POLLPRI | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(0))

    def _bounded(self, act: Callable[[], Answer]) -> Answer:
        try:
            self.plain.settimeout(self.budget.left())
            return act()
        except DirectoryError as fault:
            self.fault = self.fault or fault
            raise OSError("out of time") from fault
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


class VerifiedTls(ldap3.Tls):
    """ldap3's TLS with a context of our own, in which the certificate is always checked.

    ldap3 checks nothing by default, and its own check of names knows no addresses from Python 3.12 on.
    """

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context, self._host = context, host

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        """Protect the connection's socket; called by ldap3 after StartTLS, by us for ldaps."""
        # Any: ldap3's own signature
        connection.socket.protect(self._context, self._host)


class _BoundedStrategy(SyncStrategy):
    """ldap3's synchronous strategy over a socket that we opened, and which it may not open again.

    ldap3 reopens a closed connection inside bind(): after a broken StartTLS the password would go in clear.
    """

    def __init__(self, connection: Any, channel: _BoundedSocket) -> None:  # Any: ldap3's Connection
        super().__init__(connection)
        self._channel: _BoundedSocket | None = channel

    def open(self, reset_usage: bool = True, read_server_info: bool = True) -> None:
        """Take the socket once; raises OSError the second time."""
        channel, self._channel = self._channel, None
        if channel is None:
            raise OSError("this connection has ended")
        self._outstanding: dict[int, Any] = {}  # Any: ldap3's own requests
        self.connection.socket = channel
        self.connection.closed = False
        self.connection.listening = True

    def receiving(self) -> list[bytes]:  # type: ignore[override]
        """Receive one message."""
        return [self.connection.socket.read_message()]


class Wire:
    """One protected connection to one server."""

    def __init__(self, source: Source, server: Server, context: ssl.SSLContext, budget: Budget) -> None:
        """Connect and protect; raises DirectoryError."""
        self.opened = self.used = time.monotonic()
        self._channel = _BoundedSocket(_dial(server, budget, source.connect_seconds), budget)
        tls = VerifiedTls(context, server.host)
        self._ldap = ldap3.Connection(
            ldap3.Server(
                server.host,
                server.port,
                use_ssl=False,
                get_info=ldap3.NONE,
                tls=tls,
                allowed_referral_hosts=[],
            ),
            client_strategy=ldap3.SYNC,
            auto_bind=ldap3.AUTO_BIND_NONE,
            auto_referrals=False,
            auto_range=False,
            check_names=False,
            return_empty_attributes=False,
            read_only=True,
            receive_timeout=ceil(source.budget_seconds),  # ours is finer; this one must never be None
        )
        strategy = _BoundedStrategy(self._ldap, self._channel)
        self._ldap.strategy = strategy
        for name in ("open", "send", "get_response", "post_send_single_response", "post_send_search"):
            setattr(self._ldap, name, getattr(strategy, name))
        with self._faults():
            self._ldap.open(read_server_info=False)
            if server.is_ldaps:
                tls.wrap_socket(self._ldap, do_handshake=True)
            else:
                self._start_tls()

    def bind(self, dn: str, password: bytes, budget: Budget) -> int:
        """Try a name with a password and return the result code; 0 alone is success. Raises DirectoryError."""
        if not dn.strip() or "\0" in dn or not password.strip() or b"\0" in password:
            raise ValueError("an empty name or password would bind as nobody")  # RFC 4513 §5.1.2
        if not self._channel.is_protected:
            raise AssertionError("a password must not leave before the certificate was checked")
        self._begin(budget)
        try:
            with self._faults():
                # Bytes, so that ldap3 does not apply SASLprep: it refuses right passwords that mix Arabic letters
                # and digits. Deviates: RFC 4511 §4.2 (SHOULD prepare), because what was set is what was typed.
                self._ldap.user, self._ldap.password = dn, password
                self._ldap.authentication = ldap3.SIMPLE
                self._ldap.bind(read_server_info=False)
                return self._result("bindResponse")
        finally:
            self._ldap.user = self._ldap.password = self._ldap.request = None

    def search(
        self, base: str, condition: str, attributes: tuple[str, ...], entries_max: int, budget: Budget
    ) -> SearchAnswer:
        """Search the whole subtree; raises DirectoryError for everything but a whole or self-limited answer."""
        self._begin(budget)
        with self._faults():
            self._ldap.search(
                base,
                condition,
                search_scope=ldap3.SUBTREE,
                dereference_aliases=ldap3.DEREF_NEVER,
                attributes=list(attributes),
                size_limit=entries_max,
                time_limit=ceil(budget.left()),
            )
            code = self._result("searchResDone")
            # References to other servers are passed over: we ask whom the settings name, nobody else.
            entries = tuple(
                RawEntry(
                    bytes(item["raw_dn"]),
                    {
                        name.lower(): tuple(map(bytes, values or ()))
                        for name, values in item["raw_attributes"].items()
                    },
                )
                for item in self._ldap.response or ()
                if item["type"] == "searchResEntry"
            )
        self._ldap.response = self._ldap.request = None
        if code == SIZE_LIMIT and entries_max and len(entries) >= entries_max:
            return SearchAnswer(entries, is_cut=True)
        if code == TIME_LIMIT:
            raise DirectoryError(UnavailableReason.TIMEOUT, "the server's own time limit")
        if code != SUCCESS:
            # ldap3 calls a limited result a success; half a list of groups would be half the rights, or none.
            raise DirectoryError(
                UnavailableReason.REFUSED, f"search ended with result {code}", may_try_next=code in PASSING
            )
        return SearchAnswer(entries, is_cut=False)

    def is_fit(self) -> bool:
        """Say whether a kept connection may be used again."""
        now = time.monotonic()
        is_young = now - self.used < KEPT_IDLE_SECONDS and now - self.opened < KEPT_LIFE_SECONDS
        return is_young and not self._channel.has_something_unasked()

    def close(self) -> None:
        """Close without a word; an unbind would wait on a server that does not answer."""
        self._ldap.closed = True
        with contextlib.suppress(OSError):
            self._channel.close()

    def _start_tls(self) -> None:
        try:
            self._ldap.start_tls(read_server_info=False)
        except LDAPStartTLSError:
            # The server, or somebody between us, says no to encryption: no reason to go on without.
            fault = self._channel.fault or DirectoryError(UnavailableReason.TLS, "StartTLS was refused")
            raise fault from None

    def _begin(self, budget: Budget) -> None:
        budget.left()
        self.used = time.monotonic()
        self._channel.begin(budget)

    def _result(self, kind: str) -> int:
        result = self._ldap.result
        if (
            not isinstance(result, dict)
            or result.get("type") != kind
            or not isinstance(result.get("result"), int)
        ):
            raise DirectoryError(UnavailableReason.NONSENSE, f"the answer is no {kind}")
        return int(result["result"])

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn whatever ldap3 raises into our reason, and end the connection with it."""
        try:
            yield
        except DirectoryError:
            self.close()
            raise
        except LDAPSessionTerminatedByServerError:
            self.close()
            raise self._channel.fault or DirectoryError(
                UnavailableReason.UNREACHABLE, "the server said good-bye", is_dead_connection=True
            ) from None
        except GARBAGE as error:
            self.close()
            fault = self._channel.fault or DirectoryError(
                UnavailableReason.NONSENSE, f"the answer cannot be read ({type(error).__name__})"
            )
            # Without the cause: ldap3's texts quote what was sent and received.
            raise fault from None


class Gateway:
    """All servers of one source, with the connections kept to them. Safe for threads; not for forks."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.process = os.getpid()
        self._lock = threading.Lock()
        self._kept: defaultdict[tuple[Server, Purpose], list[Wire]] = defaultdict(list)
        self._cooling: dict[Server, float] = {}
        self._context: tuple[tuple[int, int], ssl.SSLContext] | None = None

    def search(self, base: str, condition: str, attributes: tuple[str, ...], entries_max: int, budget: Budget
               ) -> SearchAnswer:  # fmt: skip
        """Search as the service account; `entries_max` 0 = no limit of ours. Raises DirectoryError."""
        return self._ask(
            Purpose.SEARCH,
            budget,
            lambda wire, share: wire.search(base, condition, attributes, entries_max, share),
        )

    def judge(self, dn: str, password: str, budget: Budget) -> bool:
        """Try a person's password and say whether the directory took it; raises DirectoryError.

        A judgement is never asked of a second server: each would count the wrong password.
        """
        return self._ask(Purpose.JUDGE, budget, lambda wire, share: _judge(wire, dn, password, share))

    def close(self) -> None:
        """Close the kept connections."""
        with self._lock:
            wires = [wire for wires in self._kept.values() for wire in wires]
            self._kept.clear()
        for wire in wires:
            wire.close()

    def _ask(self, purpose: Purpose, budget: Budget, act: Callable[[Wire, Budget], Answer]) -> Answer:
        servers = self._in_order()
        for position, server in enumerate(servers):
            left = len(servers) - position
            try:
                return self._ask_one(server, purpose, budget.share(left), act)
            except DirectoryError as fault:
                logger.warning("directory %s, %s: %s", self.source.name, server.url, fault)
                if fault.may_try_next:
                    self._cool(server)
                    # What silenced one connection silenced the others: the next question dials anew.
                    self._forget(server)
                if left == 1 or not fault.may_try_next:
                    raise
        raise AssertionError  # a source has at least one server

    def _ask_one(
        self, server: Server, purpose: Purpose, budget: Budget, act: Callable[[Wire, Budget], Answer]
    ) -> Answer:
        kept = self._take(server, purpose)
        if kept is not None:
            try:
                return self._use(server, purpose, kept, budget, act)
            except DirectoryError as fault:
                if not fault.is_dead_connection:
                    raise
                # The server was restarted since; all that was kept is as dead. One more try, on a fresh connection.
                self._forget(server)
        return self._use(server, purpose, self._open(server, purpose, budget), budget, act)

    def _use(
        self,
        server: Server,
        purpose: Purpose,
        wire: Wire,
        budget: Budget,
        act: Callable[[Wire, Budget], Answer],
    ) -> Answer:
        is_whole = False
        try:
            answer = act(wire, budget)
            is_whole = True
        finally:
            if not is_whole:
                wire.close()
        self._keep(server, purpose, wire)
        return answer

    def _open(self, server: Server, purpose: Purpose, budget: Budget) -> Wire:
        wire = Wire(self.source, server, self._tls_context(), budget)
        match purpose:
            case Purpose.JUDGE:
                return wire
            case Purpose.SEARCH:
                try:
                    code = wire.bind(self.source.bind_dn, self.source.bind_password.encode("utf-8"), budget)
                except DirectoryError:
                    wire.close()
                    raise
                if code != SUCCESS:
                    wire.close()
                    raise DirectoryError(
                        UnavailableReason.REFUSED, f"the service account's bind ended with result {code}"
                    )
                return wire
            case _:
                assert_never(purpose)

    def _in_order(self) -> list[Server]:
        """Return the servers as configured, those that lately gave no answer last."""
        now = time.monotonic()
        with self._lock:
            return sorted(self.source.servers, key=lambda server: self._cooling.get(server, 0.0) > now)

    def _cool(self, server: Server) -> None:
        with self._lock:
            self._cooling[server] = time.monotonic() + COOLING_SECONDS

    def _take(self, server: Server, purpose: Purpose) -> Wire | None:
        while True:
            with self._lock:
                kept = self._kept[server, purpose]
                wire = kept.pop() if kept else None
            if wire is None or wire.is_fit():
                return wire
            wire.close()

    def _keep(self, server: Server, purpose: Purpose, wire: Wire) -> None:
        with self._lock:
            kept = self._kept[server, purpose]
            self._cooling.pop(server, None)
            if len(kept) < self.source.kept_connections_max:
                kept.append(wire)
                return
        wire.close()

    def _forget(self, server: Server) -> None:
        with self._lock:
            wires = [wire for purpose in Purpose for wire in self._kept.pop((server, purpose), [])]
        for wire in wires:
            wire.close()

    def _tls_context(self) -> ssl.SSLContext:
        """Return the context, built again when the file of authorities has changed."""
        path = self.source.ca_file
        try:
            state = Path(path).stat() if path else None
            version = (state.st_mtime_ns, state.st_size) if state else (0, 0)
            with self._lock:
                if self._context is None or self._context[0] != version:
                    self._context = (version, _build_context(path))
                return self._context[1]
        except (OSError, ssl.SSLError) as error:
            raise DirectoryError(
                UnavailableReason.TLS, f"the file of authorities cannot be used: {error}", may_try_next=False
            ) from None


def _build_context(ca_file: str) -> ssl.SSLContext:
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


def _judge(wire: Wire, dn: str, password: str, budget: Budget) -> bool:
    code = wire.bind(dn, password.encode("utf-8"), budget)
    if code == SUCCESS:
        return True
    if code in REJECTIONS:
        return False
    raise DirectoryError(
        UnavailableReason.REFUSED, f"a person's bind ended with result {code}", may_try_next=code in PASSING
    )


def is_sendable_password(password: str) -> bool:
    """Say whether a password may be sent at all: not empty, not only spaces, no NUL, not too long, real text."""
    if len(password) > PASSWORD_MAX or not password.strip() or "\0" in password:
        return False
    try:
        return bool(password.encode("utf-8").strip())
    except UnicodeEncodeError:
        return False


# -- reaching a server --------------------------------------------------------------------------------------

_addresses: dict[tuple[str, int], tuple[float, list[Any]]] = {}  # Any: getaddrinfo's own tuples


def _dial(server: Server, budget: Budget, connect_seconds: float) -> socket.socket:
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
