"""`manage.py client detail-type`: types from a file, all or none, and read back as they were."""

import json
from datetime import UTC, datetime

import pytest

from iam.oauth.clients import apply_all
from iam.oauth.models import AuthorizationDetailType

pytestmark = pytest.mark.django_db

PAYMENT = {
    "type": "payment", "resource_server": "ledger", "enabled": True,
    "description": {"ar": "دفع", "fr": "Payer", "en": "Make a payment"}, "labels": {},
    "schema": {"type": "object", "properties": {"amount": {"type": "string"}}, "additionalProperties": False},
}  # fmt: skip


@pytest.fixture
def file(db, tmp_path):
    ledger = {
        "client_id": "ledger",
        "grant_types": ["client_credentials"],
        "resource_server": ["ledger.read"],
    }
    apply_all([ledger], datetime.now(UTC), "system:test")

    def write(value: object) -> str:
        path = tmp_path / "types.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return str(path)

    return write


def test_detail_type_is_created_changed_and_left_alone(run, file):
    first = run("client", "detail-type", "apply", file([PAYMENT]))
    again = run("client", "detail-type", "apply", file([PAYMENT]))
    other = run("client", "detail-type", "apply", file([{**PAYMENT, "enabled": False}]))

    assert (first.out, again.out, other.out) == (
        "payment: created\n", "payment: unchanged\n", "payment: changed (enabled)\n",
    )  # fmt: skip


def test_detail_type_is_listed_and_shown_as_apply_takes_it(run, file):
    run("client", "detail-type", "apply", file([PAYMENT]))

    listed, shown = run("client", "detail-type", "list"), run("client", "detail-type", "show", "payment")

    assert listed.out.split() == ["payment", "ledger", "Make", "a", "payment"]
    assert json.loads(shown.out) == PAYMENT


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "is not JSON"),
        ({}, "must hold a JSON array"),
        ([PAYMENT, {**PAYMENT, "type": "other", "schema": {}}], "Type 2 (other): schema must be"),
        ([{**PAYMENT, "resource_server": "nobody"}], "is no resource server"),
        (["x"], "not an object"),
    ],
)
def test_detail_type_file_that_is_wrong_changes_nothing_and_says_where(run, file, value, words):
    ran = run("client", "detail-type", "apply", file(value))

    assert words in ran.failure
    assert AuthorizationDetailType.objects.count() == 0


def test_detail_type_that_is_not_there_and_a_file_that_is_not_there_are_said(run, file):
    assert "There is no type 'x'" in run("client", "detail-type", "show", "x").failure
    assert "cannot be read" in run("client", "detail-type", "apply", "/nowhere/types.json").failure
