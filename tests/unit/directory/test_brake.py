"""How many may go: the numbers of the brake, and that nothing adds up to more."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.brake import DEFAULT_BRAKE, GROUPS, WHOLE, Brake, Pressure, Removal, decide_brake
from directory.sources import read_sources


def said(*ids: str, office: str = "") -> list[Removal]:
    return [Removal(one, office, is_inferred=False) for one in ids]


def missing(*ids: str, office: str = "") -> list[Removal]:
    return [Removal(one, office, is_inferred=True) for one in ids]


def numbered(count: int, first: int = 0) -> list[str]:
    return [f"e{number}" for number in range(first, first + count)]


@pytest.mark.parametrize(
    ("people", "is_inferred", "limit"),
    [(0, False, 5), (250, False, 5), (299, False, 5), (300, False, 6), (100_000, False, 2000), (100, True, 5), (120, True, 6),
     (100_000, True, 5000)],
)  # fmt: skip
def test_limit_is_five_or_a_share(people, is_inferred, limit):
    assert DEFAULT_BRAKE.limit(people, is_inferred=is_inferred) == limit


@pytest.mark.parametrize(
    "loosened",
    [{"floor": 6}, {"explicit_share": 0.03}, {"inferred_share": 0.06}, {"office_people_min": 21},
     {"window": timedelta(minutes=9)}, {"floor": -1}, {"office_people_min": 0}],
)  # fmt: skip
def test_settings_that_loosen_are_refused(loosened):
    with pytest.raises(ValueError, match="tightened"):
        Brake(**loosened)


def test_said_ones_go_in_their_order_up_to_the_limit():
    verdict = decide_brake(DEFAULT_BRAKE, said(*numbered(8)), Pressure({"": 100}))

    assert [one.entry_id for one in verdict.passed] == numbered(5)
    assert [one.removal.entry_id for one in verdict.held] == numbered(3, 5)


def test_missing_ones_go_together_or_not_at_all():
    assert len(decide_brake(DEFAULT_BRAKE, missing(*numbered(5)), Pressure({"": 100})).passed) == 5
    assert not decide_brake(DEFAULT_BRAKE, missing(*numbered(6)), Pressure({"": 100})).passed


def test_what_went_in_the_window_counts():
    before = Pressure({"": 95}, recent=said(*numbered(3, 100)))

    verdict = decide_brake(DEFAULT_BRAKE, said(*numbered(4)), before)

    assert len(verdict.passed) == 2


def test_who_was_disabled_and_is_deleted_then_counts_once():
    before = Pressure({"": 95}, recent=said(*numbered(5)))

    verdict = decide_brake(DEFAULT_BRAKE, said("e1"), before)

    assert verdict.passed


def test_what_waits_holds_everything_after_it():
    before = Pressure({"": 10_000}, engaged=frozenset({(WHOLE, False)}))

    assert not decide_brake(DEFAULT_BRAKE, said("e1"), before).passed
    assert decide_brake(DEFAULT_BRAKE, missing("e1"), before).passed


def test_office_of_twenty_has_a_brake_of_its_own_and_one_of_nineteen_has_not():
    people = {"BIG": 20, "SMALL": 19, "": 10_000}

    big = decide_brake(DEFAULT_BRAKE, said(*numbered(7), office="BIG"), Pressure(people))
    small = decide_brake(DEFAULT_BRAKE, said(*numbered(7), office="SMALL"), Pressure(people))

    assert (len(big.passed), len(small.passed)) == (5, 7)
    assert {one.scope for one in big.held} == {"BIG"}


def test_missing_groups_are_counted_apart_from_people():
    people = {"": 100, GROUPS: 40}

    few = decide_brake(
        DEFAULT_BRAKE, [*missing(*numbered(5), office=GROUPS), *missing("p")], Pressure(people)
    )
    many = decide_brake(
        DEFAULT_BRAKE, [*missing(*numbered(6), office=GROUPS), *missing("p")], Pressure(people)
    )

    assert len(few.passed) == 6
    assert not many.passed


OFFICES = st.sampled_from(["", "A", "B"])


@given(
    st.dictionaries(OFFICES, st.integers(0, 400)),
    st.lists(st.lists(st.tuples(st.integers(0, 300), OFFICES, st.booleans()), max_size=60), max_size=8),
)
def test_no_sequence_of_batches_within_a_window_takes_more_than_the_limits(people, batches):
    went: list[Removal] = []
    engaged: set[tuple[str, bool]] = set()
    left = dict(people)
    for batch in batches:
        removals = [Removal(str(number), office, is_inferred) for number, office, is_inferred in batch]
        known = {one.entry_id for one in went}
        removals = [one for one in removals if one.entry_id not in known]
        verdict = decide_brake(DEFAULT_BRAKE, removals, Pressure(dict(left), tuple(went), frozenset(engaged)))
        went += verdict.passed
        for one in verdict.passed:
            left[one.office] = left.get(one.office, 0) - 1
        engaged |= {(one.scope, one.removal.is_inferred) for one in verdict.held}
        assert len(verdict.passed) + len(verdict.held) == len({one.entry_id for one in removals})
        for is_inferred in (False, True):
            some = [one for one in went if one.is_inferred is is_inferred]
            assert len(some) <= DEFAULT_BRAKE.limit(sum(people.values()), is_inferred=is_inferred)
            for office in ("A", "B"):
                if people.get(office, 0) >= 20:
                    there = [one for one in some if one.office == office]
                    assert len(there) <= DEFAULT_BRAKE.limit(people[office], is_inferred=is_inferred)


@pytest.mark.parametrize(
    ("written", "fails"), [("floor = 2", False), ("floor = 9", True), ("explicit_share = 0.5", True)]
)
def test_file_of_directories_tightens_and_never_loosens(written, fails):
    text = (
        '[[directory]]\nname = "hq"\nurls = ["ldaps://h"]\nbind_dn = "cn=s"\nbind_password_file = "f"\nbase_dn = "dc=x"\n'
        f"brake = {{ {written} }}\n"
    )
    if fails:
        with pytest.raises(ValueError, match="tightened"):
            read_sources(text, lambda _: "secret")
    else:
        assert read_sources(text, lambda _: "secret")[0].brake.floor == 2
