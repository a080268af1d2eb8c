"""Recovery codes are long enough, readable, bound to their place, and read however they are typed (US-09)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfa import recovery

TYPED = recovery.TypedCode(index=3, body="BCDFGHJKMNPQRSTV")
SALT = b"0123456789abcdef"


@pytest.fixture(scope="module")
def new_codes() -> recovery.NewCodes:
    return recovery.make_codes("owner", "set")


@pytest.mark.parametrize("alike", ["0OQ", "1IL", "2Z", "5S", "6G", "8B", "UV"])
def test_alphabet_has_at_most_one_of_look_alikes(alike: str) -> None:
    assert len(set(alike) & set(recovery.ALPHABET)) <= 1


def test_alphabet_gives_enough_bits() -> None:
    assert len(set(recovery.ALPHABET)) == len(recovery.ALPHABET)
    assert math.log2(len(recovery.ALPHABET)) * recovery.BODY_LENGTH >= 64


def test_make_codes_gives_ten_different_numbered_ones(new_codes: recovery.NewCodes) -> None:
    typed = [recovery.parse_code(code) for code in new_codes.shown]

    assert [code.index for code in typed if code] == list(range(1, 11))
    assert len({code.body for code in typed if code}) == 10


def test_make_codes_stores_nothing_of_what_is_shown(new_codes: recovery.NewCodes) -> None:
    stored = b"".join(code.salt + code.hash for code in new_codes.hashed)

    assert len({code.salt for code in new_codes.hashed}) == 10
    assert not any(code.split("-", 1)[1].encode() in stored for code in new_codes.shown)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("3-BCDF-GHJK-MNPQ-RSTV", id="as-shown"),
        pytest.param("3-bcdf-ghjk-mnpq-rstv", id="lower-case"),
        pytest.param("3BcDfGhJkMnPqRsTv", id="mixed-case-without-separators"),
        pytest.param(" 3  BCDF GHJK MNPQ RSTV ", id="spaces"),
        pytest.param("٣-BCDF-GHJK-MNPQ-RSTV", id="arabic-indic-index"),
        pytest.param("۳-BCDF-GHJK-MNPQ-RSTV", id="persian-index"),
        pytest.param("\u200f٣\u200e-BCDF\u2011GHJK\u2013MNPQ\u00a0RSTV", id="marks-and-dashes"),
    ],
)
def test_parse_code_typed_like_a_person_is_read(raw: str) -> None:
    assert recovery.parse_code(raw) == TYPED


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("", id="empty"),
        pytest.param("BCDF-GHJK-MNPQ-RSTV", id="without-index"),
        pytest.param("0-BCDF-GHJK-MNPQ-RSTV", id="index-zero"),
        pytest.param("03-BCDF-GHJK-MNPQ-RSTV", id="leading-zero"),
        pytest.param("100-BCDF-GHJK-MNPQ-RSTV", id="three-digit-index"),
        pytest.param("³-BCDF-GHJK-MNPQ-RSTV", id="superscript-index"),
        pytest.param("X-BCDF-GHJK-MNPQ-RSTV", id="letter-index"),
        pytest.param("3-BCDF-GHJK-MNPQ-RST", id="too-short"),
        pytest.param("3-BCDF-GHJK-MNPQ-RSTVW", id="too-long"),
        pytest.param("3-BCDF-GHJK-MNPQ-RST0", id="digit"),
        pytest.param("3-BCDF-GHJK-MNPQ-RSTI", id="letter-not-in-alphabet"),
        pytest.param("3_BCDF_GHJK_MNPQ_RSTV", id="underscores"),
        pytest.param("3-BCDF-GHJK-MNPQ-RSTV\n", id="trailing-newline"),
        pytest.param("3-BСDF-GHJK-MNPQ-RSTV", id="cyrillic-look-alike"),
        pytest.param("3-BCDF-GHJ\u212a-MNPQ-RSTV", id="kelvin-sign"),
        pytest.param("3-BCDF-GHJK-MNPQ-R\u017fTV", id="long-s"),
        pytest.param("3-\uff22CDF-GHJK-MNPQ-RSTV", id="fullwidth-letters"),
        pytest.param("482910", id="totp-code"),
        pytest.param("3" + "-" * 80 + "BCDFGHJKMNPQRSTV", id="over-long"),
    ],
)
def test_parse_code_malformed_is_none(raw: str) -> None:
    assert recovery.parse_code(raw) is None


@given(st.text(st.characters(codec=None)))
def test_parse_code_anything_never_raises(raw: str) -> None:
    typed = recovery.parse_code(raw)

    assert typed is None or set(typed.body) <= set(recovery.ALPHABET)


@given(st.integers(1, 99), st.text(st.sampled_from(recovery.ALPHABET), min_size=16, max_size=16))
def test_parse_code_reads_what_is_shown(index: int, body: str) -> None:
    shown = recovery.show_code(index, body)

    assert recovery.parse_code(shown.lower()) == recovery.TypedCode(index=index, body=body)


def test_is_match_right_code_in_its_place_is_true() -> None:
    stored = recovery.HashedCode(3, SALT, recovery.hash_code(TYPED.body, salt=SALT, place="here"))

    assert recovery.is_match(TYPED, stored, place="here")


@pytest.mark.parametrize(
    ("typed", "salt", "place"),
    [
        pytest.param(recovery.TypedCode(3, "BCDFGHJKMNPQRSTW"), SALT, "here", id="other-code"),
        pytest.param(TYPED, b"fedcba9876543210", "here", id="other-salt"),
        pytest.param(TYPED, SALT, "there", id="other-place"),
    ],
)
def test_is_match_anything_else_is_false(typed: recovery.TypedCode, salt: bytes, place: str) -> None:
    stored = recovery.HashedCode(3, salt, recovery.hash_code(TYPED.body, salt=SALT, place="here"))

    assert not recovery.is_match(typed, stored, place=place)


def test_is_match_absent_code_is_false() -> None:
    assert not recovery.is_match(TYPED, recovery.absent_code(3), place="here")


def test_hash_code_unknown_scheme_raises() -> None:
    with pytest.raises(ValueError, match="unknown hash scheme"):
        recovery.hash_code(TYPED.body, salt=SALT, place="here", scheme="md5")


def test_code_place_of_different_parts_differs() -> None:
    places = {
        recovery.code_place("a", "b", 1),
        recovery.code_place("a", "b", 11),
        recovery.code_place("a:b", "", 1),
        recovery.code_place("a", "b:1", 1),
        recovery.code_place("1:a", "b", 1),
    }

    assert len(places) == 5
