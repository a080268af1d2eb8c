"""Reads and writes the bytes of LDAP messages, every length checked before it is believed. Pure.

Nothing is copied that is not kept, and nothing is decoded that nobody asked for: values stay bytes. What is no
LDAP raises BERError, whatever it is; no input makes this file raise anything else.
Spec: RFC 4511 §5.1 (definite lengths, one-byte tags), §4.1.1, §4.5.2.
"""

from typing import NamedTuple

from directory.entries import RawEntry

# Tags of universal types
BOOLEAN, INTEGER, OCTETS, ENUMERATED, SEQUENCE, SET = 0x01, 0x02, 0x04, 0x0A, 0x30, 0x31
# Tags of operations
BIND_DONE, SEARCH_ENTRY, SEARCH_DONE, MODIFY_DONE, SEARCH_REFERENCE = 0x61, 0x64, 0x65, 0x67, 0x73
EXTENDED_DONE, INTERMEDIATE = 0x78, 0x79
CONTROLS = 0xA0
REFERRAL, EXTENDED_NAME, EXTENDED_VALUE = 0xA3, 0x8A, 0x8B
INTERMEDIATE_NAME, INTERMEDIATE_VALUE = 0x80, 0x81

# A group of 100,000 members is some 10 MB; what is longer than this is no entry of people, groups or units.
MESSAGE_BYTES_MAX = 32 * 1024 * 1024
LONG_FORM = 0x80
LENGTH_BYTES_MAX = 4
NUMBER_MAX = 2**31 - 1
# Descriptions seen so far, as text: the same thirty come a million times. A server can fill it no further.
NAMES_MAX = 2000
_names: dict[bytes, str] = {}


class BERError(ValueError):
    """Say that bytes are no LDAP."""


class Message(NamedTuple):
    """One LDAP message, cut but not read: the tag of its operation, what is inside, and inside its controls."""

    number: int
    operation: int
    body: bytes
    controls: bytes


class Element(NamedTuple):
    """One element: its tag and what is inside."""

    tag: int
    body: bytes


class Result(NamedTuple):
    """How an operation ended; `text` is the server's own and for operators only."""

    code: int
    text: str
    name: str  # of an extended answer
    value: bytes


