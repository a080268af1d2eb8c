"""A directory that is down, slow, limited, lying or talking nonsense: never "wrong password", never a pass."""

import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.demo import slapd, testca
from directory.budget import Budget
from directory.service import Accepted, Directory, Found, Rejected, Unavailable, UnavailableReason, Unknown
from tests.app.directory.secretariat import (
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

NOBODY_LISTENS = "ldaps://127.0.0.1:1"
KINDS = ["ldaps", "starttls"]


@pytest.fixture(scope="module")
def alice(server):
    """Find the person whose password the broken servers are asked about."""
    directory = Directory([source_of(server)])
    answer = directory.find("alice")
    directory.close()
    assert isinstance(answer, Found)
    return answer.person


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return testca.make(tmp_path_factory.mktemp("impostor"))


def url_of(server: slapd.Server, kind: str) -> str:
    return server.url if kind == "ldaps" else server.starttls_url


def reasons(directory: Directory, person) -> tuple[object, ...]:
    """Return what finding, trying a right password and trying nobody's give."""
    return tuple(
        answer.reason if isinstance(answer, Unavailable) else answer
        for answer in (
            directory.find("alice"),
            directory.verify(person, password_of("alice")),
            directory.verify(None, "anything"),
        )
    )


# -- certificates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flaw", [testca.Flaw.WRONG_NAME, testca.Flaw.EXPIRED, testca.Flaw.UNKNOWN_CA])
def test_flawed_certificate_is_unavailable_and_no_password_is_sent(connect, alice, flaw):
    with secretariat(flaw, log="stats") as liar:
        for kind in KINDS:
            directory = connect(source_of(liar, urls=(url_of(liar, kind),)))

            assert reasons(directory, alice) == (UnavailableReason.TLS,) * 3

        liar.stop()
        log = liar.log_file.read_text()
        assert "ACCEPT from" in log
        assert "BIND" not in log


def test_good_certificate_lets_the_bind_through_as_that_log_would_show(connect):
    with secretariat(log="stats") as honest:
        assert isinstance(connect(source_of(honest)).find("alice"), Found)
        honest.stop()

        assert "BIND dn=" in honest.log_file.read_text()


def test_certificate_for_the_address_does_not_serve_another_name(server, connect, alice, monkeypatch):
    # The same server by a name that is not in its certificate.
    directory = connect(source_of(server, urls=(f"ldaps://ip6-localhost.localdomain:{server.port}",)))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", server.port))])

    assert reasons(directory, alice) == (UnavailableReason.TLS,) * 3


def test_missing_file_of_authorities_is_unavailable(server, connect, alice):
    directory = connect(source_of(server, ca_file="/nowhere/ca.pem"))

    assert reasons(directory, alice) == (UnavailableReason.TLS,) * 3


def test_private_authority_is_not_trusted_without_its_file(server, connect, alice):
    directory = connect(source_of(server, ca_file=""))

    assert reasons(directory, alice) == (UnavailableReason.TLS,) * 3


def test_old_tls_version_is_refused(connect, server, alice, tmp_path):
    with Impostor(certificates=testca.make(tmp_path), versions_max="TLSv1_1") as old:
        directory = connect(
            source_of(server, urls=(f"ldaps://127.0.0.1:{old.port}",), ca_file=str(tmp_path / "ca.pem"))
        )

        assert reasons(directory, alice) == (UnavailableReason.TLS,) * 3


@pytest.mark.parametrize("code", [1, 2, 52, 53], ids=str)
def test_starttls_that_is_refused_is_unavailable_and_nothing_more_is_sent(connect, server, alice, code):
    with Impostor(lambda data: result(data, 0x78, code)) as stripper:
        directory = connect(source_of(server, urls=(f"ldap://127.0.0.1:{stripper.port}",)))

        assert reasons(directory, alice) == (UnavailableReason.TLS,) * 3
        assert b"1.3.6.1.4.1.1466.20037" in stripper.heard
        assert password_of("alice").encode() not in stripper.heard
        assert b"anything" not in stripper.heard
        assert b"service-of-the-tests" not in stripper.heard


def test_starttls_that_is_granted_and_then_not_spoken_is_unavailable(connect, server, alice):
    with Impostor(lambda data: result(data, 0x78) if data[0] == 0x30 else b"hello, no TLS here\r\n") as liar:
        directory = connect(source_of(server, urls=(f"ldap://127.0.0.1:{liar.port}",)))

        assert reasons(directory, alice) == (UnavailableReason.TLS,) * 3
        assert password_of("alice").encode() not in liar.heard


def test_answer_smuggled_in_before_starttls_is_not_taken_for_the_binds(connect, server, alice, certificates):
    # Whoever sits between may write clear text up to the handshake, and then let the real server go on.
    def smuggle(connection: socket.socket) -> None:
        request = connection.recv(4096)
        bind = int.from_bytes(message_id(request)[2:], "big") + 1
        success = ber(0x30, ber(2, bind.to_bytes(4, "big")), ber(0x61, ber(0x0A, b"\0"), ber(4), ber(4)))
        connection.sendall(result(request, 0x78) + success)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certificate_file, certificates.key_file)
        with context.wrap_socket(connection, server_side=True) as protected:
            protected.recv(4096)

    with Impostor(talk=smuggle) as liar:
        directory = connect(of_impostor(server, liar, certificates, "starttls", budget_seconds=1.0))

        assert reasons(directory, alice) == (UnavailableReason.TLS,) * 3


