"""The stream of a real OpenLDAP server: what it says, what it leaves out, and what must never be concluded."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from deploy.demo import slapd
from directory.changes import Completeness, Finding, Gone, Kind, Seen
from directory.errors import DirectoryError, UnavailableReason
from directory.openldap import SyncReader
from tests.app.directory.secretariat import (
    ADMIN,
    ADMIN_PASSWORD,
    BASE,
    CABINET,
    GENEVA,
    GROUPS,
    SERVICE,
    Impostor,
    ber,
    change,
    frozen,
    message_id,
    result,
    secretariat,
    source_of,
    within,
)

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def read() -> Iterator[Callable[..., SyncReader]]:
    """Build readers that are closed after the test."""
    made: list[SyncReader] = []

    def build(server: slapd.Server, **changes: object) -> SyncReader:
        made.append(SyncReader(source_of(server, **changes)))
        return made[-1]

    yield build
    for reader in made:
        reader.close()


def consume(reading) -> tuple[list, object]:
    changes = list(reading)
    return changes, reading.ending()


def names(changes) -> set[str]:
    return {item.raw.dn.decode().lower() for item in changes if isinstance(item, Seen)}


def delete(server: slapd.Server, dn: str) -> None:
    change(server, f"dn: {dn}\nchangetype: delete\n")


def describe(server: slapd.Server, dn: str, text: str = "x") -> None:
    change(server, f"dn: {dn}\nchangetype: modify\nreplace: title\ntitle: {text}\n")


# -- everything --------------------------------------------------------------------------------------------------


def test_full_reading_holds_people_groups_and_units_and_nothing_else(server, read):
    changes, ending = consume(read(server).full())

    kinds = {kind: names(item for item in changes if item.kind is kind) for kind in Kind}
    assert ending.completeness is Completeness.COMPLETE
    assert ending.cookie
    assert f"uid=alice,{CABINET}".lower() in kinds[Kind.PERSON]
    assert f"cn=staff,{GROUPS}" in kinds[Kind.GROUP]
    assert {BASE, CABINET.lower(), f"ou=london #2,ou=offices,{BASE}"} <= kinds[Kind.UNIT]
    assert SERVICE not in set().union(*kinds.values())
    # The referral and the alias beside them are neither followed nor taken for a person (DEREF_NEVER).
    assert not [name for name in set().union(*kinds.values()) if "elsewhere" in name or "other-alice" in name]


def test_full_reading_brings_the_named_attributes_only_and_never_memberof(server, read):
    changes, _ = consume(read(server).full())

    alice = next(item for item in changes if item.raw.dn.startswith(b"uid=alice,"))
    assert alice.entry_id == alice.raw.attributes["entryuuid"][0].decode()
    assert "uid" in alice.raw.attributes
    assert not {"memberof", "userpassword", "modifytimestamp"} & set(alice.raw.attributes)


@pytest.mark.parametrize("kind", ["ldaps", "starttls"])
def test_reading_is_whole_over_either_kind_of_tls(server, read, kind):
    changes, _ = consume(read(server, urls=(server.url if kind == "ldaps" else server.starttls_url,)).full())

    assert len(changes) > 50


def test_reading_that_was_not_consumed_has_no_ending(server, read):
    reading = read(server).full()
    iterator = iter(reading)
    next(iterator)

    with pytest.raises(DirectoryError, match="did not end"):
        reading.ending()
    iterator.close()


def test_group_that_stands_beside_the_base_is_refused(server):
    with pytest.raises(ValueError, match="under the base"):
        SyncReader(source_of(server, base_dn=CABINET, group_base_dn=GROUPS))


def test_other_id_than_entryuuid_is_refused(server):
    with pytest.raises(ValueError, match=r"(?i)entryuuid"):
        SyncReader(source_of(server, entry_id_attribute="uid"))


# -- changes -----------------------------------------------------------------------------------------------------


def test_nothing_changed_brings_no_cookie_so_the_old_one_stays(server, read):
    reader = read(server)
    _, before = consume(reader.full())

    changes, ending = consume(reader.poll(before.cookie))

    assert changes == []
    assert ending.completeness is Completeness.CHANGES
    assert ending.cookie == b""
    assert consume(reader.poll(before.cookie))[1].completeness is Completeness.CHANGES


def test_changes_are_told_one_by_one_and_deletions_by_id(own_server, read):
    reader = read(own_server)
    everything, before = consume(reader.full())
    omar = next(item.entry_id for item in everything if item.raw.dn.startswith(b"uid=omar,"))
    delete(own_server, f"uid=omar,{GENEVA}")
    describe(own_server, f"uid=alice,{CABINET}")
    change(
        own_server,
        f"dn: uid=new,{GENEVA}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: new\ncn: n\nsn: n\n",
    )

    changes, ending = consume(reader.poll(before.cookie))

    assert ending.completeness is Completeness.CHANGES
    assert ending.cookie not in {b"", before.cookie}
    assert [item for item in changes if isinstance(item, Gone)] == [Gone(omar)]
    assert names(changes) == {f"uid=alice,{CABINET}".lower(), f"uid=new,{GENEVA}".lower()}
    assert consume(reader.poll(ending.cookie))[0] == []


def test_renamed_unit_is_one_event_and_the_people_below_are_silent(own_server, read):
    reader = read(own_server)
    everything, before = consume(reader.full())
    geneva = next(item.entry_id for item in everything if item.raw.dn.startswith(b"ou=Geneva,"))
    change(own_server, f"dn: {GENEVA}\nchangetype: modrdn\nnewrdn: ou=Lyon\ndeleteoldrdn: 1\n")

    changes, _ = consume(reader.poll(before.cookie))

    [unit] = changes
    assert (unit.entry_id, unit.kind) == (geneva, Kind.UNIT)
    assert unit.raw.dn.startswith(b"ou=Lyon,ou=Offices,")


def test_person_who_no_longer_matches_the_filter_is_gone(own_server, read):
    reader = read(own_server, user_filter="(&(objectClass=inetOrgPerson)(uid={login})(!(title=gone)))")
    everything, before = consume(reader.full())
    omar = next(item.entry_id for item in everything if item.raw.dn.startswith(b"uid=omar,"))
    describe(own_server, f"uid=omar,{GENEVA}", "gone")

    changes, _ = consume(reader.poll(before.cookie))

    assert changes == [Gone(omar)]
    assert reader.lookup([omar]) == frozenset()


def test_member_added_tells_of_the_group_and_not_of_the_person(own_server, read):
    reader = read(own_server)
    _, before = consume(reader.full())
    change(
        own_server, f"dn: cn=strangers,{GROUPS}\nchangetype: modify\nadd: member\nmember: uid=omar,{GENEVA}\n"
    )

    [group], _ = consume(reader.poll(before.cookie))

    assert group.kind is Kind.GROUP
    assert f"uid=omar,{GENEVA}".encode() in group.raw.attributes["member"]


@pytest.mark.parametrize(
    "cookie",
    [b"garbage", b"rid=000", b"rid=000,csn=xx", b"\xff" * 40, b"x" * 5000, b"csn=20991125172951.081098Z"],
    ids=["word", "no-csn", "no-number", "bytes", "long", "half"],
)
def test_garbage_cookie_brings_everything_and_says_so(server, read, cookie):
    # slapd itself answers these with every entry and the flag that all deletions were told.
    changes, ending = consume(read(server).poll(cookie))

    assert len(changes) > 50
    assert ending.completeness is Completeness.COMPLETE
    assert ending.cookie


def test_very_old_cookie_lists_what_is_there(server, read):
    changes, ending = consume(read(server).poll(b"rid=000,csn=19990101000000.000000Z#000000#000#000000"))

    assert len({item.entry_id for item in changes} | ending.present) > 50
    assert ending.completeness is Completeness.PRESENT


def test_lost_session_log_lists_what_is_there_and_absence_means_deleted(own_server, read):
    reader = read(own_server)
    everything, before = consume(reader.full())
    ids = {item.entry_id for item in everything}
    omar = next(item.entry_id for item in everything if item.raw.dn.startswith(b"uid=omar,"))
    delete(own_server, f"uid=omar,{GENEVA}")
    describe(own_server, f"uid=alice,{CABINET}")
    own_server.stop()
    own_server.start()

    changes, ending = consume(reader.poll(before.cookie))

    assert ending.completeness is Completeness.PRESENT
    assert names(changes) == {f"uid=alice,{CABINET}".lower()}
    assert ids - ending.present - {item.entry_id for item in changes} == {omar}


def test_server_without_the_overlay_is_read_whole_in_pages(read):
    with secretariat(session_log=-1) as plain:
        reader = read(plain)
        changes, ending = consume(reader.full())
        polled, _ = consume(reader.poll(b"anything"))

    assert len(changes) == len(polled) > 50
    assert ending.completeness is Completeness.COMPLETE
    assert ending.cookie == b""


# -- what is not whole ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("session_log", [10, -1], ids=["stream", "pages"])
def test_size_limit_is_an_error_and_never_an_ending(read, session_log):
    with secretariat(service_size_limit=5, session_log=session_log) as limited:
        reading = read(limited).full()

        with pytest.raises(DirectoryError) as error:
            list(reading)

        assert error.value.reason is UnavailableReason.REFUSED
        with pytest.raises(DirectoryError):
            reading.ending()


def test_base_that_does_not_exist_is_an_error(server, read):
    with pytest.raises(DirectoryError, match="result 32"):
        list(read(server, base_dn=f"ou=nowhere,{BASE}").full())


def test_lookup_says_which_are_still_there(server, read):
    reader = read(server)
    everything, _ = consume(reader.full())
    ids = [item.entry_id for item in everything]

    assert reader.lookup([*ids, UNKNOWN_ID]) == frozenset(ids)
    assert reader.lookup([]) == frozenset()


def test_lookup_of_a_directory_that_is_down_is_an_error_not_an_absence(own_server, read):
    reader = read(own_server)
    own_server.kill()

    with pytest.raises(DirectoryError):
        reader.lookup([UNKNOWN_ID])


# -- the set-up ------------------------------------------------------------------------------------------------------


def test_set_up_that_is_well_has_no_findings(server, read):
    assert list(read(server).check()) == []


def test_set_up_that_limits_or_cannot_stream_is_found(read):
    with secretariat(service_size_limit=5) as limited:
        assert Finding.LIMITED in read(limited).check()
    with secretariat(session_log=-1) as plain:
        assert list(read(plain).check()) == [Finding.NO_STREAM]


def test_account_that_reads_passwords_is_found(server, read):
    root = {"bind_dn": ADMIN, "bind_password": ADMIN_PASSWORD}

    assert list(read(server, **root).check()) == [Finding.READS_PASSWORDS]


def test_server_that_shows_people_to_strangers_is_found(impostor_reader, certificates):
    def answer(data: bytes) -> bytes:
        if b"1.3.6.1.4.1.4203.1.9.1.1" in data:
            return done(data, 4)
        if data[0] == 0x30 and b"objectClass" not in data:
            return result(data, 0x61)
        entry = ber(0x64, ber(4, b"uid=a,o=x"), ber(0x30))
        return ber(0x30, message_id(data), entry) + result(data, 0x65)

    with Impostor(answer, certificates=certificates) as open_to_all:
        assert Finding.SHOWS_STRANGERS in impostor_reader(open_to_all).check()


def test_set_up_of_a_directory_that_is_down_is_an_outage(own_server, read):
    own_server.kill()

    with pytest.raises(DirectoryError):
        read(own_server).check()


# -- following -------------------------------------------------------------------------------------------------------


def test_follower_hears_a_change_within_a_moment_and_stops_when_told(own_server, read):
    reader = read(own_server)
    _, before = consume(reader.full())
    stop = threading.Event()
    stream = reader.follow(before.cookie, stop)
    assert consume(next(stream))[0] == []

    threading.Timer(0.1, delete, (own_server, f"uid=omar,{GENEVA}")).start()
    with within(1.5):
        burst = next(stream)
    changes, ending = consume(burst)
    stop.set()

    assert [type(item) for item in changes] == [Gone]
    assert ending.completeness is Completeness.CHANGES
    assert ending.cookie
    assert list(stream) == []
    assert consume(reader.poll(ending.cookie))[0] == []


def test_follower_begins_with_what_was_missed(own_server, read):
    reader = read(own_server)
    _, before = consume(reader.full())
    delete(own_server, f"uid=omar,{GENEVA}")

    stream = reader.follow(before.cookie, threading.Event())

    changes, ending = consume(next(stream))

    assert [type(item) for item in changes] == [Gone]
    assert ending.cookie


def test_follower_without_a_cookie_begins_with_everything(server, read):
    stream = read(server).follow(b"", threading.Event())

    changes, ending = consume(next(stream))

    assert len(changes) > 50
    assert ending.completeness is Completeness.COMPLETE
    assert ending.cookie


def test_follower_says_when_nothing_was_heard(server, read):
    reader = read(server)
    stream = reader.follow(b"", threading.Event(), idle_seconds=0.3)
    consume(next(stream))

    started = time.monotonic()
    changes, ending = consume(next(stream))

    assert (changes, ending.cookie, ending.completeness) == ([], b"", Completeness.CHANGES)
    assert 0.25 < time.monotonic() - started < 2


def test_follower_whose_server_dies_hears_it(own_server, read):
    stream = read(own_server).follow(b"", threading.Event())
    consume(next(stream))
    own_server.kill()

    with within(2), pytest.raises(DirectoryError) as error:
        consume(next(stream))

    assert error.value.reason is UnavailableReason.UNREACHABLE


def test_follower_that_skips_a_reading_is_stopped(server, read):
    stream = read(server).follow(b"", threading.Event())
    next(stream)

    with pytest.raises(DirectoryError, match="did not end"):
        next(stream)


def test_follower_of_a_frozen_server_notices_when_nothing_is_heard(own_server, read):
    stream = read(own_server, budget_seconds=1.0, connect_seconds=0.5).follow(
        b"", threading.Event(), idle_seconds=0.3
    )
    consume(next(stream))

    with frozen(own_server), within(3), pytest.raises(DirectoryError) as error:
        next(stream)

    assert error.value.reason is UnavailableReason.TIMEOUT


def test_poll_of_a_frozen_server_is_a_timeout_on_a_new_and_on_a_kept_connection(
    own_server, read, monkeypatch
):
    monkeypatch.setattr("directory.openldap.SILENCE_SECONDS", 0.5)
    fresh, kept = (read(own_server, budget_seconds=1.0, connect_seconds=0.5) for _ in range(2))
    _, ending = consume(kept.full())

    with frozen(own_server), within(6):
        for reader in (fresh, kept):
            with pytest.raises(DirectoryError) as error:
                list(reader.poll(ending.cookie))
            assert error.value.reason is UnavailableReason.TIMEOUT

    assert consume(kept.poll(ending.cookie))[0] == []


# -- several servers -----------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[slapd.Server, slapd.Server]]:
    """A provider and a replica that has everything."""
    with secretariat() as provider, secretariat(provider=provider) as replica:
        wait_for(
            lambda: consume(reader.full())[1].cookie == cookie_of(provider),
            reader := SyncReader(source_of(replica)),
        )
        reader.close()
        yield provider, replica


def cookie_of(server: slapd.Server) -> bytes:
    reader = SyncReader(source_of(server))
    try:
        return consume(reader.full())[1].cookie
    finally:
        reader.close()


def wait_for(holds: Callable[[], bool], _reader: object = None, seconds: float = 15.0) -> None:
    ends = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except DirectoryError:
            pass
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.1)


def test_cookie_of_the_provider_is_good_at_the_replica(pair, read):
    provider, replica = pair
    _, before = consume(read(provider).full())
    reader = read(replica)
    delete(provider, f"uid=omar,{GENEVA}")

    wait_for(lambda: [type(item) for item in consume(reader.poll(before.cookie))[0]] == [Gone])


def test_replica_that_lags_is_waited_for_and_not_read_anew(pair, read):
    provider, replica = pair
    replica.stop()
    delete(provider, f"uid=omar,{GENEVA}")
    cookie = cookie_of(provider)
    provider.stop()
    replica.start()
    reader = read(replica)

    with pytest.raises(DirectoryError) as error:
        list(reader.poll(cookie))

    assert error.value.reason is UnavailableReason.LAGGING
    provider.start()
    wait_for(lambda: consume(reader.poll(cookie))[1].completeness is Completeness.CHANGES)


# -- impostors -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    from deploy.demo import testca

    return testca.make(tmp_path_factory.mktemp("impostor"))


@pytest.fixture
def impostor_reader(server, read, certificates):
    def build(impostor: Impostor) -> SyncReader:
        return read(
            server, urls=(f"ldaps://127.0.0.1:{impostor.port}",), ca_file=str(certificates.ca_file),
            budget_seconds=1.0, connect_seconds=0.5,
        )  # fmt: skip

    return build


def done(data: bytes, code: int = 0, control: bytes = b"") -> bytes:
    operation = ber(0x65, ber(0x0A, code.to_bytes(2, "big") if code > 127 else bytes([code])), ber(4), ber(4))
    return ber(0x30, message_id(data), operation, control)


def done_control(*parts: bytes) -> bytes:
    return ber(0xA0, ber(0x30, ber(4, b"1.3.6.1.4.1.4203.1.9.1.3"), ber(4, ber(0x30, *parts))))


GOOD_BYE = ber(
    0x30, ber(2, b"\0"), ber(0x78, ber(0x0A, b"\x34"), ber(4), ber(4), ber(0x8A, b"1.3.6.1.4.1.1466.20036"))
)
ENDINGS = {
    "no-control": lambda data: done(data),
    "empty": lambda data: done(data, control=done_control()),
    "empty-with-cookie": lambda data: done(data, control=done_control(ber(4, b"rid=000"))),
    "size-limit": lambda data: done(data, 4, done_control(ber(1, b"\xff"))),
    "time-limit": lambda data: done(data, 3),
    "referral": lambda data: done(data, 10),
    "always-begin-anew": lambda data: done(data, 4096),
    "good-bye": lambda _: GOOD_BYE,
    "other-message": lambda data: ber(0x30, ber(2, b"\x7f\x01"), ber(0x65, ber(10, b"\0"), ber(4), ber(4))),
    "hangs-up": lambda _: None,
    "silence": lambda _: b"",
    "bind-answer": lambda data: result(data, 0x61),
    "noise": lambda _: b"\xff" * 100,
    "entry-without-state": lambda data: ber(0x30, message_id(data), ber(0x64, ber(4, b"o=x"), ber(0x30))),
}


@pytest.mark.parametrize("answer", ENDINGS.values(), ids=ENDINGS.keys())
@pytest.mark.parametrize(
    "cookie", [b"", b"rid=000,csn=19990101000000.000000Z#000000#000#000000"], ids=["none", "old"]
)
def test_answer_that_is_not_whole_never_ends_a_reading(
    impostor_reader, certificates, monkeypatch, answer, cookie
):
    monkeypatch.setattr("directory.openldap.SILENCE_SECONDS", 0.5)

    def talk(data: bytes) -> bytes | None:
        return answer(data) if b"1.3.6.1.4.1.4203.1.9.1.1" in data else result(data, 0x61)

    with Impostor(talk, certificates=certificates) as liar:
        reading = impostor_reader(liar).poll(cookie)

        with pytest.raises(DirectoryError):
            list(reading)
        with pytest.raises(DirectoryError):
            reading.ending()


def test_server_that_asks_to_begin_anew_is_asked_without_the_cookie(impostor_reader, certificates):
    state = ber(0x30, ber(0x0A, b"\1"), ber(4, bytes(16)))
    control = ber(0xA0, ber(0x30, ber(4, b"1.3.6.1.4.1.4203.1.9.1.2"), ber(4, state)))
    entry = ber(0x64, ber(4, b"o=x"), ber(0x30))

    def talk(data: bytes) -> bytes:
        if b"1.3.6.1.4.1.4203.1.9.1.1" not in data:
            return result(data, 0x61)
        if b"rid=" in data:
            return done(data, 4096)
        return ber(0x30, message_id(data), entry, control) + done(
            data, control=done_control(ber(4, b"rid=000"))
        )

    with Impostor(talk, certificates=certificates) as strict:
        reader = impostor_reader(strict)
        changes, ending = consume(reader.poll(b"rid=000,csn=19990101000000.000000Z#000000#000#000000"))

    assert [item.entry_id for item in changes] == ["00000000-0000-0000-0000-000000000000"]
    assert ending.completeness is Completeness.COMPLETE
