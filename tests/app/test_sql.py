"""The driver's statements are prepared once a connection: PostgreSQL planned each of them anew before, and nobody saw."""

import pytest
from django.db import connection

from iam import postgres, sql

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(
        connection.vendor != "postgresql", reason="SQLite's driver keeps statements by itself"
    ),
]


def test_a_statement_is_prepared_by_its_first_run_and_planned_once_for_all_values() -> None:
    text = "SELECT sub FROM accounts_user WHERE sub = %(sub)s AND generation = 4711"
    for number in range(4):
        sql.one(text, {"sub": str(number)})

    row = sql.one(
        "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE %(text)s",
        {"text": "SELECT sub FROM accounts_user WHERE sub = % AND generation = 4711"},
    )

    assert row is not None, "nothing was prepared"
    assert tuple(row) == (4, 0)


def test_statements_of_the_orm_are_not_prepared() -> None:
    from iam.accounts.models import User

    for _ in range(10):
        list(User.objects.filter(sub="nobody of this name"))

    row = sql.one(
        "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %(text)s",
        {"text": "%nobody of this%"},
    )

    assert row is not None
    assert row[0] == 0


def test_plans_are_dropped_now_and_then_and_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "SELECT sub FROM accounts_user WHERE sub = %(sub)s AND generation = 4712"
    sql.one(text, {"sub": "a"})
    raw = connection.connection
    instant = raw.__dict__["_iam_plans"][0]
    monkeypatch.setattr(postgres.time, "monotonic", lambda: instant)

    assert sql.one(text, {"sub": "a"}) is None

    due, pause = raw.__dict__["_iam_plans"]
    assert due == instant + pause
    assert pause >= 2 * postgres.PLANS_KEPT_FIRST
    assert sql.one(text, {"sub": "a"}) is None
    assert raw.__dict__["_iam_plans"] == (due, pause)