# -- stopped, frozen, restarted ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_server_is_unavailable_and_works_again_after_a_restart(own_server, connect, kind):
    directory = connect(source_of(own_server, urls=(url_of(own_server, kind),)))
    answer = directory.find("alice")
    assert isinstance(answer, Found)
    assert isinstance(directory.verify(answer.person, password_of("alice")), Accepted)

    own_server.kill()
    down = reasons(directory, answer.person)
    own_server.start()

    assert down == (UnavailableReason.UNREACHABLE,) * 3
    assert isinstance(directory.find("alice"), Found)
    assert isinstance(directory.verify(answer.person, password_of("alice")), Accepted)


def test_kept_connections_survive_a_restart_that_nobody_noticed(own_server, connect):
    directory = connect(source_of(own_server))
    answer = directory.find("alice")
    directory.verify(answer.person, "wrong")

    own_server.stop()
    own_server.start()

    assert isinstance(directory.verify(answer.person, password_of("alice")), Accepted)
    assert isinstance(directory.find("alice"), Found)


def test_frozen_server_is_a_timeout_within_the_budget_new_and_kept(own_server, connect):
    fresh, kept = connect(source_of(own_server)), connect(source_of(own_server))
    person = kept.find("alice").person
    kept.verify(person, "wrong")

    with frozen(own_server), ThreadPoolExecutor() as pool, within(3.5):
        questions = [
            pool.submit(fresh.find, "alice"),
            pool.submit(fresh.verify, person, password_of("alice")),
            pool.submit(kept.find, "alice"),
            pool.submit(kept.verify, person, password_of("alice")),
            pool.submit(kept.verify, None, "anything"),
        ]
        answers = [question.result() for question in questions]

    assert answers == [Unavailable(UnavailableReason.TIMEOUT)] * 5
    assert isinstance(kept.verify(person, password_of("alice")), Accepted)


def test_one_budget_bounds_finding_and_trying_together(own_server, connect):
    directory = connect(source_of(own_server))
    person = directory.find("alice").person

    with frozen(own_server), within(1.3):
        budget = Budget.start(1.0)
        answers = [
            directory.find("alice", budget=budget),
            directory.verify(person, "right-alice", budget=budget),
        ]

    assert answers == [Unavailable(UnavailableReason.TIMEOUT)] * 2


# -- several servers -------------------------------------------------------------------------------------------


def test_second_server_answers_when_the_first_refuses_the_connection(server, connect, alice):
    directory = connect(source_of(server, urls=(NOBODY_LISTENS, server.url)))

    with within(0.5):
        assert isinstance(directory.find("alice"), Found)
        assert isinstance(directory.verify(alice, password_of("alice")), Accepted)


def test_second_server_answers_within_the_budget_when_the_first_is_frozen_and_is_asked_first_next_time(
    own_server, server, connect, alice
):
    directory = connect(
        source_of(own_server, urls=(own_server.url, server.url), ca_file=_both(own_server, server))
    )

    with frozen(own_server):
        with within(2.5):
            assert isinstance(directory.find("alice"), Found)
        with within(0.3):
            assert isinstance(directory.find("alice"), Found)
            assert isinstance(directory.verify(alice, "wrong"), Rejected)


def test_second_server_is_not_asked_about_a_wrong_password(own_server, connect):
    # The password is right at the second server only: a judgement of the first must stand.
    with secretariat(log="stats") as second:
        directory = connect(
            source_of(own_server, urls=(own_server.url, second.url), ca_file=_both(own_server, second))
        )
        person = directory.find("alice").person
        change(
            own_server, f"dn: {person.dn}\nchangetype: modify\nreplace: userPassword\nuserPassword: other\n"
        )

        assert directory.verify(person, password_of("alice")) == Rejected()

        second.stop()
        assert "BIND dn=" not in second.log_file.read_text()


