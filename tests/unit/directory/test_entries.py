"""From bytes to people, and from text to filters and names."""

import contextlib
import unicodedata
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.config import AttributeNames, EntryIdForm, Source
from directory.entries import (
    LOGIN_MAX,
    TEXT_MAX,
    RawEntry,
    build_entry_filter,
    build_group,
    build_impossible_dn,
    build_member_filter,
    build_person,
    build_user_filter,
    dn_key,
    escape_filter_value,
    normalise_language,
    ou_path,
    parse_dn,
    wanted_group_attributes,
    wanted_person_attributes,
)
from directory.errors import DirectoryError, UnavailableReason
from directory.standing import AccountStatus

SOURCE = Source(
    name="hq", urls=("ldaps://h",), bind_dn="cn=svc,dc=x", bind_password="s", base_dn="dc=x"
)  # fmt: skip
ID = "6f6b9c1e-0000-4000-8000-00000000abcd"


def entry(dn: str | bytes = "uid=a,ou=Cabinet,dc=x", **attributes) -> RawEntry:
    values = {"uid": ["a"], "entryuuid": [ID], "cn": ["A B"]} | attributes
    return RawEntry(
        dn.encode() if isinstance(dn, str) else dn,
        {
            name.replace("_ar", ";lang-ar").lower(): tuple(
                v if isinstance(v, bytes) else v.encode() for v in found
            )
            for name, found in values.items()
        },
    )


# -- filters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("alice", "alice"),
        ("*", r"\2a"),
        ("a)(uid=*", r"a\29\28uid\3d\2a"),
        ("\\", r"\5c"),
        ("\0", r"\00"),
        (r"\00", r"\5c00"),
        (" a ", r"\20a\20"),
        ("é", r"\c3\a9"),
        ("م", r"\d9\85"),
        (b"\xff\x00", r"\ff\00"),
        ("²½", r"\c2\b2\c2\bd"),
        ("", ""),
    ],
)
def test_escape_filter_value_leaves_only_letters_and_digits(value, escaped):
    assert escape_filter_value(value) == escaped


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_escape_filter_value_of_any_text_means_that_text(value):
    escaped = escape_filter_value(value)

    plain = bytearray()
    position = 0
    while position < len(escaped):
        if escaped[position] == "\\":
            plain.append(int(escaped[position + 1 : position + 3], 16))
            position += 3
        else:
            assert escaped[position].isascii()
            assert escaped[position].isalnum()
            plain.append(ord(escaped[position]))
            position += 1
    assert plain.decode() == value


def test_build_user_filter_puts_the_login_everywhere_and_leaves_other_braces():
    assert (
        build_user_filter("(|(uid={login})(mail={login})(x={y}))", "a*") == r"(|(uid=a\2a)(mail=a\2a)(x={y}))"
    )


def test_build_entry_filter_keeps_the_filter_for_people():
    assert build_entry_filter(SOURCE, ID) == (
        rf"(&(&(objectClass=inetOrgPerson)(uid=*))(entryUUID={ID.replace('-', chr(92) + '2d')}))"
    )


@pytest.mark.parametrize("bad", ["", "x" * 65])
def test_build_entry_filter_of_no_id_raises(bad):
    with pytest.raises(ValueError, match="id"):
        build_entry_filter(SOURCE, bad)


def test_build_entry_filter_writes_a_guid_as_its_bytes():
    guid = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
    source = Source(
        name="ad", urls=("ldaps://h",), bind_dn="cn=svc", bind_password="s", base_dn="dc=x",
        entry_id_attribute="objectGUID", entry_id_form=EntryIdForm.GUID,
    )  # fmt: skip

    written = build_entry_filter(source, str(guid))

    assert r"(objectGUID=3\22\11\00" in written.replace(r"\33", "3")
    with pytest.raises(ValueError, match="UUID"):
        build_entry_filter(source, "no guid")


def test_build_member_filter_escapes_names():
    assert build_member_filter(SOURCE, ["cn=a*", "cn=b"]) == (
        r"(&(objectClass=groupOfNames)(|(member=cn\3da\2a)(member=cn\3db)))"
    )


def test_wanted_attributes_name_the_operational_ones_and_no_options():
    wanted = wanted_person_attributes(SOURCE)

    assert {"uid", "entryUUID", "displayName", "cn", "pwdAccountLockedTime", "userAccountControl"} <= set(
        wanted
    )
    assert not any(";" in name or name in {"*", "+", "userPassword", "memberOf"} for name in wanted)
    assert wanted_group_attributes(SOURCE) == ("cn", "entryUUID")


