"""The key ring in the database: read it, and carry out what `protocol/key_ring.py` decides.

A change is one transaction of conditional writes with its audit event: when several processes decide the same at
once, one of them makes the change and the others find it made. A key pair is made before the transaction begins,
so that nobody waits for it.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction

from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action
from iam.errors import IAMError

from . import hsm
from .models import SigningKey
from .protocol import jose, key_ring
from .protocol.jose import Key, SigningUnavailable
from .protocol.jwk import BadKey, read_key, thumbprint
from .protocol.key_ring import Change, Plan, Reader, RingKey, Status, Withdrawal
from .secretbox import decrypt, encrypt
from .versions import touch

logger = logging.getLogger("iam.keys")

_EVENTS = {
    Status.ACTIVE: Action.KEY_ACTIVATE,
    Status.RETIRING: Action.KEY_REPLACE,
    Status.RETIRED: Action.KEY_RETIRE,
}
_warned: dict[str, date] = {}


def _purpose(kid: str) -> str:
    return f"signing key {kid}"


# -- reading ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Opened:
    """A row that was unsealed, so that the next reading need not do it again: an RSA key takes 35 ms."""

    sealed: bytes
    signs: bool
    key: Key


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys of a worker: which verify, which sign, which are published, and until when this is true."""

    by_kid: Mapping[str, Key]
    active: Mapping[str, Key]
    published: tuple[Key, ...]
    until: datetime | None
    opened: Mapping[str, _Opened] = field(repr=False)


def load(now: datetime, before: Ring | None = None) -> Ring:
    """Read the ring; what `before` had unsealed is not unsealed again.

    A key that cannot be read verifies nothing and signs nothing, and the log says why; the others go on.
    Only active keys keep their private half in memory.
    """
    opened: dict[str, _Opened] = {}
    ends = []
    order = {status: number for number, status in enumerate(key_ring.PUBLISHED)}
    rows = [row for row in _rows() if fact_of(row).verifies(now)]
    for row in sorted(rows, key=lambda row: (order[Status(row.status)], row.created_at, row.kid)):
        sealed, signs = bytes(row.encrypted_private), row.status == Status.ACTIVE
        known = before.opened.get(row.kid) if before else None
        if known is None or (known.sealed, known.signs) != (sealed, signs):
            try:
                key = open_key(row)
            except IAMError as problem:
                logger.error("Signing key %s cannot be used: %s", row.kid, problem)  # noqa: TRY400 -- no traceback
                continue
            known = _Opened(sealed, signs, key if signs else Key(key.kid, key.algorithm, key.public))
        opened[row.kid] = known
        if row.retires_at is not None:
            ends.append(row.retires_at)
    by_kid = {kid: one.key for kid, one in opened.items()}
    active = {one.key.algorithm: one.key for one in opened.values() if one.signs}
    return Ring(by_kid, active, tuple(by_kid.values()), min(ends, default=None), opened)


def facts() -> list[RingKey]:
    """Return the ring, retired keys left out, as the deciders see it."""
    return [fact_of(row) for row in _rows()]


def fact_of(row: SigningKey) -> RingKey:
    """Turn a row into a value."""
    return RingKey(
        row.kid, row.algorithm, Status(row.status), row.created_at, row.activated_at, row.retires_at
    )


def open_key(row: SigningKey) -> Key:
    """Return a key with what signs for it. A token's key is not looked for before it signs.

    Raises: IAMError with the exact reason: sealed under a key that is missing, damaged, or not what the row says.
    """
    sealed = decrypt(row.encryption_key_id, bytes(row.encrypted_private), _purpose(row.kid))
    try:
        key = (
            _key_in_token(row, sealed)
            if row.pkcs11_uri
            else jose.load_private(row.kid, row.algorithm, sealed)
        )
    except (ValueError, KeyError, TypeError, BadKey) as problem:
        raise IAMError(
            f"The stored bytes of {_purpose(row.kid)} are no key for {row.algorithm}."
        ) from problem
    return key


def _key_in_token(row: SigningKey, sealed: bytes) -> Key:
    content = json.loads(sealed)
    public = read_key(content["jwk"], row.algorithm).public
    return Key(
        row.kid, row.algorithm, public, hsm.TokenSigner(row.algorithm, hsm.Reference.parse(content["uri"]))
    )


