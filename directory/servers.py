"""All servers of one directory, and the connections kept to them.

Connections that search and connections that try people's passwords are kept apart, so that nothing is ever
searched with a person's rights.
"""

import logging
import os
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar, assert_never

from directory.budget import Budget
from directory.channel import build_context
from directory.config import Server, Source
from directory.errors import DirectoryError, UnavailableReason
from directory.wire import PASSING, SUCCESS, SearchAnswer, Wire

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

COOLING_SECONDS = 30.0  # a server that gave no answer is asked last for so long
# Answers that judge the pair of name and password, whatever words the server chose (RFC 4511 §4.1.9): wrong, no
# password there, no such entry, not a name, locked, not willing for this account. Everything else but success
# is the server's own trouble and no judgement.
REJECTIONS = frozenset({49, 48, 32, 34, 19, 53})


class Purpose(StrEnum):
    """What a connection is for; the two are never mixed."""

    SEARCH = "search"  # bound as the service account
    JUDGE = "judge"  # bound as whoever's password was tried last


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
        servers = self.in_order()
        for position, server in enumerate(servers):
            left = len(servers) - position
            try:
                return self._ask_one(server, purpose, budget.share(left), act)
            except DirectoryError as fault:
                logger.warning("directory %s, %s: %s", self.source.name, server.url, fault)
                if fault.may_try_next:
                    self.cool(server)
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
        return self._use(server, purpose, self.open(server, purpose, budget), budget, act)

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

    def open(self, server: Server, purpose: Purpose, budget: Budget) -> Wire:
        """Open a new connection, bound as the service account if it is for searching; raises DirectoryError."""
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

    def in_order(self) -> list[Server]:
        """Return the servers as configured, those that lately gave no answer last."""
        now = time.monotonic()
        with self._lock:
            return sorted(self.source.servers, key=lambda server: self._cooling.get(server, 0.0) > now)

    def cool(self, server: Server) -> None:
        """Ask a server last for a while."""
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
                    self._context = (version, build_context(path))
                return self._context[1]
        except (OSError, ssl.SSLError) as error:
            raise DirectoryError(
                UnavailableReason.TLS, f"the file of authorities cannot be used: {error}", may_try_next=False
            ) from None


def _judge(wire: Wire, dn: str, password: str, budget: Budget) -> bool:
    code = wire.bind(dn, password.encode("utf-8"), budget)
    if code == SUCCESS:
        return True
    if code in REJECTIONS:
        return False
    raise DirectoryError(
        UnavailableReason.REFUSED, f"a person's bind ended with result {code}", may_try_next=code in PASSING
    )
