"""What is held, read from the database: validity is a condition of the query, never a job that may be late.

Plain SQL where a token is made or looked at: building the same statements anew through the ORM costs thirty
times what the database needs to answer them. The text is the same for PostgreSQL and SQLite.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from iam import sql

from .models import Application, Office
from .policy import (
    NO_APPLICATION,
    Admits,
    ApplicationPolicy,
    EffectiveAccess,
    Grant,
    OfficePolicy,
    SecondFactor,
)

# Deeper trees than this are a mistake in the data (a cycle), not an organisation.
OFFICE_DEPTH_MAX = 32

# In these states an office has no rights to express; one that is evacuated still works, from elsewhere.
STATES_WITHOUT_RIGHTS = frozenset({"closed", "planned"})
_WITHOUT_RIGHTS = "('closed', 'planned')"
# One statement: the offices from the home office upwards (0), and every grant in force (1).
_ACCESS = f"""
    WITH RECURSIVE chain (code, second_factor, parent_id, depth) AS (
        SELECT code, second_factor, parent_id, 1 FROM access_office WHERE id = (
            SELECT office_id FROM access_posting
            WHERE person_id = %(person)s AND kind = 'home' AND valid_from <= %(now)s
              AND (valid_until IS NULL OR valid_until > %(now)s)
            ORDER BY valid_from DESC, id DESC LIMIT 1
        )
        UNION ALL
        SELECT above.code, above.second_factor, above.parent_id, chain.depth + 1
        FROM access_office above JOIN chain ON above.id = chain.parent_id WHERE chain.depth < {OFFICE_DEPTH_MAX}
    )
    SELECT 0 AS kind, depth, code, second_factor, NULL AS subtree, NULL, NULL, NULL, NULL, NULL FROM chain
    UNION ALL
    SELECT 1, held.id, role.code, office.code, held.subtree, application.code, held.valid_until, role.is_staff,
        role.second_factor,
        (SELECT MIN(state.since) FROM access_officestate state
         WHERE state.office_id = held.office_id AND state.since > %(now)s AND state.state IN {_WITHOUT_RIGHTS})
    FROM access_assignment held
    JOIN access_role role ON role.id = held.role_id
    JOIN access_office office ON office.id = held.office_id
    LEFT JOIN access_application application ON application.id = role.application_id
    WHERE held.person_id = %(person)s AND held.valid_from <= %(now)s
      AND (held.valid_until IS NULL OR held.valid_until > %(now)s)
      AND COALESCE(
        (SELECT state.state FROM access_officestate state
         WHERE state.office_id = held.office_id AND state.since <= %(now)s ORDER BY state.since DESC LIMIT 1), 'open'
      ) NOT IN {_WITHOUT_RIGHTS}
"""
_APPLICATION = """
    SELECT application.admits, application.second_factor, application.factor_max_age_seconds, role.code
    FROM access_application application
    LEFT JOIN access_application_admitted_roles admitted ON admitted.application_id = application.id
    LEFT JOIN access_role role ON role.id = admitted.role_id
    WHERE application.code = %(code)s
"""

_NEXT_CHANGE = """
    SELECT MIN(at) FROM (
        SELECT valid_from AS at FROM access_assignment WHERE person_id = %(person)s AND valid_from > %(now)s
        UNION ALL
        SELECT valid_until FROM access_assignment WHERE person_id = %(person)s AND valid_until > %(now)s
        UNION ALL
        SELECT valid_from FROM access_posting WHERE person_id = %(person)s AND valid_from > %(now)s
        UNION ALL
        SELECT valid_until FROM access_posting WHERE person_id = %(person)s AND valid_until > %(now)s
        UNION ALL
        SELECT state.since FROM access_officestate state
        JOIN access_assignment held ON held.office_id = state.office_id
        WHERE held.person_id = %(person)s AND state.since > %(now)s
    ) changes
"""


def next_change(person_id: UUID, now: datetime) -> datetime | None:
    """Return the next instant at which what a person holds changes by date alone, None when it never does."""
    row = sql.one(_NEXT_CHANGE, {"person": person_id, "now": now})
    return sql.as_time(row[0]) if row and row[0] is not None else None


def effective_access(person_id: UUID, now: datetime) -> EffectiveAccess:
    """Return what a person holds at an instant: home office, those above it, and every grant in force. One statement.

    An assignment in an office that is closed, or not open yet, expresses nothing; one in an office whose
    closing is known ends with it.
    """
    rows = sql.rows(_ACCESS, {"person": person_id, "now": now})
    # Sorted here: a database sorts texts by its own language's rules.
    chain = tuple(
        OfficePolicy(code, SecondFactor(said))
        for kind, _, code, said, *_ in sorted(rows, key=_depth)
        if kind == 0
    )
    grants = tuple(_grant(row[2:]) for row in sorted(rows, key=_place) if row[0] == 1)
    offices = tuple(office.code for office in chain)
    return EffectiveAccess(offices[0] if offices else None, offices, grants, chain)


def _depth(row: sql.Row) -> tuple[int, int]:
    return row[0], row[1]


def _place(row: sql.Row) -> tuple[int, str, str, bool, int]:
    kind, key, role, office, subtree = row[:5]
    return kind, role, office, bool(subtree), key


def _grant(row: sql.Row) -> Grant:
    role, office, subtree, application, valid_until, is_staff, second_factor, closes_at = row
    ends = [sql.as_time(end) for end in (valid_until, closes_at) if end is not None]
    return Grant(
        role=role,
        office=office,
        subtree=bool(subtree),
        application=application,
        valid_until=min(ends, default=None),
        is_staff=bool(is_staff),
        second_factor=bool(second_factor),
    )


def application_policy(code: str | None) -> ApplicationPolicy:
    """Return what an application asks; a client of no application asks for what the organisation asks.

    Raises: Application.DoesNotExist, which denies.
    """
    if code is None:
        return NO_APPLICATION
    rows = sql.rows(_APPLICATION, {"code": code})
    if not rows:
        raise Application.DoesNotExist(code)
    admits, second_factor, age, _ = rows[0]
    return ApplicationPolicy(
        code=code,
        admits=Admits(admits),
        admitted_roles=frozenset(role for *_, role in rows if role is not None),
        second_factor=bool(second_factor),
        factor_max_age=timedelta(seconds=age) if age is not None else None,
    )


def office_words() -> list[str]:
    """Return the codes and names of every office: words that everybody here knows."""
    rows = Office.objects.values_list("code", "name_ar", "name_fr", "name_en")
    return [text for row in rows for text in row]


def applications(codes: Sequence[str] | None = None) -> list[Application]:
    """Return applications by code, all when none is named."""
    rows = Application.objects.order_by("code")
    return list(rows if codes is None else rows.filter(code__in=codes))
