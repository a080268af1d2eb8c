"""The reader of bytes: what is LDAP is read, what is not raises BERError and nothing else."""

import contextlib
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from directory import ber, paging, syncrepl
from directory.ber import BERError, Splitter, read_entry, write
from directory.entries import RawEntry


def message(number: int, operation: int, body: bytes, controls: bytes = b"") -> bytes:
    return write(
        ber.SEQUENCE,
        ber.write_number(number),
        write(operation, body),
        write(ber.CONTROLS, controls) if controls else b"",
    )


def entry_body(dn: bytes, attributes: dict[bytes, list[bytes]]) -> bytes:
    listed = [
        write(ber.SEQUENCE, write(ber.OCTETS, name), write(ber.SET, *[write(ber.OCTETS, v) for v in values]))
        for name, values in attributes.items()
    ]
    return write(ber.OCTETS, dn) + write(ber.SEQUENCE, *listed)


NAMES = st.from_regex(rb"[a-z][a-z0-9;-]{0,20}", fullmatch=True)
ENTRIES = st.tuples(
    st.binary(max_size=200), st.dictionaries(NAMES, st.lists(st.binary(max_size=300), max_size=4), max_size=6)
)
READERS = [
    ber.read_elements,
    ber.read_entry,
    ber.read_result,
    ber.read_intermediate,
    ber.read_controls,
    ber.read_sequence,
    ber.read_number,
    ber.read_boolean,
    syncrepl.read_state,
    syncrepl.read_done,
    syncrepl.read_info,
    syncrepl.format_uuid,
    paging.read_cookie,
    lambda data: Splitter(1000).feed(data),
    lambda data: syncrepl._state_of(ber.Message(1, ber.SEARCH_ENTRY, b"", data)),
]


# -- whatever comes ---------------------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda b: write(ber.SEQUENCE, b))))
@example(b"\x30\x84\xff\xff\xff\xff")
@example(b"\x30\x80\x00\x00")
@example(b"\x30\x03\x02\x01\xff")
@example(b"\x30\x01\x1f")
def test_any_bytes_are_read_or_raise_bererror(data):
    for read in READERS:
        with contextlib.suppress(BERError):
            read(data)


@settings(max_examples=300, deadline=None)
@given(ENTRIES, st.data())
def test_damaged_entry_is_read_or_raises_bererror(entry, data):
    written = bytearray(entry_body(*entry))
    for _ in range(data.draw(st.integers(1, 3))):
        written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(written[: data.draw(st.integers(0, len(written)))])
    for damaged in (bytes(written), cut):
        try:
            found = read_entry(damaged)
        except BERError:
            continue
        held = len(found.dn) + sum(len(value) for values in found.attributes.values() for value in values)
        assert held <= len(damaged)


# -- entries ----------------------------------------------------------------------------------------------------


@given(ENTRIES)
def test_entry_comes_back_as_it_was_written(entry):
    dn, attributes = entry

    read = read_entry(entry_body(dn, attributes))

    assert read == RawEntry(dn, {name.decode(): tuple(values) for name, values in attributes.items()})


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 129, 255, 256, 65535, 65536])
@pytest.mark.parametrize("count", [1, 2])
def test_values_of_every_size_come_back(size, count):
    values = [bytes([65 + number]) * size for number in range(count)]

    assert read_entry(entry_body(b"o=x", {b"CN": values})).attributes == {"cn": tuple(values)}


def test_attribute_of_ten_megabytes_is_read_without_copies_of_copies():
    written = message(1, ber.SEARCH_ENTRY, entry_body(b"o=x", {b"photo": [b"x" * 10_000_000]}))
    splitter = Splitter()
    tracemalloc.start()
    try:
        found = [m for at in range(0, len(written), 16384) for m in splitter.feed(written[at : at + 16384])]
        entry = read_entry(found[0].body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(entry.attributes["photo"][0]) == 10_000_000
    assert peak < 45_000_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        write(ber.OCTETS, b"o=x"),
        write(ber.OCTETS, b"o=x") + write(ber.SEQUENCE) + b"x",
        write(ber.OCTETS, b"o=x") + write(ber.SEQUENCE, write(ber.SET)),
        write(ber.OCTETS, b"o=x") + write(ber.SEQUENCE, write(ber.SEQUENCE)),
        write(ber.OCTETS, b"o=x") + write(ber.SEQUENCE, write(ber.SEQUENCE, write(ber.OCTETS, b"cn"))),
        write(ber.OCTETS, b"o=x")
        + write(ber.SEQUENCE, write(ber.SEQUENCE, write(ber.OCTETS, b""), write(ber.SET))),
        write(ber.OCTETS, b"o=x")
        + write(ber.SEQUENCE, write(ber.SEQUENCE, write(ber.OCTETS, b"\xff"), write(ber.SET))),
        write(ber.OCTETS, b"o=x")
        + write(ber.SEQUENCE, write(ber.SEQUENCE, write(ber.OCTETS, b"cn"), write(ber.SEQUENCE))),
        write(ber.OCTETS, b"o=x")
        + write(ber.SEQUENCE, write(ber.SEQUENCE, write(ber.OCTETS, b"cn"), write(ber.SET, b"\x05\x00"))),
        write(ber.OCTETS, b"o=x")
        + write(ber.SEQUENCE, write(ber.SEQUENCE, write(ber.OCTETS, b"cn"), write(ber.SET, b"\x04\x02x"))),
        write(ber.OCTETS, b"o=x")
        + write(ber.SEQUENCE, write(ber.SEQUENCE, write(ber.OCTETS, b"cn"), write(ber.SET), b"\x05\x00")),
        write(ber.OCTETS, b"o=x")
        + write(ber.SEQUENCE, *[write(ber.SEQUENCE, write(ber.OCTETS, b"cn"), write(ber.SET))] * 2),
        write(ber.OCTETS, b"o=x") + write(ber.SEQUENCE, b"\x30\x09\x04\x00"),
    ],
)
def test_entry_that_is_none_raises(body):
    with pytest.raises(BERError):
        read_entry(body)


