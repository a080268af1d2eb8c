"""Sign-in sessions: what opens, raises, finds and ends them."""

import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from iam.accounts.models import DirectoryLink, LoginSession, User
from iam.accounts.selectors import login_of, person_by_login
from iam.accounts.services import (
    end_session,
    end_sessions,
    find_live_session,
    mark_factor,
    mark_password,
    open_session,
)
from iam.audit.models import AuditEvent
from iam.errors import Conflict
from tests.organisation import DAY, NOW, user

LIFE, IDLE = timedelta(hours=12), timedelta(hours=1)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
pytestmark = pytest.mark.django_db


@pytest.fixture
def person():
    return user()


def test_session_secret_is_kept_by_digest_only(person):
    session, secret = open_session(person, NOW, LIFE)

    row = LoginSession.objects.filter(pk=session.pk).values().get()
    assert len(secret) >= 43
    assert row["secret_digest"] == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in {str(value) for value in row.values()}


def test_session_just_opened_is_found_with_its_person(person, django_assert_num_queries):
    session, secret = open_session(person, NOW, LIFE)

    with django_assert_num_queries(1):
        found = find_live_session(secret, NOW + SECOND, IDLE)
        assert (found.pk, found.user.sub) == (session.pk, person.sub)

    assert (found.password_at, found.factor_at, found.factor_kind) == (NOW, None, "")


@pytest.mark.parametrize("secret", ["", "x", "x" * 43, "x" * 5000, "\x00" * 43, "ü" * 43])
def test_secret_that_is_none_of_ours_finds_nothing(person, secret):
    open_session(person, NOW, LIFE)

    assert find_live_session(secret, NOW, IDLE) is None


def test_digest_instead_of_the_secret_finds_nothing(person):
    session, _ = open_session(person, NOW, LIFE)

    assert find_live_session(session.secret_digest, NOW, IDLE) is None


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(LIFE, id="too-old"),
        pytest.param(IDLE + SECOND, id="idle"),
        pytest.param(30 * DAY, id="long-ago"),
    ],
)
def test_session_that_is_over_is_not_found(person, at):
    _, secret = open_session(person, NOW, LIFE)

    assert find_live_session(secret, NOW + at, IDLE) is None


def test_session_that_is_used_does_not_become_idle_but_ends_with_its_life(person):
    _, secret = open_session(person, NOW, LIFE)

    seen = [
        find_live_session(secret, NOW + 50 * MINUTE * number, IDLE) is not None for number in range(1, 16)
    ]

    assert seen == [True] * 14 + [False]


def test_session_is_written_as_seen_at_most_once_a_minute(person, django_assert_num_queries):
    _, secret = open_session(person, NOW, LIFE)

    with django_assert_num_queries(1):
        find_live_session(secret, NOW + MINUTE, IDLE)
    with django_assert_num_queries(2):
        find_live_session(secret, NOW + MINUTE + SECOND, IDLE)
    with django_assert_num_queries(1):
        find_live_session(secret, NOW + MINUTE + 2 * SECOND, IDLE)


def test_session_of_a_person_who_is_not_active_is_not_found(person):
    _, secret = open_session(person, NOW, LIFE)
    User.objects.update(is_active=False)

    assert find_live_session(secret, NOW, IDLE) is None


@pytest.mark.parametrize(
    "step", [mark_password, lambda session, now: mark_factor(session, "otp", now)], ids=["password", "factor"]
)
def test_secret_from_before_an_authentication_is_worth_nothing_after_it(person, step):
    session, before = open_session(person, NOW, LIFE)

    after = step(session, NOW + MINUTE)

    assert find_live_session(before, NOW + MINUTE, IDLE) is None
    assert find_live_session(after, NOW + MINUTE, IDLE).pk == session.pk


def test_times_of_password_and_factor_are_kept_apart(person):
    session, _ = open_session(person, NOW, LIFE)

    mark_factor(session, "otp", NOW + MINUTE)
    mark_password(session, NOW + 2 * MINUTE)

    row = LoginSession.objects.get(pk=session.pk)
    assert (row.password_at, row.factor_at, row.factor_kind) == (NOW + 2 * MINUTE, NOW + MINUTE, "otp")


@pytest.mark.parametrize("over", ["ended", "expired", "inactive"])
def test_session_that_is_over_cannot_be_raised(person, over):
    session, secret = open_session(person, NOW, LIFE)
    match over:
        case "ended":
            end_session(session.pk, reason="signed_out", now=NOW)
        case "expired":
            LoginSession.objects.update(expires_at=NOW)
        case "inactive":
            User.objects.update(is_active=False)

    with pytest.raises(Conflict):
        mark_factor(session, "otp", NOW + SECOND)

    assert LoginSession.objects.get(pk=session.pk).factor_at is None
    assert find_live_session(secret, NOW, IDLE) is None


def test_session_raised_from_a_stale_secret_is_refused(person):
    session, _ = open_session(person, NOW, LIFE)
    stale = LoginSession.objects.get(pk=session.pk)
    mark_password(session, NOW + SECOND)

    with pytest.raises(Conflict):
        mark_factor(stale, "otp", NOW + 2 * SECOND)


