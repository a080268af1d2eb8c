"""A PKCS#11 token: it makes keys, signs, and never gives a private key away. The only importer of `pkcs11`.

A process has one connection and a few sessions, each lent to one thread at a time. The connection is made on first use, in
the process that uses it. A call that fails is tried in a new session, then in a new connection, for which every session is
waited for. Whatever else fails denies: `SigningUnavailable`. A wrong PIN is tried once in a process, because a token
locks itself after a few (docs/adr/0060).
Spec: PKCS#11 2.40 base §5.4 (C_Initialize), §5.6 (sessions, C_Login), mechanisms §2.1.8, §2.1.10, §2.3.6.
"""

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pkcs11 import MGF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, PKCS11Error, TokenFlag
from pkcs11.util.ec import encode_named_curve_parameters

from . import cryptoki
from .hsm import Reference
from .protocol.jose import PublicKey, SigningUnavailable

# A healthy token signs in a millisecond or ten; behind one that hangs nobody waits longer than this.
WAIT_SECONDS = 3.0
# After a connection could not be made, nobody tries again for this long: a dead token must not be hammered.
COOL_DOWN_SECONDS = 1.0
# What a process signs at once. A network token has a few processors and some hundred sessions for all its users.
SESSIONS_MAX = 4
RSA_BITS = 2048

_Found = TypeVar("_Found")
_WRONG_PIN = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinLocked, pkcs11.PinExpired)
# The token understands, and does not do it: another session would not either.
_REFUSALS = (
    pkcs11.MechanismInvalid, pkcs11.AttributeValueInvalid, pkcs11.TemplateInconsistent, pkcs11.DomainParamsInvalid,
    pkcs11.FunctionNotSupported,
)  # fmt: skip
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
class _Session:
    """One session of a connection, and the keys that were found in it."""

    opened: Any  # Any: pkcs11 has no useful type here
    connection: int
    logged_in: bool = False  # it was this one that logged in, for all
    keys: dict[str, Any] = field(default_factory=dict, repr=False)  # Any: pkcs11's private keys


