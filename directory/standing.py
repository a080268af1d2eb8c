"""Whether the directory lets a person act, until when, and with which password. Pure: from an entry's bytes.

The service checks this itself, also where a bind would pass: directories accept the passwords of people whom a
custom attribute calls suspended, and of people whose contract ended yesterday.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import assert_never

from directory.config import Source, StatusRule, TimeForm, TimeRule

Attributes = Mapping[str, tuple[bytes, ...]]
LONG_PAST = datetime(1970, 1, 1, tzinfo=UTC)
_WINDOWS_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_NEVER_FILETIMES = frozenset({0, 2**63 - 1})
# RFC 4517 §3.3.13: minutes, seconds and fractions may be missing; the zone may not.
_GENERALIZED = re.compile(
    r"(\d{4})(\d{2})(\d{2})(\d{2})(?:(\d{2})(?:(\d{2}))?)?(?:[.,](\d{1,9}))?(?:(Z)|([+-])(\d{2})(\d{2})?)",
    re.ASCII,
)


class AccountStatus(StrEnum):
    """Whether the directory lets this person act. Whatever is not plainly active is disabled."""

    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"  # the account's end has passed
    LOCKED = "locked"  # for a while, after wrong tries: no new sign-in, but nothing ends


@dataclass(frozen=True, slots=True)
class Standing:
    """What an entry says of the account itself. `ends_at`: from then on nothing is allowed."""

    status: AccountStatus = AccountStatus.ACTIVE  # as of the entry alone; `at` looks at the clock too
    ends_at: datetime | None = None
    must_change_password: bool = False
    password_ends_at: datetime | None = None

    def at(self, now: datetime) -> AccountStatus:
        """Return the status at an instant."""
        if self.status is AccountStatus.DISABLED:
            return self.status
        if self.ends_at is not None and self.ends_at <= now:
            return AccountStatus.EXPIRED
        return self.status


def wanted_attributes(source: Source) -> frozenset[str]:
    """Name what must be asked for to build a Standing."""
    rules: Iterable[StatusRule | TimeRule] = (
        *source.status_rules,
        *source.lock_rules,
        *source.end_rules,
        *source.password_end_rules,
    )
    return frozenset({rule.attribute for rule in rules} | {name for name, _ in source.must_change})


def build_standing(source: Source, attributes: Attributes) -> Standing:
    """Build a Standing; what cannot be read denies."""
    ends = _instants(source.end_rules, attributes)
    password_ends = _instants(source.password_end_rules, attributes)
    if is_disabled(source.status_rules, attributes):
        status = AccountStatus.DISABLED
    elif is_disabled(source.lock_rules, attributes):
        status = AccountStatus.LOCKED
    else:
        status = AccountStatus.ACTIVE
    return Standing(
        status,
        min(ends, default=None),
        any(
            value.strip().lower() == wanted.encode()
            for name, wanted in source.must_change
            for value in attributes.get(name.lower(), ())
        ),
        min(password_ends, default=None),
    )


def is_disabled(rules: Iterable[StatusRule], attributes: Attributes) -> bool:
    """Say whether one of the rules applies; a value that cannot be read counts as if it did."""
    return any(
        _applies(rule, value) for rule in rules for value in attributes.get(rule.attribute.lower(), ())
    )


def read_instant(form: TimeForm, value: bytes) -> datetime | None:
    """Return the instant that a value means, None for "never". Raises ValueError when it means nothing.

    Spec: RFC 4517 §3.3.13.
    """
    try:
        text = value.decode("ascii").strip()
        match form:
            case TimeForm.GENERALIZED:
                return _generalized(text)
            case TimeForm.FILETIME:
                ticks = int(text)
                return (
                    None
                    if ticks in _NEVER_FILETIMES
                    else _WINDOWS_EPOCH + timedelta(microseconds=ticks // 10)
                )
            case TimeForm.DAYS:
                days = int(text)
                return None if days < 0 else LONG_PAST + timedelta(days=days)
            case _:
                assert_never(form)
    except (OverflowError, UnicodeDecodeError) as problem:
        raise ValueError("no instant") from problem


def _generalized(text: str) -> datetime:
    found = _GENERALIZED.fullmatch(text)
    if found is None:
        raise ValueError("no generalized time")
    year, month, day, hour, minute, second, _, _, sign, hours, minutes = found.groups()
    instant = datetime(
        int(year), int(month), int(day), int(hour), int(minute or 0), min(int(second or 0), 59), tzinfo=UTC
    )
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    return instant + offset if sign == "-" else instant - offset


def _instants(rules: Iterable[TimeRule], attributes: Attributes) -> list[datetime]:
    found = []
    for rule in rules:
        for value in attributes.get(rule.attribute.lower(), ()):
            try:
                instant = read_instant(rule.form, value)
            except ValueError:
                instant = LONG_PAST
            if instant is not None:
                found.append(instant)
    return found


def _applies(rule: StatusRule, value: bytes) -> bool:
    try:
        text = value.decode("utf-8").strip().casefold()
        if rule.disabled_bits and int(text) & rule.disabled_bits:
            return True
    except ValueError:
        return True
    active = {word.casefold() for word in rule.active}
    return text in {word.casefold() for word in rule.disabled} or bool(active and text not in active)
