"""`manage.py deliver`: tell applications that sessions ended, until stopped; any number of these may run at once.

Every installation runs at least one: `make run` does, and in production it is a service of its own beside the web
workers, restarted when it ends (docs/logout.md).
"""

import logging
import signal
import threading
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import close_old_connections

from iam.lifecycle import settle_debts
from iam.management.sessions import end_sessions_that_are_over
from iam.oauth import outbox
from iam.oauth.backchannel import Deliverer

logger = logging.getLogger(__name__)
# How often directories are told what they do not know yet of what is owned here.
SETTLE_SECONDS = 5.0


def _settle_until(stopped: threading.Event) -> None:
    while not stopped.wait(SETTLE_SECONDS):
        try:
            settle_debts()
        except Exception:  # whatever it is, the debt stands in its row: the next round tries again
            logger.exception("directories could not be told what was chosen here; trying again")
        close_old_connections()


class Command(BaseCommand):
    """Deliver logout tokens."""

    help = (
        "End sign-in sessions whose time is over, and tell applications of every end, until stopped;"
        " --once: what is due now; --list: what is waiting."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare --once and --list."""
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--once", action="store_true", help="make one attempt at all that is due, and end")
        how.add_argument("--list", action="store_true", help="show what is waiting or was given up")

    def handle(self, *args: Any, **options: Any) -> None:
        """Deliver, or show."""
        if options["list"]:
            self._show(datetime.now(UTC))
            return
        deliverer = Deliverer(tend=end_sessions_that_are_over)
        if options["once"]:
            settle_debts()
            self.stdout.write(f"attempts made: {deliverer.run_until_nothing_is_due()}")
            return
        stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: stopped.set())
        threading.Thread(target=_settle_until, args=(stopped,), name="directory debts", daemon=True).start()
        deliverer.run(stopped)

    def _show(self, now: datetime) -> None:
        rows = outbox.backlog()
        if not rows:
            self.stdout.write("Every application knows of every ended session.")
        for row in rows:
            age = int((now - row.oldest).total_seconds() // 60)
            self.stdout.write(
                f"{row.client_id}: {row.waiting} waiting, {row.given_up} given up,"
                f" the oldest for {age} min, last failure: {row.failure or 'none yet'}"
            )
