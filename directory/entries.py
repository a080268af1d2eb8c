"""From the bytes of an LDAP entry to a person or a group, and from text to filters and names. Pure."""

import re
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import assert_never

from directory.config import EntryIdForm, Source
from directory.errors import DirectoryError, UnavailableReason
from directory.standing import AccountStatus, Standing, build_standing, wanted_attributes

TEXT_MAX = 200  # characters of a name or a unit; longer ones are cut, they are only shown and compared
LOGIN_MAX = 256  # a login name is never cut: cutting could make two of them one
LANGUAGES = ("ar", "fr", "en")
# Marks that turn the order of what follows: a name must not be able to rearrange the page it is shown on.
BIDI_CONTROLS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
OU_TYPES = frozenset({"ou", "organizationalunitname", "2.5.4.11"})


@dataclass(frozen=True, slots=True)
class RawEntry:
    """An entry as it came: nothing decoded, attribute descriptions in lower case."""

    dn: bytes
    attributes: Mapping[str, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class Group:
    """A group of which a person is a member, directly or through other groups."""

    entry_uuid: str
    dn: str
    name: str


@dataclass(frozen=True, slots=True)
class Person:
    """What a directory says about one person. `entry_uuid` joins; everything else may change.

    `language` is ar, fr, en or empty; titles come in the three. `ou_path` holds the units of the DN, nearest first. Names are cleaned
    for showing and may be empty. Neither names nor address are in the representation, which ends in logs.
    """

    source: str
    entry_uuid: str
    dn: str = field(repr=False)
    login: str
    name_latin: str = field(repr=False)
    name_arabic: str = field(repr=False)
    email: str = field(repr=False)
    language: str
    ou_path: tuple[str, ...]
    office_attribute: str
    standing: Standing
    groups: tuple[Group, ...] = ()
    telephone: str = field(default="", repr=False)
    title_ar: str = ""
    title_fr: str = ""
    title_en: str = ""
    manager_dn: str = field(default="", repr=False)
    # The immutable ids of the units in `ou_path`, in the same order, where the directory is followed; "" for one
    # that is not known. Empty otherwise.
    unit_ids: tuple[str, ...] = ()
    # The values of `Source.rule_attributes`, names in lower case: what the service's rules may look at.
    rule_values: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), repr=False)

    @property
    def status(self) -> AccountStatus:
        """Return what the entry says without looking at the clock; see Standing.at."""
        return self.standing.status


# -- text for the wire -----------------------------------------------------------------------------------


def escape_filter_value(value: str | bytes) -> str:
    """Return a value that in a filter means itself and nothing else.

    Every byte but ASCII letters and digits is escaped, which RFC 4515 allows: no parser between us and the
    server can then trim, join or read anything into it. Raises UnicodeEncodeError for lone surrogates.
    Spec: RFC 4515 §3.
    """
    data = value.encode("utf-8") if isinstance(value, str) else value
    return "".join(
        chr(byte) if chr(byte).isascii() and chr(byte).isalnum() else f"\\{byte:02x}" for byte in data
    )


def build_user_filter(template: str, login: str) -> str:
    """Put a typed login name into the configured filter."""
    return template.replace("{login}", escape_filter_value(login))


def build_entry_filter(source: Source, entry_uuid: str) -> str:
    """Build the filter that finds one person by the immutable id; raises ValueError when it is no id."""
    person = source.user_filter.replace("{login}", "*")
    return f"(&{person}{build_id_condition(source, entry_uuid)})"


def build_id_condition(source: Source, entry_uuid: str) -> str:
    """Build the part of a filter that is true of one immutable id only; raises ValueError when it is no id."""
    value: str | bytes = entry_uuid
    match source.entry_id_form:
        case EntryIdForm.GUID:
            value = uuid.UUID(entry_uuid).bytes_le
        case EntryIdForm.TEXT:
            if not entry_uuid or len(entry_uuid) > 64:
                raise ValueError("no entry id")
        case _:
            assert_never(source.entry_id_form)
    return f"({source.entry_id_attribute}={escape_filter_value(value)})"