def problems() -> list[str]:
    """Return why the service must not start: keys that are missing, damaged, or do not sign. Each says what to do."""
    rows = _rows()
    found = []
    missing = [plan.algorithm for plan in key_ring.decide_first(facts(), jose.ALGORITHMS)]
    if missing:
        found.append(
            f"There is no active signing key for {', '.join(missing)}: run `manage.py keys ensure`,"
            " or restore the database together with its IAM_ENCRYPTION_KEYS."
        )
    for row in rows:
        problem = problem_with(row)
        if problem:
            found.append(f"Signing key {row.kid} ({row.algorithm}, {row.status}): {problem}")
    return found


def problem_with(row: SigningKey) -> str:
    """Say why a key cannot be used, "" when it can: an active or next one is asked to sign, and must be believed."""
    try:
        key = open_key(row)
        if row.status in {Status.ACTIVE, Status.NEXT}:
            jose.verify(key.sign("JWT", {}), {key.kid: key})
    except (IAMError, SigningUnavailable) as problem:
        return str(problem)
    except jose.BadToken:
        return "what signs is not the private half of the published key."
    return ""


# -- changing ---------------------------------------------------------------------------------------------


def ensure(now: datetime, actor: str) -> list[SigningKey]:
    """Make an active key for every algorithm that has none; return those made. Idempotent."""
    made = (_carry_out(plan, now, actor) for plan in key_ring.decide_first(facts(), jose.ALGORITHMS))
    return [row for row in made if isinstance(row, SigningKey)]


def begin_rotation(
    algorithm: str, now: datetime, actor: str, *, in_token: bool | None = None
) -> SigningKey | None:
    """Publish a next key; it takes over by itself when it is due. None when there is one already.

    In: `in_token` None makes it where the active one is. Raises: SigningUnavailable when the token makes none.
    """
    plan = key_ring.decide_planned(facts(), algorithm)
    done = _carry_out(plan, now, actor, in_token=in_token) if plan else None
    return done if isinstance(done, SigningKey) else None


def rotate_at_once(
    algorithm: str, withdrawal: Withdrawal, now: datetime, actor: str, *, in_token: bool | None = None
) -> SigningKey | None:
    """Sign with a new key from this commit on, waiting for nobody.

    None when another process changed the ring in the meantime. Raises: SigningUnavailable when the token makes none.
    """
    plan = key_ring.decide_emergency(facts(), algorithm, withdrawal, now)
    done = _carry_out(plan, now, actor, in_token=in_token)
    return done if isinstance(done, SigningKey) else None


def retire(kid: str, now: datetime, actor: str) -> bool:
    """Withdraw a key that does not sign. False when there is no such key, or it is the active one."""
    plan = key_ring.decide_withdrawal(facts(), kid)
    return plan is not None and bool(_carry_out(plan, now, actor))


def tend(readers: Iterable[Reader], now: datetime, actor: str) -> int:
    """Do what the schedule asks for now; return how many changes were made. Idempotent, safe beside itself.

    A next key that cannot sign never takes over, and a token that does not answer stops nothing else: both are
    in the log, and the next round tries again.
    """
    ring, known = facts(), list(readers)
    _warn_of_waiting(ring, known, now)
    done = 0
    for plan in key_ring.decide_due(ring, known, rotation(), now):
        try:
            if _may_take_over(plan):
                done += bool(_carry_out(plan, now, actor))
        except (SigningUnavailable, IAMError) as problem:
            logger.error("No key for %s could be made: %s", plan.algorithm, problem)  # noqa: TRY400 -- no traceback
    return done


def rotation() -> timedelta:
    """Return how long a key signs."""
    return timedelta(days=settings.IAM_KEY_ROTATION_DAYS)


def _warn_of_waiting(ring: Iterable[RingKey], readers: Iterable[Reader], now: datetime) -> None:
    """Say once a day in the log that a rotation waits for applications longer than its own day."""
    known = list(readers)
    for key in ring:
        if key.status is Status.NEXT and _warned.get(key.kid) != now.date():
            waiting = key_ring.waiting_for(key, known)
            if waiting.until <= now and waiting.for_clients:
                _warned[key.kid] = now.date()
                logger.warning("Next key %s waits for %s", key.kid, ", ".join(waiting.for_clients))


