"""All servers of one directory, which of them is asked, and the connections kept to them.

Connections that search and connections that try people's passwords are kept apart, so that nothing is ever
searched with a person's rights. Which server is asked is decided by breakers (`breaker`): a server that does not
answer costs one question its share of the time, once.
"""

import logging
import os
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar, assert_never

from directory.breaker import Breaker, Reading, Trouble
from directory.budget import Budget
from directory.channel import build_context
from directory.config import PasswordForm, Server, Source
from directory.errors import DirectoryError, UnavailableReason
from directory.policy import (
    NO_STATE,
    PasswordProblem,
    PasswordState,
    Refusal,
    read_windows_problem,
    read_windows_refusal,
    write_change,
    write_windows_password,
)
from directory.wire import PASSING, SUCCESS, Done, Modification, SearchAnswer, Wire

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

# For a server whose breaker is not closed, when no other answered: it may have come back this moment.
LAST_RESORT_SECONDS = 1.0
TROUBLES = {
    UnavailableReason.TIMEOUT: Trouble.FROZEN,
    UnavailableReason.LAGGING: Trouble.LAGGING,
}
# Answers that judge the pair of name and password, whatever words the server chose (RFC 4511 §4.1.9): wrong, no
# password there, no such entry, not a name, locked, not willing for this account. Everything else but success
# is the server's own trouble and no judgement.
REJECTIONS = frozenset({49, 48, 32, 34, 19, 53})
REFERRAL, CONSTRAINT, NOT_ALLOWED = 10, 19, 50
# Of a new password: the old one in the request was not right (53 is slapd's word for it).
UNWILLING = 53
WRONG_OLD = frozenset({49, UNWILLING})
MODIFY_ADD, MODIFY_DELETE, MODIFY_REPLACE = "MODIFY_ADD", "MODIFY_DELETE", "MODIFY_REPLACE"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a directory thinks of a name and a password: why it refused them, or what it says of the password."""

    refusal: Refusal | None
    state: PasswordState = NO_STATE


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a new password: nothing to say is a success."""

    refusal: Refusal | None = None  # the old one was not taken
    problem: PasswordProblem | None = None  # the new one was not taken


class Purpose(StrEnum):
    """What a connection is for; they are never mixed."""

    SEARCH = "search"  # bound as the service account
    JUDGE = "judge"  # bound as whoever's password was tried last
    WRITE = "write"  # bound as the account that may set passwords


