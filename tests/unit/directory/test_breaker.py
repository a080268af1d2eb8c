"""When a server is asked and when it is left alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from directory.breaker import PROBE_SECONDS, Breaker, State, Trouble


def state(breaker: Breaker) -> tuple[State, Trouble]:
    reading = breaker.read()
    return reading.state, reading.trouble


def test_new_breaker_is_closed_and_needs_no_probe():
    breaker = Breaker()

    assert breaker.is_closed
    assert not breaker.take_probe(0.0)


def test_one_time_out_is_decided_by_a_probe_at_once():
    breaker = Breaker()
    breaker.fail(Trouble.FROZEN, 10.0)

    assert state(breaker) == (State.HALF_OPEN, Trouble.FROZEN)
    assert not breaker.is_closed
    assert breaker.take_probe(10.0)
    breaker.end_probe(Trouble.NONE, 10.1)
    assert state(breaker) == (State.CLOSED, Trouble.NONE)


@pytest.mark.parametrize("by_probe", [True, False])
def test_second_time_out_opens(by_probe):
    breaker = Breaker()
    breaker.fail(Trouble.FROZEN, 10.0)
    if by_probe:
        breaker.take_probe(10.0)
        breaker.end_probe(Trouble.FROZEN, 11.0)
    else:
        breaker.fail(Trouble.FROZEN, 11.0)

    assert state(breaker) == (State.OPEN, Trouble.FROZEN)
    assert breaker.read().since == 11.0
    assert not breaker.take_probe(11.0 + PROBE_SECONDS - 0.1)
    assert breaker.take_probe(11.0 + PROBE_SECONDS)
    assert state(breaker) == (State.HALF_OPEN, Trouble.FROZEN)


@pytest.mark.parametrize("trouble", [Trouble.REFUSING, Trouble.LAGGING])
def test_server_that_answers_with_no_service_opens_at_once(trouble):
    breaker = Breaker()
    breaker.fail(trouble, 10.0)

    assert state(breaker) == (State.OPEN, trouble)
    assert not breaker.take_probe(10.0)


def test_answer_closes_whatever_was_before():
    breaker = Breaker()
    breaker.fail(Trouble.REFUSING, 10.0)
    breaker.succeed(11.0)

    assert breaker.is_closed
    assert not breaker.take_probe(99.0)


def test_one_asker_probes_and_nobody_else():
    breaker = Breaker()
    breaker.fail(Trouble.FROZEN, 10.0)

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(lambda _: breaker.take_probe(10.0), range(100))) == 1