def test_second_server_is_used_when_the_first_shows_a_flawed_certificate(server, connect):
    with secretariat(testca.Flaw.EXPIRED) as liar:
        directory = connect(source_of(server, urls=(liar.url, server.url)))

        assert isinstance(directory.find("alice"), Found)


def test_many_dead_servers_stay_within_one_budget(server, connect, alice):
    with Impostor() as first, Impostor() as second, Impostor() as third:
        urls = tuple(f"ldaps://127.0.0.1:{silent.port}" for silent in (first, second, third))
        directory = connect(source_of(server, urls=urls, budget_seconds=1.0))

        with within(1.4):
            assert directory.verify(alice, password_of("alice")) == Unavailable(UnavailableReason.TIMEOUT)


def _both(one: slapd.Server, other: slapd.Server) -> str:
    """Write one file with the authorities of two servers."""
    path = one.folder.parent / "both.pem"
    path.write_text(one.ca_file.read_text() + other.ca_file.read_text())
    return str(path)


# -- limits ----------------------------------------------------------------------------------------------------


def test_search_cut_by_the_servers_size_limit_is_unavailable_not_fewer_groups(connect):
    with secretariat(service_size_limit=3) as limited:
        directory = connect(source_of(limited))

        # alice is in three groups at the first level, fatima in two at every level; twin asks for ten and has two
        assert isinstance(directory.find("karim"), Found)
        change(limited, f"dn: cn=extra,ou=groups,{limited.base_dn}\nchangetype: add\nobjectClass: groupOfNames\n"
                        f"cn: extra\nmember: {directory.find('alice', with_groups=False).person.dn}\n")  # fmt: skip

        assert directory.find("alice") == Unavailable(UnavailableReason.REFUSED)


# -- nonsense --------------------------------------------------------------------------------------------------

NO_LDAP = UnavailableReason.NONSENSE
NONSENSE = {
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * 4,
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "short-garbage": b"\x30\x03\x02\x01\x01",
    "wrong-types": ber(0x30, ber(0x04, b"x"), ber(0x61, ber(0x0A, b"\0"))),
    "nested": b"\x30\x80" * 2000,
    "endless-length": b"\x30\x84\xff\xff\xff\xff" + bytes(64),
    "long-length": b"\x30\x89" + bytes(64),
    "no-text": ber(0x30, ber(2, b"\1"), ber(0x61, ber(0x0A, b"\0"), ber(4, b"\xff\xfe"), ber(4, b"\xff"))),
    "unknown-operation": ber(0x30, ber(0x02, b"\1"), ber(0x7E, b"")),
}


def of_impostor(server, impostor, certificates, kind="ldaps", **changes):
    return source_of(
        server, urls=(f"{'ldaps' if kind == 'ldaps' else 'ldap'}://127.0.0.1:{impostor.port}",),
        ca_file=str(certificates.ca_file), **changes,
    )  # fmt: skip


@pytest.mark.parametrize("noise", NONSENSE.values(), ids=NONSENSE.keys())
@pytest.mark.parametrize("kind", ["inside-tls", "instead-of-tls", "starttls"])
def test_nonsense_is_unavailable(server, connect, certificates, alice, noise, kind):
    inside = certificates if kind == "inside-tls" else None
    with Impostor(lambda _: noise, certificates=inside) as talker:
        scheme = "starttls" if kind == "starttls" else "ldaps"
        directory = connect(
            of_impostor(server, talker, certificates, scheme, budget_seconds=0.6, connect_seconds=0.3)
        )

        answers = reasons(directory, alice)

    # TLS itself says what is no TLS, unless it is so short that more may follow.
    expected = {UnavailableReason.TLS, UnavailableReason.TIMEOUT} if kind == "instead-of-tls" else {NO_LDAP}
    assert set(answers) <= expected


