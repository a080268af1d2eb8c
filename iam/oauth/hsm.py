"""Keys that a PKCS#11 token keeps: where one is, and what signs with it. The device itself is in pkcs11_device.py.

That is imported when a token is first asked: the library takes nine megabytes, and most installations have none.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from django.conf import settings

from .protocol.jose import SigningUnavailable

if TYPE_CHECKING:
    from .pkcs11_device import Device


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a key is: the token's label and the object's. Written as a `pkcs11:` URI. Spec: RFC 7512 §2.3."""

    token: str
    object: str

    def __str__(self) -> str:
        return f"pkcs11:token={quote(self.token, safe='')};object={quote(self.object, safe='')};type=private"

    @classmethod
    def parse(cls, uri: str) -> "Reference":
        """Read what `str` wrote. Raises: ValueError."""
        scheme, _, path = uri.partition(":")
        parts = dict(part.partition("=")[::2] for part in path.split(";"))
        if scheme != "pkcs11" or not {"token", "object"} <= parts.keys():
            raise ValueError("not the address of a key in a token")
        return cls(unquote(parts["token"]), unquote(parts["object"]))


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """Signs with a key that the token keeps."""

    algorithm: str
    reference: Reference

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`. Raises: SigningUnavailable."""
        device = configured_device()
        if self.reference.token != device.token_label:
            raise SigningUnavailable(
                f"the key is in the token {self.reference.token!r}, IAM_PKCS11_TOKEN_LABEL is {device.token_label!r}"
            )
        return device.sign(self.algorithm, self.reference.object, data)


def configured_device() -> "Device":
    """Return the one device of this process. Raises: SigningUnavailable when none is set."""
    module, label = settings.IAM_PKCS11_MODULE, settings.IAM_PKCS11_TOKEN_LABEL
    if not module or not label:
        raise SigningUnavailable("IAM_PKCS11_MODULE and IAM_PKCS11_TOKEN_LABEL are not set")
    return _device(module, label, settings.IAM_PKCS11_PIN)


@cache
def _device(module: str, token_label: str, pin: str) -> "Device":
    from .pkcs11_device import Device

    return Device(module, token_label, pin)
