"""What a person types and what it means: normalising codes, time steps, the enrolment address. Pure."""

import hmac
import unicodedata
from dataclasses import dataclass
from datetime import datetime

import pyotp

DIGITS = 6  # what every phone application shows, whatever the address asks for
PERIOD_SECONDS = 30  # likewise
DRIFT_STEPS = 1  # RFC 6238 §5.2: one step for the network and slow typing; each more widens guessing by 1/3
HELP_STEPS = 10  # beyond five minutes a match is more likely chance than a clock

# Far above any honest way to write a code (digits, separators and a bidi mark around each group), so that
# a megabyte costs nothing.
RAW_LENGTH_MAX = 64

# Hyphens people and their software put between digits: ASCII, U+2010, non-breaking U+2011, figure dash U+2012
# (made for numbers), en dash U+2013 (what a word processor makes of a hyphen), two compatibility forms.
# Not the em dash, minus sign or soft hyphen: no keyboard writes those inside a number, and a minus is a sign.
_HYPHENS = "-\u2010\u2011\u2012\u2013\ufe63\uff0d"
# Arabic and Hebrew keyboards and copied text carry these unseen: LRM, RLM, ALM, embeddings, isolates.
_BIDI_MARKS = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_DROPPED = frozenset(_HYPHENS + _BIDI_MARKS)


@dataclass(frozen=True, slots=True)
class CodeShape:
    """How long a device's codes are and how long each is shown; hardware may differ from phones."""

    digits: int = DIGITS
    period_seconds: int = PERIOD_SECONDS


PHONE = CodeShape()


def fold_typed(raw: str) -> str | None:
    """Drop separators from what was typed and turn every decimal digit into ASCII.

    Separators are spaces (Unicode category Zs: also no-break, narrow, ideographic), hyphens and bidi marks.
    Tabs and line ends are not: a form field cannot carry them, so no person typed them.
    Every Unicode decimal digit (Nd, also fullwidth) counts; superscripts and fractions are no decimals.
    Other characters stay. Returns None for input longer than RAW_LENGTH_MAX.
    """
    if len(raw) > RAW_LENGTH_MAX:
        return None
    kept: list[str] = []
    for character in raw:
        if character in _DROPPED or unicodedata.category(character) == "Zs":
            continue
        value = unicodedata.decimal(character, None)
        kept.append(character if value is None else str(value))
    return "".join(kept)


def normalise_code(raw: str, digits: int = DIGITS) -> str | None:
    """Return exactly `digits` ASCII digits from what was typed, or None. Never raises."""
    folded = fold_typed(raw)
    if folded is None or len(folded) != digits or not (folded.isascii() and folded.isdecimal()):
        return None
    return folded


def time_step(now: datetime, shape: CodeShape = PHONE) -> int:
    """Return the number of whole periods since 1970. Raises ValueError for a time without zone.

    Spec: RFC 6238 §4.2
    """
    if now.tzinfo is None:
        raise ValueError("the time has no zone: a local time would shift every code")
    return int(now.timestamp()) // shape.period_seconds


def _matching_steps(secret: str, code: str, near: int, reach: int, shape: CodeShape) -> tuple[int, ...]:
    """Return every step up to `reach` from `near` whose code is `code`; compares all, in constant time."""
    totp = pyotp.TOTP(secret, digits=shape.digits, interval=shape.period_seconds)
    given = code.encode("utf-8", "replace")
    return tuple(
        step
        for step in range(max(near - reach, 0), near + reach + 1)
        if hmac.compare_digest(totp.generate_otp(step).encode(), given)
    )


def matching_step(
    secret: str, code: str, now: datetime, drift: int = DRIFT_STEPS, shape: CodeShape = PHONE
) -> int | None:
    """Return the time step that `code` belongs to, at most `drift` steps from `now`, or None.

    `secret` is base32. Where one code happens to belong to two steps the later is returned: were it the
    earlier that is consumed, the same code would be good a second time.
    Raises ValueError for a secret that is no base32 or shorter than 112 bits.
    Spec: RFC 6238 §5.2
    """
    steps = _matching_steps(secret, code, time_step(now, shape), drift, shape)
    return steps[-1] if steps else None


def drifted_step(secret: str, code: str, now: datetime, shape: CodeShape = PHONE) -> int | None:
    """Return the step nearest to `now` that `code` would belong to on a wrong clock, or None.

    Looks beyond the accepted drift and up to HELP_STEPS each way. Only for the sentence "your phone's clock
    seems wrong": such a code is never accepted.
    """
    current = time_step(now, shape)
    steps = _matching_steps(secret, code, current, HELP_STEPS, shape)
    beyond = [step for step in steps if abs(step - current) > DRIFT_STEPS]
    return min(beyond, key=lambda step: abs(step - current), default=None)


def clock_offset_minutes(step: int, now: datetime, shape: CodeShape = PHONE) -> int:
    """Return by about how many minutes (at least 1) a clock is off that shows the code of `step` at `now`.

    Without a sign: what to do ("set it to automatic") is the same for both directions.
    """
    off_seconds = abs(step - time_step(now, shape)) * shape.period_seconds
    return max(1, (off_seconds + 30) // 60)


def group_secret(secret: str) -> str:
    """Return the secret in groups of four, for typing."""
    return " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))


def build_uri(secret: str, account_label: str, issuer: str, shape: CodeShape = PHONE) -> str:
    """Return the `otpauth://` address that phone applications read from the QR code."""
    totp = pyotp.TOTP(secret, digits=shape.digits, interval=shape.period_seconds)
    return totp.provisioning_uri(name=account_label, issuer_name=issuer)
