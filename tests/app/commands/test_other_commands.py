"""`person`, `audit`, `housekeeping`, `deliver`."""

import json
from datetime import UTC, datetime, timedelta

import pytest

import mfa.service
from directory.changes import Completeness, Ending, Gone
from directory.engine import Engine
from directory.readers import open_reader
from iam.accounts.models import DirectoryLink, User
from iam.accounts.services import end_session, open_session
from iam.audit.models import AuditDetail, AuditEvent, RefusalTally
from iam.audit.record import Event, Outcome, record, tally
from iam.audit.tags import Action
from iam.lifecycle import DirectoryEffects
from iam.oauth.clients import apply_all
from iam.oauth.models import Client, SessionClient
from tests.organisation import NOW
from tests.servers.receivers import away

pytestmark = pytest.mark.django_db


# -- person -----------------------------------------------------------------------------------------------


def test_person_who_never_came_is_shown_from_the_directory(house, run):
    ran = run("person", "show", "fatima")

    assert ran.failure == ""
    assert "the account was made just now" in ran.err
    for text in (
        "Fatima Zahra Ben Ali",
        "فاطمة الزهراء بن علي",
        "GVA",
        "staff in GVA",
        "active",
        "hq: fatima",
    ):
        assert text in ran.out
    assert AuditEvent.objects.filter(action="directory:person:create").count() == 1


def test_person_who_is_known_is_shown_without_any_change(house, run):
    run("person", "show", "fatima")
    before, looked = AuditEvent.objects.count(), DirectoryLink.objects.get().checked_at

    ran = run("person", "show", "fatima")

    assert ran.err == ""
    assert AuditEvent.objects.count() == before
    assert DirectoryLink.objects.get().checked_at == looked


class SaidGone:
    """A reading in which the directory says that one entry is gone."""

    def __init__(self, entry_id: str, cookie: bytes) -> None:
        self.entry_id, self.cookie = entry_id, cookie

    def __iter__(self):
        yield Gone(self.entry_id)

    def ending(self) -> Ending:
        return Ending(Completeness.CHANGES, self.cookie + b"+")


def test_person_who_left_is_not_let_in_again_by_a_look_at_a_copy_that_lags(house, run):
    """The stream has said that she is gone; the server that is asked still shows her."""
    run("person", "show", "fatima")
    source = house.DIRECTORY_SOURCES[0]
    engine, reader = Engine(source, DirectoryEffects()), open_reader(source)
    try:
        cookie = engine.take(reader.full(), reader).cookie
        gone = SaidGone(DirectoryLink.objects.get(login="fatima").entry_uuid, cookie)
        engine.take(gone, reader, cookie)
    finally:
        reader.close()

    ran = run("person", "show", "fatima")

    assert "has left" in ran.err
    assert "disabled" in ran.out
    assert not User.objects.get(links__login="fatima").is_active


def test_person_as_json_says_what_a_program_needs(house, run):
    run("access", "grant", "fatima", "mail.reader", "--office", "GVA", "--subtree")
    user = User.objects.get()
    mfa.service.import_totp(str(user.pk), "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", NOW)
    open_session(user, datetime.now(UTC), timedelta(hours=1))

    shown = json.loads(run("person", "show", "fatima", "--json").out)

    assert (shown["sub"], shown["active"], shown["office"]) == (user.sub, True, "GVA")
    assert (shown["second_factors"], shown["live_sessions"]) == (["otp"], 1)
    assert {(row["role"], row["office"], row["subtree"], row["state"]) for row in shown["assignments"]} == {
        ("mail.reader", "GVA", True, "in force"),
        ("staff", "GVA", False, "in force"),
    }
    assert shown["directory"][0]["login"] == "fatima"
    assert "JBSWY3DP" not in json.dumps(shown)


@pytest.mark.parametrize(
    ("login", "sentence"),
    [
        ("nobody", "no person"),
        ("twin", "means 2 entries"),
        ("fatima\x00", "no person"),
        ("x" * 300, "no person"),
    ],
    ids=["unknown", "ambiguous", "nul", "long"],
)
def test_person_who_cannot_be_shown_gets_one_sentence(house, run, login, sentence):
    ran = run("person", "show", login)

    assert sentence in ran.failure
    assert not User.objects.exists()


