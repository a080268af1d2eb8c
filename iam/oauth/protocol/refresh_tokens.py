"""Refresh tokens as positions in a family. Pure. Why: docs/adr/0005.

A token is `family id ‖ position ‖ MAC`, the MAC keyed by a key that is not in the database over a seed
that is only there. So nothing but the family's row is stored, a genuine old token is told from a guess,
and the successor of a token can be given again to a client that lost the answer.
"""

import hashlib
import hmac
from dataclasses import dataclass
from uuid import UUID

from .jose import BadToken, decode_segment, encode_segment

PREFIX = "rt_"
_MAC_BYTES = 32
_LENGTH = len(PREFIX) + 70  # base64url of 16 + 4 + 32 bytes


@dataclass(frozen=True, slots=True)
class Position:
    """Which token of which family a text claims to be; `unverified_mac` is what `is_genuine` judges."""

    family_id: UUID
    number: int
    unverified_mac: bytes


def build(key: bytes, seed: bytes, family_id: UUID, number: int) -> str:
    """Return the token at `number` (0 to 2^32-1) of a family."""
    head = family_id.bytes + number.to_bytes(4, "big")
    return PREFIX + encode_segment(head + _mac(key, seed, head))


def parse(text: str) -> Position | None:
    """Read a token's form; None when it has not the form of one."""
    if len(text) != _LENGTH or not text.startswith(PREFIX):
        return None
    try:
        data = decode_segment(text[len(PREFIX) :])
    except BadToken:
        return None
    return Position(UUID(bytes=data[:16]), int.from_bytes(data[16:20], "big"), data[20:])


def is_genuine(position: Position, key: bytes, seed: bytes) -> bool:
    """Say whether we made this token. Constant time."""
    head = position.family_id.bytes + position.number.to_bytes(4, "big")
    return hmac.compare_digest(position.unverified_mac, _mac(key, seed, head))


def _mac(key: bytes, seed: bytes, head: bytes) -> bytes:
    return hmac.new(key, b"refresh-token\0" + seed + head, hashlib.sha256).digest()[:_MAC_BYTES]
