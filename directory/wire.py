"""Speaks LDAP over one connection: the only file that knows ldap3, and the only one that sends a password anywhere.

ldap3 is used for requests, filters and small answers. What it gets wrong by default is done here and in
`channel`: it does not check certificates, waits for ever, follows referrals with the password in hand, reads the
schema at each bind, takes a limited result for a whole one, and waits 40 ms for each new TLS connection.
Answers of any size are streamed, and read by `ber`: ldap3 takes twelve times as long and holds them whole.

A connection is thrown away on any error.
"""

import contextlib
import ssl
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

with warnings.catch_warnings():
    # ldap3 2.9.1 reads names that pyasn1 0.6 renamed; nobody but ldap3 can change that.
    warnings.simplefilter("ignore", DeprecationWarning)
    import ldap3
    from ldap3.core.exceptions import (
        LDAPExceptionError,
        LDAPSessionTerminatedByServerError,
        LDAPStartTLSError,
    )
    from ldap3.operation.modify import modify_operation
    from ldap3.operation.search import search_operation
    from ldap3.strategy.sync import SyncStrategy
    from pyasn1.error import PyAsn1Error

from directory import ber
from directory.budget import Budget
from directory.channel import Channel, dial
from directory.config import Server, Source
from directory.entries import RawEntry
from directory.errors import DirectoryError, UnavailableReason
from directory.policy import NO_ANSWER, PASSWORD_MODIFY, POLICY_CONTROL, PolicyAnswer, read_policy

PASSWORD_MAX = 1024  # code points; no directory takes longer ones, and ten megabytes must not travel
KEPT_IDLE_SECONDS = 60.0  # below the idle limits of common servers and firewalls
KEPT_LIFE_SECONDS = 600.0  # a changed certificate or authority is noticed within this time

SUCCESS = 0
TIME_LIMIT = 3
SIZE_LIMIT = 4
NO_SUCH_ENTRY = 32
# busy, unavailable, other: this server cannot, another one may
PASSING = frozenset({51, 52, 80})

# What ldap3's decoder raises when the bytes are no LDAP: it indexes, converts and looks up without checking.
GARBAGE = (LDAPExceptionError, PyAsn1Error, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
           RecursionError, OSError)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The entries of a search; `is_cut` when our own `entries_max` was reached and there may be more."""

    entries: tuple[RawEntry, ...]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Done:
    """How an operation that is no search ended; `text` is the server's own, for operators and for its codes."""

    code: int
    text: str = ""
    policy: PolicyAnswer = NO_ANSWER


@dataclass(frozen=True, slots=True)
class Modification:
    """One change of one attribute: `act` is MODIFY_ADD, MODIFY_DELETE or MODIFY_REPLACE."""

    act: str
    attribute: str
    values: tuple[bytes, ...]


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

    def __init__(self, connection: Any, channel: Channel) -> None:  # Any: ldap3's Connection
        super().__init__(connection)
        self._channel: Channel | None = channel

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


@dataclass(frozen=True, slots=True)
class Control:
    """A control of a request. A critical one that the server does not know makes it refuse."""

    name: str
    value: bytes
    is_critical: bool = True


class Stream:
    """The answers to one search, as they come. Take them one by one, or look first whether there are any.

    `messages` raises DirectoryError when nothing comes for `silence_seconds`, when the connection breaks, when
    what comes is no LDAP, and when it answers another question.
    """

    def __init__(self, channel: Channel, number: int, silence_seconds: float) -> None:
        self._channel, self._number, self._silence_seconds = channel, number, silence_seconds
        self._ready: deque[ber.Message] = deque()
        self._splitter = ber.Splitter()
        self.messages = self._take()

    def has_something(self, seconds: float = 0.0) -> bool:
        """Say whether something is there to be taken, waiting for it up to `seconds`."""
        return bool(self._ready) or self._channel.has_something(seconds)

    def _take(self) -> Iterator[ber.Message]:
        while True:
            while self._ready:
                message = self._ready.popleft()
                if message.number != self._number:
                    self._refuse(message)
                yield message
            data = self._channel.receive(self._silence_seconds)
            try:
                self._ready.extend(self._splitter.feed(data))
            except ber.BERError as error:
                raise DirectoryError(UnavailableReason.NONSENSE, str(error)) from None

    def _refuse(self, message: ber.Message) -> None:
        if message.number == 0:  # Spec: RFC 4511 §4.4.1
            raise DirectoryError(
                UnavailableReason.UNREACHABLE, "the server said good-bye", is_dead_connection=True
            )
        raise DirectoryError(UnavailableReason.NONSENSE, "the answer is to another question")


