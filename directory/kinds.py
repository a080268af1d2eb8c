"""What is read of a directory as a whole: one filter, few attributes, and which entry is what. Pure."""

import re
from collections.abc import Callable

from directory import entries
from directory.changes import Kind, Seen
from directory.config import Source
from directory.entries import RawEntry

OBJECT_CLASS = "objectClass"
# Combinations of classes are few; a server can fill the memory no further than this.
COMBINATIONS_MAX = 1000
_CLASS_CONDITION = re.compile(r"\(objectClass=([^*()]+)\)", re.IGNORECASE)


def build_whole_filter(source: Source) -> str:
    """Build the filter for every person, group and unit: one search, so that one cookie covers all."""
    people = source.user_filter.replace("{login}", "*")
    return f"(|{people}{source.group_filter}{source.unit_filter})"


def wanted_attributes(source: Source) -> tuple[str, ...]:
    """Name what must be asked for. Never memberOf: servers change it without telling (docs/directories.md)."""
    return tuple(
        sorted(
            {
                *entries.wanted_person_attributes(source),
                *entries.wanted_group_attributes(source),
                source.member_attribute,
                OBJECT_CLASS,
            }
        )
    )


def build_lookup_filter(source: Source, entry_ids: tuple[str, ...]) -> str:
    """Build the filter for those of the ids that are still there and still ours; raises ValueError for no id."""
    ids = "".join(entries.build_id_condition(source, entry_id) for entry_id in entry_ids)
    return f"(&{build_whole_filter(source)}(|{ids}))"


def decide_kind(source: Source) -> Callable[[RawEntry], Kind]:
    """Return the decision what an entry is; entries are those that the whole filter let through.

    A group or a unit has a class that its filter names, or the attribute of members; what is neither is a
    person if it has a login name.
    """
    group_classes, unit_classes = _classes(source.group_filter), _classes(source.unit_filter)
    member = source.member_attribute.lower()
    logins = tuple(name.lower() for name in source.attributes.login)
    known: dict[tuple[bytes, ...], Kind | None] = {}

    def by_classes(values: tuple[bytes, ...]) -> Kind | None:
        names = {value.lower() for value in values}
        if names & group_classes:
            return Kind.GROUP
        return Kind.UNIT if names & unit_classes else None

    def decide(entry: RawEntry) -> Kind:
        attributes = entry.attributes
        classes = attributes.get("objectclass", ())
        if classes in known:
            kind = known[classes]
        else:
            kind = by_classes(classes)
            if len(known) < COMBINATIONS_MAX:
                known[classes] = kind
        if kind is not None:
            return kind
        if member in attributes:
            return Kind.GROUP
        return Kind.PERSON if any(name in attributes for name in logins) else Kind.UNIT

    return decide


def build_seen(source: Source) -> Callable[[str, RawEntry], Seen]:
    """Return what makes a change of an entry and its id."""
    decide = decide_kind(source)

    def build(entry_id: str, entry: RawEntry) -> Seen:
        return Seen(entry_id, decide(entry), entry)

    return build


def _classes(condition: str) -> frozenset[bytes]:
    return frozenset(name.strip().lower().encode() for name in _CLASS_CONDITION.findall(condition))