class Splitter:
    """Cut what arrives in pieces into messages. Holds at most one message that is not whole."""

    def __init__(self, bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._pieces: list[bytes] = []
        self._size = 0
        self._needed = 2

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes and return the messages that are whole now; raises BERError."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return []
        if len(self._pieces) > 1:
            data = b"".join(self._pieces)
        messages, at, size = [], 0, len(data)
        self._needed = 2
        while size - at >= 2:
            if data[at] != SEQUENCE:
                raise BERError("what came is no LDAP message")
            length, start = data[at + 1], at + 2
            if length >= LONG_FORM:
                count = length - LONG_FORM
                if not 0 < count <= LENGTH_BYTES_MAX:
                    raise BERError("a message has no length")
                start += count
                if start > size:
                    self._needed = start - at
                    break
                length = int.from_bytes(data[at + 2 : start], "big")
            if length > self._bytes_max:
                raise BERError("a message is longer than any real one")
            if start + length > size:
                self._needed = start + length - at
                break
            messages.append(_message(data, start, start + length))
            at = start + length
        rest = data[at:]
        self._pieces, self._size = [rest] if rest else [], len(rest)
        return messages

    @property
    def is_empty(self) -> bool:
        """Say whether no part of a message waits for its rest."""
        return not self._size


def read_entry(body: bytes) -> RawEntry:
    """Read a SearchResultEntry; raises BERError.

    The one function here that is written for speed: it runs for each of 100,000 people. Spec: RFC 4511 §4.5.2.
    """
    try:
        _, at, stop = _header(body, 0, len(body), OCTETS)
        dn = body[at:stop]
        _, at, end = _header(body, stop, len(body), SEQUENCE)
        if end != len(body):
            raise BERError("something follows the attributes of an entry")
        attributes: dict[str, tuple[bytes, ...]] = {}
        names, count = _names, 0
        while at < end:
            length = body[at + 1]
            if body[at] != 0x30:
                raise BERError("an attribute is no sequence")
            if length < 0x80:
                at += 2
                close = at + length
                if close > end:
                    raise BERError("an attribute is longer than its entry")
            else:
                _, at, close = _header(body, at, end, SEQUENCE)
            length = body[at + 1]
            if body[at] != 0x04 or length >= 0x80:
                raise BERError("an attribute has no readable description")
            start = at + 2
            at = start + length
            name = body[start:at]
            key = names.get(name) or _name(name)
            count += 1
            length = body[at + 1]
            if body[at] != 0x31:
                raise BERError("the values of an attribute are no set")
            # One short value, as nearly all have, is taken at once.
            if (
                2 <= length < 0x80
                and at + 2 + length == close
                and body[at + 3] == length - 2
                and body[at + 2] == 0x04
            ):
                attributes[key] = (body[at + 4 : close],)
                at = close
                continue
            _, at, stop = _header(body, at, close, SET)
            if stop != close:
                raise BERError("the values do not fill their attribute")
            values = []
            while at < close:
                length = body[at + 1]
                if body[at] != 0x04:
                    raise BERError("a value is no string of bytes")
                if length < 0x80:
                    at += 2
                    stop = at + length
                    if stop > close:
                        raise BERError("a value is longer than its attribute")
                else:
                    _, at, stop = _header(body, at, close, OCTETS)
                values.append(body[at:stop])
                at = stop
            attributes[key] = tuple(values)
        if count != len(attributes):
            raise BERError("an entry has one attribute twice")
    except IndexError:
        raise BERError("an entry ends too early") from None
    return RawEntry(dn, attributes)


def read_elements(data: bytes) -> list[Element]:
    """Read the elements that stand one after the other; raises BERError."""
    found, at, end = [], 0, len(data)
    while at < end:
        tag, start, at = _header(data, at, end)
        found.append(Element(tag, data[start:at]))
    return found


def read_result(body: bytes) -> Result:
    """Read an LDAPResult, and the name and value of an extended one; raises BERError. Spec: RFC 4511 §4.1.9."""
    parts = read_elements(body)
    if [part.tag for part in parts[:3]] != [ENUMERATED, OCTETS, OCTETS]:
        raise BERError("a result has not its three parts")
    others = {part.tag: part.body for part in parts[3:]}
    return Result(
        read_number(parts[0].body),
        parts[2].body.decode("utf-8", "replace"),
        others.get(EXTENDED_NAME, b"").decode("ascii", "replace"),
        others.get(EXTENDED_VALUE, b""),
    )


def read_intermediate(body: bytes) -> tuple[str, bytes]:
    """Read the name and the value of an IntermediateResponse; raises BERError. Spec: RFC 4511 §4.13."""
    parts = {part.tag: part.body for part in read_elements(body)}
    return parts.get(INTERMEDIATE_NAME, b"").decode("ascii", "replace"), parts.get(INTERMEDIATE_VALUE, b"")


def read_controls(data: bytes) -> dict[str, bytes]:
    """Read the values of controls by their names; raises BERError. Spec: RFC 4511 §4.1.11."""
    found = {}
    for control in read_elements(data):
        parts = read_elements(control.body)
        if control.tag != SEQUENCE or not parts or parts[0].tag != OCTETS:
            raise BERError("a control has no name")
        values = [part.body for part in parts[1:] if part.tag == OCTETS]
        found[parts[0].body.decode("ascii", "replace")] = values[0] if values else b""
    return found


def read_sequence(data: bytes) -> list[Element]:
    """Read the elements inside one sequence that is all there is; raises BERError."""
    return read_elements(read_one(data, SEQUENCE))


def read_one(data: bytes, tag: int) -> bytes:
    """Return what is inside one element that is all there is; raises BERError."""
    _, start, stop = _header(data, 0, len(data), tag)
    if stop != len(data):
        raise BERError("something follows an element")
    return data[start:stop]


def read_number(body: bytes) -> int:
    """Read what is inside an INTEGER or ENUMERATED of at most four bytes; raises BERError."""
    if not 0 < len(body) <= LENGTH_BYTES_MAX:
        raise BERError("a number has not one to four bytes")
    return int.from_bytes(body, "big", signed=True)


def read_boolean(body: bytes) -> bool:
    """Read what is inside a BOOLEAN; raises BERError."""
    if len(body) != 1:
        raise BERError("a yes or no has not one byte")
    return body != b"\0"


# -- writing ----------------------------------------------------------------------------------------------


def write(tag: int, *parts: bytes) -> bytes:
    """Write one element around its parts."""
    body = b"".join(parts)
    size = len(body)
    if size < LONG_FORM:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, LONG_FORM + len(length))) + length + body


def write_number(number: int, tag: int = INTEGER) -> bytes:
    """Write an INTEGER, or an ENUMERATED."""
    return write(tag, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def write_boolean(is_true: bool) -> bytes:
    """Write a BOOLEAN. Spec: RFC 4511 §5.1 (true is FF)."""
    return write(BOOLEAN, b"\xff" if is_true else b"\0")


# -- inside -----------------------------------------------------------------------------------------------


def _message(data: bytes, at: int, end: int) -> Message:
    _, start, at = _header(data, at, end, INTEGER)
    number = read_number(data[start:at])
    if not 0 <= number <= NUMBER_MAX:
        raise BERError("a message has a number below zero")
    operation, start, at = _header(data, at, end)
    body = data[start:at]
    controls = b""
    if at < end:
        _, start, at = _header(data, at, end, CONTROLS)
        controls = data[start:at]
        if at != end:
            raise BERError("something follows the controls of a message")
    return Message(number, operation, body, controls)


def _header(data: bytes, at: int, end: int, wanted: int = 0) -> tuple[int, int, int]:
    """Read a tag and a length at `at`; return the tag, where its inside begins and where it ends."""
    if at + 2 > end:
        raise BERError("an element ends too early")
    tag, length = data[at], data[at + 1]
    if (wanted and tag != wanted) or tag & 0x1F == 0x1F:
        raise BERError("an element is not the one that must stand here")
    start = at + 2
    if length >= LONG_FORM:
        count = length - LONG_FORM
        start += count
        if not 0 < count <= LENGTH_BYTES_MAX or start > end:
            raise BERError("an element has no length")
        length = int.from_bytes(data[at + 2 : start], "big")
    if start + length > end:
        raise BERError("an element is longer than what it stands in")
    return tag, start, start + length


def _name(name: bytes) -> str:
    try:
        text = name.decode("ascii").lower()
    except UnicodeDecodeError:
        raise BERError("an attribute has no readable description") from None
    if not text:
        raise BERError("an attribute has an empty description")
    if len(_names) < NAMES_MAX:
        _names[name] = text
    return text
