"""The same answer as `selectors.effective_access`, of two parts: what a person holds, and how the organisation is.

The second part is the same for everybody, changes seldom, and may be remembered as long as its version is known to be
the current one. Then a statement that reads something else of a person can bring what they hold along with it:
two index look-ups instead of a walk over seven tables.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from iam import sql

from .policy import EffectiveAccess, Grant, OfficePolicy, SecondFactor
from .selectors import OFFICE_DEPTH_MAX, STATES_WITHOUT_RIGHTS

# What a person holds at %(now)s: the home office (kind 0), and every assignment (1). `{person}` is an SQL expression
# of the person's id; the columns are those of `access_of`.
HELD = """
    SELECT 0 AS kind, home.id, home.office_id, NULL AS role_id, NULL AS subtree, NULL AS valid_until FROM (
        SELECT id, office_id FROM access_posting
        WHERE person_id = {person} AND kind = 'home' AND valid_from <= %(now)s
          AND (valid_until IS NULL OR valid_until > %(now)s)
        ORDER BY valid_from DESC, id DESC LIMIT 1
    ) home
    UNION ALL
    SELECT 1, id, office_id, role_id, subtree, valid_until FROM access_assignment
    WHERE person_id = {person} AND valid_from <= %(now)s AND (valid_until IS NULL OR valid_until > %(now)s)
"""
HELD_COLUMNS = 6


@dataclass(frozen=True, slots=True)
class _Office:
    code: str
    second_factor: SecondFactor
    parent_id: int | None
    states: tuple[tuple[datetime, str], ...]  # by time


@dataclass(frozen=True, slots=True)
class _Role:
    code: str
    application: str | None
    is_staff: bool
    second_factor: bool


@dataclass(frozen=True, slots=True)
class Organisation:
    """Offices with their states, and roles, by key."""

    offices: Mapping[int, _Office]
    roles: Mapping[int, _Role]


def organisation() -> Organisation:
    """Read offices, their states, and roles."""
    states: dict[int, list[tuple[datetime, str]]] = {}
    for office_id, since, state in sql.rows(
        "SELECT office_id, since, state FROM access_officestate ORDER BY since", {}
    ):
        states.setdefault(office_id, []).append((sql.as_time(since), state))
    offices = {
        pk: _Office(code, SecondFactor(said), parent_id, tuple(states.get(pk, ())))
        for pk, code, said, parent_id in sql.rows(
            "SELECT id, code, second_factor, parent_id FROM access_office", {}
        )
    }
    roles = {
        pk: _Role(code, application, bool(is_staff), bool(second_factor))
        for pk, code, application, is_staff, second_factor in sql.rows(
            "SELECT role.id, role.code, application.code, role.is_staff, role.second_factor FROM access_role role"
            " LEFT JOIN access_application application ON application.id = role.application_id",
            {},
        )
    }
    return Organisation(offices, roles)


def access_of(rows: Iterable[sql.Row], organisation: Organisation, now: datetime) -> EffectiveAccess:
    """Turn rows of HELD into what a person holds in this organisation.

    Raises: KeyError for an office or a role that it has not: it is not of the version of the rows.
    """
    chain: tuple[OfficePolicy, ...] = ()
    grants = []
    for kind, key, office_id, role_id, subtree, valid_until in rows:
        if kind == 0:
            chain = _upwards(organisation, office_id)
            continue
        office, role = organisation.offices[office_id], organisation.roles[role_id]
        past = [state for since, state in office.states if since <= now]
        if past and past[-1] in STATES_WITHOUT_RIGHTS:
            continue
        closing = [since for since, state in office.states if since > now and state in STATES_WITHOUT_RIGHTS]
        ends = [*closing, sql.as_time(valid_until)] if valid_until is not None else closing
        grant = Grant(
            role.code, office.code, bool(subtree), role.application, min(ends, default=None), role.is_staff,
            role.second_factor,
        )  # fmt: skip
        grants.append(((grant.role, grant.office, grant.subtree, key), grant))
    grants.sort(key=lambda placed: placed[0])
    offices = tuple(office.code for office in chain)
    return EffectiveAccess(
        offices[0] if offices else None, offices, tuple(grant for _, grant in grants), chain
    )


def _upwards(organisation: Organisation, office_id: int | None) -> tuple[OfficePolicy, ...]:
    chain: list[OfficePolicy] = []
    while office_id is not None and len(chain) < OFFICE_DEPTH_MAX:
        office = organisation.offices[office_id]
        chain.append(OfficePolicy(office.code, office.second_factor))
        office_id = office.parent_id
    return tuple(chain)
