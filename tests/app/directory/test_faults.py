"""What breaks while a directory is read: servers, certificates, bytes. Nothing of it may end as a whole reading."""

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.demo import slapd, testca
from directory import syncrepl
from directory.changes import Completeness, Gone, Kind, Seen
from directory.entries import build_person
from directory.errors import DirectoryError, UnavailableReason
from directory.openldap import SyncReader
from directory.service import Accepted, Directory, Found, Unavailable
from tests.app.directory.secretariat import (
    BASE,
    GENEVA,
    SERVICE_PASSWORD,
    Impostor,
    ber,
    change,
    frozen,
    message_id,
    password_of,
    result,
    secretariat,
    source_of,
    within,
)

PEOPLE = 4000  # enough that a reading fills every buffer between the server and us
COOKIE = b"rid=000,csn=20260101000000.000000Z#000000#000#000000"


@pytest.fixture
def read() -> Iterator[Callable[..., SyncReader]]:
    made: list[SyncReader] = []

    def build(server: slapd.Server, **changes: object) -> SyncReader:
        made.append(SyncReader(source_of(server, **changes)))
        return made[-1]

    yield build
    for reader in made:
        reader.close()


@pytest.fixture
def crowd(tmp_path) -> Iterator[slapd.Server]:
    """A server with many people."""
    people = "\n".join(
        f"dn: uid=c{number},{GENEVA}\nobjectClass: inetOrgPerson\nuid: c{number}\ncn: c\nsn: {'s' * 200}\n"
        for number in range(PEOPLE)
    )
    more = tmp_path / "crowd.ldif"
    more.write_text(people)
    with secretariat(more_ldif=(more,)) as server:
        yield server


def consume(reading) -> tuple[list, object]:
    changes = list(reading)
    return changes, reading.ending()


# -- in the middle of a reading --------------------------------------------------------------------------------------


def test_server_killed_in_the_middle_of_a_reading_ends_nothing(crowd, read):
    reading = read(crowd).full()
    iterator = iter(reading)
    for _ in range(10):
        next(iterator)
    os.kill(crowd.pid, signal.SIGKILL)

    with pytest.raises(DirectoryError) as error:
        for _ in iterator:
            pass

    assert error.value.reason is UnavailableReason.UNREACHABLE
    with pytest.raises(DirectoryError):
        reading.ending()


def test_server_frozen_in_the_middle_of_a_reading_is_a_timeout(crowd, read, monkeypatch):
    monkeypatch.setattr("directory.openldap.SILENCE_SECONDS", 0.5)
    reading = read(crowd).full()
    iterator = iter(reading)
    next(iterator)

    with frozen(crowd), within(5), pytest.raises(DirectoryError) as error:
        for _ in iterator:
            pass

    assert error.value.reason is UnavailableReason.TIMEOUT
    with pytest.raises(DirectoryError):
        reading.ending()


def test_reading_that_the_consumer_leaves_costs_no_later_one(crowd, read):
    reader = read(crowd)
    iterator = iter(reader.full())
    next(iterator)
    iterator.close()

    changes, ending = consume(reader.full())

    assert len(changes) > PEOPLE
    assert ending.completeness is Completeness.COMPLETE


def test_killed_follower_resumes_with_its_cookie_without_loss(crowd, read):
    stop = threading.Event()
    reader = read(crowd)
    stream = reader.follow(b"", stop)
    _, before = consume(next(stream))
    crowd.kill()
    with pytest.raises(DirectoryError):
        consume(next(stream))
    crowd.start()
    change(crowd, f"dn: uid=c1,{GENEVA}\nchangetype: delete\n")
    change(crowd, f"dn: uid=c2,{GENEVA}\nchangetype: modify\nreplace: title\ntitle: x\n")

    again = read(crowd).follow(before.cookie, stop)
    changes, ending = consume(next(again))
    again.close()

    assert {type(item) for item in changes} == {Gone, Seen} or ending.completeness is Completeness.PRESENT
    assert any(isinstance(item, Seen) and item.raw.dn.startswith(b"uid=c2,") for item in changes)


def test_backlog_of_a_slow_follower_is_whole(crowd, read):
    stop = threading.Event()
    stream = read(crowd).follow(b"", stop)
    _, before = consume(next(stream))
    change(crowd, "\n".join(f"dn: uid=c{n},{GENEVA}\nchangetype: delete\n" for n in range(1000)))

    gone: set[str] = set()
    with within(20):
        while len(gone) < 1000:
            changes, ending = consume(next(stream))
            gone |= {item.entry_id for item in changes if isinstance(item, Gone)}
    stop.set()
    stream.close()

    assert ending.cookie > before.cookie