def test_person_when_the_directory_is_down_is_refused_in_one_sentence(cut_off, run):
    cut_off()

    assert "does not answer" in run("person", "show", "fatima").failure


def test_person_unlock_is_noted(house, run):
    ran = run("person", "unlock", "fatima")

    assert ran.failure == ""
    event = AuditEvent.objects.get(action="administrator:throttle:clear")
    assert event.object == f"person:{User.objects.get().sub}"


# -- audit ------------------------------------------------------------------------------------------------


def event(**changes):
    fields = {
        "action": Action.PASSWORD_VERIFY, "outcome": Outcome.REFUSED, "actor": "person:abc", "now": NOW,
        "reason": "wrong", "details": {"address": "192.0.2.1"}, **changes,
    }  # fmt: skip
    return record(Event(**fields))


def test_audit_lists_what_happened_in_lines_that_can_be_read(run):
    event(office="NIM", request_id="q-7")

    first, second, third = run("audit", "list").out.splitlines()

    assert "2026-11-25 10:00:00 UTC  REFUSED  a password was checked  (person:password:verify)" in first
    assert second.strip() == "who person:abc  ·  why wrong"
    assert third.strip() == "office NIM  ·  address 192.0.2.1  ·  reference q-7"


def test_audit_says_what_to_do_about_a_clients_refusal(run):
    event(action=Action.TOKEN_ISSUE, actor="client:mail", reason="wrong_secret")

    assert "why wrong_secret: The client secret is not the current one." in run("audit", "list").out


def test_audit_has_words_for_every_action(run):
    lines = run("audit", "words").out.splitlines()

    assert {line.split()[0] for line in lines} == set(Action)
    assert all(len(line.split()) > 3 for line in lines)


def test_audit_shows_people_by_their_login_names(house, run):
    run("person", "show", "fatima")

    assert "fatima (person:" in run("audit", "list").out


def test_audit_of_a_person_is_what_it_did_and_what_was_done_to_it(house, run):
    run("person", "show", "fatima")
    sub = User.objects.get().sub
    event(actor=f"person:{sub}")
    event(actor="person:other")

    lines = run("audit", "list", "--person", "fatima", "--json").out.splitlines()

    assert len(lines) == 4  # created, office, role, and the failure
    assert all(f"person:{sub}" in line for line in lines)


def test_audit_as_json_is_one_object_a_line(run):
    event_id = event(reason="a\nb")

    (line,) = run("audit", "list", "--json").out.splitlines()

    shown = json.loads(line)
    assert (shown["id"], shown["reason"], shown["detail_state"]) == (str(event_id), "a\\u000ab", "whole")


def test_audit_filters_by_actor_action_time_and_number(run):
    event(now=NOW - timedelta(days=9))
    event(actor="person:x")
    event(action=Action.FACTOR_VERIFY)

    def count(*arguments):
        return len(run("audit", "list", "--json", *arguments).out.splitlines())

    assert count("--actor", "person:x") == 1
    assert count("--action", "person:factor") == 1
    assert count("--action", "person:password", "--since", "2026-11-20T00:00:00Z") == 1
    assert count("--action", "person:password", "--limit", "1") == 1
    assert count("--action", "person:password", "--before", "1") == 0
    assert count("--action", "person:password", "--until", "2026-11-20T00:00:00Z") == 1
    assert count("--since", "2026-11-20T00:00:00Z", "--until", "2026-11-20T00:00:00Z") == 0


REFERENCE = "0b9f41aa-1c2d-4e3f-8a9b-000000000001"


def test_audit_finds_what_a_reference_number_stands_for(run):
    event(request_id=REFERENCE)
    event(request_id=REFERENCE.replace("0b9f", "1b9f"), actor="person:other")

    for given in (REFERENCE, REFERENCE[:8], REFERENCE[:20]):
        (line,) = run("audit", "list", "--json", "--reference", given).out.splitlines()
        assert json.loads(line)["request_id"] == REFERENCE
    missing = run("audit", "list", "--reference", REFERENCE.replace("0b9f", "2b9f"))
    assert (missing.out, "Nothing matches" in missing.err, "counted" in missing.err) == ("", True, True)


