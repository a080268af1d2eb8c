"""The two conditions under which alone anything is issued, as SQL, beside what runs it (`iam.sql`)."""

from iam.accounts.selectors import ACTING, SESSION_END
from iam.sql import as_json, as_time, as_uuid, bind, execute, for_share, one, rows

__all__ = [
    "ACTING", "ENABLED_CLIENT", "LIVE_SESSION", "SESSION_END", "as_json", "as_time", "as_uuid", "bind", "execute", "for_share", "hold", "one", "rows",
]  # fmt: skip

# For `.format(session=…)`: an SQL expression of the session's id. Another condition may follow it.
LIVE_SESSION = f"""
    SELECT 1 FROM accounts_loginsession s JOIN accounts_user u ON u.id = s.user_id
    WHERE s.id = {{session}} AND s.ended_at IS NULL AND s.expires_at > %(now)s AND {ACTING}
"""
ENABLED_CLIENT = "SELECT 1 FROM oauth_client c WHERE c.id = %(client)s AND c.enabled"


def hold() -> str:
    """Lock the session's row against its end; only the row, so that no order of locks can close a circle.

    PostgreSQL lets others commit between two statements of one transaction, and even between a statement's
    snapshot and its end. SQLite has one writer at a time.
    """
    return for_share("s")
