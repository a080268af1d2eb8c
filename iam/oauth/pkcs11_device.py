"""A PKCS#11 token: it makes keys, signs, and never gives a private key away. The only importer of `pkcs11`.

One lock around every call: the library opens Cryptoki without locking (`C_Initialize(NULL)`), which promises
it one thread at a time; several worker processes sign side by side. The connection is made on first use, in the
process that uses it, and made again once when a call fails. Whatever else fails denies: `SigningUnavailable`.
A wrong PIN is tried once in a process, because a token locks itself after a few.
Spec: PKCS#11 2.40 base §5.4 (C_Initialize), §5.6 (sessions, C_Login), mechanisms §2.1.8, §2.1.10, §2.3.6.
"""

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pkcs11 import MGF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, PKCS11Error, TokenFlag
from pkcs11.util.ec import encode_named_curve_parameters

from .hsm import Reference
from .protocol.jose import PublicKey, SigningUnavailable

# A healthy token signs in a millisecond or ten; behind one that hangs nobody waits longer than this.
WAIT_SECONDS = 3.0
# After a connection could not be made, nobody tries again for this long: a dead token must not be hammered.
COOL_DOWN_SECONDS = 1.0
RSA_BITS = 2048

_Found = TypeVar("_Found")
_WRONG_PIN = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinLocked, pkcs11.PinExpired)
_PRIVATE = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
# What a token must be able to do for an algorithm: to make the key, and to sign.
_NEEDED = {
    "ES256": {Mechanism.EC_KEY_PAIR_GEN, Mechanism.ECDSA},
    "RS256": {Mechanism.RSA_PKCS_KEY_PAIR_GEN, Mechanism.SHA256_RSA_PKCS},
    "PS256": {Mechanism.RSA_PKCS_KEY_PAIR_GEN, Mechanism.SHA256_RSA_PKCS_PSS},
    "EdDSA": {Mechanism.EC_EDWARDS_KEY_PAIR_GEN, Mechanism.EDDSA},
}
_SIGNS = MechanismFlag.SIGN | MechanismFlag.VERIFY


