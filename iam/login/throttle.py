"""Guesses made slow: five failures, then growing delays, per account and per source, for each kind of secret.

An account is charged *before* the directory or the code is asked, in one conditional statement: of two hundred
parallel guesses as many get through as of two hundred serial ones. Success gives everything back. A source is
only looked at before, and charged after a failure: fifty honest people behind one address cost each other
nothing. Delays, not locks, so that nobody can lock a colleague out for long; but at a hundred failures without
a success an account stops until an operator clears it (NIST SP 800-63B-4 §3.2.2). See docs/adr/0008.

Every function is one statement and works inside or outside a transaction. Call `charge` outside, so that the
charge stands whatever becomes of the request.
"""

import hashlib
import hmac
import ipaddress
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from iam.accounts.models import User
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action

from .models import ThrottleCounter

# Five tries, then a delay that grows. The fifth failure begins the first delay.
FREE_FAILURES = 5
DELAYS = tuple(timedelta(seconds=seconds) for seconds in (30, 60, 120, 240, 480, 900))
STOP_AT = 100  # NIST SP 800-63B-4 §3.2.2: no more than 100 consecutive failures
SOURCE_MEMORY = timedelta(minutes=15)
# An account nobody tried for so long begins anew unless it is stopped; a name that is nobody's always does.
ACCOUNT_MEMORY = timedelta(days=30)
PURGE_BATCH = 5000


class Kind(StrEnum):
    """What is being guessed; counted apart, so that failing at one leaves the other its tries."""

    PASSWORD = "password"  # noqa: S105 -- a word, not a password
    CODE = "code"
    DEVICE = "device"  # the code that a device shows


@dataclass(frozen=True, slots=True)
class Account:
    """Whose secret is being guessed, as an opaque text."""

    key: str


@dataclass(frozen=True, slots=True)
class Charge:
    """One try was counted in advance; `refund` takes it back."""

    key: str
    failures: int


@dataclass(frozen=True, slots=True)
class Blocked:
    """No try is allowed now. `wait` is None when only an operator can help."""

    wait: timedelta | None


def entry_account(source: str, entry_uuid: str) -> Account:
    """Return the account of a directory entry, by whatever spelling of its name it was found."""
    return Account(f"entry:{_digest(f'{source}:{entry_uuid}')}")


def name_account(login: str) -> Account:
    """Return the account of a name that nobody has; it behaves as one that somebody has."""
    return Account(f"name:{_digest(unicodedata.normalize('NFKC', login).casefold().strip())}")


def person_account(user_id: UUID) -> Account:
    """Return the account of a person whose password was accepted."""
    return Account(f"person:{_digest(str(user_id))}")


# -- the account: charged in advance ------------------------------------------------------------------------


def charge(kind: Kind, account: Account, address: str, now: datetime) -> Charge | Blocked:
    """Count one try of an account and allow it, or refuse it. Atomic, one statement."""
    key, now_ms = f"{kind}:{account.key}", _ms(now)
    with connection.cursor() as cursor:
        cursor.execute(_CHARGE, [key, now_ms, STOP_AT, is_exempt(address)])
        row = cursor.fetchone()
    if row is not None:
        return Charge(key, row[0])
    counter = ThrottleCounter.objects.filter(key=key).values_list("failures", "blocked_until").first()
    if counter is None:  # cleared between the two statements; the next try is allowed
        return Blocked(timedelta(seconds=1))
    failures, blocked_until = counter
    return Blocked(None if failures >= STOP_AT else _wait(blocked_until, now_ms))


def refund(charged: Charge) -> None:
    """Take back a charge: nothing was tried, because the directory could not answer."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE login_throttlecounter SET failures = failures - 1,"
            " blocked_until = CASE WHEN failures = %s THEN 0 ELSE blocked_until END"
            " WHERE key = %s AND failures > 0",
            [charged.failures, charged.key],
        )


def forgive(kind: Kind, account: Account) -> None:
    """Forget the failures of an account after a success."""
    ThrottleCounter.objects.filter(key=f"{kind}:{account.key}").delete()


# -- the source: looked at before, charged after --------------------------------------------------------------


def check_source(kind: Kind, address: str, now: datetime) -> Blocked | None:
    """Return the delay that a source has to wait, None when it may try."""
    if is_exempt(address):
        return None
    counter = (
        ThrottleCounter.objects.filter(key=_source_key(kind, address))
        .values_list("blocked_until", flat=True)
        .first()
    )
    now_ms = _ms(now)
    return Blocked(_wait(counter, now_ms)) if counter is not None and counter > now_ms else None


def count_source(kind: Kind, address: str, now: datetime) -> None:
    """Count a failure of a source. Atomic, one statement. A success never resets it; quiet time does."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT_SOURCE, [_source_key(kind, address), _ms(now)])


