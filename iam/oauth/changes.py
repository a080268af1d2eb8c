"""How a worker learns that something changed: the database itself says so, whoever wrote.

Triggers watch the rows that what a worker remembers depends on. On PostgreSQL they NOTIFY what changed, with the
commit; each worker listens. On SQLite they change one row that every worker looks at with each request. The triggers are laid again after every `migrate`, because a table that
SQLite makes anew loses its own.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger(__name__)

CHANNEL = "iam_changes"
LISTENER_NAME = "iam listener"  # as an operator sees it among the database's connections
# The listener asks for a sign of life this often; without one for LOST_SECONDS nothing is believed to be fresh.
HEARTBEAT_SECONDS = 0.5
LOST_SECONDS = 2.0
RETRY_SECONDS = 0.5

EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Watched:
    """A table, what is said when it changes (a letter and a column), and which changes count."""

    table: str
    letter: str
    column: str
    operations: str
    columns: tuple[str, ...] = ()  # of an update; all when none is named


WATCHED = (
    Watched("oauth_installation", EVERYTHING, "", "UPDATE", ("version", "generation")),
    Watched("oauth_client", EVERYTHING, "", "INSERT OR UPDATE OR DELETE"),
    Watched("oauth_signingkey", EVERYTHING, "", "INSERT OR UPDATE OR DELETE"),
    Watched("oauth_revokedtoken", "t", "key", "INSERT OR UPDATE"),
    Watched(
        "accounts_loginsession", "s", "id", "UPDATE", ("generation", "ended_at", "expires_at", "factor_at")
    ),
    Watched("accounts_loginsession", "s", "id", "DELETE"),
    Watched("accounts_user", "u", "id", "UPDATE"),
    Watched("accounts_user", "u", "id", "DELETE"),
    Watched("accounts_directorylink", "u", "user_id", "INSERT OR UPDATE OR DELETE"),
    Watched("access_assignment", "u", "person_id", "INSERT OR UPDATE OR DELETE"),
    Watched("access_posting", "u", "person_id", "INSERT OR UPDATE OR DELETE"),
    Watched("access_office", EVERYTHING, "", "INSERT OR UPDATE OR DELETE"),
    Watched("access_officestate", EVERYTHING, "", "INSERT OR UPDATE OR DELETE"),
    Watched("access_role", EVERYTHING, "", "INSERT OR UPDATE OR DELETE"),
    Watched("access_application", EVERYTHING, "", "INSERT OR UPDATE OR DELETE"),
    Watched("access_application_admitted_roles", EVERYTHING, "", "INSERT OR UPDATE OR DELETE"),
)

_FUNCTION = f"""
CREATE OR REPLACE FUNCTION iam_tell() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed jsonb := CASE WHEN TG_OP = 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    key text := COALESCE(changed ->> TG_ARGV[1], '');
BEGIN
    -- A UUID is named by its 32 digits, as Python does; a token's own name may have a hyphen.
    -- What everybody remembers has another version now, whoever wrote (`Installation.version`).
    IF TG_ARGV[0] = '{EVERYTHING}' AND TG_TABLE_NAME <> 'oauth_installation' THEN
        UPDATE oauth_installation SET version = (random() * 4611686018427387903)::bigint WHERE id = 1;
    END IF;
    PERFORM pg_notify('{CHANNEL}', TG_ARGV[0] || CASE TG_ARGV[0] WHEN 't' THEN key ELSE replace(key, '-', '') END);
    RETURN NULL;
END $$
"""
# Random, not counted: after a rollback a counter would come by the same number twice.
_CHANGE = "UPDATE oauth_installation SET changes = abs(random()) WHERE id = 1"
_CHANGE_OF_ALL = (
    "UPDATE oauth_installation SET changes = abs(random()), version = abs(random() / 2) WHERE id = 1"
)


def statements(vendor: str) -> list[str]:
    """Return the statements that lay every trigger, or lay it again."""
    if vendor == "postgresql":
        return [_FUNCTION, *(_postgresql(number, watched) for number, watched in enumerate(WATCHED))]
    return [text for number, watched in enumerate(WATCHED) for text in _sqlite(number, watched)]


def _postgresql(number: int, watched: Watched) -> str:
    operations = watched.operations
    moved = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in watched.columns)
    when = f"WHEN ({moved})" if moved else ""
    return (
        f"CREATE OR REPLACE TRIGGER iam_tell_{number} AFTER {operations} ON {watched.table}"
        f" FOR EACH ROW {when} EXECUTE FUNCTION iam_tell('{watched.letter}', '{watched.column}')"
    )


def _sqlite(number: int, watched: Watched) -> list[str]:
    texts = []
    of_all = watched.letter == EVERYTHING and watched.table != "oauth_installation"
    change = _CHANGE_OF_ALL if of_all else _CHANGE
    for operation in watched.operations.split(" OR "):
        name = f"iam_tell_{number}_{operation.lower()}"
        moved = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in watched.columns)
        when = f"WHEN {moved}" if moved else ""
        texts += [
            f"DROP TRIGGER IF EXISTS {name}",
            f"CREATE TRIGGER {name} AFTER {operation} ON {watched.table} FOR EACH ROW {when} BEGIN {change}; END",
        ]
    return texts


def lay_triggers(database: BaseDatabaseWrapper) -> None:
    """Lay every trigger whose table is there."""
    with database.cursor() as cursor:
        tables = set(database.introspection.table_names(cursor))
        if not {watched.table for watched in WATCHED} <= tables:
            return  # a database on its way to another state of its migrations
        for text in statements(database.vendor):
            cursor.execute(text)


class Listener(threading.Thread):
    """Hear what PostgreSQL tells, on a connection of its own, and say whether it is heard.

    In: `forget` is called with every message, and with EVERYTHING whenever some may have been missed.
    """

    def __init__(self, forget: Callable[[str], None]) -> None:
        super().__init__(name="changes", daemon=True)
        self._forget = forget
        self._alive_at = 0.0

    @property
    def hears(self) -> bool:
        """Say whether nothing can have been missed for longer than LOST_SECONDS."""
        return time.monotonic() - self._alive_at < LOST_SECONDS

    def run(self) -> None:
        """Listen for ever; connect again whenever the connection is lost."""
        while True:
            try:
                self._listen()
            except Exception:
                self._alive_at = 0.0
                logger.warning("no news from the database: every request asks for itself", exc_info=True)
            time.sleep(RETRY_SECONDS)

    def _listen(self) -> None:
        own = connection.copy()  # this thread's settings, and a connection that nobody else uses
        own.connect()
        raw: psycopg.Connection[Any] = own.connection
        try:
            raw.execute(f"SET application_name = '{LISTENER_NAME}'")
            raw.execute(f"LISTEN {CHANNEL}")
            self._forget(EVERYTHING)
            while True:
                self._alive_at = time.monotonic()
                for notice in raw.notifies(timeout=HEARTBEAT_SECONDS):
                    self._forget(notice.payload)
                    self._alive_at = time.monotonic()
                raw.execute("SELECT 1")
        finally:
            self._alive_at = 0.0
            with contextlib.suppress(Exception):
                own.close()