# -- names of entries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dn", "parsed"),
    [
        ("ou=London #2,dc=x", [[("ou", "London #2")], [("dc", "x")]]),
        (r"cn=Haddad\, Karim,ou=a", [[("cn", "Haddad, Karim")], [("ou", "a")]]),
        (r"cn=Haddad\2c Karim,ou=a", [[("cn", "Haddad, Karim")], [("ou", "a")]]),
        ('cn="Haddad, Karim",ou=a', [[("cn", "Haddad, Karim")], [("ou", "a")]]),
        (r"ou=\#2", [[("ou", "#2")]]),
        ("ou=#2", [[("ou", "#2")]]),
        ("ou=#zz", [[("ou", "#zz")]]),
        ("ou=#040241ff", [[("ou", "#040241ff")]]),
        ("ou=#04024142", [[("ou", "AB")]]),
        ("OU = a , DC = x", [[("ou", "a")], [("dc", "x")]]),
        ("cn=a+ou=b,dc=x", [[("cn", "a"), ("ou", "b")], [("dc", "x")]]),
        (r"cn=a\+b", [[("cn", "a+b")]]),
        (r"cn=a\ ", [[("cn", "a ")]]),
        (r"cn=a\\ ", [[("cn", "a\\")]]),
        (r"cn=\d9\85", [[("cn", "م")]]),
        (r"cn=\D9\85é", [[("cn", "مé")]]),
        ("2.5.4.11=b", [[("2.5.4.11", "b")]]),
        ("OID.2.5.4.11=b", [[("2.5.4.11", "b")]]),
        ("cn=a;dc=x", [[("cn", "a")], [("dc", "x")]]),
        ("cn=", [[("cn", "")]]),
        ("cn=a=b", [[("cn", "a=b")]]),
        ("", []),
    ],
)
def test_parse_dn_reads_what_servers_send(dn, parsed):
    assert [list(rdn) for rdn in parse_dn(dn)] == parsed


@pytest.mark.parametrize(
    "dn", ["nonsense", "=a", "cn=a,,dc=x", "cn=a,", 'cn="a', "cn=a\\", r"cn=\ff", "cn=a,b"]
)
def test_parse_dn_of_no_dn_raises(dn):
    with pytest.raises(ValueError, match=r"."):
        parse_dn(dn)


@given(st.text(alphabet=st.sampled_from('ab=,+;"\\# 0aف'), max_size=20))
def test_parse_dn_of_anything_gives_an_answer_or_value_error(text):
    with contextlib.suppress(ValueError):
        assert isinstance(dn_key(text), tuple)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("UID=Alice,OU=a", "uid=alice, ou=A"),
        (r"cn=a\2cb", r"cn=a\,b"),
        ("ou=a  b", "ou=a b"),
        ("cn=" + unicodedata.normalize("NFD", "é"), "cn=é"),
        ("cn=a+ou=b", "ou=b+cn=a"),
    ],
)
def test_dn_key_of_two_spellings_is_the_same(one, other):
    assert dn_key(one) == dn_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("cn=a,dc=x", "cn=b,dc=x"), (r"cn=a\,dc\=x", "cn=a,dc=x"), ("cn=a", "ou=a")]
)
def test_dn_key_of_two_names_differs(one, other):
    assert dn_key(one) != dn_key(other)


def test_ou_path_is_nearest_first_composed_and_squeezed():
    decomposed = unicodedata.normalize("NFD", "Éé")

    assert ou_path(f"uid=a,ou={decomposed}  x,cn=b+2.5.4.11=c,organizationalUnitName=d,o=e,dc=f") == (
        "Éé x",
        "c",
        "d",
    )


def test_build_impossible_dn_is_under_the_base():
    assert build_impossible_dn("dc=x", "0f") == "cn=nobody-0f,dc=x"


# -- people -----------------------------------------------------------------------------------------------------


def test_build_person_takes_the_first_attribute_that_has_a_value():
    person = build_person(
        SOURCE,
        entry(displayName=["A. Bee"], displayName_ar=["أ. ب"], cn_ar=["ب"], mail=["a@b.example"],
              preferredLanguage=["fr"], physicalDeliveryOfficeName=["Room 4"]),
    )  # fmt: skip

    assert person.name_latin == "A. Bee"
    assert person.name_arabic == "أ. ب"
    assert (person.email, person.language, person.office_attribute) == ("a@b.example", "fr", "Room 4")
    assert (person.source, person.entry_uuid, person.login) == ("hq", ID, "a")
    assert person.ou_path == ("Cabinet",)
    assert person.status is AccountStatus.ACTIVE