@pytest.fixture
def committed(django_db_blocker, django_db_setup):
    """A session that other connections see; removed afterwards."""
    with ThreadPoolExecutor(1) as pool:

        def make():
            with django_db_blocker.unblock():
                try:
                    person = User.objects.create(created_at=NOW)
                    return open_session(person, NOW, LIFE)[0]
                finally:
                    connection.close()

        session = pool.submit(make).result()
        yield session

        def remove():
            with django_db_blocker.unblock():
                User.objects.filter(pk=session.user_id).delete()
                connection.close()

        pool.submit(remove).result()


@pytest.mark.skipif(
    "postgresql" not in os.environ.get("IAM_DATABASE_URL", ""), reason="needs a second writer"
)
def test_session_raised_by_several_at_once_is_raised_once(committed, django_db_blocker):
    """The others wait for the first one's row, and must judge the session anew when they get it."""
    first_has_written, others_wait = threading.Event(), threading.Event()

    def step(number: int) -> bool:
        with django_db_blocker.unblock():
            try:
                with transaction.atomic():
                    session = LoginSession.objects.get(pk=committed.pk)
                    if number:
                        first_has_written.wait(10)
                    mark_factor(session, "otp", NOW + number * SECOND)
                    first_has_written.set()
                    others_wait.wait(10)
                return True
            except Conflict:
                return False
            finally:
                connection.close()

    def waiting() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return cursor.fetchone()[0]

    with ThreadPoolExecutor(4) as pool:
        steps = [pool.submit(step, number) for number in range(4)]
        deadline = time.monotonic() + 10
        while waiting() < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        others_wait.set()
        won = [one.result() for one in steps]

    assert won == [True, False, False, False]


def test_session_ends_once_with_one_event(person):
    session, secret = open_session(person, NOW, LIFE)

    first = end_session(
        session.pk, reason="signed_out", now=NOW + SECOND, request_id="q-1", source="192.0.2.1"
    )
    second = end_session(session.pk, reason="other", now=NOW + 2 * SECOND)

    row = LoginSession.objects.get(pk=session.pk)
    assert (first, second) == (True, False)
    assert (row.ended_at, row.end_reason, row.generation) == (NOW + SECOND, "signed_out", 1)
    assert find_live_session(secret, NOW + SECOND, IDLE) is None
    (event,) = AuditEvent.objects.filter(session=str(session.pk))
    assert (event.action, event.actor, event.reason, event.request_id) == (
        "person:session:end",
        f"person:{person.sub}",
        "signed_out",
        "q-1",
    )


def test_sessions_of_a_person_end_and_nobody_elses(person):
    other = user("omar", "entry-omar")
    opened = [open_session(person, NOW, LIFE) for _ in range(3)]
    kept = open_session(other, NOW, LIFE)[1]
    end_session(opened[0][0].pk, reason="signed_out", now=NOW)

    count = end_sessions(person, reason="disabled", now=NOW, actor="operator:x")

    assert count == 2
    assert not LoginSession.objects.filter(user=person, ended_at=None).exists()
    assert find_live_session(kept, NOW, IDLE) is not None


def test_unknown_session_cannot_end():
    assert end_session(User().pk, reason="x", now=NOW) is False


# -- people -----------------------------------------------------------------------------------------------


def link(of, source, login, entry, *, active=True):
    return DirectoryLink.objects.create(
        user=of,
        source=source,
        login=login,
        entry_uuid=entry,
        dn="x",
        active=active,
        created_at=NOW,
        checked_at=NOW,
    )


def test_entry_linked_twice_is_refused(person):
    with pytest.raises(IntegrityError), transaction.atomic():
        link(user("omar", "entry-omar"), "hq", "other", "entry-amina")


def test_login_name_of_two_active_links_of_a_source_is_refused(person):
    with pytest.raises(IntegrityError), transaction.atomic():
        link(user("omar", "entry-omar"), "hq", "amina", "entry-new")


def test_login_name_is_free_beside_an_inactive_link_and_in_another_source(person):
    other = user("omar", "entry-omar")

    link(other, "hq", "amina", "entry-old", active=False)
    link(other, "field", "amina", "entry-field")

    assert DirectoryLink.objects.filter(login="amina").count() == 3


def test_person_by_login_of_two_directories_is_nobody(person):
    assert person_by_login("amina") == person
    assert person_by_login("AMINA") is None

    link(user("omar", "entry-omar"), "field", "amina", "entry-field")

    assert person_by_login("amina") is None
    assert person_by_login("nobody") is None


def test_login_of_a_person_is_that_of_an_active_link(person):
    assert login_of(person.pk) == "amina"

    DirectoryLink.objects.update(active=False)

    assert login_of(person.pk) == ""


def test_person_without_a_subject_is_refused():
    with pytest.raises(IntegrityError, match="user_sub_present"), transaction.atomic():
        User.objects.create(sub="", created_at=NOW)


@pytest.mark.parametrize("half", [{"factor_at": NOW}, {"factor_kind": "otp"}], ids=["time-only", "kind-only"])
def test_session_with_half_a_factor_is_refused(person, half):
    session, _ = open_session(person, NOW, LIFE)

    with pytest.raises(IntegrityError, match="session_factor_whole"), transaction.atomic():
        LoginSession.objects.filter(pk=session.pk).update(**half)


def test_person_has_no_password():
    with pytest.raises(NotImplementedError):
        User().set_password("x")
    with pytest.raises(NotImplementedError):
        User().check_password("x")
    assert "password" not in {field.name for field in User._meta.get_fields()}