# -- certificates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flaw", [testca.Flaw.WRONG_NAME, testca.Flaw.EXPIRED, testca.Flaw.UNKNOWN_CA])
@pytest.mark.parametrize("kind", ["ldaps", "starttls"])
def test_reader_sends_nothing_to_a_server_with_a_flawed_certificate(read, flaw, kind):
    with secretariat(flaw, log="stats") as liar:
        reader = read(liar, urls=(liar.url if kind == "ldaps" else liar.starttls_url,))
        for reading in (reader.full(), reader.poll(COOKIE)):
            with pytest.raises(DirectoryError) as error:
                list(reading)
            assert error.value.reason is UnavailableReason.TLS
        with pytest.raises(DirectoryError):
            next(reader.follow(b"", threading.Event()))
        liar.stop()

        assert "BIND" not in liar.log_file.read_text()


def test_certificate_swapped_while_following_stops_the_next_connection(own_server, connect, read, tmp_path):
    """The stream of before goes on (its peer was checked); every new connection is refused, for reading and sign-in."""
    directory = connect(source_of(own_server))
    person = directory.find("alice").person
    reader = read(own_server)
    _, before = consume(reader.full())
    own_server.stop()
    other = testca.make(tmp_path / "other")
    own_server.certificate_file, own_server.key_file = other.certificate_file, other.key_file
    own_server.prepare()
    own_server.start()

    with pytest.raises(DirectoryError) as error:
        list(reader.poll(before.cookie))
    assert error.value.reason is UnavailableReason.TLS
    assert directory.verify(person, password_of("alice")) == Unavailable(UnavailableReason.TLS)
    assert directory.find("alice") == Unavailable(UnavailableReason.TLS)

    shutil.copy(other.ca_file, own_server.ca_file)
    assert isinstance(directory.verify(person, password_of("alice")), Accepted)
    assert consume(reader.poll(before.cookie))[0] == []


# -- what is in the entries ------------------------------------------------------------------------------------------


def test_attribute_of_ten_megabytes_is_read_and_cut_where_it_is_shown(tmp_path, read, connect):
    big = tmp_path / "big.ldif"
    big.write_text(
        f"dn: uid=big,{GENEVA}\nobjectClass: inetOrgPerson\nuid: big\ncn: b\nsn: b\ndisplayName: {'n' * 10_000_000}\n"
    )
    with secretariat(more_ldif=(big,)) as server:
        with within(20):
            changes, ending = consume(read(server).full())
        entry = next(item for item in changes if item.raw.dn.startswith(b"uid=big,"))

        assert len(entry.raw.attributes["displayname"][0]) == 10_000_000
        assert len(build_person(source_of(server), entry.raw).name_latin) == 200
        assert ending.completeness is Completeness.COMPLETE
        # At sign-in nobody waits for ten megabytes: that is no answer of a directory.
        directory = connect(source_of(server))
        assert directory.find("big") == Unavailable(UnavailableReason.NONSENSE)
        assert isinstance(directory.find("alice"), Found)


ODD_NAMES = {
    "nfd": "uid=Zoe\u0301",
    "comma": "cn=Haddad\\, Zoe",
    "hash": "cn=\\#tag",
    "hash-inside": "cn=London #2",
    "mixed-case": "UID=MiXeD",
    "plus": "cn=a+uid=b",
    "equals": "cn=a\\=b",
    "quote": 'cn=a\\"b',
    "backslash": "cn=a\\\\b",
    "arabic": "uid=فاطمة",
    "spaces": "cn=a  b",
    "angle": "cn=a\\<b\\>",
}


def test_names_of_every_spelling_are_read_and_found_again(own_server, read):
    for number, rdn in enumerate(ODD_NAMES.values()):
        change(own_server, f"dn: {rdn},{GENEVA}\nchangetype: add\nobjectClass: inetOrgPerson\nsn: odd\ncn: odd{number}\n"
                           f"uid: odd{number}\n")  # fmt: skip
    reader = read(own_server)

    changes, _ = consume(reader.full())

    odd = [item for item in changes if item.raw.attributes.get("sn") == (b"odd",)]
    assert len(odd) == len(ODD_NAMES)
    assert {item.kind for item in odd} == {Kind.PERSON}
    people = [build_person(reader.source, item.raw) for item in odd]
    assert all(person.ou_path == ("Geneva", "Offices") for person in people)
    assert reader.lookup([item.entry_id for item in odd]) == {item.entry_id for item in odd}