class Gateway:
    """All servers of one source, with the connections kept to them. Safe for threads; not for forks."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.process = os.getpid()
        self._lock = threading.Lock()
        self._kept: defaultdict[tuple[Server, Purpose], list[Wire]] = defaultdict(list)
        self._breakers = {server: Breaker() for server in source.servers}
        self._probers: list[threading.Thread] = []
        self._context: tuple[tuple[int, int], ssl.SSLContext] | None = None

    def search(self, base: str, condition: str, attributes: tuple[str, ...], entries_max: int, budget: Budget
               ) -> SearchAnswer:  # fmt: skip
        """Search as the service account; `entries_max` 0 = no limit of ours. Raises DirectoryError."""
        return self._ask(
            Purpose.SEARCH,
            budget,
            lambda wire, share: wire.search(base, condition, attributes, entries_max, share),
        )

    def is_open_to_strangers(self, base: str, condition: str, budget: Budget) -> bool:
        """Say whether the first server shows an entry to a connection that never bound; raises DirectoryError."""
        wire = self.open(self.in_order()[0], Purpose.JUDGE, budget)
        try:
            return bool(wire.search(base, condition, ("1.1",), 1, budget).entries)
        except DirectoryError as fault:
            if fault.reason is not UnavailableReason.REFUSED:
                raise
            return False
        finally:
            wire.close()

    def judge(self, dn: str, password: str, budget: Budget) -> Judgement:
        """Try a person's password and say what the directory thinks of it; raises DirectoryError.

        A judgement is never asked of a second server: each would count the wrong password.
        """
        return self._ask(Purpose.JUDGE, budget, lambda wire, share: _judge(wire, dn, password, share))

    def change_password(self, dn: str, old: str, new: str, budget: Budget) -> Change:
        """Set a new password for who knows the old one; raises DirectoryError.

        As the person, so that the directory's own rules apply; where a password is too old to bind with, by the
        account that may set passwords, with the old one in the request: it is still the directory that compares.
        """
        if self.source.password_form is PasswordForm.UNICODE_PWD:
            return self._ask(
                Purpose.WRITE,
                budget,
                lambda wire, share: _change_in_windows(wire, dn, old, new, share),
                is_repeatable=False,
            )
        change = self._ask(
            Purpose.JUDGE,
            budget,
            lambda wire, share: _change_own(wire, dn, old, new, share),
            is_repeatable=False,
        )
        if change.refusal in (Refusal.MUST_CHANGE, Refusal.EXPIRED) and self.source.writer_dn:
            value = write_change(dn, old.encode("utf-8"), new.encode("utf-8"))
            return self._ask(
                Purpose.WRITE,
                budget,
                lambda wire, share: _changed(wire.set_password(value, share)),
                is_repeatable=False,
            )
        return change

    def reset_password(self, dn: str, new: str, budget: Budget) -> Change:
        """Set a password that must be changed at the next sign-in; raises DirectoryError."""
        act = _reset_in_windows if self.source.password_form is PasswordForm.UNICODE_PWD else _reset
        return self._ask(
            Purpose.WRITE, budget, lambda wire, share: act(wire, dn, new, share), is_repeatable=False
        )

    def set_password(self, dn: str, new: str, budget: Budget) -> Change:
        """Set the password that its person chose, without knowing the old one; raises DirectoryError."""
        act = _set_in_windows if self.source.password_form is PasswordForm.UNICODE_PWD else _set
        return self._ask(Purpose.WRITE, budget, lambda wire, share: act(wire, dn, new, share))

    def modify(self, dn: str, changes: tuple[Modification, ...], budget: Budget) -> Done:
        """Change an entry by the account that may write; raises DirectoryError."""
        return self._ask(Purpose.WRITE, budget, lambda wire, share: _passing(wire.modify(dn, changes, share)))

    def close(self) -> None:
        """Close the kept connections; waits for probes, which would keep another one."""
        with self._lock:
            probers, self._probers = self._probers, []
        for prober in probers:
            prober.join()
        with self._lock:
            wires = [wire for wires in self._kept.values() for wire in wires]
            self._kept.clear()
        for wire in wires:
            wire.close()

    def states(self) -> dict[str, Reading]:
        """Return what the breakers of the servers are, by address."""
        return {server.url: breaker.read() for server, breaker in self._breakers.items()}

    def _ask(
        self,
        purpose: Purpose,
        budget: Budget,
        act: Callable[[Wire, Budget], Answer],
        *,
        is_repeatable: bool = True,
    ) -> Answer:
        """Ask the servers in order until one answers.

        What was asked with `is_repeatable` false is asked once: after a time-out nobody knows what was done.
        """
        servers = self.in_order()
        for position, server in enumerate(servers):
            left = len(servers) - position
            share = budget.share(left)
            if left < len(servers) and not self._breakers[server].is_closed:
                share = share.at_most(LAST_RESORT_SECONDS)
            try:
                answer = self._ask_one(server, purpose, share, act, is_repeatable=is_repeatable)
            except DirectoryError as fault:
                logger.warning("directory %s, %s: %s", self.source.name, server.url, fault)
                if fault.may_try_next:
                    self.report(server, fault)
                if left == 1 or not fault.may_try_next:
                    raise
            else:
                self._breakers[server].succeed(time.monotonic())
                return answer
        raise AssertionError  # a source has at least one server

    def _ask_one(
        self,
        server: Server,
        purpose: Purpose,
        budget: Budget,
        act: Callable[[Wire, Budget], Answer],
        *,
        is_repeatable: bool,
    ) -> Answer:
        kept = self._take(server, purpose)
        if kept is not None:
            try:
                return self._use(server, purpose, kept, budget, act, is_repeatable=is_repeatable)
            except DirectoryError as fault:
                if not (fault.is_dead_connection and is_repeatable):
                    raise
                # The server was restarted since; all that was kept is as dead. One more try, on a fresh connection.
                self._forget(server)
        wire = self.open(server, purpose, budget)
        return self._use(server, purpose, wire, budget, act, is_repeatable=is_repeatable)

    def _use(
        self,
        server: Server,
        purpose: Purpose,
        wire: Wire,
        budget: Budget,
        act: Callable[[Wire, Budget], Answer],
        *,
        is_repeatable: bool,
    ) -> Answer:
        is_whole = False
        try:
            answer = act(wire, budget)
            is_whole = True
        except DirectoryError as fault:
            if not is_repeatable and fault.reason is not UnavailableReason.REFUSED:
                self.report(server, fault)
                fault.may_try_next = False
            raise
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
                return self._bound(wire, self.source.bind_dn, self.source.bind_password, budget)
            case Purpose.WRITE:
                if not self.source.writer_dn:
                    wire.close()
                    raise DirectoryError(
                        UnavailableReason.REFUSED,
                        "no account that may write is configured",
                        may_try_next=False,
                    )
                return self._bound(wire, self.source.writer_dn, self.source.writer_password, budget)
            case _:
                assert_never(purpose)

    def _bound(self, wire: Wire, dn: str, password: str, budget: Budget) -> Wire:
        try:
            code = wire.bind(dn, password.encode("utf-8"), budget).code
        except DirectoryError:
            wire.close()
            raise
        if code != SUCCESS:
            wire.close()
            raise DirectoryError(
                UnavailableReason.REFUSED, f"the bind of {dn.partition(',')[0]} ended with result {code}"
            )
        return wire

    def in_order(self) -> list[Server]:
        """Return the servers as configured, those whose breakers are not closed last; starts probes that are due."""
        now = time.monotonic()
        for server, breaker in self._breakers.items():
            if breaker.take_probe(now):
                prober = threading.Thread(
                    target=self._probe, args=(server, breaker), name="directory-probe", daemon=True
                )
                with self._lock:
                    self._probers = [thread for thread in self._probers if thread.is_alive()] + [prober]
                    prober.start()
        return sorted(self.source.servers, key=lambda server: not self._breakers[server].is_closed)

    def report(self, server: Server, fault: DirectoryError) -> None:
        """Take note that a server gave no answer of use."""
        self._breakers[server].fail(TROUBLES.get(fault.reason, Trouble.REFUSING), time.monotonic())
        if fault.reason is not UnavailableReason.LAGGING:
            # What silenced one connection silenced the others: the next question dials anew.
            self._forget(server)

    def succeed(self, server: Server) -> None:
        """Take note that a server answered."""
        self._breakers[server].succeed(time.monotonic())

    def probe(self, server: Server) -> None:
        """Connect, bind as the service account and read the root entry: what every question needs.

        Raises DirectoryError.
        """
        budget = Budget.start(self.source.connect_seconds)
        wire = self.open(server, Purpose.SEARCH, budget)
        self._use(server, Purpose.SEARCH, wire, budget, Wire.probe, is_repeatable=True)

    def _probe(self, server: Server, breaker: Breaker) -> None:
        trouble = Trouble.REFUSING
        try:
            self.probe(server)
            trouble = Trouble.NONE
        except DirectoryError as fault:
            trouble = TROUBLES.get(fault.reason, Trouble.REFUSING)
        finally:
            breaker.end_probe(trouble, time.monotonic())

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


def _judge(wire: Wire, dn: str, password: str, budget: Budget) -> Judgement:
    done = wire.bind(dn, password.encode("utf-8"), budget)
    if done.code == SUCCESS:
        return Judgement(None, done.policy.state)
    if done.code in REJECTIONS:
        refusal = done.policy.refusal
        return Judgement(refusal if refusal is not Refusal.WRONG else read_windows_refusal(done.text))
    raise DirectoryError(
        UnavailableReason.REFUSED,
        f"a person's bind ended with result {done.code}",
        may_try_next=done.code in PASSING,
    )


def _change_own(wire: Wire, dn: str, old: str, new: str, budget: Budget) -> Change:
    judged = _judge(wire, dn, old, budget)
    if judged.refusal is not None:
        return Change(judged.refusal)
    done = wire.set_password(write_change(dn, old.encode("utf-8"), new.encode("utf-8")), budget)
    if done.code == UNWILLING:
        # A server that lets people write their passwords and not compare them; the bind has just compared it.
        done = wire.set_password(write_change(dn, None, new.encode("utf-8")), budget)
    return _changed(done)


def _change_in_windows(wire: Wire, dn: str, old: str, new: str, budget: Budget) -> Change:
    return _changed(
        wire.modify(
            dn,
            (
                Modification(MODIFY_DELETE, "unicodePwd", (write_windows_password(old),)),
                Modification(MODIFY_ADD, "unicodePwd", (write_windows_password(new),)),
            ),
            budget,
        )
    )


def _set(wire: Wire, dn: str, new: str, budget: Budget) -> Change:
    change = _changed(wire.set_password(write_change(dn, None, new.encode("utf-8")), budget))
    if change == Change():
        # A mark from an earlier reset would ask for another change; usually there is none, and that is as good.
        wire.modify(dn, (Modification(MODIFY_DELETE, "pwdReset", ()),), budget)
    return change


def _set_in_windows(wire: Wire, dn: str, new: str, budget: Budget) -> Change:
    new_value = Modification(MODIFY_REPLACE, "unicodePwd", (write_windows_password(new),))
    return _changed(wire.modify(dn, (new_value,), budget))


def _reset(wire: Wire, dn: str, new: str, budget: Budget) -> Change:
    change = _changed(wire.set_password(write_change(dn, None, new.encode("utf-8")), budget))
    if change == Change():
        # slapd marks it by itself only when its root resets; without the mark a known password would stay good.
        done = wire.modify(dn, (Modification(MODIFY_REPLACE, "pwdReset", (b"TRUE",)),), budget)
        if done.code != SUCCESS:
            raise DirectoryError(
                UnavailableReason.REFUSED,
                f"the password was set, and that it must be changed was not (result {done.code})",
                may_try_next=False,
            )
    return change


def _reset_in_windows(wire: Wire, dn: str, new: str, budget: Budget) -> Change:
    return _changed(
        wire.modify(
            dn,
            (
                Modification(MODIFY_REPLACE, "unicodePwd", (write_windows_password(new),)),
                Modification(MODIFY_REPLACE, "pwdLastSet", (b"0",)),
            ),
            budget,
        )
    )


def _changed(done: Done) -> Change:
    """Say what became of a new password: taken, refused for a reason, or the old one was wrong."""
    if done.code == SUCCESS:
        return Change()
    _passing(done)
    problem = done.policy.problem or read_windows_problem(done.text)
    if problem is not None:
        return Change(problem=problem)
    if done.code in WRONG_OLD or done.text.strip().startswith("00000056"):
        return Change(Refusal.WRONG)
    if done.code == CONSTRAINT:
        return Change(problem=PasswordProblem.POLICY)
    if done.code == NOT_ALLOWED:
        return Change(problem=PasswordProblem.NOT_ALLOWED)
    raise DirectoryError(
        UnavailableReason.REFUSED, f"a new password ended with result {done.code}", may_try_next=False
    )


def _passing(done: Done) -> Done:
    """Raise for what another server may do better: busy, or a copy that may not be written (a referral)."""
    if done.code in PASSING or done.code == REFERRAL:
        raise DirectoryError(UnavailableReason.REFUSED, f"a write ended with result {done.code}")
    return done
