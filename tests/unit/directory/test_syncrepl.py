"""What a synchronising search says, rule by rule, and what absence means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory import ber, paging, syncrepl
from directory.ber import Message, write
from directory.changes import Completeness, Gone, Kind, Seen
from directory.config import Source
from directory.entries import RawEntry
from directory.errors import DirectoryError, UnavailableReason
from directory.kinds import (
    build_lookup_filter,
    build_seen,
    build_whole_filter,
    decide_kind,
    wanted_attributes,
)
from directory.syncrepl import Burst, Mode, Refresh, RefreshRequiredError, State

IDS = [f"00000000-0000-0000-0000-{number:012}" for number in range(10)]


def raw(number: int) -> bytes:
    return bytes.fromhex(IDS[number].replace("-", ""))


def control(name: str, value: bytes) -> bytes:
    return write(ber.SEQUENCE, write(ber.OCTETS, name.encode()), write(ber.OCTETS, value))


def entry(number: int, state: int = State.ADD, cookie: bytes = b"") -> Message:
    value = write(
        ber.SEQUENCE,
        ber.write_number(state, ber.ENUMERATED),
        write(ber.OCTETS, raw(number)),
        write(ber.OCTETS, cookie) if cookie else b"",
    )
    body = write(ber.OCTETS, f"uid={number}".encode()) + write(ber.SEQUENCE)
    return Message(1, ber.SEARCH_ENTRY, body, control(syncrepl.STATE_CONTROL, value))


def info(tag: int, *parts: bytes) -> Message:
    value = write(tag, *parts)
    body = write(ber.INTERMEDIATE_NAME, syncrepl.INFO_MESSAGE.encode()) + write(ber.INTERMEDIATE_VALUE, value)
    return Message(1, ber.INTERMEDIATE, body, b"")


def id_set(*numbers: int, deletes: bool | None = None, cookie: bytes = b"") -> Message:
    return info(
        0xA3,
        write(ber.OCTETS, cookie) if cookie else b"",
        b"" if deletes is None else ber.write_boolean(deletes),
        write(ber.SET, *[write(ber.OCTETS, raw(number)) for number in numbers]),
    )


def done(
    code: int = 0, *, deletes: bool | None = None, cookie: bytes = b"", has_control: bool = True
) -> Message:
    body = ber.write_number(code, ber.ENUMERATED) + write(ber.OCTETS) + write(ber.OCTETS, b"text")
    value = write(
        ber.SEQUENCE,
        write(ber.OCTETS, cookie) if cookie else b"",
        b"" if deletes is None else ber.write_boolean(deletes),
    )
    return Message(1, ber.SEARCH_DONE, body, control(syncrepl.DONE_CONTROL, value) if has_control else b"")


def build(entry_id: str, found: RawEntry) -> Seen:
    return Seen(entry_id, Kind.PERSON, found)


def refresh(*messages: Message, has_cookie: bool = True, persists: bool = False) -> Refresh:
    return Refresh(iter(messages), build, has_cookie=has_cookie, persists=persists)


def told(reading) -> list[str]:
    return [
        f"{'gone' if isinstance(change, Gone) else 'seen'} {int(change.entry_id[-12:])}" for change in reading
    ]


# -- the request --------------------------------------------------------------------------------------------------


# RFC 4533 §2.2: the request names its mode, and the cookie if there is one.
@pytest.mark.parametrize(
    ("mode", "cookie", "written"),
    [
        (Mode.REFRESH_ONLY, b"", "30030a0101"),
        (Mode.REFRESH_AND_PERSIST, b"", "30030a0103"),
        (Mode.REFRESH_ONLY, b"c", "30060a0101040163"),
    ],
)
def test_request_is_written(mode, cookie, written):
    assert syncrepl.build_request(mode, cookie).hex() == written


# -- refreshing -----------------------------------------------------------------------------------------------------


# RFC 4533 §3.3.2: without a cookie the whole content is sent.
@pytest.mark.parametrize("deletes", [None, True, False])
def test_refresh_without_a_cookie_is_complete(deletes):
    reading = refresh(entry(1), entry(2), done(deletes=deletes, cookie=b"c"), has_cookie=False)

    assert told(reading) == ["seen 1", "seen 2"]
    ending = reading.ending()
    assert (ending.completeness, ending.cookie, ending.present) == (Completeness.COMPLETE, b"c", frozenset())


# RFC 4533 §2.5: an id set with refreshDeletes names deleted entries.
def test_refresh_by_deletes_tells_changes_only():
    reading = refresh(entry(1, State.MODIFY), id_set(2, 3, deletes=True), done(deletes=True, cookie=b"c"))

    assert told(reading) == ["seen 1", "gone 2", "gone 3"]
    assert reading.ending().completeness is Completeness.CHANGES


# RFC 4533 §2.5: an id set without refreshDeletes names entries that are present.
@pytest.mark.parametrize("flag", [None, False])
def test_present_phase_lists_what_is_there(flag):
    reading = refresh(
        entry(1, State.MODIFY),
        id_set(2, 3, deletes=flag),
        entry(4, State.PRESENT),
        done(deletes=flag, cookie=b"c"),
    )

    assert told(reading) == ["seen 1"]
    ending = reading.ending()
    assert ending.completeness is Completeness.PRESENT
    assert ending.present == {IDS[2], IDS[3], IDS[4]}


# RFC 4533 §3.3.2: a present phase may be followed by a delete phase.
def test_present_phase_before_a_delete_phase_still_counts():
    reading = refresh(
        id_set(2, 3),
        info(0xA2, ber.write_boolean(False)),
        entry(5, State.DELETE),
        done(deletes=True, cookie=b"c"),
    )

    assert told(reading) == ["gone 5"]
    assert reading.ending().completeness is Completeness.PRESENT


# RFC 4533 §2.4: a done control without a cookie leaves the old one.
def test_nothing_changed_brings_no_cookie():
    reading = refresh(done(deletes=True))

    assert told(reading) == []
    assert (reading.ending().completeness, reading.ending().cookie) == (Completeness.CHANGES, b"")


def test_cookies_between_the_entries_count_until_a_later_one():
    reading = refresh(
        entry(1, cookie=b"a"), info(0x80), id_set(2, deletes=True, cookie=b"b"), done(deletes=True)
    )
    told(reading)
    assert reading.ending().cookie == b"b"

    renewed = refresh(Message(1, ber.INTERMEDIATE, write(0x81, write(0x80, b"z")) + write(0x80, b"1.2"), b""), entry(1),
                      done(deletes=True))  # fmt: skip
    told(renewed)
    assert renewed.ending().cookie == b""


def test_new_cookie_message_is_taken():
    value = write(0x80, b"fresh")
    message = Message(
        1, ber.INTERMEDIATE, write(0x80, syncrepl.INFO_MESSAGE.encode()) + write(0x81, value), b""
    )
    reading = refresh(message, done(deletes=True))
    told(reading)

    assert reading.ending().cookie == b"fresh"


@pytest.mark.parametrize("has_cookie", [True, False])
def test_directory_that_shows_nothing_at_all_ends_no_reading(has_cookie):
    # Else an emptied database, or rights that were taken away, would be everybody's leaving.
    reading = refresh(done(cookie=b"c"), has_cookie=has_cookie)

    with pytest.raises(DirectoryError, match="no entry at all"):
        list(reading)
    with pytest.raises(DirectoryError):
        reading.ending()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (done(4, deletes=True), UnavailableReason.REFUSED),
        (done(3, deletes=True), UnavailableReason.TIMEOUT),
        (done(53), UnavailableReason.LAGGING),
        (done(10), UnavailableReason.REFUSED),
        (done(1), UnavailableReason.REFUSED),
        (done(51), UnavailableReason.REFUSED),
        (done(has_control=False), UnavailableReason.NONSENSE),
    ],
    ids=["size-limit", "time-limit", "lagging", "referral", "operations", "busy", "no-control"],
)
def test_every_ending_but_success_raises(message, reason):
    reading = refresh(entry(1), message)

    with pytest.raises(DirectoryError) as error:
        list(reading)

    assert error.value.reason is reason
    with pytest.raises(DirectoryError):
        reading.ending()


# RFC 4533 §2.6: e-syncRefreshRequired asks to begin without a cookie.
def test_refresh_required_has_an_error_of_its_own():
    with pytest.raises(RefreshRequiredError):
        list(refresh(done(4096)))


def test_unwilling_without_a_cookie_is_no_lagging():
    with pytest.raises(DirectoryError) as error:
        list(refresh(done(53), has_cookie=False))

    assert error.value.reason is UnavailableReason.REFUSED


def test_messages_that_stop_end_no_reading():
    with pytest.raises(DirectoryError, match="broke off"):
        list(refresh(entry(1)))


def test_references_are_passed_over_and_other_operations_raise():
    assert told(refresh(Message(1, ber.SEARCH_REFERENCE, b"", b""), entry(1), done(deletes=True))) == [
        "seen 1"
    ]
    with pytest.raises(ber.BERError):
        list(refresh(Message(1, ber.BIND_DONE, b"", b"")))


def test_entry_that_the_builder_leaves_out_is_left_out():
    reading = Refresh(iter([entry(1), done(deletes=True)]), lambda *_: None, has_cookie=True)

    assert list(reading) == []


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (syncrepl.read_state, write(ber.SEQUENCE)),
        (
            syncrepl.read_state,
            write(ber.SEQUENCE, write(ber.ENUMERATED, b"\4"), write(ber.OCTETS, bytes(16))),
        ),
        (
            syncrepl.read_state,
            write(ber.SEQUENCE, write(ber.ENUMERATED, b"\1"), write(ber.OCTETS, bytes(15))),
        ),
        (syncrepl.read_info, b""),
        (syncrepl.read_info, write(0xA7)),
        (syncrepl.read_info, write(0xA3)),
        (syncrepl.read_info, write(0xA3, write(ber.SET, write(ber.SET)))),
        (syncrepl.read_info, write(0x80, b"x" * 5000)),
        (syncrepl.read_done, write(ber.SEQUENCE, write(ber.OCTETS, b"x" * 5000))),
        (syncrepl.read_done, write(ber.SEQUENCE, write(ber.BOOLEAN, b"ab"))),
    ],
)
def test_controls_that_are_none_raise(read, value):
    with pytest.raises(ber.BERError):
        read(value)


def test_entry_without_a_state_raises():
    with pytest.raises(ber.BERError, match="without its state"):
        list(refresh(Message(1, ber.SEARCH_ENTRY, entry(1).body, b"")))


def test_state_that_does_not_exist_raises():
    with pytest.raises(ber.BERError, match="does not exist"):
        list(refresh(entry(1, 7)))


@given(st.binary(min_size=16, max_size=16), st.sampled_from(State))
def test_state_is_the_same_by_either_way(data, state):
    value = write(ber.SEQUENCE, ber.write_number(state, ber.ENUMERATED), write(ber.OCTETS, data))
    quick = Message(1, ber.SEARCH_ENTRY, b"", control(syncrepl.STATE_CONTROL, value))

    assert syncrepl._state_of(quick) == syncrepl.read_state(value)


# -- persisting -------------------------------------------------------------------------------------------------------


# RFC 4533 §3.4: a refresh message with refreshDone ends the refreshing stage.
@pytest.mark.parametrize(
    ("tag", "parts", "completeness"),
    [
        (0xA1, [], Completeness.CHANGES),
        (0xA1, [write(ber.OCTETS, b"c")], Completeness.CHANGES),
        (0xA2, [ber.write_boolean(True)], Completeness.PRESENT),
    ],
)
def test_refresh_that_persists_ends_with_a_message(tag, parts, completeness):
    rest = iter(
        [
            entry(1),
            info(0xA2, ber.write_boolean(False)) if tag == 0xA2 else entry(2),
            info(tag, *parts),
            entry(3),
        ]
    )
    reading = Refresh(rest, build, has_cookie=True, persists=True)

    assert told(reading)[0] == "seen 1"
    assert reading.ending().completeness is completeness
    assert len(list(rest)) == 1


def test_search_that_should_go_on_and_ends_raises():
    with pytest.raises(DirectoryError, match="should go on"):
        list(refresh(done(deletes=True), persists=True))


def burst(*messages: Message, changes_max: int = 100) -> Burst:
    left = list(messages)

    def take():
        while left:
            yield left.pop(0)

    return Burst(take(), build, lambda: bool(left), changes_max)


def test_burst_tells_what_is_there_and_the_last_cookie():
    reading = burst(
        entry(1, State.MODIFY, b"a"), entry(2, State.DELETE, b"b"), entry(3, State.PRESENT), id_set(4, 5, deletes=True),
        info(0xA3, write(ber.OCTETS, b"c"), write(ber.SET)), Message(1, ber.SEARCH_REFERENCE, b"", b""),
    )  # fmt: skip

    assert told(reading) == ["seen 1", "gone 2", "gone 4", "gone 5"]
    assert (reading.ending().completeness, reading.ending().cookie) == (Completeness.CHANGES, b"c")


def test_burst_that_is_long_is_cut():
    reading = burst(*[entry(1)] * 10, changes_max=3)

    assert len(told(reading)) == 3
    reading.ending()


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (done(deletes=True), DirectoryError),
        (done(4096), RefreshRequiredError),
        (Message(1, ber.BIND_DONE, b"", b""), ber.BERError),
    ],
)
def test_burst_that_is_none_raises_and_has_no_ending(message, error):
    reading = burst(message)

    with pytest.raises(error):
        list(reading)
    with pytest.raises(DirectoryError):
        reading.ending()


def test_burst_leaves_out_what_the_builder_leaves_out():
    left = [entry(1), Message(1, ber.INTERMEDIATE, write(0x80, b"1.2"), b"")]
    reading = Burst(iter(left), lambda *_: None, iter([True, True, False]).__next__, 10)

    assert list(reading) == []


# -- pages --------------------------------------------------------------------------------------------------------------


def page(cookie: bytes, code: int = 0) -> Message:
    value = write(ber.SEQUENCE, ber.write_number(0), write(ber.OCTETS, cookie))
    return Message(1, ber.SEARCH_DONE, done(code).body, control(paging.CONTROL, value))


def pages(*answers: list[Message]) -> paging.PagedReading:
    left = list(answers)
    return paging.PagedReading(
        lambda _: iter(left.pop(0)), lambda found: build(IDS[int(found.dn[4:])], found)
    )


# RFC 2696 §3: the last page has an empty cookie.
def test_pages_are_whole_after_the_empty_cookie():
    reading = pages([entry(1), page(b"a")], [Message(1, ber.SEARCH_REFERENCE, b"", b""), entry(2), page(b"")])

    assert told(reading) == ["seen 1", "seen 2"]
    assert (reading.ending().completeness, reading.ending().cookie) == (Completeness.COMPLETE, b"")


@pytest.mark.parametrize(
    "answers",
    [
        [[page(b"")]],
        [[entry(1), done()]],
        [[entry(1), page(b"a")], [page(b"", 4)]],
        [[entry(1), page(b"", 3)]],
        [[entry(1)]],
    ],
    ids=["empty", "no-control", "size-limit", "time-limit", "broken-off"],
)
def test_pages_that_are_not_whole_raise(answers):
    reading = pages(*answers)

    with pytest.raises(DirectoryError):
        list(reading)
    with pytest.raises(DirectoryError):
        reading.ending()


def test_pages_that_never_end_are_stopped(monkeypatch):
    monkeypatch.setattr(paging, "PAGES_MAX", 3)

    with pytest.raises(DirectoryError, match="do not end"):
        list(pages(*[[entry(1), page(b"a")]] * 3))


def test_page_with_another_operation_or_a_broken_ending_raises():
    with pytest.raises(ber.BERError):
        list(pages([Message(1, ber.BIND_DONE, b"", b"")]))
    with pytest.raises(ber.BERError):
        paging.read_cookie(write(ber.SEQUENCE))


def test_page_that_is_left_out_is_left_out():
    assert list(paging.PagedReading(lambda _: iter([entry(1), page(b"")]), lambda _: None)) == []


# -- which is what --------------------------------------------------------------------------------------------------------

SOURCE = Source(name="hq", urls=("ldaps://x",), bind_dn="x", bind_password="x", base_dn="o=x")


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"objectclass": (b"inetOrgPerson",), "uid": (b"a",)}, Kind.PERSON),
        ({"objectclass": (b"GROUPOFNAMES",)}, Kind.GROUP),
        ({"objectclass": (b"top", b"organizationalUnit"), "uid": (b"a",)}, Kind.UNIT),
        ({"objectclass": (b"theirGroup",), "member": (b"o=x",)}, Kind.GROUP),
        ({"objectclass": (b"theirUnit",)}, Kind.UNIT),
        ({}, Kind.UNIT),
    ],
)
def test_kind_is_decided_by_class_then_by_attribute(attributes, kind):
    decide = decide_kind(SOURCE)

    assert decide(RawEntry(b"o=x", attributes)) is kind
    assert decide(RawEntry(b"o=x", attributes)) is kind


def test_memory_of_combinations_is_bounded(monkeypatch):
    monkeypatch.setattr("directory.kinds.COMBINATIONS_MAX", 1)
    decide = decide_kind(SOURCE)

    for _ in range(2):
        for name in (b"groupOfNames", b"domain"):
            assert decide(RawEntry(b"", {"objectclass": (name,)})) is not Kind.PERSON


def test_filters_and_attributes_are_few_and_named():
    assert build_whole_filter(SOURCE).startswith(
        "(|(&(objectClass=inetOrgPerson)(uid=*))(objectClass=groupOfNames)(|("
    )
    assert {"member", "objectClass", "entryUUID", "uid"} <= set(wanted_attributes(SOURCE))
    assert not {"*", "+", "memberOf", "userPassword"} & set(wanted_attributes(SOURCE))
    assert build_lookup_filter(SOURCE, ("a", "*)(uid=*")).endswith(
        "(|(entryUUID=a)(entryUUID=\\2a\\29\\28uid\\3d\\2a)))"
    )
    assert build_seen(SOURCE)(IDS[1], RawEntry(b"o=x", {})) == Seen(IDS[1], Kind.UNIT, RawEntry(b"o=x", {}))