INJECTIONS = [
    "*",
    "*)(uid=*",
    "a)(|(uid=*",
    "\\2a",
    "a\0b",
    "(",
    ")",
    "\\",
    "uid=*",
    "*)(objectClass=*))(&(uid=x",
]


@pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
def test_a22_text_in_a_filter_means_itself(directory, server, read, text):
    assert not isinstance(directory.find(text), Found)
    assert not isinstance(directory.read("hq", text), Found)
    assert read(server).lookup([text]) == frozenset()


# -- referrals and references ------------------------------------------------------------------------------------------


def test_a25_no_referral_is_followed_by_reading_or_sign_in(server, read, connect, tmp_path):
    """Another server, named in a referral and in a reference, hears nothing."""
    certificates = testca.make(tmp_path)
    with Impostor() as elsewhere:
        url = f"ldap://127.0.0.1:{elsewhere.port}/{BASE}".encode()

        def answer(data: bytes) -> bytes:
            if syncrepl.REQUEST_CONTROL.encode() in data:
                reference = ber(0x30, message_id(data), ber(0x73, ber(4, url)))
                return reference + _refer(data, url)
            return result(data, 0x61) if b"sign-in" in data else _refer(data, url)

        with Impostor(answer, certificates=certificates) as referring:
            changes = {"urls": (f"ldaps://127.0.0.1:{referring.port}",), "ca_file": str(certificates.ca_file)}
            with pytest.raises(DirectoryError):
                list(read(server, **changes).full())
            assert isinstance(connect(source_of(server, **changes)).find("alice"), Unavailable)

        assert elsewhere.connections == 0
        assert not elsewhere.heard


def _refer(data: bytes, url: bytes) -> bytes:
    return ber(0x30, message_id(data), ber(0x65, ber(10, b"\x0a"), ber(4), ber(4), ber(0xA3, ber(4, url))))


# -- bytes -------------------------------------------------------------------------------------------------------------

_state = ber(0x30, ber(0x0A, b"\1"), ber(4, bytes(range(16))))
_CONTROL = ber(0xA0, ber(0x30, ber(4, syncrepl.STATE_CONTROL.encode()), ber(4, _state)))
_DONE = ber(0xA0, ber(0x30, ber(4, syncrepl.DONE_CONTROL.encode()), ber(4, ber(0x30, ber(4, COOKIE)))))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return testca.make(tmp_path_factory.mktemp("impostor"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_answers_raise_our_error_and_no_other(server, certificates, monkeypatch, data):
    """Up to three bytes of a good answer are changed, inserted or lost: whatever comes of it, nothing else is raised."""
    monkeypatch.setattr("directory.openldap.SILENCE_SECONDS", 0.2)
    places = data.draw(
        st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255), st.sampled_from("cil")), max_size=3)
    )

    def answer(request: bytes) -> bytes:
        if syncrepl.REQUEST_CONTROL.encode() not in request:
            return result(request, 0x61)
        number = message_id(request)
        entries = b"".join(
            ber(0x30, number, ber(0x64, ber(4, f"uid=p{n},o=x".encode()), ber(0x30)), _CONTROL)
            for n in range(3)
        )
        done = ber(0x30, number, ber(0x65, ber(10, b"\0"), ber(4), ber(4)), _DONE)
        whole = bytearray(entries + done)
        for place, byte, act in places:
            at = place % len(whole)
            if act == "c":
                whole[at] = byte
            elif act == "i":
                whole.insert(at, byte)
            else:
                del whole[at]
        return bytes(whole)

    with Impostor(answer, certificates=certificates) as liar:
        reader = SyncReader(
            source_of(server, urls=(f"ldaps://127.0.0.1:{liar.port}",), ca_file=str(certificates.ca_file),
                      budget_seconds=1.0, connect_seconds=0.5)
        )  # fmt: skip
        try:
            changes, _ = consume(reader.poll(COOKIE))
        except DirectoryError:
            return
        finally:
            reader.close()
        assert len(changes) <= 3