def build_member_filter(source: Source, member_dns: Iterable[str]) -> str:
    """Build the filter for the groups that have one of these entries as a member."""
    members = "".join(f"({source.member_attribute}={escape_filter_value(dn)})" for dn in member_dns)
    return f"(&{source.group_filter}(|{members}))"


def wanted_person_attributes(source: Source) -> tuple[str, ...]:
    """Name what must be asked for to build a Person; operational attributes come only when named."""
    names = source.attributes
    fields = (
        *(names.login, names.name_latin, names.name_arabic, names.email, names.language, names.office),
        *(names.telephone, names.title_ar, names.title_fr, names.title_en, names.manager),
    )
    wanted = {
        name.partition(";")[0] for group in fields for name in group
    }  # a name brings its ;options along
    wanted |= {"givenName", "sn", source.entry_id_attribute}
    wanted |= wanted_attributes(source) | set(source.rule_attributes)
    return tuple(sorted(wanted))


def wanted_group_attributes(source: Source) -> tuple[str, ...]:
    """Name what must be asked for to build a Group."""
    return tuple(sorted({*source.attributes.group_name, source.entry_id_attribute}))


# -- names of entries ------------------------------------------------------------------------------------

_ODD_IN_DN = re.compile(r"[\\\"+;]")
_HEX_PAIR = re.compile(r"[0-9a-fA-F]{2}")


def parse_dn(dn: str) -> tuple[tuple[tuple[str, str], ...], ...]:
    r"""Split a DN into RDNs, each a tuple of (type in lower case, value with its escapes undone).

    Takes what servers really send: `ou=London #2`, `\,` and `\2C`, values in quotes, `+`, spaces around
    separators, `#0403...` values. Raises ValueError when it is no DN at all. Spec: RFC 4514 §3.
    """
    return tuple(
        tuple(_ava(text) for text in _split(rdn, "+"))
        for rdn in _split(dn, ",;")
        if rdn.strip() or dn.strip()
    )


