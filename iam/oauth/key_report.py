"""What an operator wants to know of the key ring: each key and what comes next, and which applications have which."""

from dataclasses import dataclass
from datetime import datetime

from . import keyring, sightings
from .models import Client, SigningKey
from .protocol.key_ring import PUBLISHED, Status, fetches_missing, waiting_for


@dataclass(frozen=True, slots=True)
class KeyLine:
    """One key; `then` says when and for whom it waits, or what happens next. Never its private half."""

    kid: str
    algorithm: str
    status: str
    place: str
    created_at: datetime
    then: str
    waits_for: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ReaderLine:
    """An application with an address of its own; `lacks` names the published keys that it has not fetched."""

    client_id: str
    critical: bool
    last_at: datetime | None
    lacks_active: tuple[str, ...]
    lacks_next: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SecretLine:
    """A client whose old secret is still good; `used_at` is its last use by the hour, None when there was none."""

    client_id: str
    expires_at: datetime
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Report:
    """The whole. `unknown` counts the enabled clients that read the common /jwks, of whom nothing is seen."""

    keys: tuple[KeyLine, ...]
    readers: tuple[ReaderLine, ...]
    unknown: int
    old_secrets: tuple[SecretLine, ...]


def build_report(now: datetime) -> Report:
    """Read everything now; each key is tried."""
    readers = sightings.readers()
    ring = keyring.facts()
    order = {status: number for number, status in enumerate((*PUBLISHED, Status.RETIRED))}
    rows = sorted(
        SigningKey.objects.all(), key=lambda row: (row.algorithm, order[Status(row.status)], row.created_at)
    )
    waiting = {key.kid: waiting_for(key, readers).for_clients for key in ring if key.status is Status.NEXT}
    return Report(
        keys=tuple(
            KeyLine(
                row.kid,
                row.algorithm,
                row.status,
                row.pkcs11_uri or "database",
                row.created_at,
                _then(row, now),
                waiting.get(row.kid, ()),
                keyring.problem_with(row) if row.status != Status.RETIRED else "",
            )
            for row in rows
        ),
        readers=tuple(
            ReaderLine(
                reader.client_id,
                reader.critical,
                reader.last_at,
                fetches_missing(reader, ring, Status.ACTIVE),
                fetches_missing(reader, ring, Status.NEXT),
            )
            for reader in readers
        ),
        unknown=Client.objects.filter(enabled=True).count() - len(readers),
        old_secrets=tuple(
            SecretLine(client.client_id, client.old_secret_expires_at, client.old_secret_used_at)
            for client in Client.objects.exclude(old_secret_digest="").order_by("client_id")
            if client.old_secret_expires_at is not None and client.old_secret_expires_at > now
        ),
    )


def _then(row: SigningKey, now: datetime) -> str:
    match Status(row.status):
        case Status.NEXT:
            return f"signs from {_time(waiting_for(keyring.fact_of(row), ()).until)} on"
        case Status.ACTIVE:
            begun = row.activated_at or row.created_at
            return f"signs since {_time(begun)}, planned until {_time(begun + keyring.rotation())}"
        case Status.RETIRING:
            if not keyring.fact_of(row).verifies(now):
                return "time over, to be withdrawn by housekeeping"
            return f"verifies until {_time(row.retires_at)}"
        case Status.RETIRED:
            return f"withdrawn {_time(row.retired_at)}"


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else "an unknown time"