def _may_take_over(plan: Plan) -> bool:
    for change in plan.changes:
        if change.after is Status.ACTIVE:
            row = SigningKey.objects.filter(kid=change.kid).first()
            problem = problem_with(row) if row else "it is gone."
            if problem:
                logger.error("Next key %s does not take over: %s", change.kid, problem)
                return False
    return True


class _LostError(Exception):
    """The ring is not what the plan was made for."""


def _carry_out(plan: Plan, now: datetime, actor: str, *, in_token: bool | None = None) -> SigningKey | bool:
    """Do the whole of a plan and return the key that was made, or True; False, and nothing done, when the ring changed.

    Locks the algorithm's active key, then what it changes, then the installation.
    """
    row = None
    if plan.makes is not None:
        row = _new_row(plan, now, in_token=_is_in_token(plan.held) if in_token is None else in_token)
    try:
        with transaction.atomic():
            _require_active(plan)
            for change in plan.changes:
                _apply(change, now)
            if row is not None:
                row.save(force_insert=True)
            touch()
            _record(plan, row, now, actor)
    except (_LostError, IntegrityError):
        if row is not None and row.pkcs11_uri:
            logger.warning("Another process was faster; %s stays unused in the token.", row.pkcs11_uri)
        return False
    return row or True


def _require_active(plan: Plan) -> None:
    """Hold the active key until the commit, if it is the one that the plan was made for. Raises: _LostError."""
    active = SigningKey.objects.select_for_update().filter(algorithm=plan.algorithm, status=Status.ACTIVE)
    if [row.kid for row in active] != ([plan.held] if plan.held else []):
        raise _LostError


def _apply(change: Change, now: datetime) -> None:
    """Make one passage, if the key is still where it was. Raises: _LostError."""
    values: dict[str, object] = {"status": change.after, "retires_at": change.retires_at}
    if change.after is Status.ACTIVE:
        values["activated_at"] = now
    if change.after is Status.RETIRED:
        # Nothing needs it again: what is not there cannot leak, nor be put back by who can write here.
        values |= {"retired_at": now, "encrypted_private": b""}
    if not SigningKey.objects.filter(kid=change.kid, status=change.before).update(**values):
        raise _LostError


def _new_row(plan: Plan, now: datetime, *, in_token: bool) -> SigningKey:
    """Make a key pair and its row, not yet saved; its name is its thumbprint (RFC 7638)."""
    uri = ""
    if in_token:
        reference, public = hsm.configured_device().generate(plan.algorithm)
        uri = str(reference)
        jwk = Key("", plan.algorithm, public).jwk()
        secret = json.dumps({"uri": uri, "jwk": jwk}).encode()
    else:
        private = jose.generate(plan.algorithm)
        jwk = Key("", plan.algorithm, private.public_key()).jwk()
        secret = jose.private_bytes(private)
    kid = thumbprint(jwk)
    key_id, sealed = encrypt(secret, _purpose(kid))
    return SigningKey(
        kid=kid,
        algorithm=plan.algorithm,
        status=plan.makes or Status.NEXT,
        public_jwk=jwk | {"kid": kid},
        encrypted_private=sealed,
        encryption_key_id=key_id,
        pkcs11_uri=uri,
        created_at=now,
        activated_at=now if plan.makes is Status.ACTIVE else None,
    )


def _is_in_token(kid: str) -> bool:
    return SigningKey.objects.filter(kid=kid).exclude(pkcs11_uri="").exists()


def _record(plan: Plan, row: SigningKey | None, now: datetime, actor: str) -> None:
    happened = [(_EVENTS[change.after], change.kid) for change in plan.changes]
    if row is not None:
        happened.append((Action.KEY_CREATE, row.kid))
        if row.status == Status.ACTIVE:
            happened.append((Action.KEY_ACTIVATE, row.kid))
    for action, kid in happened:
        event = Event(
            action, Outcome.SUCCESS, actor=actor, now=now, object=f"key:{kid}",
            reason=plan.cause.value, method=plan.algorithm,
        )  # fmt: skip
        record(event)


def _rows() -> list[SigningKey]:
    return list(SigningKey.objects.exclude(status=Status.RETIRED).order_by("created_at", "kid"))
