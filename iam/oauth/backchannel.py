"""Tell applications that a session ended: take what the outbox holds, send it, try again until they know.

Any number of processes may deliver at once. In each, a few threads; a receiver that does not answer holds one of
them, and all such receivers together at most half, so that the others never wait for it (F15).
Spec: OIDC Back-Channel Logout §2.5, §2.7, §2.8; docs/adr/0032.
"""

import logging
import queue
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from django.db import DatabaseError, close_old_connections, transaction

from iam.access.selectors import applications
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action

from . import issuance, outbound, outbox
from .outbox import Claimed
from .protocol.errors import OAuthError
from .protocol.messages import ClientFacts
from .state import DatabaseState

logger = logging.getLogger("iam.backchannel")

# Longer than a page may wait, because nobody does: a busy application may take its time to end a session.
SEND_SECONDS = 5.0
THREADS = 8
PER_CLIENT = 2
# How long after an end the first attempt begins at the latest, when a thread is free; ten seconds are promised.
POLL_SECONDS = 0.25
# How often sessions whose time is over are looked for: a session that idled out ends within a minute.
TEND_SECONDS = 20.0
# After a stop, what is being sent may finish; what does not is sent again when its lease is over.
STOP_SECONDS = 3.0
# Half a minute of failures: nobody is told of a receiver that is just being restarted.
TELL_OWNER_AFTER = 5
ACTOR = "system:deliver"

# What sends: an address, a form and the seconds that it may take go in, the answer's status comes out.
# Raises: outbound.Refused.
Send = Callable[[str, Mapping[str, str], float], int]
# Ends the sessions whose time is over at an instant; how many is returned.
Tend = Callable[[datetime], int]


# -- one delivery -----------------------------------------------------------------------------------------------


def deliver(claimed: Claimed, send: Send) -> bool:
    """Make one attempt and write down what came of it; True when the client was told."""
    state, now = DatabaseState(), datetime.now(UTC)
    client = state.client(claimed.client_id)
    try:
        reason = _attempt(state, client, claimed, send, now)
    except Exception:  # whatever breaks here must not end the thread, nor the trying
        logger.exception("delivery %s to %s broke", claimed.id, claimed.client_id)
        reason = "broken"
    now = datetime.now(UTC)
    with transaction.atomic():
        if not reason:
            if outbox.settle_told(claimed, now):
                _record(client, claimed, Outcome.SUCCESS, "", now)
            return True
        retry_at = outbox.decide_retry(
            claimed.attempts, claimed.created_at, now, secrets.randbelow(1001) / 1000
        )
        if outbox.settle_failed(claimed, reason, retry_at, now):
            _complain(state, client, claimed, reason, retry_at, now)
    return False


def _attempt(
    state: DatabaseState, client: ClientFacts | None, claimed: Claimed, send: Send, now: datetime
) -> str:
    """Return "" when the client took the token, else why it did not, in a stable word."""
    if client is None or not client.options.backchannel_logout_uri:
        return "no_address"
    try:
        ending = issuance.clear_logout(state, client, claimed.session_id, now)
        token = issuance.logout_token(state, ending)
    except OAuthError as problem:
        return problem.reason
    except LookupError:
        return "no_key"
    try:
        status = send(client.options.backchannel_logout_uri, {"logout_token": token}, SEND_SECONDS)
    except outbound.Refused as problem:
        return problem.reason
    # 204 is what some frameworks make of an empty 200 (§2.8). Anything else, a redirect too, is a refusal.
    return "" if status in {200, 204} else f"status_{status}"


def _record(
    client: ClientFacts | None, claimed: Claimed, outcome: Outcome, reason: str, now: datetime
) -> None:
    record(
        Event(
            Action.LOGOUT_TELL,
            outcome,
            actor=ACTOR,
            now=now,
            object=f"client:{claimed.client_id}",
            reason=reason,
            method=f"attempt {claimed.attempts}",
            application=(client.application or "") if client else "",
            session=str(claimed.session_id),
        )
    )


def _complain(
    state: DatabaseState,
    client: ClientFacts | None,
    claimed: Claimed,
    reason: str,
    retry_at: datetime | None,
    now: datetime,
) -> None:
    """Tell the owner: at every delivery that is given up, else once an hour for an application that stays away."""
    if retry_at is None:
        _record(client, claimed, Outcome.ERROR, f"given_up_{reason}", now)
        logger.error(
            "%s was never told that a session ended: %s; given up after %s attempts",
            _whose(client, claimed), reason, claimed.attempts,
        )  # fmt: skip
        return
    if claimed.attempts < TELL_OWNER_AFTER:
        return
    hour = now.strftime("%Y-%m-%dT%H")
    if state.store.use_once("logout-not-reached", f"{claimed.client_id} {hour}", now + timedelta(hours=2)):
        _record(client, claimed, Outcome.ERROR, f"not_reached_{reason}", now)
        logger.error(
            "%s does not take the news of ended sessions: %s; tried again at %s",
            _whose(client, claimed), reason, retry_at.isoformat(timespec="seconds"),
        )  # fmt: skip


