"""What is owned here and written back, and passwords that administrators give: with a real slapd."""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command

from deploy.demo import slapd
from directory.service import Accepted, Found, find, installed, verify
from iam.accounts.models import DirectoryLink, LoginSession
from iam.accounts.services import open_session
from iam.audit.models import AuditDetail, AuditEvent
from iam.lifecycle import admit_from_directory, choose, settle_debts
from tests.app.directory.secretariat import (
    ADMIN,
    ADMIN_PASSWORD,
    BASE,
    frozen,
    password_of,
    secretariat,
    source_of,
)

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
WRITER = {"writer_dn": f"cn=writer,ou=services,{BASE}", "writer_password": "writer-of-the-tests"}


@pytest.fixture(scope="module")
def server() -> Iterator[slapd.Server]:
    with secretariat(**WRITER) as running:
        yield running


@pytest.fixture(autouse=True)
def _closed():
    yield
    installed().close()


@pytest.fixture
def owning(server, settings):
    settings.DIRECTORY_SOURCES = (
        source_of(server, write_back=("language", "telephone"), budget_seconds=1.0, **WRITER),
    )
    return server


def admitted(login="alice"):
    found = find(login)
    assert isinstance(found, Found)
    return admit_from_directory(found.person, NOW)


def said(server: slapd.Server, login: str, attribute: str) -> list[str]:
    done = subprocess.run(
        ["ldapsearch", "-x", "-LLL", "-H", server.url, "-D", ADMIN, "-w", ADMIN_PASSWORD, "-b", BASE, f"(uid={login})", attribute],
        capture_output=True, text=True, check=True, env={"LDAPTLS_CACERT": str(server.ca_file)},
    )  # fmt: skip
    return [line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith(f"{attribute}:")]


def test_choice_counts_at_once_and_is_written_back(owning):
    user = admitted()

    assert choose(user, "language", "ar", actor="person:x", now=NOW)
    assert admitted().language == "ar"  # the directory still says fr: it does not own it
    assert settle_debts() == 1

    assert said(owning, "alice", "preferredLanguage") == ["ar"]
    assert DirectoryLink.objects.get(user=user).owed == ""
    assert settle_debts() == 0


def test_debt_outlives_a_directory_that_does_not_answer(owning):
    user = admitted("fatima")
    choose(user, "telephone", "+227 20 00 00 00", actor="operator:x", now=NOW)

    with frozen(owning):
        assert settle_debts() == 0
    assert DirectoryLink.objects.get(user=user).owed == "telephone"

    assert settle_debts() == 1
    assert said(owning, "fatima", "telephoneNumber") == ["+227 20 00 00 00"]


def test_empty_choice_removes_the_value(owning):
    user = admitted("karim")
    for number in ("+44 20", ""):
        choose(user, "telephone", number, actor="operator:x", now=NOW)
        settle_debts()

    assert said(owning, "karim", "telephoneNumber") == []


def test_without_a_setting_nothing_is_owned_here(server, settings):
    settings.DIRECTORY_SOURCES = (source_of(server, **WRITER),)
    user = admitted()

    assert not choose(user, "language", "en", actor="person:x", now=NOW)
    assert DirectoryLink.objects.get(user=user).owed == ""


def test_choice_is_one_event_without_the_value(owning):
    user = admitted("odd")
    choose(user, "telephone", "+41 22", actor=f"person:{user.sub}", now=NOW)

    event = AuditEvent.objects.get(action="person:choice:change")
    assert event.method == "telephone"
    assert b"+41" not in bytes(event.canonical)


# -- passwords that administrators give ---------------------------------------------------------------------------


def test_given_password_is_shown_once_ends_sessions_and_must_be_changed(owning, capsys):
    user = admitted("spacey")
    open_session(user, NOW, timedelta(hours=12))

    call_command("person", "reset-password", "spacey", "--reason", "at the desk, with a passport")

    given = capsys.readouterr().out.strip()
    assert len(given) == 24
    assert not LoginSession.objects.filter(user=user, ended_at=None).exists()
    found = find("spacey")
    answer = verify(found.person, given)
    assert isinstance(answer, Accepted)
    assert answer.password.must_change
    assert not isinstance(verify(found.person, password_of("spacey")), Accepted)
    event = AuditEvent.objects.get(action="administrator:password:reset")
    assert given.encode() not in bytes(event.canonical)
    assert all(given not in str(row.details) for row in AuditDetail.objects.all())


def test_password_cannot_be_given_without_the_account_that_may(server, settings):
    settings.DIRECTORY_SOURCES = (source_of(server),)
    admitted("longpass")

    with pytest.raises(CommandError, match="IAM_LDAP_WRITER_DN"):
        call_command("person", "reset-password", "longpass", "--reason", "asked")


def test_telephone_where_the_directory_owns_it_is_refused_with_what_to_do(server, settings):
    settings.DIRECTORY_SOURCES = (source_of(server),)
    admitted("longpass")

    with pytest.raises(CommandError, match="write_back"):
        call_command("person", "telephone", "longpass", "+1")
