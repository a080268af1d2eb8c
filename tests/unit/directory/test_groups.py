"""Groups above groups: what is kept after a change is what a fresh look finds."""

from hypothesis import given
from hypothesis import strategies as st

from directory.groups import changed_closure, closure

EDGES = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=14)


def test_circle_is_above_itself_only_through_the_others():
    assert closure([(1, 2), (2, 3), (3, 1)]) == {1: {2, 3}, 2: {1, 3}, 3: {1, 2}}


def test_long_chain_has_no_depth_at_which_it_ends():
    assert len(closure([(number, number + 1) for number in range(3000)])[0]) == 3000


def test_change_at_the_top_of_one_tree_touches_nothing_of_another():
    edges = [(1, 2), (11, 12), (12, 13)]

    assert changed_closure(edges, [(12, 13)], []).keys() == {11, 12}


@given(EDGES, EDGES, EDGES)
def test_incremental_closure_equals_a_fresh_one(before, added, removed):
    after = (before | added) - removed
    kept = closure(before)

    changed = changed_closure(after, after - before, before - after)
    merged = {node: above for node, above in {**kept, **changed}.items() if above}

    assert merged == {node: above for node, above in closure(after).items() if above}
