"""Names as keys: spellings that mean one entry have one key, and no two entries share one."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory import entries, names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"uid=amina,ou=GVA,dc=example", b"UID=Amina , OU=gva,DC=Example"),
        (b"cn=Haddad\\, Karim,dc=example", b"cn=haddad\\2C karim,dc=example"),
        (b"ou=London #2,dc=example", b"ou=london  \\232,dc=example"),
        ("cn=Zoé,dc=x".encode(), "cn=Zoe\u0301,dc=x".encode()),
        (b"2.5.4.11=GVA,dc=x", b"organizationalUnitName=gva,dc=x"),
        (b"cn=a+uid=b,dc=x", b"uid=B+cn=A,dc=x"),
        (b'cn="a,b",dc=x', b"cn=a\\,b,dc=x"),
    ],
)
def test_two_spellings_of_one_name_have_one_key(one, other):
    assert names.key(one) == names.key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"cn=a\\,ou=b,dc=x", b"cn=a,ou=b,dc=x"),
        (b"cn=a\\+uid=b,dc=x", b"cn=a+uid=b,dc=x"),
        (b"cn=a,dc=x", b"cn=a,dc=x,dc=y"),
        (b"cn=a,dc=x", b"uid=a,dc=x"),
    ],
)
def test_names_that_look_alike_have_different_keys(one, other):
    assert names.key(one) != names.key(other)


@pytest.mark.parametrize("name", [b"no name", b"=x,dc=y", b"cn=\xff,dc=x", b'cn="a,dc=x'])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match=r"."):
        names.key(name)


@pytest.mark.parametrize(
    ("dn", "own", "parent"),
    [
        (b"uid=a,ou=b,dc=c", b"uid=a", b"ou=b,dc=c"),
        (b"cn=a\\,b,dc=c", b"cn=a\\,b", b"dc=c"),
        (b"cn=a\\\\,dc=c", b"cn=a\\\\", b"dc=c"),
        (b'cn="a,b",dc=c', b'cn="a,b"', b"dc=c"),
        (b"dc=c", b"dc=c", b""),
    ],
)
def test_own_name_and_parent(dn, own, parent):
    assert names.split(dn) == (own, parent)


@given(st.text(min_size=1, max_size=20).filter(str.strip), st.text(min_size=1, max_size=20).filter(str.strip))
def test_keys_are_equal_exactly_when_the_parsed_names_are(one, other):
    def dn(text: str) -> bytes:
        escaped = "".join(f"\\{byte:02x}" for byte in text.encode("utf-8", "replace"))
        return f"cn={escaped},dc=x".encode()

    are_equal = entries.dn_key(dn(one).decode()) == entries.dn_key(dn(other).decode())
    assert (names.key(dn(one)) == names.key(dn(other))) is are_equal


@given(st.binary(max_size=60))
def test_no_bytes_break_it(data):
    with contextlib.suppress(ValueError):
        names.key(data)
    own, parent = names.split(data)
    assert len(own) + len(parent) <= len(data)
