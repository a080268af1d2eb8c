"""How connections are kept, thrown away and found again; and the face over the settings."""

import itertools
import multiprocessing
import socket
import ssl
import time

import pytest

from deploy.demo import testca
from directory import channel, service
from directory import wire as wires
from directory.budget import Budget
from directory.config import AttributeNames
from directory.errors import DirectoryError
from directory.servers import Purpose
from directory.service import Accepted, Ambiguous, Found, Rejected, Unavailable, UnavailableReason, Unknown
from directory.wire import Wire
from tests.app.directory.secretariat import (
    SERVICE,
    SERVICE_PASSWORD,
    Impostor,
    ber,
    change,
    message_id,
    password_of,
    result,
    source_of,
)

GOOD_BYE = ber(
    0x30, ber(2, b"\0"), ber(0x78, ber(0x0A, b"\x34"), ber(4), ber(4), ber(0x8A, b"1.3.6.1.4.1.1466.20036"))
)


def kept(directory, purpose: Purpose) -> list[Wire]:
    return [
        wire
        for (_, kind), wires in directory._gateways["hq"]._kept.items()
        if kind is purpose
        for wire in wires
    ]


@pytest.fixture
def wire(server):
    source = source_of(server)
    context = channel.build_context(source.ca_file)
    wire = Wire(source, source.servers[0], context, Budget.start(3))
    yield wire
    wire.close()


# -- what no caller may do --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dn", "password"),
    [("", b"x"), (" ", b"x"), ("cn=a\0", b"x"), (SERVICE, b""), (SERVICE, b"  "), (SERVICE, b"a\0b")],
)
def test_bind_that_would_be_anonymous_is_not_sent(wire, dn, password):
    with pytest.raises(ValueError, match="as nobody"):
        wire.bind(dn, password, Budget.start(1))


def test_bind_over_an_unprotected_socket_is_not_sent(wire):
    ours, theirs = socket.socketpair()
    protected, wire._channel.plain = wire._channel.plain, ours

    with pytest.raises(AssertionError, match="certificate"):
        wire.bind(SERVICE, b"x", Budget.start(1))
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    ours.close()
    theirs.close()
    protected.close()


def test_connection_that_has_ended_is_not_opened_again_by_ldap3(wire):
    # ldap3 reopens inside bind(), without TLS: the password would be sent in clear.
    wire.close()

    with pytest.raises(DirectoryError):
        wire.bind(SERVICE, SERVICE_PASSWORD.encode(), Budget.start(1))


def test_context_checks_names_and_certificates_and_forbids_old_versions(server):
    context = channel.build_context(str(server.ca_file))

    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


# -- kept connections -------------------------------------------------------------------------------------------


def test_connections_for_searching_and_for_passwords_are_kept_apart(directory):
    person = directory.find("alice").person
    directory.verify(person, password_of("alice"))
    searching, judging = kept(directory, Purpose.SEARCH), kept(directory, Purpose.JUDGE)

    for _ in range(3):
        directory.find("karim")
        directory.verify(person, "wrong")

    assert len(searching) == len(judging) == 1
    assert kept(directory, Purpose.SEARCH) == searching
    assert kept(directory, Purpose.JUDGE) == judging


@pytest.mark.parametrize(
    ("field", "age"), [("used", wires.KEPT_IDLE_SECONDS), ("opened", wires.KEPT_LIFE_SECONDS)]
)
def test_connection_that_is_too_old_is_replaced(directory, field, age):
    directory.find("alice")
    [old] = kept(directory, Purpose.SEARCH)
    setattr(old, field, time.monotonic() - age - 1)

    assert isinstance(directory.find("alice"), Found)
    assert kept(directory, Purpose.SEARCH) != [old]


def test_no_more_connections_are_kept_than_configured(server, connect):
    directory = connect(source_of(server, kept_connections_max=0))

    assert isinstance(directory.find("alice"), Found)
    assert kept(directory, Purpose.SEARCH) == []


def test_new_file_of_authorities_is_read_without_a_restart(server, connect, tmp_path):
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(testca.make(tmp_path / "other").ca_file.read_text())
    directory = connect(source_of(server, ca_file=str(ca_file)))
    before = directory.find("alice")

    ca_file.write_text(server.ca_file.read_text() + "\n")
    after = directory.find("alice")
    ca_file.write_text("no certificate")
    directory.close()
    broken = directory.find("alice")

    assert before == broken == Unavailable(UnavailableReason.TLS)
    assert isinstance(after, Found)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return testca.make(tmp_path_factory.mktemp("impostor"))


def impostor_directory(connect, server, impostor, certificates, **changes):
    address = f"ldaps://127.0.0.1:{impostor.port}"
    return connect(source_of(server, urls=(address,), ca_file=str(certificates.ca_file), **changes))


def test_server_that_ends_a_kept_connection_at_the_next_question_is_asked_once_more(
    server, connect, certificates
):
    numbers = itertools.count()

    def answer(data: bytes) -> bytes | None:
        return None if next(numbers) == 1 else result(data, 0x61, 49)

    person = connect(source_of(server)).find("alice").person
    with Impostor(answer, certificates=certificates) as fickle:
        directory = impostor_directory(connect, server, fickle, certificates)

        assert directory.verify(person, "wrong") == Rejected()
        assert directory.verify(person, "wrong") == Rejected()
        assert fickle.connections == 2


