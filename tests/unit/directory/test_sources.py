"""Several directories in one file."""

import pytest

from directory.config import EntryIdForm, Flavour, PasswordForm, StatusRule
from directory.sources import read_sources

HQ = """
[[directory]]
name = "hq"
urls = ["ldaps://ldap1.example.org", "ldaps://ldap2.example.org"]
bind_dn = "cn=svc,dc=example"
bind_password_file = "/secret"
base_dn = "dc=example"
"""
FIELD = """
[[directory]]
name = "field"
flavour = "active_directory"
urls = ["ldaps://dc1.field.example"]
bind_dn = "svc@field.example"
bind_password_file = "/secret"
base_dn = "dc=field,dc=example"
"""


def read(text: str):
    return read_sources(text, {"/secret": "s3cret\n"}.__getitem__)


def test_directories_are_read_in_their_order_with_secrets_from_files():
    hq, field = read(HQ + FIELD)

    assert (hq.name, hq.urls, hq.bind_password) == (
        "hq", ("ldaps://ldap1.example.org", "ldaps://ldap2.example.org"), "s3cret",
    )  # fmt: skip
    assert field.flavour is Flavour.ACTIVE_DIRECTORY


def test_flavour_brings_what_need_not_be_written_and_what_is_written_wins():
    (field,) = read(FIELD + 'user_filter = "(&(objectClass=user)(mail={login}))"\n')

    assert (field.entry_id_attribute, field.entry_id_form) == ("objectGUID", EntryIdForm.GUID)
    assert field.password_form is PasswordForm.UNICODE_PWD
    assert field.attributes.login == ("sAMAccountName", "userPrincipalName")
    assert field.attributes.email == ("mail",)
    assert field.user_filter == "(&(objectClass=user)(mail={login}))"


def test_rules_and_a_tighter_brake_are_read():
    (hq,) = read(
        HQ
        + 'status_rules = [{ attribute = "employeeType", active = ["staff"] }]\n'
        + "brake = { floor = 2, explicit_share = 0.01 }\n"
    )

    assert hq.status_rules == (StatusRule("employeeType", active=frozenset({"staff"})),)
    assert (hq.brake.floor, hq.brake.explicit_share, hq.brake.inferred_share) == (2, 0.01, 0.05)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[directory]", "is no TOML"),
        ("", "holds no"),
        ("directory = 3", "holds no"),
        (HQ + "[other]\n", "not 'other'"),
        (HQ + HQ, "same name"),
        (HQ + 'bind_password = "here"\n', "belongs in a file"),
        (HQ + 'writer_password_file = "/nowhere"\n', "nobody knows"),
        (HQ + "kept_conections_max = 3\n", "nobody knows kept_conections_max"),
        (HQ + "brake = { flor = 1 }\n", "nobody knows brake.flor"),
        (HQ + 'status_rules = [{ attribut = "x" }]\n', "nobody knows status_rules.attribut"),
        (HQ + "brake = { floor = 50 }\n", "tightened and not loosened"),
        (HQ + 'flavour = "novell"\n', "is none of"),
        (HQ + 'budget_seconds = "soon"\n', "budget_seconds"),
        (HQ.replace("ldaps://ldap1", "ldap://ldap1"), "would send passwords in clear"),
        (HQ.replace('base_dn = "dc=example"', ""), "base_dn"),
    ],
)
def test_file_that_makes_no_safe_whole_is_refused_in_a_sentence(text, words):
    with pytest.raises(ValueError, match=words) as refused:
        read_sources(text, _secret)
    assert "s3cret" not in str(refused.value)


def _secret(path: str) -> str:
    if path != "/secret":
        raise OSError(2, "nobody knows this file")
    return "s3cret"
