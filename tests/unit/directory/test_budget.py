"""How time is divided."""

import time

import pytest

from directory.budget import Budget
from directory.errors import DirectoryError, UnavailableReason


def test_budget_that_is_used_up_raises_timeout():
    with pytest.raises(DirectoryError) as caught:
        Budget.start(-0.001).left()

    assert caught.value.reason is UnavailableReason.TIMEOUT


def test_budget_shares_what_is_left_equally():
    whole = Budget.start(3.0)

    assert whole.share(3).left() == pytest.approx(1.0, abs=0.05)
    assert whole.share(1).left() == pytest.approx(3.0, abs=0.05)
    assert whole.share(0).left() == pytest.approx(3.0, abs=0.05)


def test_budget_cut_is_never_longer_than_the_whole():
    assert Budget.start(1.0).at_most(5).left() <= 1.0
    assert Budget(time.monotonic() + 5).at_most(1.0).left() <= 1.0
