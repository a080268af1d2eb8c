"""A database that is full: sessions and families by the million beside those that are measured, and how purging holds locks.

PostgreSQL only. The rows are made inside the database, from the rows of the sessions that are there; all are alive,
so that nothing of them may be skipped. `python -m tests.bench.crowd` in the service's environment measures a purge.
"""

import statistics
import sys
import time
from typing import Any, LiteralString

PER_STEP = 50_000
# What differs from row to row; every other column is copied.
_SESSION = {
    "id": "gen_random_uuid()",
    "secret_digest": "md5(random()::text || g) || md5(g || random()::text)",
}
_COLUMNS = (
    "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position"
)
_FAMILIES = """
    INSERT INTO oauth_tokenfamily (id, session_id, client_id, user_id, scope, auth_time, acr, amr, asked, seed, position,
        created_at, expires_at, revoke_reason)
    SELECT gen_random_uuid(), s.id, (SELECT min(id) FROM oauth_client), s.user_id,
        'openid profile roles', s.created_at, 'aal2', '["pwd", "otp", "mfa"]'::jsonb, '{}'::jsonb,
        decode(md5(random()::text) || md5(s.id::text), 'hex'), 3, s.created_at, s.expires_at, ''
    FROM accounts_loginsession s
    WHERE NOT EXISTS (SELECT 1 FROM oauth_tokenfamily f WHERE f.session_id = s.id)
"""


def fill(owner_url: str, rows: int) -> float:
    """Make so many live sessions, each with a family of refresh tokens; return the seconds it took."""
    import psycopg
    from psycopg import sql

    began = time.perf_counter()
    with psycopg.connect(owner_url, autocommit=True) as connection:
        columns = [name for (name,) in connection.execute(_COLUMNS, ("accounts_loginsession",))]
        chosen = sql.SQL(", ").join(
            sql.SQL(_literal(_SESSION[name])) if name in _SESSION else sql.Identifier("s", name)
            for name in columns
        )
        # Triggers tell workers of changes; nobody remembers a row that did not exist.
        connection.execute("ALTER TABLE accounts_loginsession DISABLE TRIGGER USER")
        connection.execute(
            "CREATE TEMP TABLE template AS SELECT *, row_number() OVER () AS n FROM accounts_loginsession"
        )
        (templates,) = connection.execute("SELECT count(*) FROM accounts_loginsession").fetchone() or (0,)
        made = 0
        while made < rows:
            some = min(PER_STEP, rows - made)
            connection.execute(
                sql.SQL(
                    "INSERT INTO accounts_loginsession ({columns}) SELECT {chosen} FROM"
                    " template s JOIN generate_series(1, {some}) g ON g % {templates} = s.n - 1"
                ).format(
                    columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
                    chosen=chosen,
                    templates=sql.Literal(templates),
                    some=sql.Literal(some),
                )
            )
            made += some
        connection.execute("ALTER TABLE accounts_loginsession ENABLE TRIGGER USER")
        connection.execute(_FAMILIES)
        connection.execute("VACUUM ANALYZE")
    return time.perf_counter() - began


def _literal(text: Any) -> LiteralString:  # Any: our own words above, which no caller chooses
    return text


def purge(share: float) -> dict[str, float]:
    """Let a share of the families and their sessions be over, and purge them; return how long each batch held its locks.

    In: the service's own environment. Milliseconds: the longest batch, the 99th of a hundred, the middle one.
    """
    import django

    django.setup()
    from datetime import UTC, datetime, timedelta

    from django.db import connection

    from iam.oauth.purge import purge as run

    now = datetime.now(UTC)
    long_ago = now - timedelta(days=60)
    with connection.cursor() as cursor:
        cursor.execute("SELECT min(created_at) FROM accounts_loginsession")
        cursor.execute(
            "UPDATE oauth_tokenfamily SET expires_at = %s WHERE position = 3 AND random() < %s",
            [long_ago, share],
        )
        cursor.execute(
            "UPDATE accounts_loginsession s SET expires_at = %s, ended_at = %s, end_reason = 'ran_out'"
            " WHERE EXISTS (SELECT 1 FROM oauth_tokenfamily f WHERE f.session_id = s.id AND f.expires_at = %s)",
            [long_ago, long_ago, long_ago],
        )
    took: list[float] = []

    def timed(execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(statement, params, many, context)
        finally:
            if statement.lstrip().upper().startswith("DELETE"):
                took.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    deleted = 0
    with connection.execute_wrapper(timed):
        while some := run(now):
            deleted += some
    took.sort()
    return {
        "rows": deleted,
        "seconds": round(time.perf_counter() - began, 1),
        "longest_ms": round(took[-1], 1),
        "p99_ms": round(took[int(len(took) * 0.99) - 1], 1),
        "p50_ms": round(statistics.median(took), 1),
    }


if __name__ == "__main__":
    print(purge(float(sys.argv[1]) if len(sys.argv) > 1 else 0.1))
