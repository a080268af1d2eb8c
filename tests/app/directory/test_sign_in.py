"""Finding people and trying passwords on a real slapd."""

import dataclasses
import statistics
import time
import uuid

import pytest

from directory.service import (
    Accepted,
    AccountStatus,
    Ambiguous,
    Directory,
    Found,
    Person,
    Rejected,
    Unavailable,
    UnavailableReason,
    Unknown,
)
from tests.app.directory.secretariat import BASE, CHAIN, GENEVA, change, password_of, source_of

LOGINS = [
    "alice",
    "fatima",
    "محمد",
    "karim",
    "st*r",
    "par(en)s",
    "back\\slash",
    "#tag",
    "spacey",
    "longpass",
    "odd",
]


def found(directory: Directory, login: str) -> Person:
    answer = directory.find(login)
    assert isinstance(answer, Found), answer
    return answer.person


# -- accepted ----------------------------------------------------------------------------------------------


def test_right_password_over_both_kinds_of_tls_is_accepted(either):
    answer = either.verify(found(either, "alice"), password_of("alice"))

    assert isinstance(answer, Accepted)
    assert answer.person.login == "alice"
    assert answer.person.status is AccountStatus.ACTIVE


@pytest.mark.parametrize("login", LOGINS)
def test_right_password_of_an_unusual_person_is_accepted(directory, login):
    answer = directory.verify(found(directory, login), password_of(login))

    assert isinstance(answer, Accepted)
    assert answer.person.login == login


def test_person_has_names_in_both_scripts_language_units_and_office(directory):
    alice, fatima, karim = (found(directory, login) for login in ("alice", "fatima", "karim"))

    assert (alice.name_latin, alice.name_arabic, alice.language) == ("Alice Dupont", "", "fr")
    assert (alice.email, alice.office_attribute) == ("alice@secretariat.example", "GS")
    assert alice.ou_path == ("Cabinet", "Headquarters")
    assert (fatima.name_latin, fatima.name_arabic) == ("Fatima Zahra Ben Ali", "فاطمة الزهراء بن علي")
    assert karim.ou_path == ("London #2", "Offices")
    assert found(directory, "محمد").name_arabic == "محمد الأمين"
    assert uuid.UUID(alice.entry_uuid)


def test_login_in_other_case_finds_the_same_person_under_the_directorys_spelling(directory):
    assert found(directory, "ALICE").entry_uuid == found(directory, "alice").entry_uuid
    assert found(directory, "ALICE").login == "alice"


@pytest.mark.parametrize("login", ["omar", "sara"])
def test_disabled_person_with_the_right_password_is_accepted_as_disabled(directory, login):
    answer = directory.verify(found(directory, login), password_of(login))

    assert isinstance(answer, Accepted)
    assert answer.person.status is AccountStatus.DISABLED


def test_status_changed_since_the_person_was_found_is_seen_after_the_password(own_server, connect):
    directory = connect(source_of(own_server))
    before = found(directory, "alice")
    change(
        own_server,
        f"dn: {before.dn}\nchangetype: modify\nreplace: orgAccountStatus\norgAccountStatus: disabled\n",
    )

    answer = directory.verify(before, password_of("alice"))

    assert before.status is AccountStatus.ACTIVE
    assert isinstance(answer, Accepted)
    assert answer.person.status is AccountStatus.DISABLED


# -- groups ----------------------------------------------------------------------------------------------


def test_groups_are_closed_over_nesting_and_circles(directory):
    names = {
        login: {group.name for group in found(directory, login).groups}
        for login in ("alice", "karim", "omar")
    }

    assert names["alice"] == {"correspondents", "staff", "circle-1", "circle-2", "circle-3"}
    assert names["karim"] == {"Legal, London", "correspondents", "staff"}
    assert names["omar"] == set()


def test_groups_of_a_long_chain_are_all_found(directory):
    names = {group.name for group in found(directory, "fatima").groups}

    assert names == {"staff"} | {f"chain-{number:03}" for number in range(CHAIN)}


