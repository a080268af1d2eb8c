"""`manage.py housekeeping`: what must be done now and then; nothing depends on its being punctual.

Every task is bounded, idempotent and safe beside a second run of itself.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, close_old_connections, transaction

from directory.service import purge as purge_directory
from iam.audit.record import flush_tallies
from iam.login.throttle import purge as purge_counters
from iam.management.sessions import end_sessions_that_are_over
from iam.oauth import keyring, sightings
from iam.oauth.purge import purge as purge_provider
from iam.oauth.secret_rotation import forget_old_secrets

logger = logging.getLogger("iam.housekeeping")


def _flush_tallies(now: datetime) -> int:
    with transaction.atomic():
        return flush_tallies(now)


def _tend_keys(now: datetime) -> int:
    return keyring.tend(sightings.readers(), now, "system:housekeeping")


# Name and function(now) -> rows. A new purge is added here: it deletes in batches, and only what nothing reads any more.
TASKS: tuple[tuple[str, Callable[[datetime], int]], ...] = (
    ("counted refusals written to the audit", _flush_tallies),
    ("sessions that ran out or idled out ended", end_sessions_that_are_over),
    ("expired rows of the provider deleted", purge_provider),
    ("signing keys published, activated or withdrawn", _tend_keys),
    ("old client secrets forgotten", forget_old_secrets),
    ("counters of failed sign-ins deleted", purge_counters),
    ("people who left thirty days ago forgotten", purge_directory),
)


class Command(BaseCommand):
    """Run every task once, or again and again."""

    help = "Write counted refusals to the audit and purge what has expired; once, or every so many seconds."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare --every."""
        parser.add_argument("--every", type=float, metavar="SECONDS", help="go on until stopped")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the tasks."""
        if options["every"] is None:
            for name, count in run_tasks(datetime.now(UTC)):
                self.stdout.write(f"{name}: {count}")
            return
        while True:
            try:
                run_tasks(datetime.now(UTC))
            except DatabaseError:  # the database restarts; the next round does what this one did not
                logger.exception("housekeeping failed; trying again in %s s", options["every"])
            close_old_connections()
            time.sleep(max(1.0, options["every"]))


def run_tasks(now: datetime) -> list[tuple[str, int]]:
    """Run every task; return what each did."""
    return [(name, task(now)) for name, task in TASKS]