class Wire:
    """One protected connection to one server."""

    def __init__(self, source: Source, server: Server, context: ssl.SSLContext, budget: Budget) -> None:
        """Connect and protect; raises DirectoryError."""
        self.opened = self.used = time.monotonic()
        self._channel = Channel(dial(server, budget, source.connect_seconds), budget)
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

    def bind(self, dn: str, password: bytes, budget: Budget) -> Done:
        """Try a name with a password; code 0 alone is success. Raises DirectoryError."""
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
                self._ldap.bind(read_server_info=False, controls=[(POLICY_CONTROL, False, None)])
                return self._done("bindResponse")
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

    def probe(self, budget: Budget) -> None:
        """Read the root entry, which every server has; raises DirectoryError unless it answers at all.

        Whether it shows the entry does not matter: some show it to nobody.
        """
        self._begin(budget)
        with self._faults():
            self._ldap.search("", "(objectClass=*)", ldap3.BASE, attributes=["1.1"], time_limit=1)
            code = self._result("searchResDone")
        self._ldap.response = self._ldap.request = None
        if code in PASSING:
            raise DirectoryError(UnavailableReason.REFUSED, f"the root entry ended with result {code}")

    def read(
        self, dn: str, attributes: tuple[str, ...], budget: Budget, controls: Sequence[Control] = ()
    ) -> RawEntry | None:
        """Read one entry by its name, the root entry by ""; None when it is not there, or hidden. Raises DirectoryError."""
        self._begin(budget)
        with self._faults():
            self._ldap.search(
                dn,
                "(objectClass=*)",
                ldap3.BASE,
                dereference_aliases=ldap3.DEREF_NEVER,
                attributes=list(attributes),
                time_limit=ceil(budget.left()),
                controls=[(control.name, control.is_critical, control.value) for control in controls] or None,
            )
            code = self._result("searchResDone")
            found = [item for item in self._ldap.response or () if item["type"] == "searchResEntry"]
        self._ldap.response = self._ldap.request = None
        if code == NO_SUCH_ENTRY or (code == SUCCESS and not found):
            return None
        if code != SUCCESS:
            raise DirectoryError(
                UnavailableReason.REFUSED,
                f"reading an entry ended with result {code}",
                may_try_next=code in PASSING,
            )
        return RawEntry(
            bytes(found[0]["raw_dn"]),
            {
                name.lower(): tuple(map(bytes, values or ()))
                for name, values in found[0]["raw_attributes"].items()
            },
        )

    def stream(
        self,
        base: str,
        condition: str,
        attributes: tuple[str, ...],
        controls: Sequence[Control],
        silence_seconds: float,
    ) -> Stream:
        """Send a search of the whole subtree without limits of ours, and return its answers as a stream.

        Nothing else may be asked until the stream has brought the end of the search, or the wire is closed.
        Raises DirectoryError.
        """
        self._begin(Budget.start(silence_seconds))
        with self._faults():
            request = search_operation(
                base, condition, ldap3.SUBTREE, ldap3.DEREF_NEVER, list(attributes), 0, 0, False, False, False
            )
            number = self._ldap.send(
                "searchRequest",
                request,
                [(control.name, control.is_critical, control.value) for control in controls],
            )
        self._ldap.strategy._outstanding.clear()
        self._ldap.request = None
        return Stream(self._channel, number, silence_seconds)

    def set_password(self, value: bytes, budget: Budget) -> Done:
        """Send a password modify request, written by `policy.write_change`. Raises DirectoryError.

        Spec: RFC 3062 §2.
        """
        if not self._channel.is_protected:
            raise AssertionError("a password must not leave before the certificate was checked")
        self._begin(budget)
        try:
            with self._faults():
                self._ldap.extended(PASSWORD_MODIFY, value, [(POLICY_CONTROL, False, None)], no_encode=True)
                return self._done("extendedResp")
        finally:
            self._ldap.request = self._ldap.response = None

    def modify(self, dn: str, changes: Sequence[Modification], budget: Budget) -> Done:
        """Change one entry. Raises DirectoryError."""
        self._begin(budget)
        try:
            with self._faults():
                wanted: dict[str, list[tuple[str, list[bytes]]]] = {}
                for change in changes:
                    wanted.setdefault(change.attribute, []).append((change.act, list(change.values)))
                # Not ldap3's own modify(): our connections are made read-only, and this is the one exception.
                number = self._ldap.send(
                    "modifyRequest", modify_operation(dn, wanted, False, None, None, False)
                )
                self._ldap.post_send_single_response(number)
                return self._done("modifyResponse")
        finally:
            self._ldap.request = self._ldap.response = None

    def is_fit(self) -> bool:
        """Say whether a kept connection may be used again."""
        now = time.monotonic()
        is_young = now - self.used < KEPT_IDLE_SECONDS and now - self.opened < KEPT_LIFE_SECONDS
        return is_young and not self._channel.has_something()

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

    def _done(self, kind: str) -> Done:
        code = self._result(kind)
        text = self._ldap.result.get("message")
        controls = self._ldap.result.get("controls")
        control = controls.get(POLICY_CONTROL) if isinstance(controls, dict) else None
        value = control.get("value") if isinstance(control, dict) else None
        return Done(
            code,
            text if isinstance(text, str) else "",
            read_policy(bytes(value)) if isinstance(value, bytes) else NO_ANSWER,
        )

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


def is_sendable_password(password: str) -> bool:
    """Say whether a password may be sent at all: not empty, not only spaces, no NUL, not too long, real text."""
    if len(password) > PASSWORD_MAX or not password.strip() or "\0" in password:
        return False
    try:
        return bool(password.encode("utf-8").strip())
    except UnicodeEncodeError:
        return False