def test_server_that_always_hangs_up_is_asked_once_more_and_no_further(server, connect, certificates):
    numbers = itertools.count()

    def answer(data: bytes) -> bytes | None:
        return result(data, 0x61, 49) if next(numbers) == 0 else None

    person = connect(source_of(server)).find("alice").person
    with Impostor(answer, certificates=certificates) as rude:
        directory = impostor_directory(connect, server, rude, certificates)
        directory.verify(person, "wrong")

        assert directory.verify(person, "wrong") == Unavailable(UnavailableReason.UNREACHABLE)
        assert rude.connections == 2


def test_server_that_says_good_bye_is_unreachable(server, connect, certificates):
    with Impostor(lambda _: GOOD_BYE, certificates=certificates) as polite:
        directory = impostor_directory(connect, server, polite, certificates)

        assert directory.find("alice") == Unavailable(UnavailableReason.UNREACHABLE)


def test_bytes_that_nobody_asked_for_end_a_kept_connection(server, connect, certificates):
    # An answer sent ahead must not be there when the next person's password is tried.
    def answer(data: bytes) -> bytes:
        ahead = int.from_bytes(message_id(data)[2:], "big") + 1
        success = ber(0x30, ber(2, ahead.to_bytes(4, "big")), ber(0x61, ber(0x0A, b"\0"), ber(4), ber(4)))
        return result(data, 0x61, 49) + success

    person = connect(source_of(server)).find("alice").person
    with Impostor(answer, certificates=certificates) as hasty:
        directory = impostor_directory(connect, server, hasty, certificates)

        assert [directory.verify(person, "wrong") for _ in range(3)] == [Rejected()] * 3
        assert hasty.connections == 3


@pytest.mark.parametrize(
    ("code", "reason"), [(3, "timeout"), (4, "refused"), (11, "refused"), (50, "refused")]
)
def test_search_that_is_not_whole_is_unavailable(server, connect, certificates, code, reason):
    def answer(data: bytes) -> bytes:
        return result(data, 0x65, code) if b"uid" in data else result(data, 0x61)

    with Impostor(answer, certificates=certificates) as limited:
        directory = impostor_directory(connect, server, limited, certificates)

        assert directory.find("alice") == Unavailable(UnavailableReason(reason))


def test_references_among_the_entries_are_passed_over(server, connect, certificates):
    def answer(data: bytes) -> bytes:
        if b"uid" not in data:
            return result(data, 0x61)
        reference = ber(0x30, message_id(data), ber(0x73, ber(4, b"ldap://192.0.2.1/dc=elsewhere??sub")))
        return reference + result(data, 0x65)

    with Impostor(answer, certificates=certificates) as referring:
        directory = impostor_directory(connect, server, referring, certificates)

        assert directory.find("alice") == Unknown()


def test_two_entries_with_one_immutable_id_are_nonsense(server, connect):
    directory = connect(
        source_of(server, entry_id_attribute="sn", attributes=AttributeNames(login=("cn",)),
                  user_filter="(&(objectClass=inetOrgPerson)(uid={login}))")
    )  # fmt: skip

    assert directory.read("hq", "twin") == Unavailable(UnavailableReason.NONSENSE)


def test_decoy_is_tried_for_an_unknown_name_and_never_accepted(own_server, connect):
    decoy = connect(source_of(own_server)).find("omar").person.dn
    directory = connect(source_of(own_server, decoy_dn=decoy))

    assert directory.verify(None, password_of("omar")) == Rejected()


def test_more_namesakes_than_are_counted_are_ambiguous(own_server, connect):
    for number in range(service.NAMESAKES_MAX + 3):
        change(own_server, f"dn: cn=n{number},ou=Cabinet,ou=Headquarters,{own_server.base_dn}\nchangetype: add\n"
                           f"objectClass: inetOrgPerson\ncn: n{number}\nsn: n\nuid: many\n")  # fmt: skip

    assert connect(source_of(own_server)).find("many") == Ambiguous(service.NAMESAKES_MAX)


def test_two_directories_of_one_name_are_refused(server):
    with pytest.raises(ValueError, match="same name"):
        service.Directory([source_of(server), source_of(server)])


# -- the face over the settings ------------------------------------------------------------------------------------


@pytest.fixture
def installed(server, settings):
    settings.DIRECTORY_SOURCES = (source_of(server),)
    yield
    service.installed().close()


@pytest.mark.usefixtures("installed", "db")
def test_face_finds_tries_and_reads_with_the_settings():
    answer = service.find("alice")

    assert isinstance(answer, Found)
    assert isinstance(service.verify(answer.person, password_of("alice")), Accepted)
    assert service.verify(None, "anything") == Rejected()
    assert service.read("hq", answer.person.entry_uuid) == answer
    assert service.installed() is service.installed()


@pytest.mark.usefixtures("installed")
def test_face_follows_changed_settings(settings):
    before = service.installed()
    settings.DIRECTORY_SOURCES = ()

    assert service.installed() is not before
    assert service.find("alice") == Unavailable(UnavailableReason.UNREACHABLE)


def _ask_in_a_child(queue) -> None:
    answer = service.installed().find("alice", with_groups=False)
    queue.put(answer.person.login if isinstance(answer, Found) else repr(answer))


@pytest.mark.usefixtures("installed")
def test_face_does_not_take_connections_over_a_fork():
    assert isinstance(service.installed().find("alice"), Found)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    child = context.Process(target=_ask_in_a_child, args=(queue,))
    child.start()
    child.join(10)

    assert queue.get() == "alice"
    assert isinstance(service.installed().find("alice"), Found)
