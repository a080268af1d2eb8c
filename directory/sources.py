"""Several directories, described in one file: TOML, each `[[directory]]` a Source, secrets in files of their own.

What a flavour brings (filters, attributes, the form of ids and passwords) need not be written; whatever is written
wins. A word that nobody knows stops the start: a limit with a slip in its name would else be no limit at all.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from directory.config import Flavour, Source

# Both secrets are given as the names of files.
SECRETS = ("bind_password", "writer_password")
OF_FLAVOUR: Mapping[Flavour, Mapping[str, Any]] = {  # Any: what TOML holds
    Flavour.OPENLDAP: {},
    Flavour.DS389: {"entry_id_attribute": "nsUniqueId"},
    Flavour.ACTIVE_DIRECTORY: {
        "entry_id_attribute": "objectGUID",
        "entry_id_form": "guid",
        "password_form": "unicode_pwd",
        "user_filter": "(&(objectCategory=person)(objectClass=user)(sAMAccountName={login}))",
        "group_filter": "(objectClass=group)",
        "attributes": {"login": ["sAMAccountName", "userPrincipalName"]},
        # The primary group is in no `member`: a rule for it looks at its number.
        "rule_attributes": ["employeeType", "department", "primaryGroupID"],
    },
}


def read_sources(text: str, read_file: Callable[[str], str]) -> tuple[Source, ...]:
    """Read the directories of a file; `read_file` returns the text of a secret's file.

    Raises ValueError with one clear sentence for what is no such file, or makes no safe whole.
    """
    try:
        written = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"The file of directories is no TOML: {error}.") from None
    found = written.pop("directory", None)
    if written:
        raise ValueError(f"The file of directories knows only [[directory]], not {min(written)!r}.")
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise ValueError("The file of directories holds no [[directory]].")
    sources = tuple(_source(dict(one), read_file) for one in found)
    names = [source.name for source in sources]
    if len(set(names)) != len(names):
        raise ValueError("Two directories have the same name.")
    return sources


def _source(given: dict[str, Any], read_file: Callable[[str], str]) -> Source:  # Any: what TOML holds
    name = str(given.get("name", "without a name"))
    for secret in SECRETS:
        if secret in given:
            raise ValueError(f"Directory {name}: {secret} belongs in a file; write {secret}_file.")
        path = given.pop(f"{secret}_file", None)
        if path is not None:
            try:
                given[secret] = read_file(str(path)).strip("\r\n")
            except OSError as error:
                raise ValueError(
                    f"Directory {name}: {secret}_file cannot be read: {error.strerror}."
                ) from None
    try:
        flavour = Flavour(given.get("flavour", Flavour.OPENLDAP))
    except ValueError:
        known = ", ".join(Flavour)
        raise ValueError(f"Directory {name}: flavour {given['flavour']!r} is none of {known}.") from None
    whole = {**OF_FLAVOUR[flavour], **given}
    _refuse_unknown(name, Source, whole)
    try:
        return TypeAdapter(Source).validate_python(whole)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = str(first["msg"]).removeprefix("Value error, ")
        raise ValueError(said if not where else f"Directory {name}: {where}: {said}.") from None


def _refuse_unknown(name: str, kind: type, given: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse a word that is no field of what it stands in, however deep."""
    if not is_dataclass(kind):
        return
    hints = get_type_hints(kind)
    known = {one.name for one in fields(kind)}
    for word, value in given.items():
        if word not in known:
            raise ValueError(f"Directory {name}: nobody knows {prefix}{word}.")
        inner = [one for one in (hints[word], *get_args(hints[word])) if is_dataclass(one)]
        for one in value if isinstance(value, list) else [value]:
            if inner and isinstance(one, dict):
                _refuse_unknown(name, inner[0], one, f"{prefix}{word}.")  # type: ignore[arg-type]
