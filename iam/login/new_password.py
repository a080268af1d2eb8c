"""Which new passwords are taken: long ones that nobody would guess first. Pure; the directory judges after us.

No rules of composition, no forced signs: NIST SP 800-63B-4 §3.1.1.2 advises against them. Fifteen characters, or
eight where a second factor stands beside them; not one of the passwords that everybody tries; not made of the
words of this house, the person's name or the person's login name.
"""

import re
import unicodedata
from collections.abc import Collection, Set
from enum import StrEnum

LENGTH_ALONE = 15
LENGTH_WITH_FACTOR = 8
LENGTH_MAX = 256
WORD_MIN = 4  # shorter words are in everything
# What must be left of a password when the words of this house are taken out.
_NO_LETTER = re.compile(r"[\W\d_]+")


class Problem(StrEnum):
    """Why a new password is not taken: by us, before the directory is asked."""

    DIFFERENT = "different"  # the two fields differ
    SAME = "same"  # as the old one
    SHORT = "short"
    LONG = "long"
    COMMON = "common"
    HOUSE_WORD = "house_word"


def length_min(*, has_factor: bool) -> int:
    """Return how many characters a new password needs. Source: NIST SP 800-63B-4 §3.1.1.2."""
    return LENGTH_WITH_FACTOR if has_factor else LENGTH_ALONE


def check(
    old: str, new: str, again: str, *, minimum: int, words: Collection[str], common: Set[str]
) -> Problem | None:
    """Return why a new password is not taken, None when it is. `words` and `common` are casefolded."""
    if new != again:
        return Problem.DIFFERENT
    if new == old:
        return Problem.SAME
    composed = unicodedata.normalize("NFC", new)
    if len(composed) < minimum:
        return Problem.SHORT
    if len(composed) > LENGTH_MAX:
        return Problem.LONG
    folded = unicodedata.normalize("NFKC", new).casefold()
    # A common word stays common with a year behind it.
    if {folded, folded.strip(), _NO_LETTER.sub("", folded)} & common or len(set(folded)) < 4:
        return Problem.COMMON
    rest = folded
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= WORD_MIN:
            rest = rest.replace(word, "")
    if len(rest) < len(folded) and len(_NO_LETTER.sub("", rest)) < WORD_MIN:
        return Problem.HOUSE_WORD
    return None


def words_of(*texts: str) -> frozenset[str]:
    """Return the words of names, casefolded, that are long enough to be looked for."""
    return frozenset(
        word
        for text in texts
        for word in re.split(r"[\W_]+", unicodedata.normalize("NFKC", text).casefold())
        if len(word) >= WORD_MIN
    )
