"""The signing keys in the database: make, load, rotate."""

import secrets
from datetime import datetime

from django.db import transaction

from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action

from .models import KeyStatus, SigningKey
from .protocol import jose
from .secretbox import decrypt, encrypt
from .versions import touch


def _purpose(kid: str) -> str:
    return f"signing key {kid}"


def load() -> tuple[dict[str, jose.Key], dict[str, jose.Key], tuple[jose.Key, ...]]:
    """Return (every key that may verify by kid, the active key by algorithm, the published keys).

    Raises: IAMError when a private key cannot be decrypted.
    """
    by_kid: dict[str, jose.Key] = {}
    active: dict[str, jose.Key] = {}
    for row in SigningKey.objects.exclude(status=KeyStatus.RETIRED).order_by("created_at", "kid"):
        der = decrypt(row.encryption_key_id, bytes(row.encrypted_private), _purpose(row.kid))
        key = jose.load_private(row.kid, row.algorithm, der)
        by_kid[row.kid] = key
        if row.status == KeyStatus.ACTIVE:
            active[row.algorithm] = key
    return by_kid, active, tuple(by_kid.values())


@transaction.atomic
def ensure(now: datetime, actor: str) -> list[SigningKey]:
    """Make an active key for every algorithm that has none; return those made. Idempotent."""
    made = []
    for algorithm in jose.ALGORITHMS:
        if SigningKey.objects.filter(algorithm=algorithm, status=KeyStatus.ACTIVE).exists():
            continue
        made.append(_create(algorithm, KeyStatus.ACTIVE, now, actor))
    return made


@transaction.atomic
def rotate(algorithm: str, now: datetime, actor: str) -> SigningKey:
    """Make a new active key at once; the old one still verifies until it is retired by `retire`."""
    SigningKey.objects.filter(algorithm=algorithm, status=KeyStatus.ACTIVE).update(status=KeyStatus.RETIRING)
    return _create(algorithm, KeyStatus.ACTIVE, now, actor)


@transaction.atomic
def retire(kid: str, now: datetime, actor: str) -> bool:
    """Withdraw a key that no longer signs. False when there is no such key, or it is the active one."""
    done = SigningKey.objects.filter(kid=kid, status__in=[KeyStatus.RETIRING, KeyStatus.NEXT]).update(
        status=KeyStatus.RETIRED
    )
    if done:
        touch()
        record(Event(Action.KEY_RETIRE, Outcome.SUCCESS, actor=actor, now=now, object=f"key:{kid}"))
    return bool(done)


def _create(algorithm: str, status: KeyStatus, now: datetime, actor: str) -> SigningKey:
    kid = f"{algorithm.lower()}-{secrets.token_hex(8)}"
    private = jose.generate(algorithm)
    key_id, sealed = encrypt(jose.private_bytes(private), _purpose(kid))
    row = SigningKey.objects.create(
        kid=kid,
        algorithm=algorithm,
        status=status,
        public_jwk=jose.Key(kid, algorithm, private.public_key()).jwk(),
        encrypted_private=sealed,
        encryption_key_id=key_id,
        created_at=now,
        activated_at=now if status == KeyStatus.ACTIVE else None,
    )
    touch()
    record(
        Event(Action.KEY_CREATE, Outcome.SUCCESS, actor=actor, now=now, object=f"key:{kid}", method=algorithm)
    )
    return row
