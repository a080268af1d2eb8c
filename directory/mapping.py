"""What of an entry counts: its digest, and its mapped values as text to store. Pure; nothing is decoded here.

Directories send an entry again for things that are not ours (each failed bind changes one): such an event has the
same digest, and nothing happens.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from hashlib import blake2b

from directory.changes import Kind
from directory.config import Source
from directory.entries import RawEntry, wanted_group_attributes, wanted_person_attributes

DIGEST_BYTES = 16
# Raised when what is stored changes its form: everything is then read as new.
VERSION = b"1"
_MEANING = frozenset(
    {
        "attributes",
        "rule_attributes",
        "must_change",
        "entry_id_attribute",
        "entry_id_form",
        "member_attribute",
    }
)


class Mapped:
    """The attributes of one source that count, and the digests that follow."""

    def __init__(self, source: Source) -> None:
        person = frozenset(name.lower() for name in wanted_person_attributes(source))
        group = frozenset(name.lower() for name in wanted_group_attributes(source))
        self.member = source.member_attribute.lower()
        self._wanted = {Kind.PERSON: person, Kind.GROUP: group, Kind.UNIT: frozenset[str]()}
        rules = [
            _stable(getattr(source, one.name))
            for one in fields(source)
            if one.name.endswith("_rules") or one.name in _MEANING
        ]
        # With other rules the same values may mean something else: the digest begins with the rules.
        self._begun = {
            kind: blake2b(f"{kind}{rules!r}".encode() + VERSION, digest_size=DIGEST_BYTES) for kind in Kind
        }
        self._bases: dict[str, str] = {}

    def digest(self, kind: Kind, raw: RawEntry) -> bytes:
        """Return what is equal for two readings of an entry that mean the same; its name is not in it."""
        wanted = self._wanted[kind]
        hashed = self._begun[kind].copy()
        for name in sorted(raw.attributes):
            if self._base(name) in wanted or (kind is Kind.GROUP and self._base(name) == self.member):
                values = raw.attributes[name]
                if len(values) > 1:
                    values = tuple(sorted(values))
                hashed.update(b"%d:%s%d:" % (len(name), name.encode("utf-8", "replace"), len(values)))
                for value in values:
                    hashed.update(b"%d:%s" % (len(value), value))
        return hashed.digest()

    def write(self, kind: Kind, raw: RawEntry) -> bytes:
        """Return the values that count as JSON, a group's members left out."""
        wanted = self._wanted[kind]
        kept = {
            name: [_text(value) for value in values]
            for name, values in raw.attributes.items()
            if self._base(name) in wanted
        }
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode("utf-8")

    def members(self, raw: RawEntry) -> tuple[bytes, ...]:
        """Return the names of a group's members as they were written."""
        return tuple(raw.attributes.get(self.member, ()))

    def _base(self, name: str) -> str:
        base = self._bases.get(name)
        if base is None:
            base = name.partition(";")[0].lower()
            if len(self._bases) < 1000:  # names come from outside
                self._bases[name] = base
        return base


def read(text: str) -> Mapping[str, tuple[bytes, ...]]:
    """Return what `write` wrote."""
    return {
        name: tuple(value.encode("utf-8") if isinstance(value, str) else base64.b64decode(value["b"]) for value in values)
        for name, values in json.loads(text).items()
    }  # fmt: skip


def _stable(value: object) -> object:
    """Return a value whose representation is the same in every process; that of a set is not."""
    if is_dataclass(value):
        return [(one.name, _stable(getattr(value, one.name))) for one in fields(value)]
    if isinstance(value, frozenset | set):
        return sorted(map(repr, value))
    if isinstance(value, tuple | list):
        return [_stable(one) for one in value]
    return str(value) if isinstance(value, StrEnum) else value


def _text(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b": base64.b64encode(value).decode("ascii")}
