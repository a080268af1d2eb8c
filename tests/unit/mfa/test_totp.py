"""What is typed becomes exactly six ASCII digits or nothing (US-05), and belongs to exactly one time step."""

import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfa import totp

# RFC 6238 appendix B: the shared secret "12345678901234567890", its SHA-1 column.
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
NOW = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
STEP = int(NOW.timestamp()) // 30


def code_at(offset: int) -> str:
    """Return the code a phone shows that is `offset` steps ahead."""
    return pyotp.TOTP(SECRET).generate_otp(STEP + offset)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("482910", id="ascii"),
        pytest.param("٤٨٢٩١٠", id="arabic-indic"),
        pytest.param("۴۸۲۹۱۰", id="persian"),
        pytest.param("४८२९१०", id="devanagari"),
        pytest.param("\uff14\uff18\uff12\uff19\uff11\uff10", id="fullwidth"),
        pytest.param("٤۸2९10", id="mixed"),
        pytest.param("482 910", id="space"),
        pytest.param(" 482910 ", id="outer-spaces"),
        pytest.param("4 8 2 9 1 0", id="many-spaces"),
        pytest.param("482\u00a0910", id="no-break-space"),
        pytest.param("482\u202f910", id="narrow-no-break-space"),
        pytest.param("482\u2009910", id="thin-space"),
        pytest.param("482\u3000910", id="ideographic-space"),
        pytest.param("482-910", id="hyphen"),
        pytest.param("482\u2010910", id="unicode-hyphen"),
        pytest.param("482\u2011910", id="non-breaking-hyphen"),
        pytest.param("482\u2012910", id="figure-dash"),
        pytest.param("482\u2013910", id="en-dash"),
        pytest.param("482\uff0d910", id="fullwidth-hyphen"),
        pytest.param("\u200e482910", id="left-to-right-mark"),
        pytest.param("\u200f٤٨٢\u200f٩١٠", id="right-to-left-mark"),
        pytest.param("\u061c٤٨٢٩١٠", id="arabic-letter-mark"),
        pytest.param("\u202a482910\u202c", id="embedding"),
        pytest.param("\u2066482910\u2069", id="isolate"),
    ],
)
def test_normalise_code_typed_like_a_person_gives_ascii(raw: str) -> None:
    assert totp.normalise_code(raw) == "482910"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("", id="empty"),
        pytest.param("   ", id="spaces"),
        pytest.param("48291", id="five"),
        pytest.param("4829100", id="seven"),
        pytest.param("482_910", id="underscore"),
        pytest.param("+482910", id="plus"),
        pytest.param("\u2212482910", id="minus-sign"),
        pytest.param("482\u2014910", id="em-dash"),
        pytest.param("482\u00ad910", id="soft-hyphen"),
        pytest.param("482910\n", id="trailing-newline"),
        pytest.param("\r\n482910", id="leading-newline"),
        pytest.param("482\t910", id="tab"),
        pytest.param("482910\u2028", id="line-separator"),
        pytest.param("482910\x00", id="nul"),
        pytest.param("482.910", id="dot"),
        pytest.param("482,910", id="comma"),
        pytest.param("٤٨٢٬٩١٠", id="arabic-thousands-separator"),
        pytest.param("⁴⁸²⁹¹⁰", id="superscripts"),
        pytest.param("₄₈₂₉₁₀", id="subscripts"),
        pytest.param("④⑧②⑨①⓪", id="circled"),
        pytest.param("四八二九一〇", id="ideographs"),
        pytest.param("48291½", id="fraction"),
        pytest.param("48291O", id="letter-o"),
        pytest.param("0x1234", id="hexadecimal"),
        pytest.param("1e5000", id="exponent"),
        pytest.param("482\u200b910", id="zero-width-space"),
        pytest.param("\ud800482910", id="lone-surrogate"),
        pytest.param("-" * 59 + "482910", id="65-characters"),
        pytest.param("4" * 1_000_000, id="megabyte"),
    ],
)
def test_normalise_code_not_six_digits_gives_none(raw: str) -> None:
    assert totp.normalise_code(raw) is None


def test_normalise_code_at_the_longest_length_is_read() -> None:
    assert totp.normalise_code("-" * 58 + "482910") == "482910"


@pytest.mark.parametrize(("raw", "code"), [("٤٨٢٩ ١٠٧٣", "48291073"), ("482910", None)])
def test_normalise_code_for_eight_digits_requires_eight(raw: str, code: str | None) -> None:
    assert totp.normalise_code(raw, digits=8) == code


@given(
    st.text(st.characters(codec=None))
    | st.text(st.sampled_from("0123456789٤۴ -\u200f\u202f_+\n²"), max_size=12)
)
def test_normalise_code_anything_gives_six_ascii_digits_or_none(raw: str) -> None:
    code = totp.normalise_code(raw)

    assert code is None or (len(code) == 6 and set(code) <= set("0123456789"))