def dn_key(dn: str) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Return what is equal for two spellings of the same name; raises ValueError when it is no DN."""
    return tuple(tuple(sorted((kind, _fold(value)) for kind, value in rdn)) for rdn in parse_dn(dn))


def ou_path(dn: str) -> tuple[str, ...]:
    """Return the organisational units of a DN, nearest first, composed (NFC) and with single spaces."""
    return tuple(_clean(value) for rdn in parse_dn(dn) for kind, value in rdn if kind in OU_TYPES)


def build_impossible_dn(base_dn: str, token: str) -> str:
    """Name an entry under the base that cannot exist; `token` is random and of letters and digits."""
    return f"cn=nobody-{token},{base_dn}"


def _split(text: str, separators: str) -> Iterator[str]:
    """Split at separators that are neither escaped nor quoted."""
    start, is_quoted, position = 0, False, 0
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 2
            continue
        if character == '"':
            is_quoted = not is_quoted
        elif character in separators and not is_quoted:
            yield text[start:position]
            start = position + 1
        position += 1
    if is_quoted:
        raise ValueError("a quote in the DN is never closed")
    yield text[start:]


def _ava(text: str) -> tuple[str, str]:
    kind, equals, raw = text.partition("=")
    kind = kind.strip().lower().removeprefix("oid.")
    if not equals or not kind:
        raise ValueError("a part of the DN has no type")
    return kind, _value(raw)


def _value(raw: str) -> str:
    value = raw.lstrip(" ")
    # A trailing space counts only when it is escaped; an even number of backslashes before it escapes nothing.
    stripped = value.rstrip(" ")
    if len(stripped) < len(value) and (len(stripped) - len(stripped.rstrip("\\"))) % 2:
        stripped += " "
    if stripped.startswith("#"):
        return _hex_value(stripped)
    if len(stripped) >= 2 and stripped[0] == stripped[-1] == '"':
        stripped = stripped[1:-1]
    return _unescape(stripped)


def _unescape(value: str) -> str:
    out, position = bytearray(), 0
    while position < len(value):
        if value[position] != "\\":
            out += value[position].encode("utf-8")
            position += 1
        elif _HEX_PAIR.fullmatch(value, position + 1, position + 3):
            out.append(int(value[position + 1 : position + 3], 16))
            position += 3
        elif position + 1 < len(value):
            out += value[position + 1].encode("utf-8")
            position += 2
        else:
            raise ValueError("the DN ends in a backslash")
    return out.decode("utf-8")  # UnicodeDecodeError is a ValueError


def _hex_value(text: str) -> str:
    """Read `#0403414243`, the BER form of a string; what is no such thing is itself (`#2` does occur)."""
    try:
        data = bytes.fromhex(text[1:])
        is_string = len(data) >= 2 and data[0] in {0x04, 0x0C, 0x13, 0x16} and data[1] == len(data) - 2 < 0x80
        return data[2:].decode("utf-8") if is_string else text
    except ValueError:
        return _unescape(text)


# -- entries ---------------------------------------------------------------------------------------------


def build_person(source: Source, entry: RawEntry, typed_login: str = "") -> Person:
    """Build a Person without groups from an entry.

    `typed_login` chooses among several login names of the entry. Raises DirectoryError(NONSENSE) when the
    entry has no readable name, id or login: such a person can be neither linked nor judged.
    """
    dn = _dn(entry)
    logins = [
        login for login in _texts(entry, source.attributes.login, LOGIN_MAX + 1) if len(login) <= LOGIN_MAX
    ]
    if not logins:
        raise _nonsense("an entry has no login name that we may read")
    arabic = _first(entry, source.attributes.name_arabic)
    latin = _first(entry, source.attributes.name_latin) or _clean(
        f"{_first(entry, ('givenName',))} {_first(entry, ('sn',))}"
    )
    if not arabic and _is_arabic(
        latin
    ):  # a directory without language options, with people who have one name
        arabic = latin
    return Person(
        source=source.name,
        entry_uuid=read_entry_id(source, entry),
        dn=dn,
        login=next((login for login in logins if _fold(login) == _fold(typed_login)), min(logins)),
        name_latin=latin,
        name_arabic=arabic,
        email=_email(_first(entry, source.attributes.email)),
        language=normalise_language(_first(entry, source.attributes.language)),
        ou_path=_ou_path(dn),
        office_attribute=_first(entry, source.attributes.office),
        standing=build_standing(source, entry.attributes),
        telephone=_first(entry, source.attributes.telephone),
        title_ar=_first(entry, source.attributes.title_ar),
        title_fr=_first(entry, source.attributes.title_fr),
        title_en=_first(entry, source.attributes.title_en),
        manager_dn=_first(entry, source.attributes.manager),
        rule_values=tuple(
            (name.lower(), tuple(_texts(entry, (name,))))
            for name in source.rule_attributes
            if name.lower() in entry.attributes
        ),
    )


def build_group(source: Source, entry: RawEntry) -> Group:
    """Build a Group; raises DirectoryError(NONSENSE) when it has no readable name or id."""
    return Group(read_entry_id(source, entry), _dn(entry), _first(entry, source.attributes.group_name))


def normalise_language(value: str) -> str:
    """Return the first of ar, fr, en that `preferredLanguage` names, by weight; else the empty string.

    Spec: RFC 2798 §2.7 (the value has the form of an Accept-Language header).
    """
    ranked: list[tuple[float, int, str]] = []
    for position, part in enumerate(value.split(",")):
        tag, _, parameters = part.strip().partition(";")
        language = re.split(r"[-_]", tag.strip().lower())[0]
        weight = re.fullmatch(r"\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*", parameters)
        if language in LANGUAGES and (not weight or float(weight[1]) > 0):
            ranked.append((-float(weight[1]) if weight else -1.0, position, language))
    return min(ranked)[2] if ranked else ""


def read_entry_id(source: Source, entry: RawEntry) -> str:
    """Return the immutable id of an entry; raises DirectoryError(NONSENSE) when it has not exactly one."""
    values = entry.attributes.get(source.entry_id_attribute.lower(), ())
    if len(values) != 1 or not values[0]:
        raise _nonsense(f"an entry has not exactly one {source.entry_id_attribute} that we may read")
    match source.entry_id_form:
        case EntryIdForm.GUID:
            if len(values[0]) != 16:
                raise _nonsense(f"{source.entry_id_attribute} has not 16 bytes")
            return str(uuid.UUID(bytes_le=values[0]))
        case EntryIdForm.TEXT:
            text = values[0].decode("ascii", "replace").strip().lower()
            if not text.isprintable() or "\ufffd" in text or len(text) > 64:
                raise _nonsense(f"{source.entry_id_attribute} is no id")
            return text
        case _:
            assert_never(source.entry_id_form)


def _dn(entry: RawEntry) -> str:
    try:
        dn = entry.dn.decode("utf-8")
    except UnicodeDecodeError:
        raise _nonsense("the name of an entry is not UTF-8") from None
    if not dn.strip() or "\0" in dn:  # to bind with an empty name is to bind as nobody
        raise _nonsense("an entry has no name")
    return dn


def _ou_path(dn: str) -> tuple[str, ...]:
    try:
        own, comma, parent = dn.partition(",")
        if comma and not _ODD_IN_DN.search(own):
            # Thousands stand below one unit: the name of that is read once.
            kind = own.partition("=")[0].strip().lower()
            return _units_of(parent) if kind and kind not in OU_TYPES and "=" in own else ou_path(dn)
        return ou_path(dn)
    except ValueError:
        raise _nonsense("the name of an entry cannot be read") from None


@lru_cache(maxsize=4096)
def _units_of(parent: str) -> tuple[str, ...]:
    return ou_path(parent)


def _texts(entry: RawEntry, names: Iterable[str], length_max: int = TEXT_MAX) -> list[str]:
    """Return the readable, cleaned, non-empty values of the first attribute that has any."""
    for name in names:
        found = []
        for value in entry.attributes.get(name.lower(), ()):
            try:
                text = _clean(value.decode("utf-8"), length_max)
            except UnicodeDecodeError:
                continue  # a broken value is as good as none; the next attribute may have a whole one
            if text:
                found.append(text)
        if found:
            return found
    return []


def _first(entry: RawEntry, names: Iterable[str]) -> str:
    return next(iter(_texts(entry, names)), "")


def _clean(text: str, length_max: int = TEXT_MAX) -> str:
    """Compose, drop control and direction marks, squeeze spaces, cut."""
    if text.isascii() and text.isprintable():  # most of them; composed already, and without any mark
        return " ".join(text.split())[:length_max]
    kept = (
        character
        for character in unicodedata.normalize("NFC", text)
        if character not in BIDI_CONTROLS and (character.isspace() or unicodedata.category(character) != "Cc")
    )
    return " ".join("".join(kept).split())[:length_max]


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _is_arabic(text: str) -> bool:
    return any(unicodedata.name(character, "").startswith("ARABIC LETTER") for character in text)


def _email(text: str) -> str:
    """Return an address that can be one, else nothing: it is for showing and claims, never for finding."""
    name, at, domain = text.partition("@")
    return text if at and name and domain and not re.search(r"[\s<>@,;\"]", name + domain) else ""


def _nonsense(hint: str) -> DirectoryError:
    return DirectoryError(UnavailableReason.NONSENSE, hint, may_try_next=False)
