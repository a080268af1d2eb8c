"""The act claim: who acts for whom, the newest outermost, never more than a few."""

import pytest

from iam.oauth.protocol.delegation import ACTORS_MAX, actors, build_act


@pytest.mark.spec("RFC 8693", "4.1", "the current actor is outermost")
def test_act_puts_the_newest_in_front():
    act = build_act("b", build_act("a", None))

    assert act == {"sub": "b", "act": {"sub": "a"}}
    assert actors({"act": act}) == ("b", "a")
    assert actors({"sub": "person"}) == ()


def test_act_of_the_longest_chain_is_read_and_one_more_is_not():
    act = None
    for number in range(ACTORS_MAX):
        act = build_act(f"c{number}", act)

    assert len(actors({"act": act})) == ACTORS_MAX
    with pytest.raises(ValueError, match="none of ours"):
        actors({"act": build_act("one more", act)})


@pytest.mark.parametrize("act", ["gateway", [], {}, {"sub": 3}, {"sub": "a", "act": "b"}, 7, True])
def test_act_that_is_malformed_is_none_of_ours(act):
    with pytest.raises(ValueError, match="none of ours"):
        actors({"act": act})