def _whose(client: ClientFacts | None, claimed: Claimed) -> str:
    contacts = [
        row.owner_contact
        for row in applications([client.application] if client and client.application else [])
    ]
    owner = ", ".join(contact for contact in contacts if contact) or "not written down"
    return f"client {claimed.client_id} (owner: {owner})"


# -- many -------------------------------------------------------------------------------------------------------


class Lanes:
    """Which clients have no thread to spare: by primary key, how many attempts run, and whose last one failed."""

    def __init__(self, threads: int) -> None:
        self._lock = threading.Lock()
        self._running: Counter[int] = Counter()
        self._failing: set[int] = set()
        self._for_failing = max(1, threads // 2)

    def enter(self, client: int) -> None:
        """Note that an attempt begins."""
        with self._lock:
            self._running[client] += 1

    def leave(self, client: int, *, failed: bool) -> None:
        """Note that an attempt ended, and how."""
        with self._lock:
            self._running[client] -= 1
            self._running += Counter()  # what has fallen to nothing is forgotten
            (self._failing.add if failed else self._failing.discard)(client)

    def full(self) -> frozenset[int]:
        """Return the clients that must wait: each has few threads, those that fail one, and together half of all."""
        with self._lock:
            full = {
                client
                for client, count in self._running.items()
                if count >= (1 if client in self._failing else PER_CLIENT)
            }
            if sum(self._running[client] for client in self._failing) >= self._for_failing:
                full |= self._failing
            return frozenset(full)


class Deliverer:
    """The threads of one process. `run` goes on until it is stopped; nothing claimed is lost with it."""

    def __init__(
        self,
        send: Send = outbound.post_form,
        *,
        threads: int = THREADS,
        lease: timedelta = outbox.LEASE,
        tend: Tend | None = None,
    ) -> None:
        """In: `tend` ends the sessions whose time is over; it is called now and then, and before a single round."""
        self._send, self._lease, self._threads = send, lease, threads
        self._tend, self._tended_at = tend, float("-inf")
        self._lanes = Lanes(threads)
        self._free = threading.Semaphore(threads)
        self._work: queue.SimpleQueue[Claimed] = queue.SimpleQueue()

    def run(self, stopped: threading.Event) -> None:
        """Deliver what is due, and what falls due, until `stopped`."""
        for _ in range(self._threads):
            threading.Thread(target=self._serve, daemon=True).start()
        while not stopped.is_set():
            try:
                self._tend_now_and_then()
                found = self._claim()
            except DatabaseError:  # the database restarts
                logger.exception("the outbox cannot be read; trying again")
                found = None
                close_old_connections()
            if found is None:
                stopped.wait(POLL_SECONDS)
        self._wait_for_the_running()

    def run_until_nothing_is_due(self) -> int:
        """Make one attempt at everything that is due, one after the other; return how many."""
        count = 0
        self._tend_now_and_then()
        while outbox.is_due(datetime.now(UTC)):
            claimed = outbox.claim(datetime.now(UTC), self._lease)
            if claimed is not None:
                deliver(claimed, self._send)
                count += 1
        return count

    def _tend_now_and_then(self) -> None:
        if self._tend is not None and time.monotonic() - self._tended_at >= TEND_SECONDS:
            self._tended_at = time.monotonic()
            self._tend(datetime.now(UTC))

    def _claim(self) -> Claimed | None:
        """Give the next delivery to a thread; None when nothing is due, or no thread is free."""
        if not self._free.acquire(timeout=POLL_SECONDS):
            return None
        claimed = None
        try:
            now, full = datetime.now(UTC), self._lanes.full()
            if outbox.is_due(now, full):
                claimed = outbox.claim(now, self._lease, full)
        finally:
            if claimed is None:
                self._free.release()
        if claimed is not None:
            self._lanes.enter(claimed.client_pk)
            self._work.put(claimed)
        return claimed

    def _serve(self) -> None:
        while True:
            claimed = self._work.get()
            told = False
            try:
                close_old_connections()
                told = deliver(claimed, self._send)
            except Exception:  # its result is lost: the lease ends, and it is sent again
                logger.exception("the result of delivery %s could not be written", claimed.id)
            finally:
                self._lanes.leave(claimed.client_pk, failed=not told)
                self._free.release()

    def _wait_for_the_running(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        for _ in range(self._threads):
            if not self._free.acquire(timeout=max(0.0, deadline - time.monotonic())):
                return