@dataclass(slots=True)
class Device:
    """A token, our connection with it, and the sessions of that: each is lent to one thread at a time."""

    module: str
    token_label: str
    pin: str = field(repr=False)
    # Guards what follows; nobody holds it while the token signs.
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)
    _token: Any = field(default=None, repr=False)  # Any: pkcs11's token; None without a connection
    _connection: int = 0  # counts connections
    _idle: list[_Session] = field(default_factory=list, repr=False)
    _lent: int = 0
    _sessions_max: int = SESSIONS_MAX
    _logged_in: bool = False
    _renewing: int = 0
    _pid: int = field(default_factory=os.getpid)
    _wrong_pin: bool = False
    _not_before: float = 0.0
    # Until when nobody asks again for a key that is not there; as many as there are rows of keys.
    _absent: dict[str, float] = field(default_factory=dict, repr=False)

    def sign(self, algorithm: str, name: str, data: bytes) -> bytes:
        """Sign with the private key called `name`. Raises: SigningUnavailable."""

        def work(session: _Session) -> bytes:
            key = session.keys.get(name)
            if key is None:
                key = session.opened.get_key(object_class=ObjectClass.PRIVATE_KEY, label=name)
                session.keys[name] = key
            return bytes(_sign(algorithm, key, data))

        if time.monotonic() < self._absent.get(name, 0.0):
            raise SigningUnavailable(f"the token {self.token_label!r} had no such key a moment ago: {name}")
        try:
            return self._run(work)
        except _REFUSALS as problem:
            raise SigningUnavailable(f"the token refuses to sign: {_name(problem)}") from problem
        except pkcs11.NoSuchKey as problem:
            # What a session says that lost its login, too; so a connection was made anew, and not for each who asks.
            self._absent[name] = time.monotonic() + COOL_DOWN_SECONDS
            raise self._failure(problem) from problem
        except PKCS11Error as problem:
            raise self._failure(problem) from problem

    def generate(self, algorithm: str) -> tuple[Reference, PublicKey]:
        """Make a key pair in the token; return where the private half is, and the public half.

        Raises: SigningUnavailable, and says so when the token does not know the algorithm.
        """
        name = f"iam-{algorithm.lower()}-{secrets.token_hex(8)}"

        def work(session: Any) -> PublicKey:  # Any: pkcs11's session
            label = {"label": name, "id": name.encode(), "store": True}
            more = {"private_template": _PRIVATE, "capabilities": _SIGNS}
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
            return Reference(self.token_label, name), self._run_alone(work)
        except (_NotKnown, *_REFUSALS) as problem:
            raise SigningUnavailable(
                f"the token {self.token_label!r} makes no keys for {algorithm}; leave them in the database"
            ) from problem
        except PKCS11Error as problem:
            raise self._failure(problem) from problem

    # -- what is done in a session ------------------------------------------------------------------------------

    def _run(self, work: Callable[[_Session], _Found]) -> _Found:
        """Do something in a session; again in a new session, and then in a new connection, if it failed."""
        deadline = time.monotonic() + WAIT_SECONDS
        connection = self._connection
        for fresh in (False, True):
            try:
                with self._borrowed(deadline, fresh=fresh) as session:
                    connection = session.connection
                    return work(session)
            except _REFUSALS:
                raise
            except PKCS11Error:
                continue
        self._renew(connection, deadline)
        with self._borrowed(deadline, fresh=True) as session:
            return work(session)

    @contextmanager
    def _borrowed(self, deadline: float, *, fresh: bool) -> Iterator[_Session]:
        session, good = self._borrow(deadline, fresh=fresh), False
        try:
            yield session
            good = True
        except _REFUSALS:
            good = True
            raise
        finally:
            self._give_back(session, good=good)

    def _run_alone(self, work: Callable[[Any], _Found]) -> _Found:
        """Do something in a session that may write, in a connection that nobody else uses, and keep neither."""
        deadline = time.monotonic() + WAIT_SECONDS
        with self._locked(deadline):
            self._wait_until_nothing_is_lent(deadline)
            self._disconnect()
            self._connect()
            try:
                return work(self._opened(write=True))
            finally:
                self._disconnect()

    # -- sessions -----------------------------------------------------------------------------------------------

    def _borrow(self, deadline: float, *, fresh: bool) -> _Session:
        """Return a session that is this thread's until it gives it back; `fresh` asks for one that is new."""
        with self._locked(deadline):
            while self._renewing or self._lent >= self._sessions_max:
                self._wait(deadline)
            if self._token is None:
                self._connect()
                session = self._first()
                self._lent += 1
                return session
            while fresh and self._idle:
                _close(self._idle.pop())  # the others of a connection that fails are no better
            session = self._idle.pop() if self._idle else _Session(self._opened(), self._connection)
            self._lent += 1
            return session

    def _first(self) -> _Session:
        """Open the session of a connection that logs in, for all that follow (PKCS#11 2.40 base §5.6)."""
        try:
            return _Session(self._opened(), self._connection, logged_in=True)
        except PKCS11Error as problem:
            self._disconnect()
            raise self._failure(problem) from problem

    def _give_back(self, session: _Session, *, good: bool) -> None:
        with self._changed:
            self._lent -= 1
            if session.connection == self._connection and self._token is not None:
                if good:
                    self._idle.append(session)
                else:
                    _close(session)
            self._changed.notify_all()

    def _opened(self, *, write: bool = False) -> Any:  # Any: pkcs11's session
        needed = not self._logged_in and bool(self._token.flags & TokenFlag.LOGIN_REQUIRED)
        try:
            opened = self._token.open(rw=write, user_pin=self.pin if needed else None)
        except _WRONG_PIN:
            self._wrong_pin = True
            raise
        self._logged_in, self._not_before = True, 0.0
        return opened

    # -- the connection -------------------------------------------------------------------------------------------

    def _renew(self, failed: int, deadline: float) -> None:
        """End a connection that failed, unless somebody else did so; nobody is in a call while the library ends."""
        with self._locked(deadline):
            self._renewing += 1
            try:
                while self._connection == failed and self._lent:
                    self._wait(deadline)
                if self._connection == failed:
                    self._disconnect()
            finally:
                self._renewing -= 1
                self._changed.notify_all()

    def _wait_until_nothing_is_lent(self, deadline: float) -> None:
        self._renewing += 1
        try:
            while self._lent:
                self._wait(deadline)
        finally:
            self._renewing -= 1
            self._changed.notify_all()

    def _connect(self) -> None:
        if self._wrong_pin:
            raise SigningUnavailable("IAM_PKCS11_PIN was refused; it is not tried again before a restart")
        if time.monotonic() < self._not_before:
            raise SigningUnavailable(f"the token {self.token_label!r} did not answer a moment ago")
        self._not_before = time.monotonic() + COOL_DOWN_SECONDS
        try:
            library = _loaded(self.module)
            # Reads the slots anew: a token that was away may be back.
            self._sessions_max = SESSIONS_MAX if library.threads.begin() else 1
            self._token = library.calls.get_token(token_label=self.token_label)
        except (PKCS11Error, OSError) as problem:
            raise self._failure(problem) from problem
        self._connection += 1

    def _disconnect(self) -> None:
        """Forget the connection; the library ends its sessions when it begins anew."""
        self._token, self._logged_in = None, False
        self._idle.clear()

    # -- waiting ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self, deadline: float) -> Iterator[None]:
        if (
            self._pid != os.getpid()
        ):  # a forked child must not use its parent's connection, nor wait for its threads
            self._changed = threading.Condition()
            self._lent = self._renewing = 0
            self._disconnect()
            self._pid = os.getpid()
        if not self._changed.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise self._silence()
        try:
            yield
        finally:
            self._changed.release()

    def _wait(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not self._changed.wait(left):
            raise self._silence()

    def _silence(self) -> SigningUnavailable:
        return SigningUnavailable(f"the token {self.token_label!r} does not answer")

    def _failure(self, problem: Exception) -> SigningUnavailable:
        return SigningUnavailable(f"the token {self.token_label!r} fails: {_name(problem)}")


def _close(session: _Session) -> None:
    """Close a session that nobody uses; not the one that logged in, because the library would log all others out."""
    if not session.logged_in:
        with suppress(PKCS11Error):
            session.opened.close()


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A library, once for what several threads need of it and once for everything else."""

    threads: cryptoki.Library
    calls: Any  # Any: pkcs11's library


@cache
def _loaded(module: str) -> _Loaded:
    """Load a library, once in a process. Raises: PKCS11Error, OSError."""
    calls = pkcs11.lib(module)
    calls.finalize()  # it began for one thread; `cryptoki` begins it from now on
    return _Loaded(cryptoki.Library(module), calls)


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


def _name(problem: Exception) -> str:
    """Return what went wrong; PKCS#11's errors have a name and seldom a text."""
    return f"{type(problem).__name__} {problem}".strip()