def test_more_groups_than_the_bound_are_unavailable_not_truncated(server, connect):
    directory = connect(source_of(server, groups_max=CHAIN))

    assert directory.find("fatima") == Unavailable(UnavailableReason.REFUSED)
    assert isinstance(directory.find("karim"), Found)


def test_groups_are_left_out_when_nobody_asks_for_them(directory):
    answer = directory.find("alice", with_groups=False)

    assert isinstance(answer, Found)
    assert answer.person.groups == ()


# -- refused ----------------------------------------------------------------------------------------------

BAD_PASSWORDS = {
    "wrong": "right-alicE",
    "empty": "",
    "spaces": "   \t\u00a0\u3000",
    "nul": "right-alice\0",
    "only-nul": "\0",
    "nul-in-front": "\0right-alice",
    "ten-megabytes": "x" * 10_000_000,
    "1025": "x" * 1025,
    "surrogate": "\ud800",
    "trailing-space": "right-alice ",
    "arabic": "كلمة",
    "star": "*",
    "scheme": "{SSHA}AAAA",
}


@pytest.mark.parametrize("password", BAD_PASSWORDS.values(), ids=BAD_PASSWORDS.keys())
def test_bad_password_is_rejected(either, password):
    with_person = either.verify(found(either, "alice"), password)
    without = either.verify(None, password)

    assert with_person == without == Rejected()


@pytest.mark.parametrize("login", LOGINS)
def test_another_persons_password_is_rejected(directory, login):
    other = "fatima" if login != "fatima" else "alice"

    assert directory.verify(found(directory, login), password_of(other)) == Rejected()


@pytest.mark.parametrize("password", ["", " ", "anything", password_of("nopass")])
def test_person_without_a_password_in_the_directory_is_rejected(directory, password):
    assert directory.verify(found(directory, "nopass"), password) == Rejected()


BAD_LOGINS = {
    "unknown": "nobody",
    "empty": "",
    "spaces": "   ",
    "star": "*",
    "prefix": "al*",
    "or": "alice)(|(uid=*",
    "everything": "*)(uid=*",
    "close": ")(uid=*",
    "and": "alice)(objectClass=*))(&(uid=x",
    "nul": "alice\0",
    "hex-nul": "alice\\00",
    "hex": "\\61lice",
    "backslash": "\\",
    "long": "a" * 257,
    "longest": "a" * 256,
    "megabyte": "a" * 1_000_000,
    "surrogate": "\ud800",
    "line": "alice\r\nuid: x",
    "dn": f"uid=alice,ou=Cabinet,ou=Headquarters,{BASE}",
    "mail": "alice@secretariat.example",
    "overlong-slash": "\uff0a",
    "rtl": "\u202ealice",
    "service": "sign-in",
    "alias": "other-alice",
}


@pytest.mark.parametrize("login", BAD_LOGINS.values(), ids=BAD_LOGINS.keys())
def test_login_that_is_nobodys_is_unknown(directory, login):
    assert directory.find(login) == Unknown()


def test_login_of_two_entries_is_ambiguous(directory):
    assert directory.find("twin") == Ambiguous(2)


def test_login_in_two_directories_is_ambiguous(server, connect):
    both = connect(source_of(server), source_of(server, name="office", base_dn=GENEVA))

    assert both.find("fatima") == Ambiguous(2)
    assert isinstance(both.find("alice"), Found)
    assert both.find("nobody") == Unknown()


def test_login_known_in_one_directory_while_the_other_is_down_is_unavailable(server, connect):
    both = connect(source_of(server), source_of(server, name="office", urls=("ldaps://127.0.0.1:1",)))

    assert both.find("alice") == Unavailable(UnavailableReason.UNREACHABLE)


def test_no_directory_at_all_is_unavailable(connect):
    none = connect()

    assert none.find("alice") == Unavailable(UnavailableReason.UNREACHABLE)
    assert none.verify(None, "anything") == Unavailable(UnavailableReason.UNREACHABLE)
    assert none.read("hq", str(uuid.uuid4())) == Unavailable(UnavailableReason.UNREACHABLE)


