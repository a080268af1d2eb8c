"""Which office a directory entry stands for, and which roles its groups give: rules applied. Pure.

The office is decided by the nearest unit that a rule names, by its immutable id before its name, so that renaming
an OU moves nobody; then by the values of attributes; then by the default, which is an alarm and not an answer.
Patterns know `*` and `?` and nothing else; everything is compared without regard to case.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

ANY = "*"


@dataclass(frozen=True, slots=True)
class OfficeRule:
    """A unit (by id, or by name while its id is not known), an attribute's value, or neither: the default."""

    office_id: int
    office: str
    unit_id: str = ""
    unit: str = ""
    attribute: str = ""  # "" is the directory's own office attribute
    value: str = ""

    @property
    def is_default(self) -> bool:
        """Say whether this is what remains when nothing else fits."""
        return not (self.unit_id or self.unit or self.value)


@dataclass(frozen=True, slots=True)
class GroupRule:
    """Members of the groups that fit hold a role: in an office, or at home when none is named.

    `unit` and `attribute` narrow it to entries below such a unit, or with such a value.
    """

    group: str
    role_id: int
    office_id: int | None = None
    subtree: bool = False
    unit: str = ""
    attribute: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules look at. `units`: (id or "", name), nearest first. `groups`: every spelling of every group."""

    units: Sequence[tuple[str, str]] = ()
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Right:
    """A right that the groups give."""

    role_id: int
    office_id: int
    subtree: bool


def place(rules: Iterable[OfficeRule], facts: Facts) -> tuple[OfficeRule | None, str]:
    """Return the rule that decides the office, None when none fits, and why in a few words."""
    by_id, by_name, by_value, default = {}, {}, [], None
    for rule in rules:
        if rule.unit_id:
            by_id[rule.unit_id.casefold()] = rule
        elif rule.unit:
            by_name[rule.unit.casefold()] = rule
        elif rule.value:
            by_value.append(rule)
        else:
            default = rule
    for unit_id, name in facts.units:
        found = by_id.get(unit_id.casefold()) if unit_id else None
        if found is None:
            found = by_name.get(name.casefold())
        if found is not None:
            return found, f"unit {name}"
    for rule in sorted(by_value, key=lambda one: (one.value.count(ANY), one.attribute, one.value)):
        if _has(facts, rule.attribute, rule.value):
            return rule, f"attribute {rule.attribute or 'of the office'}"
    return (default, "default") if default is not None else (None, "nothing fits")


def rights(rules: Iterable[GroupRule], facts: Facts, home_id: int | None) -> frozenset[Right]:
    """Return what the groups give. A rule for the home office gives nothing to who has none."""
    return frozenset(
        Right(rule.role_id, office_id, rule.subtree)
        for rule in rules
        if (office_id := rule.office_id or home_id) is not None
        and _fits_groups(rule.group, facts.groups)
        and (not rule.unit or any(fits(rule.unit, name) for _, name in facts.units))
        and (not rule.value or _has(facts, rule.attribute, rule.value))
    )


def fits(pattern: str, text: str) -> bool:
    """Say whether a text fits a pattern, without regard to case."""
    if ANY not in pattern and "?" not in pattern:
        return pattern.casefold() == text.casefold()
    return _compiled(pattern.casefold()).fullmatch(text.casefold()) is not None


def _has(facts: Facts, attribute: str, pattern: str) -> bool:
    return any(fits(pattern, value) for value in facts.attributes.get(attribute.casefold(), ()))


def _fits_groups(pattern: str, groups: frozenset[str]) -> bool:
    if pattern == ANY:
        return True  # everybody: narrowed by unit or attribute
    if ANY not in pattern and "?" not in pattern:
        return pattern.casefold() in groups
    return any(fits(pattern, group) for group in groups)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = (".*" if sign == ANY else "." if sign == "?" else re.escape(sign) for sign in pattern)
    # Possessive would be better; patterns are an administrator's, texts are at most 256 characters.
    return re.compile("".join(parts), re.DOTALL)
