"""Secrets at rest: AES-GCM under a named key, tied to the row they belong to.

The first key of `MFA_ENCRYPTION_KEYS` encrypts, every key decrypts: put a new key first, run
`manage.py mfa reencrypt`, then remove the old one.
"""

import json
import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from mfa.errors import MFAError

_KEY_BYTES = 32
_NONCE_BYTES = 12  # NIST SP 800-38D §8.2.2: random nonces, good for 2^32 secrets under one key
_FORMAT = "mfa-secret-1"


@dataclass(frozen=True, slots=True)
class Place:
    """The row a secret belongs to. A ciphertext moved to any other row does not open."""

    table: str
    row_id: str
    owner: str


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """An encrypted secret: nonce and ciphertext in one, and the id of its key."""

    key_id: str
    sealed: bytes


def _keys() -> dict[str, bytes]:
    keys: dict[str, bytes] = settings.MFA_ENCRYPTION_KEYS
    if not keys:
        raise MFAError("mfa_no_key", "MFA_ENCRYPTION_KEYS is empty: no second factor can be made or checked")
    for key_id, key in keys.items():
        if len(key) != _KEY_BYTES:
            raise MFAError("mfa_bad_key", f"encryption key {key_id!r} has {len(key)} bytes, not {_KEY_BYTES}")
    return keys


def _associated_data(place: Place, key_id: str) -> bytes:
    # JSON, because joined text would let ("a", "bc") stand for ("ab", "c").
    return json.dumps([_FORMAT, key_id, place.table, place.row_id, place.owner]).encode()


def current_key_id() -> str:
    """Return the id of the key that encrypts. Raises MFAError if there is none."""
    return next(iter(_keys()))


def seal_secret(secret: str, place: Place) -> SealedSecret:
    """Encrypt a secret for one row with the first key. Raises MFAError without a usable key."""
    key_id, key = next(iter(_keys().items()))
    nonce = secrets.token_bytes(_NONCE_BYTES)
    ciphertext = AESGCM(key).encrypt(nonce, secret.encode(), _associated_data(place, key_id))
    return SealedSecret(key_id=key_id, sealed=nonce + ciphertext)


def open_secret(stored: SealedSecret, place: Place) -> str:
    """Decrypt the secret of one row. Raises MFAError for an unknown key and for damaged or moved data."""
    keys = _keys()
    if stored.key_id not in keys:
        raise MFAError(
            "mfa_unknown_key",
            f"{place.table} {place.row_id} needs encryption key {stored.key_id!r}, which is not in"
            " MFA_ENCRYPTION_KEYS: add it again",
        )
    nonce, ciphertext = stored.sealed[:_NONCE_BYTES], stored.sealed[_NONCE_BYTES:]
    associated_data = _associated_data(place, stored.key_id)
    try:
        opened = AESGCM(keys[stored.key_id]).decrypt(nonce, ciphertext, associated_data)
    except (InvalidTag, ValueError) as error:  # ValueError: too short to hold a nonce
        raise MFAError(
            "mfa_damaged_secret",
            f"the secret of {place.table} {place.row_id} does not open with key {stored.key_id!r}:"
            " the row was damaged or moved, or the key's value changed",
        ) from error
    return opened.decode()