@pytest.mark.parametrize(
    "reference", ["0b9f41a", "0b9f41a%", "x" * 65, "0b9f41aa\x00", "' OR 1=1 --", "٠١٢٣٤٥٦٧"]
)
def test_audit_with_a_reference_that_is_none_is_refused(run, reference):
    assert run("audit", "list", "--reference", reference).failure.startswith("--reference")


def test_audit_counts_what_happened_and_why_it_was_refused_and_names_nobody(run):
    now = datetime.now(UTC)
    for reason in ("wrong_password", "wrong_password", "throttled"):
        event(now=now, reason=reason, actor="person:abc")
    event(now=now - timedelta(hours=25), reason="wrong_password")
    for _ in range(3):
        tally("192.0.2.1", "web", "wrong_secret", now - timedelta(minutes=2))
    run("housekeeping")
    tally("192.0.2.1", "web", "wrong_secret", now)

    ran = run("audit", "counts")
    rows = [json.loads(line) for line in run("audit", "counts", "--json", "--hours", "30").out.splitlines()]

    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert lines[0] == "4 × refused somebody unknown was refused (anonymous:request:refuse) wrong_secret"
    assert lines[1] == "2 × refused a password was checked (person:password:verify) wrong_password"
    assert not any(word in ran.out for word in ("abc", "192.0.2.1", "web"))
    counts = {(row["action"], row["reason"]): row["count"] for row in rows}
    assert counts["person:password:verify", "wrong_password"] == 3
    assert counts["anonymous:request:refuse", "wrong_secret"] == 4


@pytest.mark.parametrize("hours", ["0", "-1", "745"])
def test_audit_counts_over_hours_that_are_none_is_refused(run, hours):
    assert run("audit", "counts", "--hours", hours).failure.startswith("--hours")


def test_audit_of_a_client_is_what_it_did_and_what_was_done_to_it(run):
    event(actor="client:mail")
    event(action=Action.CLIENT_CHANGE, actor="operator:x", object="client:mail")
    event(actor="client:mail-2")
    event(actor="person:abc", object="client:mail")

    assert len(run("audit", "list", "--json", "--client", "mail").out.splitlines()) == 3
    both = run("audit", "list", "--json", "--client", "mail", "--person", "abc").out.splitlines()
    assert [json.loads(line)["actor"] for line in both] == ["person:abc"]
    read = AuditEvent.objects.filter(action="administrator:audit:read").order_by("sequence").first()
    assert (read.object, read.method) == ("client:mail", "client=mail limit=50")


def test_audit_says_how_to_see_older_events(run):
    for _ in range(3):
        event()

    ran = run("audit", "list", "--limit", "2")

    number = AuditEvent.objects.order_by("sequence")[1].sequence
    assert f"--before {number}" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [("--action", "person:nothing"), ("--client", "a\x00"), ("--person", "\x00"), ("--until", "now")],
)
def test_audit_asked_for_what_cannot_be_is_refused(run, arguments):
    assert run("audit", "list", *arguments).failure.startswith(arguments[0])


@pytest.mark.parametrize("since", ["yesterday", "2026-11-20T00:00:00"])
def test_audit_with_a_time_that_is_none_is_refused(run, since):
    assert run("audit", "list", "--since", since).failure.startswith("--since")


def test_audit_that_is_read_is_itself_an_event(run):
    run("audit", "list", "--person", "somebody", "--limit", "3")

    read = AuditEvent.objects.get(action="administrator:audit:read")
    assert read.actor.startswith("operator:")
    assert (read.object, read.method) == ("person:somebody", "limit=3")


def test_audit_names_details_that_were_altered(run):
    event_id = event()
    AuditDetail.objects.filter(event_id=event_id).update(details={"address": "192.0.2.99"})

    assert "(details altered)" in run("audit", "list").out


# -- housekeeping -----------------------------------------------------------------------------------------


def test_housekeeping_writes_counted_refusals_once(run):
    tally("192.0.2.1", "web", "invalid_client", datetime.now(UTC) - timedelta(minutes=2))

    first, second = run("housekeeping"), run("housekeeping")

    assert "counted refusals written to the audit: 1" in first.out
    assert "counted refusals written to the audit: 0" in second.out
    assert not RefusalTally.objects.exists()
    assert AuditEvent.objects.filter(action="anonymous:request:refuse").count() == 1


