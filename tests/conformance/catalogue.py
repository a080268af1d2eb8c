"""Read what is in `specifications/`: every rule for a provider, and every document that a test may name.

A rule's full name is `PREFIX/SECTION/ID`, as in `core/3.1.2.1/prompt-none`; a test that holds it says so by
`@pytest.mark.rules("core/3.1.2.1/prompt-none")`. A rule that no test holds gives one of the four reasons of `Absence`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "specifications"
LEVELS = ("MUST", "SHOULD", "MAY")


class Absence(StrEnum):
    """Why no test holds a rule; the name of the key that gives the reason."""

    REFUSED = "refused"  # could be built, and is deliberately not offered
    UNBUILT = "unbuilt"  # should be built or tested, and is not
    ELSEWHERE = (
        "elsewhere"  # holds, but not by this code: the proxy's TLS, the operator's DNS, an application
    )
    INAPPLICABLE = "inapplicable"  # concerns something that the rule's own condition leaves out here


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that a specification asks of a provider."""

    name: str
    section: str
    level: str
    text: str
    absence: Absence | None
    reason: str
    note: str


@dataclass(frozen=True, slots=True)
class Document:
    """A specification; `is_whole` says that its rules are all listed, not only those that tests happen to name."""

    name: str
    title: str
    address: str
    edition: str
    is_whole: bool
    is_own: bool
    rules: tuple[Rule, ...]


class CatalogueError(Exception):
    """A file of the catalogue is not as it should be."""


def read(folder: Path = FOLDER) -> list[Document]:
    """Return every document: first those that are listed rule by rule, then the others. Raises: CatalogueError."""
    whole = [_whole(path) for path in sorted(folder.glob("*.toml")) if path.stem != "others"]
    others = tomllib.loads((folder / "others.toml").read_text(encoding="utf-8"))["document"]
    documents = [*whole, *(_other(entry) for entry in others)]
    for what, names in {
        "document": [document.name for document in documents],
        "rule": [rule.name for document in documents for rule in document.rules],
    }.items():
        if doubled := {name for name in names if names.count(name) > 1}:
            raise CatalogueError(f"{what} given twice: {sorted(doubled)}")
    return documents


def _whole(path: Path) -> Document:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    rules = tuple(_rule(content["prefix"], entry) for entry in content["rules"])
    return Document(
        content["name"], content["title"], content["address"], content["edition"], True, False, rules
    )


def _other(entry: Mapping[str, Any]) -> Document:
    rules = tuple(_rule(entry["name"].replace(" ", "").lower(), rule) for rule in entry.get("rules", ()))
    return Document(
        entry["name"], entry["title"], entry.get("address", ""), "", False, entry.get("own", False), rules
    )


def _rule(prefix: str, entry: Mapping[str, str]) -> Rule:
    name = f"{prefix}/{entry['section']}/{entry['id']}"
    unknown = set(entry) - {"section", "id", "level", "rule", "note", *Absence}
    given = [Absence(key) for key in entry if key in set(Absence)]
    if unknown or len(given) > 1 or entry["level"] not in LEVELS or not entry["rule"]:
        raise CatalogueError(f"{name}: unknown keys {sorted(unknown)}, or two reasons, or an unknown level")
    absence = given[0] if given else None
    reason = entry[absence] if absence else ""
    if absence and len(reason.split()) < 3:
        raise CatalogueError(f"{name}: a reason is a sentence")
    return Rule(name, entry["section"], entry["level"], entry["rule"], absence, reason, entry.get("note", ""))
