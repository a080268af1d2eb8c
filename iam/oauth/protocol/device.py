"""User codes: what a device shows and a person types. Pure.

Spec: RFC 8628 §6.1 (twenty consonants: no letter looks like another or a digit, and none spells a word).
"""

import secrets
import unicodedata
from datetime import timedelta
from enum import StrEnum

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
VERIFICATION_PATH = "/device"

USER_CODE_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
# 20^8 is 2^34: with guesses slowed down per person and per address, and ten minutes to guess in, one of fifty live
# codes is found once in more than a million years of one address. Spec: RFC 8628 §5.1.
USER_CODE_LENGTH = 8
DEVICE_CODE_LIFE = timedelta(minutes=10)
# Spec: RFC 8628 §3.2 (`interval`), §3.5 (slow_down adds five seconds). A device that never listens is slowed to a
# minute and no further: it would only miss its own end.
INTERVAL_SECONDS = 5
SLOW_DOWN_SECONDS = 5
INTERVAL_SECONDS_MAX = 60
# A clock's tick and a fast line may bring an honest poll this much early.
EARLY = timedelta(seconds=1)
# How many codes may wait at once for one client and one address: a street's worth of devices, not a flood.
WAITING_MAX = 50


class Outcome(StrEnum):
    """How a person's visit for a device ended; each is a page below VERIFICATION_PATH."""

    CONFIRMED = "confirmed"
    REFUSED = "refused"
    GONE = "gone"  # answered before, too late, or somebody else's

    @property
    def path(self) -> str:
        """Return the page's path."""
        return f"{VERIFICATION_PATH}/{self.value}"


def new_user_code() -> str:
    """Return eight random letters."""
    return "".join(secrets.choice(USER_CODE_ALPHABET) for _ in range(USER_CODE_LENGTH))


def shown(user_code: str) -> str:
    """Return a code as a device shows it: XXXX-XXXX."""
    return f"{user_code[:4]}-{user_code[4:]}"


def read_user_code(typed: str) -> str:
    """Return the eight letters that somebody typed, "" when they are no code.

    Case, width, dashes, spaces and marks that nobody sees do not count. Spec: RFC 8628 §6.1.
    """
    if len(typed) > 64:
        return ""
    letters = "".join(c for c in unicodedata.normalize("NFKC", typed).upper() if c.isalnum())
    fits = len(letters) == USER_CODE_LENGTH and all(c in USER_CODE_ALPHABET for c in letters)
    return letters if fits else ""