def test_build_person_without_names_uses_given_and_family_name_or_nothing():
    assert build_person(SOURCE, entry(cn=[], givenName=["A"], sn=["B"])).name_latin == "A B"
    assert build_person(SOURCE, entry(cn=[])).name_latin == ""


def test_build_person_with_one_name_in_arabic_script_has_it_as_the_arabic_one_too():
    assert build_person(SOURCE, entry(cn=["محمد"])).name_arabic == "محمد"
    assert build_person(SOURCE, entry(cn=["Mohamed"])).name_arabic == ""


def test_build_person_passes_over_values_that_cannot_be_read():
    person = build_person(SOURCE, entry(displayName=[b"\xff\xfe"], cn=[b"\xff", "Good"], mail=[b"\xff@x"]))

    assert (person.name_latin, person.email) == ("Good", "")


def test_build_person_cleans_names_of_controls_and_direction_marks():
    person = build_person(SOURCE, entry(cn=["A\u202e\u2066B\0\x07\n  C\u200d"], cn_ar=["م" * 500]))

    assert person.name_latin == "AB C\u200d"
    assert person.name_arabic == "م" * TEXT_MAX


@pytest.mark.parametrize(
    "mail", ["nobody", "a@", "@b", "a@b@c", "a b@c", "a@b,c@d", "<a@b>", "a@b\nBcc: c@d"]
)
def test_build_person_with_no_real_address_has_none(mail):
    assert build_person(SOURCE, entry(mail=[mail])).email == ""


@pytest.mark.parametrize(
    ("typed", "login"),
    [("", "alice"), ("zed", "zed"), ("ZED", "zed"), ("other", "alice"), ("alice", "alice")],
)
def test_build_person_with_several_logins_has_the_typed_one_or_always_the_same(typed, login):
    assert build_person(SOURCE, entry(uid=["zed", "alice"]), typed).login == login


@pytest.mark.parametrize(
    "broken",
    [
        entry(uid=[]),
        entry(uid=[b"\xff"]),
        entry(uid=["\u202e"]),
        entry(uid=["x" * (LOGIN_MAX + 1)]),
        entry(entryuuid=[]),
        entry(entryuuid=[""]),
        entry(entryuuid=[ID, ID]),
        entry(entryuuid=[b"\xff\xff"]),
        entry(entryuuid=["a\nb"]),
        entry(entryuuid=["x" * 65]),
        entry(dn=""),
        entry(dn=" "),
        entry(dn=b"uid=\xff"),
        entry(dn="uid=a\0,dc=x"),
        entry(dn="no name at all"),
    ],
    ids=range(15),
)
def test_build_person_of_an_unreadable_entry_raises_nonsense(broken):
    with pytest.raises(DirectoryError) as caught:
        build_person(SOURCE, broken)

    assert caught.value.reason is UnavailableReason.NONSENSE


def test_build_person_reads_a_guid_as_active_directory_writes_it():
    guid = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
    source = Source(
        name="ad", urls=("ldaps://h",), bind_dn="cn=svc", bind_password="s", base_dn="dc=x",
        entry_id_attribute="objectGUID", entry_id_form=EntryIdForm.GUID,
        attributes=AttributeNames(login=("sAMAccountName",)),
    )  # fmt: skip

    assert build_person(source, entry(samaccountname=["a"], objectguid=[guid.bytes_le])).entry_uuid == str(
        guid
    )
    with pytest.raises(DirectoryError):
        build_person(source, entry(samaccountname=["a"], objectguid=[b"short"]))


def test_person_keeps_names_out_of_logs():
    person = build_person(SOURCE, entry(cn=["Secret Name"], mail=["secret@x.example"]))

    assert "ecret" not in repr(person)


def test_build_group_has_id_and_name():
    group = build_group(SOURCE, entry(dn="cn=G,dc=x", cn=["G"]))

    assert (group.entry_uuid, group.dn, group.name) == (ID, "cn=G,dc=x", "G")


# -- language -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "language"),
    [
        ("ar", "ar"),
        ("FR", "fr"),
        ("en-GB", "en"),
        ("ar_SA", "ar"),
        ("fr-CH, fr;q=0.9, en;q=0.8", "fr"),
        ("de, en;q=0.4, ar;q=0.6", "ar"),
        ("en;q=0, fr;q=0.1", "fr"),
        ("en;q=x", "en"),
        ("de", ""),
        ("arabic", ""),
        ("*", ""),
        ("", ""),
        (",,;", ""),
    ],
)
def test_normalise_language_is_one_of_ours_or_nothing(value, language):
    assert normalise_language(value) == language
