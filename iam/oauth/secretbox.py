"""Keys derived from the installation's secrets, and encryption at rest of private signing keys.

Each purpose has a key of its own, so that what is made for one can never be used for another.
Spec: NIST SP 800-108 (HMAC in counter mode, one block), NIST SP 800-38D (AES-GCM).
"""

import hashlib
import hmac
import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from iam.errors import IAMError

_NONCE_BYTES = 12


def derived_key(purpose: str) -> bytes:
    """Return 32 bytes for one purpose."""
    return _derived(settings.SECRET_KEY, purpose)


@lru_cache(maxsize=32)
def _derived(secret: str, purpose: str) -> bytes:
    return hmac.digest(secret.encode(), b"iam\0" + purpose.encode() + b"\0\x01", hashlib.sha256)


def client_secret_digest(secret: str) -> str:
    """Return the keyed digest of a client secret.

    The service makes secrets of 256 bits, so nothing is gained by a slow hash; the key keeps a stolen
    database useless even for a weak secret that an owner brought along (docs/adr/0004).
    """
    return hmac.digest(derived_key("client-secret"), secret.encode(), hashlib.sha256).hex()


def user_code_digest(user_code: str) -> str:
    """Return the keyed digest of a device's user code: 2^34 codes are soon tried out against a plain one."""
    return hmac.new(derived_key("user-code"), user_code.encode(), hashlib.sha256).hexdigest()


def encrypt(plain: bytes, purpose: str) -> tuple[str, bytes]:
    """Return (key id, nonce and ciphertext), bound to `purpose` (for instance a row's identity)."""
    key_id = next(iter(settings.IAM_ENCRYPTION_KEYS), None)
    if key_id is None:
        raise IAMError("IAM_ENCRYPTION_KEYS is empty: nothing can be encrypted.", code="no_encryption_key")
    nonce = os.urandom(_NONCE_BYTES)
    sealed = AESGCM(settings.IAM_ENCRYPTION_KEYS[key_id]).encrypt(nonce, plain, purpose.encode())
    return key_id, nonce + sealed


def decrypt(key_id: str, sealed: bytes, purpose: str) -> bytes:
    """Return what `encrypt` was given.

    Raises: IAMError, naming what is missing or damaged: an operator must know, and nobody is let through.
    """
    key = settings.IAM_ENCRYPTION_KEYS.get(key_id)
    if key is None:
        raise IAMError(f"IAM_ENCRYPTION_KEYS has no key {key_id!r}, under which {purpose} is encrypted.")
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose.encode())
    except (InvalidTag, ValueError) as problem:  # too short to hold even a nonce is damaged as well
        raise IAMError(
            f"The stored bytes of {purpose} are damaged, or key {key_id!r} is another one."
        ) from problem
