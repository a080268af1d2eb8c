"""Which new passwords are taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.login.new_password import LENGTH_MAX, Problem, check, length_min, words_of

COMMON = frozenset({"password", "123456789123456789", "familiyafamiliya"})
WORDS = words_of("NIM", "Niamey regional office", "Amina Diallo", "المكتب الإقليمي", "amina")


def judge(
    new: str, again: str | None = None, old: str = "the one before this", minimum: int = 15
) -> Problem | None:
    return check(old, new, new if again is None else again, minimum=minimum, words=WORDS, common=COMMON)


def test_length_is_fifteen_alone_and_eight_beside_a_second_factor():
    assert length_min(has_factor=False) == 15
    assert length_min(has_factor=True) == 8


@pytest.mark.parametrize(
    ("new", "problem"),
    [
        ("three green horses", None),
        ("ثلاثة أحصنة خضراء عند الظهر", None),
        ("               a b c d e f", None),
        ("x" * 14, Problem.SHORT),
        ("e\u0301" * 10, Problem.SHORT),  # ten letters, each written with two signs
        ("abcd" * 65, Problem.LONG),
        ("123456789123456789", Problem.COMMON),
        ("FamiliyaFamiliya", Problem.COMMON),
        ("Password2026!!!!!!", Problem.COMMON),
        ("ababababababababab", Problem.COMMON),
        ("Amina-Diallo-1990-!!", Problem.HOUSE_WORD),
        ("niamey niamey 2026", Problem.HOUSE_WORD),
        ("المكتب الإقليمي ٢٠٢٦", Problem.HOUSE_WORD),
        ("niamey sells green horses", None),
    ],
)
def test_passwords_are_judged_by_length_and_by_how_soon_they_would_be_guessed(new, problem):
    assert judge(new) is problem


def test_two_fields_that_differ_are_said_first():
    assert judge("three green horses", "three green horse") is Problem.DIFFERENT


def test_the_old_one_is_not_a_new_one():
    assert judge("three green horses", old="three green horses") is Problem.SAME


def test_shorter_is_taken_beside_a_second_factor():
    assert judge("kettle 9 w", minimum=8) is None


@given(st.text(max_size=400), st.text(max_size=30))
def test_any_text_is_judged(new, old):
    problem = judge(new, old=old)

    assert problem is None or problem in Problem
    if problem is None:
        assert len(new) >= 15  # composing never makes a text longer than it was typed
        assert len(set(new.casefold())) >= 1
    if len(new) > 3 * LENGTH_MAX:
        assert problem is not None
