"""Follows one directory for ever: whoever leads hears it, everybody else waits to lead.

The leader is elected by an advisory lock on PostgreSQL and a file lock on SQLite; both end with the process that
has them, however it ends. What was heard is applied by the engine, one transaction a burst, so that the next leader
begins where the last one committed. A connection that hears nothing is not trusted: twice a minute another one asks.
"""

import contextlib
import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from threading import Event

from django.db import DatabaseError, InterfaceError, connection, connections

from directory import store
from directory.batch import Overtaken
from directory.changes import Change, Effects, Ending, Reader, Reading
from directory.config import Source
from directory.engine import Engine, Refused
from directory.errors import DirectoryError, UnavailableReason
from directory.readers import open_reader

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done; seconds but for the hour."""

    tick: float = 0.5  # after so much silence what is due without the directory is done
    heartbeat: float = 30.0
    standby: float = 2.0  # how soon after the leader another one leads
    patience: float = 1.0  # before a directory that does not answer is asked again, doubled each time
    patience_max: float = 30.0
    compare_hour: int = 2  # UTC; a whole comparison is due once a day from this hour on
    compare_per_second: int = 5000  # entries; the directory has other work


PACE = Pace()


class Listener:
    """Follows one source until stopped. For a thread of its own."""

    def __init__(
        self,
        source: Source,
        effects: Callable[[], Effects],
        pace: Pace = PACE,
        readers: Callable[[Source], Reader] = open_reader,
    ) -> None:
        self._source = source
        self._make_effects = effects
        self._pace = pace
        self._readers = readers
        self._name = source.name

    def run(self, stop: Event) -> None:
        """Lead whenever nobody else does, until `stop` is set."""
        patience = self._pace.patience
        while not stop.is_set():
            began = time.monotonic()
            try:
                with leadership(self._name) as leads:
                    if not leads:
                        stop.wait(self._pace.standby)
                        continue
                    self._lead(stop)
            except Overtaken:
                logger.info("directory %s: somebody else applied a batch; following anew", self._name)
                continue
            except (DirectoryError, Refused) as problem:
                self._note_trouble(str(problem))
            except (DatabaseError, InterfaceError) as problem:
                logger.warning("directory %s: the database: %s", self._name, problem)
                connection.close()
            except Exception:  # the outermost loop of a worker: whatever it was, leavers must still get out
                logger.exception("directory %s: trying again", self._name)
                self._note_trouble("an error of ours, see the log")
            if time.monotonic() - began > self._pace.patience_max:
                patience = self._pace.patience
            stop.wait(patience)
            patience = min(patience * 2, self._pace.patience_max)
        connection.close()

    def _note_trouble(self, words: str) -> None:
        logger.warning("directory %s: %s", self._name, words)
        with contextlib.suppress(DatabaseError, InterfaceError):
            store.note(self._name, trouble=words, trouble_at=datetime.now(UTC))

    def _lead(self, stop: Event) -> None:
        store.note(self._name, leader=f"{socket.gethostname()}:{os.getpid()}")
        logger.info("directory %s: following", self._name)
        engine = Engine(self._source, self._make_effects())
        with contextlib.ExitStack() as stack:
            stack.callback(self._stop_leading)
            reader = self._readers(self._source)
            stack.callback(reader.close)
            second = self._readers(self._source)
            stack.callback(second.close)
            compare = _Comparison(self, stop)
            stack.callback(compare.wait)
            self._follow(engine, reader, second, compare, stop)

    def _stop_leading(self) -> None:
        with contextlib.suppress(DatabaseError, InterfaceError):
            store.note(self._name, leader="")

    def _follow(
        self, engine: Engine, reader: Reader, second: Reader, compare: "_Comparison", stop: Event
    ) -> None:
        cookie = store.read_state(self._name).cookie
        # What is due may not wait until the directory answers: an end of a contract needs no directory.
        engine.expire()
        beat = 0.0
        for reading in reader.follow(cookie, stop, idle_seconds=self._pace.tick):
            cookie = engine.take(reading, reader, cookie).cookie
            if stop.is_set():
                return
            engine.expire()
            engine.recheck()
            if time.monotonic() - beat >= self._pace.heartbeat:
                if beat and not engine.take(second.poll(cookie), second, cookie).is_empty:
                    # The stream should have said so: it is dead, or late. What it says now may be older than this.
                    logger.warning("directory %s: the stream is deaf; following anew", self._name)
                    engine.hear()
                    return
                engine.hear()
                beat = time.monotonic()
                compare.begin_if_due()

    def compare(self, stop: Event) -> None:
        """Read everything at leisure and repair what differs, beside the stream."""
        engine = Engine(self._source, self._make_effects())
        reader = self._readers(self._source)
        try:
            outcome = engine.take(Throttled(reader.full(), self._pace.compare_per_second, stop), reader)
            logger.info("directory %s: compared; repaired %s", self._name, outcome.plan.sizes())
            store.note(self._name, findings=[finding.value for finding in reader.check()])
        except (DirectoryError, Refused, Overtaken, DatabaseError, InterfaceError) as problem:
            logger.warning("directory %s: the comparison was broken off: %s", self._name, problem)
        finally:
            reader.close()
            connections.close_all()

    def is_compare_due(self, now: datetime) -> bool:
        """Say whether the last whole comparison is from before the last hour of comparing."""
        hour = now.replace(hour=self._pace.compare_hour, minute=0, second=0, microsecond=0)
        last = hour if hour <= now else hour - timedelta(days=1)
        done = store.completed_at(self._name)
        return done is None or done < last


class _Comparison:
    """The nightly comparison, in a thread of its own: the stream goes on meanwhile."""

    def __init__(self, listener: Listener, stop: Event) -> None:
        self._listener = listener
        self._outer = stop
        self._stop = Event()
        self._thread: threading.Thread | None = None
        self._not_before = datetime.min.replace(tzinfo=UTC)

    def begin_if_due(self) -> None:
        now = datetime.now(UTC)
        if self._thread is not None and self._thread.is_alive():
            return
        if now >= self._not_before and self._listener.is_compare_due(now):
            self._not_before = now + timedelta(hours=1)  # one that fails is not tried again at once
            self._thread = threading.Thread(target=self._listener.compare, args=(self._stop,), daemon=True)
            self._thread.start()

    def wait(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(30)


class Throttled:
    """A reading that is read at so many entries a second; `stop` ends it with an error."""

    def __init__(self, reading: Reading, per_second: int, stop: Event) -> None:
        self._reading = reading
        self._per_second = per_second
        self._stop = stop

    def __iter__(self) -> Iterator[Change]:
        began = time.monotonic()
        for number, change in enumerate(self._reading):
            if number % 200 == 0:
                ahead = number / self._per_second - (time.monotonic() - began)
                if self._stop.wait(max(0.0, ahead)):
                    raise DirectoryError(UnavailableReason.UNREACHABLE, "asked to stop")
            yield change

    def ending(self) -> Ending:
        """Return how it ended."""
        return self._reading.ending()


# -- who leads -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def leadership(source: str) -> Iterator[bool]:
    """Try to lead a source; say whether this one does. It ends with the block, the process or the connection."""
    if connection.vendor == "postgresql":
        with _advisory_lock(source) as leads:
            yield leads
    else:
        with _file_lock(source) as leads:
            yield leads


@contextlib.contextmanager
def _advisory_lock(source: str) -> Iterator[bool]:
    # On the connection that writes: who lost the lock cannot write either.
    number = int.from_bytes(
        blake2b(f"directory:{source}".encode(), digest_size=8).digest(), "big", signed=True
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
        leads = bool(cursor.fetchone()[0])
    try:
        yield leads
    finally:
        if leads:
            with contextlib.suppress(DatabaseError, InterfaceError), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [number])


@contextlib.contextmanager
def _file_lock(source: str) -> Iterator[bool]:
    database = str(connection.settings_dict["NAME"])
    key = blake2b(source.encode(), digest_size=6).hexdigest()  # names of sources may not be names of files
    path = Path(f"{database}.directory-{key}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leads = True
        except BlockingIOError:
            leads = False
        yield leads
    finally:
        os.close(descriptor)  # which unlocks; the file stays, for removing it could make two of them
