"""`client apply`: idempotent, all or none, secrets shown once."""

import io
import json
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command

from iam.audit.models import AuditEvent
from iam.oauth.clients import apply_all
from iam.oauth.models import Client
from iam.oauth.protocol.registration import MetadataError
from iam.oauth.secretbox import client_secret_digest

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 25, tzinfo=UTC)
APP = {"client_id": "app-1", "redirect_uris": ["https://app.example/cb"], "scope": "openid"}


def run(tmp_path, items) -> str:
    file = tmp_path / "clients.json"
    file.write_text(json.dumps(items))
    out = io.StringIO()
    call_command("client", "apply", str(file), stdout=out)
    return out.getvalue()


def test_apply_new_client_shows_its_secret_once(tmp_path):
    first = run(tmp_path, [APP])
    second = run(tmp_path, [APP])

    secret = first.split("keep it now): ")[1].strip()
    assert Client.objects.get(client_id="app-1").secret_digest == client_secret_digest(secret)
    assert second == "app-1: unchanged\n"


def test_apply_given_secret_is_never_stored_nor_printed(tmp_path):
    output = run(tmp_path, [{**APP, "client_secret": "z" * 40}])

    row = Client.objects.get(client_id="app-1")
    assert "z" * 40 not in output
    assert "z" * 40 not in str(Client.objects.filter(pk=row.pk).values().get())


def test_apply_changed_client_prints_the_difference_and_ends_nothing_else(tmp_path):
    run(tmp_path, [APP])

    output = run(tmp_path, [{**APP, "scope": "openid roles"}])

    assert "~ scope: openid -> openid roles" in output
    assert AuditEvent.objects.filter(action="administrator:client:change").count() == 1


def test_apply_another_secret_ends_the_tokens_of_before():
    apply_all([{**APP, "client_secret": "z" * 40}], NOW, "operator:test")
    apply_all([{**APP, "client_secret": "y" * 40}], NOW, "operator:test")

    assert Client.objects.get(client_id="app-1").generation == 1


@pytest.mark.parametrize(
    ("items", "word"),
    [
        ([APP, {**APP, "client_id": "app-2", "colour": "red"}], "client 2 .app-2.: colour"),
        ([APP, {**APP, "client_id": "app-2", "scope": "nothing"}], "owned by no resource server"),
        ([APP, {**APP, "client_id": "app-2", "application": "nowhere"}], "there is no 'nowhere'"),
        (
            [
                APP,
                {**APP, "resource_server": ["x.y"]},
                {**APP, "client_id": "app-2", "resource_server": ["x.y"]},
            ],
            "one must own",
        ),
        ({"client_id": "x"}, "JSON array"),
    ],
)
def test_apply_one_wrong_client_changes_nothing(items, word):
    with pytest.raises(MetadataError, match=word):
        apply_all(items, NOW, "operator:test")

    assert not Client.objects.exists()


@pytest.mark.parametrize(("text", "word"), [("{", "not JSON"), (None, "cannot be read")])
def test_apply_unreadable_file_is_one_sentence(tmp_path, text, word):
    file = tmp_path / "clients.json"
    if text is not None:
        file.write_text(text)

    with pytest.raises(CommandError, match=word):
        call_command("client", "apply", str(file))


def test_cleartokens_is_refused():
    with pytest.raises(CommandError, match="housekeeping"):
        call_command("cleartokens")
