"""Recovery codes: making, reading and hashing them. Pure."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from mfa.totp import fold_typed

CODES = 10

# Consonants, after RFC 8628 §6.1 but with Y for L: no digits, so nothing to mistake for O, I, S, Z or B, and
# no vowels, so no words. Sixteen out of twenty letters: 69 bits.
ALPHABET = "BCDFGHJKMNPQRSTVWXYZ"
BODY_LENGTH = 16
GROUP_LENGTH = 4

# 16 MB and about 40 ms for one guess. 69 bits cannot be searched anyway; this slows work on a stolen table.
# Kept by name with every row, so that it can be raised without invalidating printed codes.
SCHEME = "scrypt-14-8-1"
_SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class TypedCode:
    """What was typed, taken apart: which line of the sheet, and its letters."""

    index: int
    body: str


@dataclass(frozen=True, slots=True)
class HashedCode:
    """What is stored of one code."""

    index: int
    salt: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class NewCodes:
    """Codes to show once, in order, and what to store of them."""

    shown: tuple[str, ...]
    hashed: tuple[HashedCode, ...]


def parse_code(raw: str) -> TypedCode | None:
    """Read a recovery code in any case, with or without separators, its index in any digits; else None."""
    folded = fold_typed(raw)
    if folded is None or not folded.isascii():
        return None
    index, body = folded[:-BODY_LENGTH], folded[-BODY_LENGTH:].upper()
    # An index has no leading zero: one code has one index.
    if not 1 <= len(index) <= 2 or not index.isdecimal() or index.startswith("0"):
        return None
    if set(body) - set(ALPHABET):
        return None
    return TypedCode(index=int(index), body=body)


def show_code(index: int, body: str) -> str:
    """Return a code as it is shown and printed, such as `3-BCDF-GHJK-MNPQ-RSTV`."""
    groups = [body[start : start + GROUP_LENGTH] for start in range(0, len(body), GROUP_LENGTH)]
    return "-".join([str(index), *groups])


def hash_code(body: str, *, salt: bytes, place: str, scheme: str = SCHEME) -> bytes:
    """Return the slow hash of one code. Raises ValueError for a scheme it does not know.

    `place` (owner, set and index) is hashed too, so a row copied to somebody else opens nothing.
    Spec: NIST SP 800-63B-4 §3.1.2 (look-up secrets below 112 bits), RFC 7914
    """
    if scheme != SCHEME:
        raise ValueError("unknown hash scheme of a recovery code")
    message = f"{place}\0{body}".encode()
    return hashlib.scrypt(message, salt=salt, n=2**14, r=8, p=1, maxmem=2**26, dklen=32)


def is_match(typed: TypedCode, stored: HashedCode, *, place: str, scheme: str = SCHEME) -> bool:
    """Say whether the typed code is the stored one. Costs one slow hash, whatever the answer."""
    given = hash_code(typed.body, salt=stored.salt, place=place, scheme=scheme)
    return hmac.compare_digest(given, stored.hash)


def code_place(owner: str, set_id: str, index: int) -> str:
    """Return where a code belongs, as text that goes into its hash."""
    return f"{len(owner)}:{owner}:{set_id}:{index}"


def absent_code(index: int) -> HashedCode:
    """Return a stand-in for a code that does not exist, to spend the same hash on; nothing matches it."""
    return HashedCode(index=index, salt=bytes(_SALT_BYTES), hash=secrets.token_bytes(32))


def make_codes(owner: str, set_id: str) -> NewCodes:
    """Return ten new codes, numbered from 1. Costs ten slow hashes, so not while holding a lock."""
    bodies = ["".join(secrets.choice(ALPHABET) for _ in range(BODY_LENGTH)) for _ in range(CODES)]
    shown: list[str] = []
    hashed: list[HashedCode] = []
    for index, body in enumerate(bodies, start=1):
        salt = secrets.token_bytes(_SALT_BYTES)
        place = code_place(owner, set_id, index)
        shown.append(show_code(index, body))
        hashed.append(HashedCode(index=index, salt=salt, hash=hash_code(body, salt=salt, place=place)))
    return NewCodes(shown=tuple(shown), hashed=tuple(hashed))