def test_stream_of_garbage_that_never_ends_is_stopped(server, certificates, read):
    def flood(connection: socket.socket) -> None:
        request = connection.recv(4096)
        connection.sendall(result(request, 0x61))
        request = connection.recv(4096)
        entry = ber(0x30, message_id(request), ber(0x64, ber(4, b"o=x"), ber(0x30)), _CONTROL)
        for _ in range(20_000):
            connection.sendall(entry)
        connection.sendall(b"\x30\x84\x7f\xff\xff\xff" + bytes(1000))
        time.sleep(2)

    with Impostor(talk=flood, certificates=certificates) as liar:
        reading = read(
            server, urls=(f"ldaps://127.0.0.1:{liar.port}",), ca_file=str(certificates.ca_file)
        ).full()

        with pytest.raises(DirectoryError) as error:
            list(reading)

        assert error.value.reason is UnavailableReason.NONSENSE


GOOD_BYE = ber(
    0x30, ber(2, b"\0"), ber(0x78, ber(0x0A, b"\x34"), ber(4), ber(4), ber(0x8A, b"1.3.6.1.4.1.1466.20036"))
)
INTERRUPTIONS = {
    "good-bye": (lambda _: GOOD_BYE, UnavailableReason.UNREACHABLE),
    "other-message": (
        lambda data: ber(0x30, ber(2, b"\x7e"), ber(0x65, ber(10, b"\0"), ber(4), ber(4))),
        UnavailableReason.NONSENSE,
    ),
    "bind-answer": (lambda data: result(data, 0x61), UnavailableReason.NONSENSE),
    "cut": (lambda data: result(data, 0x65)[:-3], UnavailableReason.TIMEOUT),
}


@pytest.mark.parametrize(("interruption", "reason"), INTERRUPTIONS.values(), ids=INTERRUPTIONS.keys())
def test_reading_that_is_interrupted_after_some_entries_ends_nothing(
    server, certificates, read, monkeypatch, interruption, reason
):
    monkeypatch.setattr("directory.openldap.SILENCE_SECONDS", 0.5)

    def answer(data: bytes) -> bytes:
        if syncrepl.REQUEST_CONTROL.encode() not in data:
            return result(data, 0x61)
        entry = ber(0x30, message_id(data), ber(0x64, ber(4, b"o=x"), ber(0x30)), _CONTROL)
        return entry * 3 + interruption(data)

    with Impostor(answer, certificates=certificates) as liar:
        reading = read(
            server, urls=(f"ldaps://127.0.0.1:{liar.port}",), ca_file=str(certificates.ca_file)
        ).full()
        iterator = iter(reading)
        for _ in range(3):
            next(iterator)

        with pytest.raises(DirectoryError) as error:
            next(iterator)

        assert error.value.reason is reason
        with pytest.raises(DirectoryError):
            reading.ending()


# -- both at once --------------------------------------------------------------------------------------------------------


def test_people_sign_in_at_the_replica_while_the_provider_is_read_frozen_and_killed(read):
    with secretariat() as provider, secretariat(provider=provider) as replica:
        both = provider.folder.parent / "both.pem"
        both.write_text(provider.ca_file.read_text() + replica.ca_file.read_text())
        directory = Directory([source_of(provider, urls=(provider.url, replica.url), ca_file=str(both))])
        reader = read(provider, urls=(provider.url, replica.url), ca_file=str(both))
        try:
            alone = Directory([source_of(replica)])
            ends = time.monotonic() + 15
            while not isinstance(alone.find("alice"), Found) and time.monotonic() < ends:
                time.sleep(0.1)
            alone.close()
            _, before = consume(reader.full())
            os.kill(provider.pid, signal.SIGSTOP)
            found = directory.find("alice")
            assert isinstance(found, Found)
            assert isinstance(directory.verify(found.person, password_of("alice")), Accepted)
            os.kill(provider.pid, signal.SIGKILL)

            # The cookie of the provider is good at the replica: nothing is read anew.
            changes, ending = consume(reader.poll(before.cookie))

            assert (changes, ending.completeness) == ([], Completeness.CHANGES)
            assert isinstance(directory.verify(found.person, password_of("alice")), Accepted)
        finally:
            directory.close()


def test_service_password_is_in_no_log(own_server, connect, read, caplog):
    caplog.set_level("DEBUG")
    directory, reader = connect(source_of(own_server)), read(own_server)
    person = directory.find("alice").person
    directory.verify(person, password_of("alice"))
    consume(reader.full())
    own_server.kill()
    directory.verify(person, password_of("alice"))
    with pytest.raises(DirectoryError):
        list(reader.full())

    assert caplog.text
    assert SERVICE_PASSWORD not in caplog.text
    assert password_of("alice") not in caplog.text