def test_housekeeping_ends_sessions_that_ran_out(house, run):
    run("person", "show", "fatima")
    user = User.objects.get()
    over, _ = open_session(user, datetime.now(UTC) - timedelta(hours=2), timedelta(hours=1))
    live, _ = open_session(user, datetime.now(UTC), timedelta(hours=1))

    ran = run("housekeeping")

    assert "sessions that ran out or idled out ended: 1" in ran.out
    over.refresh_from_db()
    live.refresh_from_db()
    assert (over.end_reason, live.ended_at) == ("ran_out", None)
    assert AuditEvent.objects.get(action="person:session:end").actor == "system:housekeeping"


def test_housekeeping_and_delivery_end_sessions_that_nobody_uses(house, run):
    run("person", "show", "fatima")
    user, now = User.objects.get(), datetime.now(UTC)
    for command in (("housekeeping",), ("deliver", "--once")):
        idle, _ = open_session(user, now - timedelta(minutes=61), timedelta(hours=12))
        used, _ = open_session(user, now - timedelta(minutes=59), timedelta(hours=12))

        run(*command)

        idle.refresh_from_db()
        used.refresh_from_db()
        assert (idle.end_reason, used.ended_at) == ("idle", None)


# -- deliver ----------------------------------------------------------------------------------------------


def test_deliver_shows_what_is_waiting_and_makes_one_attempt(house, run, settings):
    settings.IAM_OUTBOUND_ALLOW = ("http://127.0.0.1:*", "127.0.0.0/8")
    run("person", "show", "fatima")
    run("keys", "ensure")
    now = datetime.now(UTC)
    session, _ = open_session(User.objects.get(), now, timedelta(hours=1))
    client = {
        "client_id": "archive", "redirect_uris": ["https://archive.example/cb"], "backchannel_logout_uri": away(), "trusted": True,
    }  # fmt: skip
    apply_all([client], now, "system:test")
    assert "Every application knows" in run("deliver", "--list").out
    SessionClient.objects.create(
        session=session, client=Client.objects.get(client_id="archive"), sid="s-1", created_at=now
    )
    end_session(session.pk, reason="signed_out", now=now)
    assert (
        "archive: 1 waiting, 0 given up, the oldest for 0 min, last failure: none yet"
        in run("deliver", "--list").out
    )

    ran = run("deliver", "--once")

    assert "attempts made: 1" in ran.out
    assert "last failure: unreachable" in run("deliver", "--list").out
    assert "attempts made: 0" in run("deliver", "--once").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lock", "fatima", "--until", "2099-01-01T00:00:00+00:00"), "can do nothing until 2099-01-01 00:00"),
        (("expire", "fatima", "--at", "2099-01-01T00:00:00+00:00"), "ends at 2099-01-01 00:00 UTC"),
        (("expire", "fatima", "--at", "never"), "does not end by date"),
    ],
)
def test_person_account_is_locked_or_ends_when_the_operator_says_so(house, run, arguments, said):
    run("person", "show", "fatima")

    ran = run("person", *arguments)

    assert (ran.failure, said in ran.out) == ("", True)


@pytest.mark.parametrize(
    ("arguments", "failure"),
    [
        (("lock", "fatima", "--until", "2001-01-01T00:00:00+00:00"), "is over already"),
        (("lock", "fatima", "--until", "2099-01-01T00:00:00"), "time zone"),
        (("release", "fatima"), "is not locked"),
        (("expire", "fatima", "--at", "soon"), "is not a time"),
    ],
)
def test_person_account_is_left_alone_when_the_order_makes_no_sense(house, run, arguments, failure):
    run("person", "show", "fatima")

    assert failure in run("person", *arguments).failure
    user = User.objects.get()
    assert (user.locked_until, user.valid_until) == (None, None)


def test_person_locked_is_shown_so_and_released(house, run):
    run("person", "lock", "fatima", "--until", "2099-01-01T00:00:00+00:00")
    assert "locked until 2099-01-01 00:00 UTC" in run("person", "show", "fatima").out

    assert "may sign in again" in run("person", "release", "fatima").out
    assert "state          active" in run("person", "show", "fatima").out


def test_person_whose_account_ended_is_shown_so(house, run):
    run("person", "expire", "fatima", "--at", "2001-01-01T00:00:00+00:00")

    assert "expired since 2001-01-01 00:00 UTC" in run("person", "show", "fatima").out
