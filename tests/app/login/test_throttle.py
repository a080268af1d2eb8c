"""Guesses are slowed: per account charged in advance, per source counted afterwards (A33)."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from iam.audit.models import AuditEvent
from iam.audit.tags import Action
from iam.login import throttle
from iam.login.models import ThrottleCounter
from iam.login.throttle import Blocked, Charge, Kind
from tests.organisation import user

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 25, 9, tzinfo=UTC)
ACCOUNT = throttle.entry_account("d", "e-1")


def fail(times: int, address: str = "192.0.2.1", now: datetime = NOW) -> list[Charge | Blocked]:
    return [throttle.charge(Kind.PASSWORD, ACCOUNT, address, now) for _ in range(times)]


def test_charge_five_tries_are_free_and_the_sixth_waits():
    outcomes = fail(6)

    assert all(isinstance(outcome, Charge) for outcome in outcomes[:5])
    assert outcomes[5] == Blocked(timedelta(seconds=30))


def test_charge_delays_grow_to_fifteen_minutes():
    now, waits = NOW, []
    fail(5)
    for _ in range(8):
        blocked = throttle.charge(Kind.PASSWORD, ACCOUNT, "", now)
        assert isinstance(blocked, Blocked)
        assert blocked.wait is not None
        waits.append(int(blocked.wait.total_seconds()))
        now += blocked.wait
        assert isinstance(throttle.charge(Kind.PASSWORD, ACCOUNT, "", now), Charge)

    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]


def test_charge_stops_at_a_hundred_until_an_operator_clears(settings):
    settings.IAM_THROTTLE_EXEMPT_NETWORKS = (ip_network("192.0.2.0/24"),)
    outcomes = fail(101)

    assert all(isinstance(outcome, Charge) for outcome in outcomes[:100])
    assert outcomes[100] == Blocked(None)
    ThrottleCounter.objects.all().delete()
    assert isinstance(fail(1)[0], Charge)


def test_charge_exempt_network_skips_delays_but_not_the_counting(settings):
    settings.IAM_THROTTLE_EXEMPT_NETWORKS = (ip_network("192.0.2.0/24"),)
    fail(20)

    assert ThrottleCounter.objects.get().failures == 20
    assert isinstance(throttle.charge(Kind.PASSWORD, ACCOUNT, "198.51.100.1", NOW), Blocked)


def test_forgive_success_gives_all_tries_back():
    fail(4)
    throttle.forgive(Kind.PASSWORD, ACCOUNT)

    assert all(isinstance(outcome, Charge) for outcome in fail(5))


def test_refund_directory_that_could_not_answer_costs_no_try():
    for _ in range(20):
        charged = throttle.charge(Kind.PASSWORD, ACCOUNT, "", NOW)
        assert isinstance(charged, Charge)
        throttle.refund(charged)


def test_charge_password_and_code_are_counted_apart():
    fail(6)

    assert isinstance(throttle.charge(Kind.CODE, ACCOUNT, "", NOW), Charge)


def test_source_is_slowed_after_five_failures_of_anybody_and_forgets_after_quiet_time():
    for _ in range(5):
        assert throttle.check_source(Kind.PASSWORD, "192.0.2.9", NOW) is None
        throttle.count_source(Kind.PASSWORD, "192.0.2.9", NOW)

    assert throttle.check_source(Kind.PASSWORD, "192.0.2.9", NOW) == Blocked(timedelta(seconds=30))
    assert throttle.check_source(Kind.PASSWORD, "192.0.2.10", NOW) is None
    later = NOW + timedelta(minutes=16)
    throttle.count_source(Kind.PASSWORD, "192.0.2.9", later)
    assert throttle.check_source(Kind.PASSWORD, "192.0.2.9", later) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_source_network_is_one_address_or_one_ipv6_subnet(one, other, same):
    assert (throttle.source_network(one) == throttle.source_network(other)) is same


def test_name_account_spellings_of_one_name_share_their_tries():
    assert throttle.name_account("A.Ali ") == throttle.name_account("a.ali")
    assert "ali" not in throttle.name_account("a.ali").key


# -- the account, further -------------------------------------------------------------------------------------


def test_charge_refused_tries_neither_count_nor_lengthen_the_wait():
    fail(5)
    fail(50)
    counter = ThrottleCounter.objects.get()

    assert counter.failures == 5
    assert fail(1, now=NOW + timedelta(seconds=10)) == [Blocked(timedelta(seconds=20))]
    assert fail(1, now=NOW + timedelta(seconds=29, milliseconds=999)) == [Blocked(timedelta(seconds=1))]
    assert isinstance(fail(1, now=NOW + timedelta(seconds=30))[0], Charge)


def test_charge_after_a_delay_is_one_try_not_five():
    fail(5)
    later = NOW + timedelta(seconds=30)

    outcomes = fail(2, now=later)

    assert isinstance(outcomes[0], Charge)
    assert outcomes[1] == Blocked(timedelta(seconds=60))


def test_charge_patient_guesser_is_stopped_at_a_hundred_without_an_end():
    now = NOW
    for _ in range(100):
        assert isinstance(fail(1, now=now)[0], Charge)
        now += timedelta(minutes=15)

    assert fail(1, now=now) == [Blocked(None)]
    assert fail(1, now=now + timedelta(days=365)) == [Blocked(None)]


def test_charge_one_account_costs_another_nothing():
    fail(20)

    assert isinstance(throttle.charge(Kind.PASSWORD, throttle.name_account("x"), "192.0.2.1", NOW), Charge)


def test_charge_many_sources_share_the_tries_of_one_account():
    outcomes = [fail(1, f"198.51.100.{n}")[0] for n in range(30)]

    assert sum(isinstance(outcome, Charge) for outcome in outcomes) == 5


@pytest.mark.parametrize("before", range(5))
def test_refund_leaves_what_was_counted_before(before):
    fail(before)
    charged = fail(1)[0]
    assert isinstance(charged, Charge)

    throttle.refund(charged)

    assert (ThrottleCounter.objects.get().failures, ThrottleCounter.objects.get().blocked_until) == (
        before,
        0,
    )


def test_refund_does_not_end_the_delay_that_a_later_failure_began():
    fail(3)
    outage = fail(1)[0]
    assert isinstance(outage, Charge)
    fail(1)  # the fifth: begins the delay

    throttle.refund(outage)

    assert isinstance(fail(1)[0], Blocked)


def test_refund_twice_or_after_a_success_never_goes_below_zero():
    charged = fail(1)[0]
    assert isinstance(charged, Charge)
    throttle.refund(charged)
    throttle.refund(charged)
    assert ThrottleCounter.objects.get().failures == 0
    throttle.forgive(Kind.PASSWORD, ACCOUNT)
    throttle.refund(charged)

    assert not ThrottleCounter.objects.exists()


def test_forgive_one_kind_leaves_the_other():
    fail(5)
    for _ in range(5):
        throttle.charge(Kind.CODE, ACCOUNT, "", NOW)

    throttle.forgive(Kind.PASSWORD, ACCOUNT)

    assert isinstance(throttle.charge(Kind.CODE, ACCOUNT, "", NOW), Blocked)


# -- the source, further --------------------------------------------------------------------------------------


def test_source_counts_what_failed_and_its_delays_grow():
    now, waits = NOW, []
    for _ in range(4):
        throttle.count_source(Kind.CODE, "192.0.2.9", now)
    for _ in range(7):
        throttle.count_source(Kind.CODE, "192.0.2.9", now)
        blocked = throttle.check_source(Kind.CODE, "192.0.2.9", now)
        assert isinstance(blocked, Blocked)
        assert blocked.wait is not None
        waits.append(int(blocked.wait.total_seconds()))
        now += min(blocked.wait, timedelta(minutes=14))

    assert waits == [30, 60, 120, 240, 480, 900, 900]


def test_source_is_never_stopped_for_good_and_a_look_costs_nothing():
    for _ in range(300):
        throttle.count_source(Kind.CODE, "192.0.2.9", NOW)
        throttle.check_source(Kind.CODE, "192.0.2.9", NOW)

    assert ThrottleCounter.objects.get().failures == 300
    assert throttle.check_source(Kind.CODE, "192.0.2.9", NOW) == Blocked(timedelta(minutes=15))
    assert throttle.check_source(Kind.CODE, "192.0.2.9", NOW + timedelta(minutes=15)) is None


def test_source_success_of_somebody_does_not_wash_a_guesser_clean():
    for _ in range(5):
        throttle.count_source(Kind.PASSWORD, "192.0.2.9", NOW)
    throttle.forgive(Kind.PASSWORD, ACCOUNT)

    assert throttle.check_source(Kind.PASSWORD, "192.0.2.9", NOW)


def test_source_one_ipv6_host_cannot_walk_through_its_own_subnet():
    for n in range(5):
        throttle.count_source(Kind.PASSWORD, f"2001:db8:1:2::{n:x}", NOW)

    assert throttle.check_source(Kind.PASSWORD, "2001:db8:1:2:ffff:ffff:ffff:ffff", NOW)
    assert throttle.check_source(Kind.PASSWORD, "2001:db8:1:3::1", NOW) is None


def test_source_mapped_ipv4_is_the_same_host():
    assert throttle.source_network("::ffff:192.0.2.1") == throttle.source_network("192.0.2.1")


@pytest.mark.parametrize("address", ["", "garbage", "192.0.2.1:80", "1.2.3", "\0", "٢٠٣.0.113.1"])
def test_source_that_is_no_address_shares_one_throttle(address):
    assert throttle.source_network(address) == "unknown"
    for _ in range(5):
        throttle.count_source(Kind.PASSWORD, address, NOW)

    assert throttle.check_source(Kind.PASSWORD, "something else", NOW)


def test_source_exempt_network_is_counted_and_not_delayed(settings):
    settings.IAM_THROTTLE_EXEMPT_NETWORKS = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    for _ in range(50):
        throttle.count_source(Kind.PASSWORD, "192.0.2.9", NOW)

    assert throttle.check_source(Kind.PASSWORD, "192.0.2.9", NOW) is None
    assert ThrottleCounter.objects.get().failures == 50
    assert throttle.is_exempt("2001:db8:5::1")
    assert throttle.is_exempt("::ffff:192.0.2.1")
    assert not throttle.is_exempt("2001:db9::1")
    assert not throttle.is_exempt("garbage")
    assert not throttle.is_exempt("")


# -- operators and housekeeping -------------------------------------------------------------------------------


def test_clear_lets_a_stopped_person_try_again_by_every_account_and_is_audited(settings):
    settings.IAM_THROTTLE_EXEMPT_NETWORKS = (ip_network("192.0.2.0/24"),)
    person = user("amina", "entry-amina")
    accounts = [
        throttle.entry_account("hq", "entry-amina"), throttle.name_account("amina"),
        throttle.person_account(person.pk),
    ]  # fmt: skip
    for account in accounts:
        for kind in Kind:
            for _ in range(100):
                throttle.charge(kind, account, "192.0.2.1", NOW)
    fail(1)

    cleared = throttle.clear("amina", user=person, actor="operator:root", now=NOW)

    assert cleared == len(accounts) * len(Kind)
    assert all(isinstance(throttle.charge(kind, a, "", NOW), Charge) for a in accounts for kind in Kind)
    event = AuditEvent.objects.get(action=Action.THROTTLE_CLEAR)
    assert (event.actor, event.object) == ("operator:root", f"person:{person.sub}")


def test_clear_a_name_that_is_nobodys_names_nobody_in_the_audit():
    assert throttle.clear("nobody", user=None, actor="operator:root", now=NOW) == 0


def test_purge_keeps_what_still_decides_and_takes_what_does_not(settings):
    settings.IAM_THROTTLE_EXEMPT_NETWORKS = (ip_network("192.0.2.0/24"),)
    month = NOW - timedelta(days=30)
    stopped, idle, fresh = (throttle.entry_account("d", name) for name in ("stopped", "idle", "fresh"))
    nobody = throttle.name_account("nobody")
    for account in (stopped, nobody):
        for _ in range(100):
            throttle.charge(Kind.PASSWORD, account, "192.0.2.1", month)
    throttle.charge(Kind.PASSWORD, idle, "", month)
    throttle.charge(Kind.PASSWORD, fresh, "", month + timedelta(seconds=1))
    throttle.count_source(Kind.PASSWORD, "192.0.2.1", NOW - timedelta(minutes=15))
    throttle.count_source(Kind.PASSWORD, "192.0.2.2", NOW - timedelta(minutes=14))

    assert throttle.purge(NOW) == 3
    assert throttle.purge(NOW) == 0
    assert set(ThrottleCounter.objects.values_list("key", flat=True)) == {
        f"password:{stopped.key}", f"password:{fresh.key}", "password:source:192.0.2.2"
    }  # fmt: skip


def test_counters_hold_no_name_that_was_typed():
    throttle.charge(Kind.PASSWORD, throttle.name_account("my-password-typed-as-a-name"), "", NOW)

    (counter,) = ThrottleCounter.objects.all()
    assert "my-password" not in counter.key
    assert str(counter).endswith(": 1")