def test_person_of_a_directory_that_is_configured_no_more_is_unavailable(directory):
    stranger = dataclasses.replace(found(directory, "alice"), source="gone")

    assert directory.verify(stranger, password_of("alice")) == Unavailable(UnavailableReason.UNREACHABLE)


def test_name_given_to_somebody_else_between_finding_and_trying_is_rejected(own_server, connect):
    directory = connect(source_of(own_server))
    before = found(directory, "alice")
    change(own_server, f"dn: {before.dn}\nchangetype: modrdn\nnewrdn: uid=moved\ndeleteoldrdn: 1\n")
    change(own_server, f"dn: {before.dn}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: alice\ncn: New\nsn: New\n"
                       "userPassword: of-the-new-one\n")  # fmt: skip

    assert directory.verify(before, "of-the-new-one") == Rejected()
    assert directory.verify(before, password_of("alice")) == Rejected()
    assert found(directory, "alice").entry_uuid != before.entry_uuid


def test_person_deleted_since_found_is_rejected(own_server, connect):
    directory = connect(source_of(own_server))
    before = found(directory, "omar")
    change(own_server, f"dn: {before.dn}\nchangetype: delete\n")

    assert directory.verify(before, password_of("omar")) == Rejected()
    assert directory.read("hq", before.entry_uuid) == Unknown()


@pytest.mark.parametrize(
    "entry_uuid", ["", "*", "6f6b9c1e-0000-4000-8000-00000000abcd", "x" * 65, "a)(uid=*", "\0"]
)
def test_read_of_what_is_nobodys_id_is_unknown(directory, entry_uuid):
    assert directory.read("hq", entry_uuid) == Unknown()


def test_read_by_id_finds_the_person_with_groups(directory):
    alice = found(directory, "alice")

    assert directory.read("hq", alice.entry_uuid) == Found(alice)


def test_wrong_service_password_is_unavailable(server, connect):
    directory = connect(source_of(server, bind_password="not-the-service's"))

    assert directory.find("alice") == Unavailable(UnavailableReason.REFUSED)


def test_base_that_does_not_exist_is_unavailable_not_unknown(server, connect):
    directory = connect(source_of(server, base_dn=f"ou=nowhere,{BASE}"))

    assert directory.find("alice") == Unavailable(UnavailableReason.REFUSED)


def test_referral_as_base_is_not_followed(server, connect):
    directory = connect(source_of(server, base_dn=f"cn=elsewhere,{BASE}"))

    assert directory.find("alice") == Unavailable(UnavailableReason.REFUSED)


def test_entry_without_a_readable_id_is_unavailable(server, connect):
    directory = connect(source_of(server, entry_id_attribute="nsUniqueId"))

    assert directory.find("alice") == Unavailable(UnavailableReason.NONSENSE)


def test_neither_password_nor_typed_name_is_logged(server, connect, caplog):
    directory = connect(source_of(server, urls=("ldaps://127.0.0.1:1",), base_dn=BASE))
    caplog.set_level("DEBUG")

    directory.find("typed-name-of-somebody")
    directory.verify(None, "a-secret-password")

    assert "127.0.0.1:1" in caplog.text
    assert "typed-name-of-somebody" not in caplog.text
    assert "a-secret-password" not in caplog.text


def test_password_is_not_left_on_the_kept_connection(directory):
    directory.verify(found(directory, "alice"), password_of("alice"))

    kept = [wire for wires in directory._gateways["hq"]._kept.values() for wire in wires]
    assert len(kept) == 2
    assert all(password_of("alice") not in repr(vars(wire._ldap)) for wire in kept)


def test_unknown_name_and_wrong_password_take_equally_long(directory):
    alice = found(directory, "alice")
    times = {"known": [], "unknown": []}

    for _ in range(40):
        for name, person in (("known", alice), ("unknown", None)):
            started = time.perf_counter()
            assert directory.verify(person, "wrong") == Rejected()
            times[name].append(time.perf_counter() - started)

    assert abs(statistics.median(times["known"]) - statistics.median(times["unknown"])) < 0.005
