"""What a source may look like."""

import dataclasses

import pytest

from directory.config import Server, Source

GOOD = {
    "name": "hq", "urls": ("ldaps://ldap1.example:1636", "ldaps://[2001:db8::1]"), "bind_dn": "cn=svc,dc=x",
    "bind_password": "secret-of-svc", "base_dn": "dc=x",
}  # fmt: skip


def test_source_with_good_parts_names_its_servers_in_order():
    servers = Source(**GOOD).servers

    assert servers == (Server("ldap1.example", 1636, True), Server("2001:db8::1", 636, True))
    assert [server.url for server in servers] == ["ldaps://ldap1.example:1636", "ldaps://[2001:db8::1]:636"]


def test_source_with_starttls_takes_plain_addresses():
    assert Source(**GOOD | {"urls": ("ldap://h",), "starttls": True}).servers == (Server("h", 389, False),)


def test_source_does_not_show_its_password():
    assert "secret-of-svc" not in repr(Source(**GOOD))


def test_source_can_be_a_key_and_cannot_be_changed():
    source = Source(**GOOD)

    assert hash(source) == hash(Source(**GOOD))
    with pytest.raises(dataclasses.FrozenInstanceError):
        source.ca_file = "/other"


@pytest.mark.parametrize(
    "change",
    [
        {"urls": ()},
        {"urls": ("ldap://clear.example",)},
        {"urls": ("ldaps://good", "ldap://clear.example")},
        {"urls": ("http://h",)},
        {"urls": ("ldapi:///tmp/socket",)},
        {"urls": ("ldaps://",)},
        {"urls": ("ldaps://user:password@h",)},
        {"urls": ("ldaps://h/dc=x",)},
        {"urls": ("ldaps://h?query",)},
        {"urls": ("ldaps://h:port",)},
        {"urls": ("ldaps://h:70000",)},
        {"urls": ("ldaps://[::1",)},
        {"urls": ("",)},
        {"name": ""},
        {"bind_dn": ""},
        {"bind_dn": "  "},
        {"bind_password": ""},
        {"bind_password": " "},
        {"bind_password": "a\0b"},
        {"base_dn": ""},
        {"user_filter": "(uid=%s)"},
        {"budget_seconds": 0},
        {"budget_seconds": 31},
        {"connect_seconds": 0},
        {"connect_seconds": 4},
    ],
    ids=str,
)
def test_source_with_an_unsafe_part_is_refused(change):
    with pytest.raises(ValueError, match=r"^Directory .*\.$"):
        Source(**GOOD | change)
