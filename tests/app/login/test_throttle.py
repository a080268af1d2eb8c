"""Guesses are slowed: per account charged in advance, per source counted afterwards (A33)."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from iam.login import throttle
from iam.login.models import ThrottleCounter
from iam.login.throttle import Blocked, Charge, Kind

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