def test_memory_of_descriptions_is_bounded(monkeypatch):
    monkeypatch.setattr(ber, "_names", {})
    monkeypatch.setattr(ber, "NAMES_MAX", 10)

    for number in range(50):
        name = f"Fresh-{number}".encode()
        assert list(read_entry(entry_body(b"o=x", {name: [b"v"]})).attributes) == [name.decode().lower()]

    assert len(ber._names) == 10


# -- messages ---------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 2**31 - 1), st.binary(max_size=300), st.binary(max_size=20))), st.data()
)
def test_messages_come_back_however_they_were_cut(messages, data):
    written = b"".join(
        message(number, ber.SEARCH_ENTRY, body, controls) for number, body, controls in messages
    )
    splitter, found, at = Splitter(), [], 0
    while at < len(written):
        size = data.draw(st.integers(1, 400))
        found += splitter.feed(written[at : at + size])
        at += size

    assert [(m.number, m.body, m.controls) for m in found] == messages
    assert splitter.is_empty


def test_messages_come_back_byte_by_byte():
    written = message(7, ber.SEARCH_ENTRY, b"x" * 70_000) + message(8, ber.SEARCH_DONE, b"")
    splitter = Splitter()

    found = [m for byte in written for m in splitter.feed(bytes([byte]))]

    assert [(m.number, len(m.body)) for m in found] == [(7, 70_000), (8, 0)]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400",
        b"\x30\x80\x00\x00",
        b"\x30\x85\x00\x00\x00\x00\x01",
        b"\x30\x84\x7f\xff\xff\xff",
        b"\x30\x00",
        b"\x30\x02\x02\x00",
        b"\x30\x03\x02\x01\x01",
        message(-1, ber.SEARCH_ENTRY, b""),
        write(ber.SEQUENCE, ber.write_number(2**31), write(ber.SEARCH_ENTRY)),
        write(ber.SEQUENCE, ber.write_number(1), b"\x7f\x81\x00\x00"),
        write(ber.SEQUENCE, ber.write_number(1), write(ber.SEARCH_ENTRY), write(ber.SEQUENCE)),
        write(ber.SEQUENCE, ber.write_number(1), write(ber.SEARCH_ENTRY), write(ber.CONTROLS), b"\x04\x00"),
        write(ber.SEQUENCE, ber.write_number(1), b"\x64\x84\x00"),
    ],
)
def test_what_is_no_message_raises(data):
    with pytest.raises(BERError):
        Splitter().feed(data)


def test_message_longer_than_allowed_is_refused_before_it_has_come():
    with pytest.raises(BERError, match="longer than any"):
        Splitter(1000).feed(b"\x30\x82\x10\x00")


# -- parts ------------------------------------------------------------------------------------------------------


def test_result_is_read_with_its_extended_parts():
    body = (
        ber.write_number(4096, ber.ENUMERATED)
        + write(ber.OCTETS, b"o=x")
        + write(ber.OCTETS, b"why \xff")
        + write(ber.REFERRAL, write(ber.OCTETS, b"ldap://elsewhere"))
        + write(ber.EXTENDED_NAME, b"1.2.3")
        + write(ber.EXTENDED_VALUE, b"v")
    )

    assert ber.read_result(body) == ber.Result(4096, "why \ufffd", "1.2.3", b"v")


@pytest.mark.parametrize(
    "body", [b"", write(ber.ENUMERATED, b"\0"), write(ber.OCTETS) * 3, b"\x0a\x05\0\0\0\0\0\4\0\4\0"]
)
def test_result_without_its_parts_raises(body):
    with pytest.raises(BERError):
        ber.read_result(body)


def test_controls_are_read_with_and_without_values():
    data = write(
        ber.SEQUENCE, write(ber.OCTETS, b"1.2"), ber.write_boolean(True), write(ber.OCTETS, b"v")
    ) + write(ber.SEQUENCE, write(ber.OCTETS, b"3.4"))

    assert ber.read_controls(data) == {"1.2": b"v", "3.4": b""}


@pytest.mark.parametrize("data", [write(ber.SET), write(ber.SEQUENCE), write(ber.SEQUENCE, write(ber.SET))])
def test_control_without_a_name_raises(data):
    with pytest.raises(BERError):
        ber.read_controls(data)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 255, 256, 4096, 2**31 - 1, -1, -129])
def test_numbers_come_back(number):
    assert ber.read_number(ber.read_one(ber.write_number(number), ber.INTEGER)) == number


def test_element_that_is_followed_raises():
    with pytest.raises(BERError, match="follows"):
        ber.read_one(write(ber.SEQUENCE) + b"\0", ber.SEQUENCE)
