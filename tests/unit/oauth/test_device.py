"""User codes: letters that nobody confuses, read however they are typed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol.device import (
    USER_CODE_ALPHABET,
    USER_CODE_LENGTH,
    Outcome,
    new_user_code,
    read_user_code,
    shown,
)


@pytest.mark.spec("RFC 8628", "6.1", "user code of consonants that cannot be confused")
def test_user_codes_have_eight_letters_none_a_vowel_or_like_a_digit():
    codes = {new_user_code() for _ in range(500)}

    assert len(codes) == 500
    assert all(len(code) == USER_CODE_LENGTH for code in codes)
    assert set("".join(codes)) == set(USER_CODE_ALPHABET)
    assert not set(USER_CODE_ALPHABET) & set("AEIOUY0123456789")


@pytest.mark.parametrize(
    "typed",
    [
        "BCDF-GHJK", "bcdf-ghjk", " BCDF GHJK ", "BCDFGHJK", "BCDF–GHJK", "\u200fBCDF-GHJK\u200e", "B.C.D.F.G.H.J.K",
        "ＢＣＤＦ－ＧＨＪＫ",
    ],
)  # fmt: skip
@pytest.mark.spec("RFC 8628", "6.1", "case and punctuation do not count")
def test_user_code_is_read_however_it_is_typed(typed):
    assert read_user_code(typed) == "BCDFGHJK"


@pytest.mark.parametrize(
    "typed",
    ["", "BCDF-GHJ", "BCDF-GHJKL", "ACDF-GHJK", "BCDF-GH0K", "بتثج-حخدذ", "ßCDFGHJK", "\0" * 8, "-" * 64,
     "BCDF-GHJK" + "-" * 64, "\ud800BCDFGHJK" * 9],
)  # fmt: skip
def test_user_code_of_other_letters_or_length_is_none(typed):
    assert read_user_code(typed) == ""


@given(st.text(max_size=80))
def test_user_code_of_any_text_is_eight_of_our_letters_or_nothing(typed):
    code = read_user_code(typed)

    assert code == "" or (len(code) == USER_CODE_LENGTH and set(code) <= set(USER_CODE_ALPHABET))


def test_user_code_survives_being_shown_and_typed():
    code = new_user_code()

    assert read_user_code(shown(code)) == code
    assert shown(code)[4] == "-"


def test_outcomes_have_pages():
    assert [outcome.path for outcome in Outcome] == ["/device/confirmed", "/device/refused", "/device/gone"]