ANSWERS = {
    "search-done-for-a-bind": lambda data: result(data, 0x65),
    "extended-for-a-bind": lambda data: result(data, 0x78),
    "add-for-a-bind": lambda data: result(data, 0x69),
    "other-message": lambda data: ber(
        0x30, ber(2, b"\x7f\xff\xff\x01"), ber(0x61, ber(0x0A, b"\0"), ber(4), ber(4))
    ),
    "unknown-result": lambda data: result(data, 0x61, 0x7F),
    "message-zero": lambda data: ber(0x30, ber(2, b"\0"), ber(0x61, ber(0x0A, b"\0"), ber(4), ber(4))),
    "busy": lambda data: result(data, 0x61, 51),
    "operations-error": lambda data: result(data, 0x61, 1),
    "referral": lambda data: result(data, 0x61, 10),
    "sasl-in-progress": lambda data: result(data, 0x61, 14),
    "stronger-needed": lambda data: result(data, 0x61, 8),
    "ends": lambda _: None,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_answer_that_is_no_judgement_is_unavailable(server, connect, certificates, alice, answer):
    with Impostor(answer, certificates=certificates) as liar:
        directory = connect(of_impostor(server, liar, certificates, budget_seconds=1.0))

        assert all(isinstance(found, UnavailableReason) for found in reasons(directory, alice))


def test_bind_accepted_and_search_answered_with_nonsense_is_unavailable(server, connect, certificates, alice):
    def answer(data: bytes) -> bytes:
        return result(
            data, 0x61
        )  # to everything: the person's bind is a success, the reading of the entry is not

    with Impostor(answer, certificates=certificates) as liar:
        directory = connect(of_impostor(server, liar, certificates, budget_seconds=1.0))

        assert directory.verify(alice, password_of("alice")) == Unavailable(UnavailableReason.NONSENSE)


def test_bind_answers_of_a_talking_impostor_are_understood(server, connect, certificates, alice):
    # The control of the tests above: the same hands write an answer that is taken.
    with Impostor(lambda data: result(data, 0x61, 49), certificates=certificates) as honest:
        directory = connect(of_impostor(server, honest, certificates))

        assert directory.verify(alice, "wrong") == Rejected()


def test_search_that_never_ends_is_bounded(server, connect, certificates):
    def answer(data: bytes) -> bytes:
        if b"uid" not in data:
            return result(data, 0x61)
        entry = ber(
            0x64, ber(4, b"uid=x"), ber(0x30, ber(0x30, ber(4, b"cn"), ber(0x31, ber(4, b"v" * 60000))))
        )
        return ber(0x30, message_id(data), entry) * 300

    with Impostor(answer, certificates=certificates) as liar:
        directory = connect(of_impostor(server, liar, certificates))

        with within(3.5):
            found = directory.find("alice")

    assert found == Unavailable(UnavailableReason.NONSENSE)


@pytest.mark.parametrize("kind", KINDS)
def test_socket_that_accepts_and_says_nothing_is_a_timeout(server, connect, certificates, alice, kind):
    with Impostor() as silent:
        directory = connect(
            of_impostor(server, silent, certificates, kind, budget_seconds=0.5, connect_seconds=0.3)
        )

        with within(2.0):
            assert reasons(directory, alice) == (UnavailableReason.TIMEOUT,) * 3


def test_server_that_answers_drop_by_drop_is_a_timeout(server, connect, certificates, alice):
    stop = threading.Event()

    def drip(connection) -> None:
        for byte in b"\x30\x84\x00\x00\xff\xff" + bytes(100):
            if stop.wait(0.1):
                return
            connection.sendall(bytes([byte]))

    with Impostor(certificates=certificates, talk=drip) as slow:
        directory = connect(of_impostor(server, slow, certificates, budget_seconds=0.8, connect_seconds=0.3))

        with within(1.2):
            assert directory.verify(alice, password_of("alice")) == Unavailable(UnavailableReason.TIMEOUT)
        stop.set()


def test_resolver_that_does_not_answer_is_bounded(server, connect, alice, monkeypatch):
    wait = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: wait.wait(5) and [])
    directory = connect(source_of(server, urls=("ldaps://directory.elsewhere.example",)))

    with within(1.5):
        answer = directory.verify(alice, password_of("alice"))
    wait.set()

    assert answer == Unavailable(UnavailableReason.UNREACHABLE)


# -- threads -----------------------------------------------------------------------------------------------------


def test_many_threads_share_the_connections_and_never_each_others_answers(directory):
    logins = ["alice", "fatima", "karim", "omar", "odd", "spacey", "nobody"] * 12

    def sign_in(login: str) -> bool:
        answer = directory.find(login, with_groups=False)
        if login == "nobody":
            return answer == Unknown() and directory.verify(None, "x") == Rejected()
        right = directory.verify(answer.person, password_of(login))
        wrong = directory.verify(answer.person, "wrong")
        return isinstance(right, Accepted) and right.person.login == login and wrong == Rejected()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(sign_in, logins))

    kept = directory._gateways["hq"]._kept
    assert all(len(wires) <= 8 for wires in kept.values())