@dataclass(slots=True)
class Device:
    """A token and our one session with it, guarded by one lock."""

    module: str
    token_label: str
    pin: str = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _session: Any = field(default=None, repr=False)  # Any: pkcs11 has no useful type here
    _keys: dict[str, Any] = field(default_factory=dict, repr=False)  # Any: pkcs11's private keys
    _pid: int = 0
    _wrong_pin: bool = False
    _not_before: float = 0.0

    def sign(self, algorithm: str, name: str, data: bytes) -> bytes:
        """Sign with the private key called `name`. Raises: SigningUnavailable."""

        def work() -> bytes:
            key = self._keys.get(name)
            if key is None:
                key = self._session.get_key(object_class=ObjectClass.PRIVATE_KEY, label=name)
                self._keys[name] = key
            return bytes(_sign(algorithm, key, data))

        return self._run(work)

    def generate(self, algorithm: str) -> tuple[Reference, PublicKey]:
        """Make a key pair in the token; return where the private half is, and the public half.

        Raises: SigningUnavailable, and says so when the token does not know the algorithm.
        """
        name = f"iam-{algorithm.lower()}-{secrets.token_hex(8)}"

        def work() -> PublicKey:
            label = {"label": name, "id": name.encode(), "store": True}
            more = {"private_template": _PRIVATE, "capabilities": _SIGNS}
            session = self._session
            if not _NEEDED[algorithm] <= session.token.slot.get_mechanisms():
                raise _NotKnown
            if algorithm in {"RS256", "PS256"}:
                public, _ = session.generate_keypair(KeyType.RSA, RSA_BITS, **label, **more)
            else:
                kind, curve = (
                    (KeyType.EC, "secp256r1")
                    if algorithm == "ES256"
                    else (KeyType.EC_EDWARDS, "1.3.101.112")  # RFC 8410 §3
                )
                parameters = session.create_domain_parameters(
                    kind, {Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}, local=True
                )
                public, _ = parameters.generate_keypair(**label, **more)
            return _public_half(algorithm, public)

        try:
            return Reference(self.token_label, name), self._run(work, write=True)
        except _NotKnown as problem:
            raise SigningUnavailable(
                f"the token {self.token_label!r} makes no keys for {algorithm}; leave them in the database"
            ) from problem

    def _run(self, work: Callable[[], _Found], *, write: bool = False) -> _Found:
        """Do something in the session, again in a new one if the first try failed."""
        if not self._lock.acquire(timeout=WAIT_SECONDS):
            raise SigningUnavailable(f"the token {self.token_label!r} does not answer")
        try:
            if self._pid != os.getpid():  # a forked child must not use its parent's connection
                self._disconnect()
            if self._session is not None and not write:
                with suppress(PKCS11Error):
                    return work()
            self._disconnect()
            self._connect(write=write)
            result = work()
            if write:
                self._disconnect()  # sessions that may write are not kept
            return result
        except (pkcs11.MechanismInvalid, pkcs11.AttributeValueInvalid, pkcs11.TemplateInconsistent,
                pkcs11.DomainParamsInvalid, pkcs11.FunctionNotSupported) as problem:  # fmt: skip
            self._disconnect()
            if write:
                raise _NotKnown from problem
            raise SigningUnavailable(f"the token refuses to sign: {_name(problem)}") from problem
        except PKCS11Error as problem:
            self._disconnect()
            raise SigningUnavailable(f"the token {self.token_label!r} fails: {_name(problem)}") from problem
        finally:
            self._lock.release()

    def _connect(self, *, write: bool) -> None:
        if self._wrong_pin:
            raise SigningUnavailable("IAM_PKCS11_PIN was refused; it is not tried again before a restart")
        if time.monotonic() < self._not_before:
            raise SigningUnavailable(f"the token {self.token_label!r} did not answer a moment ago")
        self._not_before = time.monotonic() + COOL_DOWN_SECONDS
        library = pkcs11.lib(self.module)
        library.reinitialize()  # reads the slots anew: a token that was away may be back
        self._pid = os.getpid()
        token = library.get_token(token_label=self.token_label)
        pin = self.pin if token.flags & TokenFlag.LOGIN_REQUIRED else None
        try:
            self._session = token.open(rw=write, user_pin=pin)
        except _WRONG_PIN:
            self._wrong_pin = True
            raise
        self._not_before = 0.0

    def _disconnect(self) -> None:
        """Forget the session; the library closes it when it begins anew."""
        self._session = None
        self._keys.clear()


class _NotKnown(Exception):
    """The token does not know the algorithm."""


def _sign(algorithm: str, key: Any, data: bytes) -> bytes:  # Any: pkcs11's private key
    match algorithm:
        case "ES256":  # r and s of 32 bytes each, as JWS has them
            return bytes(key.sign(hashlib.sha256(data).digest(), mechanism=Mechanism.ECDSA))
        case "RS256":
            return bytes(key.sign(data, mechanism=Mechanism.SHA256_RSA_PKCS))
        case "PS256":
            padding = (Mechanism.SHA256, MGF.SHA256, 32)
            return bytes(key.sign(data, mechanism=Mechanism.SHA256_RSA_PKCS_PSS, mechanism_param=padding))
        case "EdDSA":
            return bytes(key.sign(data, mechanism=Mechanism.EDDSA))
        case _:
            raise SigningUnavailable(f"unknown algorithm {algorithm!r}")


def _public_half(algorithm: str, public: Any) -> PublicKey:  # Any: pkcs11's public key
    if algorithm in {"RS256", "PS256"}:
        exponent, modulus = public[Attribute.PUBLIC_EXPONENT], public[Attribute.MODULUS]
        return rsa.RSAPublicNumbers(
            int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")
        ).public_key()
    point = bytes(public[Attribute.EC_POINT])
    # An OCTET STRING around the point, though some tokens give the point alone (PKCS#11 2.40 mechanisms §2.3.3).
    size = 65 if algorithm == "ES256" else 32
    point = point[-size:]
    if algorithm == "ES256":
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    return ed25519.Ed25519PublicKey.from_public_bytes(point)


def _name(problem: PKCS11Error) -> str:
    """Return what went wrong; PKCS#11's errors have a name and seldom a text."""
    return f"{type(problem).__name__} {problem}".strip()