def test_normalise_code_every_unicode_decimal_digit_counts() -> None:
    decimals = [chr(point) for point in range(0x110000) if unicodedata.category(chr(point)) == "Nd"]

    wrong = [
        digit for digit in decimals if totp.normalise_code(digit * 6) != str(unicodedata.decimal(digit)) * 6
    ]

    assert len(decimals) > 600
    assert wrong == []


@pytest.mark.spec("RFC 6238", "Appendix B", "the SHA-1 test vectors")
@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_matching_step_rfc_6238_vector_is_found(seconds: int, code: str) -> None:
    now = datetime.fromtimestamp(seconds, UTC)

    step = totp.matching_step(SECRET, code, now, shape=totp.CodeShape(digits=8))

    assert step == seconds // 30


@pytest.mark.spec("RFC 6238", "5.2", "at most one time step of delay each way")
@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_matching_step_within_one_step_is_found(offset: int) -> None:
    assert totp.matching_step(SECRET, code_at(offset), NOW) == STEP + offset


@pytest.mark.parametrize("offset", [-10, -3, -2, 2, 3, 10, 2880])
def test_matching_step_beyond_one_step_is_none(offset: int) -> None:
    assert totp.matching_step(SECRET, code_at(offset), NOW) is None


def test_matching_step_without_drift_takes_only_the_current_step() -> None:
    found = [totp.matching_step(SECRET, code_at(offset), NOW, drift=0) for offset in (-1, 0, 1)]

    assert found == [None, STEP, None]


def test_matching_step_same_code_twice_in_the_window_gives_the_later() -> None:
    step, later = 153_567, 153_569  # found by search: this secret shows the same six digits in both
    totp_of_both = pyotp.TOTP(SECRET)
    code = totp_of_both.generate_otp(step)
    assert code == totp_of_both.generate_otp(later)

    found = totp.matching_step(SECRET, code, datetime.fromtimestamp((step + 1) * 30, UTC))

    assert found == later


@pytest.mark.parametrize("code", ["", "1", "٤٨٢٩١٠", "\ud800"])
def test_matching_step_code_not_normalised_is_none(code: str) -> None:
    assert totp.matching_step(SECRET, code, NOW) is None


def test_matching_step_just_after_1970_does_not_ask_for_negative_steps() -> None:
    now = datetime.fromtimestamp(0, UTC)

    assert totp.matching_step(SECRET, pyotp.TOTP(SECRET).generate_otp(1), now) == 1


@pytest.mark.parametrize("secret", ["", "ABCD", "not base32!"], ids=["empty", "short", "no-base32"])
def test_matching_step_unusable_secret_raises(secret: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        totp.matching_step(secret, "482910", NOW)


def test_time_step_without_zone_raises() -> None:
    with pytest.raises(ValueError, match="no zone"):
        totp.time_step(NOW.replace(tzinfo=None))


def test_time_step_in_another_zone_is_the_same() -> None:
    assert totp.time_step(NOW.astimezone(timezone(timedelta(hours=1)))) == STEP


@pytest.mark.parametrize("offset", [-10, -5, -2, 2, 5, 10])
def test_drifted_step_between_two_and_ten_is_found(offset: int) -> None:
    assert totp.drifted_step(SECRET, code_at(offset), NOW) == STEP + offset


@pytest.mark.parametrize("offset", [-11, -1, 0, 1, 11])
def test_drifted_step_accepted_or_too_far_is_none(offset: int) -> None:
    assert totp.drifted_step(SECRET, code_at(offset), NOW) is None


@pytest.mark.parametrize(
    ("offset", "minutes"), [(-10, 5), (-4, 2), (-2, 1), (2, 1), (3, 2), (4, 2), (7, 4), (9, 5), (10, 5)]
)
def test_clock_offset_minutes_rounds_to_whole_minutes(offset: int, minutes: int) -> None:
    assert totp.clock_offset_minutes(STEP + offset, NOW) == minutes


def test_clock_offset_minutes_is_never_zero() -> None:
    assert totp.clock_offset_minutes(STEP, NOW) == 1


def test_build_uri_plain_names_is_what_phones_read() -> None:
    uri = totp.build_uri(SECRET, "a.benali@example.org", "Secretariat")

    assert uri == f"otpauth://totp/Secretariat:a.benali%40example.org?secret={SECRET}&issuer=Secretariat"


@pytest.mark.parametrize(
    ("label", "issuer"),
    [("أحمد بن علي", "الأمانة"), ("a&secret=X", "b?c#d"), ("a:b", "c:d"), ('"><script>', "%00")],
    ids=["arabic", "separators", "colons", "markup"],
)
def test_build_uri_hostile_names_come_back_unchanged(label: str, issuer: str) -> None:
    parsed = pyotp.parse_uri(totp.build_uri(SECRET, label, issuer))

    assert isinstance(parsed, pyotp.TOTP)
    assert (parsed.name, parsed.issuer, parsed.secret) == (label, issuer, SECRET)


def test_group_secret_is_in_fours() -> None:
    assert totp.group_secret("GEZDGNBVGY3TQ") == "GEZD GNBV GY3T Q"