def is_exempt(address: str) -> bool:
    """Say whether an address is spared the delays (never the counting, never the stop)."""
    networks = settings.IAM_THROTTLE_EXEMPT_NETWORKS
    if not networks:
        return False
    ip = _address(address)
    return ip is not None and any(ip.version == network.version and ip in network for network in networks)


def source_network(address: str) -> str:
    """Return what counts as one source: an IPv4 address, or an IPv6 /64, which one household or host has whole."""
    ip = _address(address)
    if ip is None:
        return "unknown"
    if ip.version == 6:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


# -- operators --------------------------------------------------------------------------------------------------


def clear(username: str, *, user: User | None, actor: str, now: datetime) -> int:
    """Forget every failure of a person, by both kinds; return how many counters there were. Atomic, audited."""
    accounts = [name_account(username)]
    if user is not None:
        accounts.append(person_account(user.pk))
        accounts += [entry_account(link.source, link.entry_uuid) for link in user.links.all()]
    keys = [f"{kind}:{account.key}" for kind in Kind for account in accounts]
    with transaction.atomic():
        cleared, _ = ThrottleCounter.objects.filter(key__in=keys).delete()
        record(
            Event(
                Action.THROTTLE_CLEAR,
                Outcome.SUCCESS,
                actor=actor,
                now=now,
                object=f"person:{user.sub}" if user is not None else "",
                method=f"counters={cleared}",
                details={"login": username},
            )
        )
    return cleared


def purge(now: datetime) -> int:
    """Delete counters that decide nothing any more, one batch; return how many. Idempotent."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM login_throttlecounter WHERE key IN (SELECT key FROM login_throttlecounter"
            " WHERE (key LIKE %s AND last_at <= %s)"
            " OR (last_at <= %s AND (failures < %s OR key LIKE %s)) LIMIT %s)",
            [
                "%:source:%",
                _ms(now - SOURCE_MEMORY),
                _ms(now - ACCOUNT_MEMORY),
                STOP_AT,
                "%:name:%",
                PURGE_BATCH,
            ],
        )
        return int(cursor.rowcount)


# -- inside -----------------------------------------------------------------------------------------------------


def _delay_sql(failures: str, now_ms: str) -> str:
    """Return SQL for the end of the delay that a number of failures begins."""
    steps = " ".join(
        f"WHEN {failures} = {FREE_FAILURES + step} THEN {now_ms} + {_milliseconds(delay)}"
        for step, delay in enumerate(DELAYS[:-1])
    )
    longest = _milliseconds(DELAYS[-1])
    return f"CASE WHEN {failures} < {FREE_FAILURES} THEN 0 {steps} ELSE {now_ms} + {longest} END"


def _milliseconds(delay: timedelta) -> int:
    return int(delay.total_seconds() * 1000)


_CHARGE = (
    "INSERT INTO login_throttlecounter (key, failures, blocked_until, last_at) VALUES (%s, 1, 0, %s)"
    " ON CONFLICT (key) DO UPDATE SET failures = login_throttlecounter.failures + 1,"
    f" blocked_until = {_delay_sql('(login_throttlecounter.failures + 1)', 'excluded.last_at')},"
    " last_at = excluded.last_at"
    " WHERE login_throttlecounter.failures < %s"
    " AND (login_throttlecounter.blocked_until <= excluded.last_at OR %s)"
    " RETURNING failures"
)
_QUIET = f"login_throttlecounter.last_at <= excluded.last_at - {_milliseconds(SOURCE_MEMORY)}"
_COUNT_SOURCE = (
    "INSERT INTO login_throttlecounter (key, failures, blocked_until, last_at) VALUES (%s, 1, 0, %s)"
    " ON CONFLICT (key) DO UPDATE SET"
    f" failures = CASE WHEN {_QUIET} THEN 1 ELSE login_throttlecounter.failures + 1 END,"
    f" blocked_until = CASE WHEN {_QUIET} THEN 0"
    f" ELSE {_delay_sql('(login_throttlecounter.failures + 1)', 'excluded.last_at')} END,"
    " last_at = excluded.last_at"
)


def _source_key(kind: Kind, address: str) -> str:
    return f"{kind}:source:{source_network(address)}"


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


def _digest(text: str) -> str:
    """A keyed digest: the table alone must not tell which names were tried."""
    return hmac.new(settings.SECRET_KEY.encode(), b"throttle:" + text.encode(), hashlib.sha256).hexdigest()


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _wait(blocked_until_ms: int, now_ms: int) -> timedelta:
    return timedelta(milliseconds=max(1000, blocked_until_ms - now_ms))
