"""Whether an entry lets its person act: statuses, ends, passwords; what cannot be read denies."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.config import Source, StatusRule, TimeForm, TimeRule
from directory.standing import (
    LONG_PAST,
    AccountStatus,
    Standing,
    build_standing,
    is_disabled,
    read_instant,
    wanted_attributes,
)

SOURCE = Source(
    name="hq", urls=("ldaps://h",), bind_dn="cn=svc,dc=x", bind_password="s", base_dn="dc=x"
)  # fmt: skip
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def standing(**attributes) -> Standing:
    return build_standing(
        SOURCE,
        {
            name.lower().replace("_", "-"): tuple(v if isinstance(v, bytes) else v.encode() for v in values)
            for name, values in attributes.items()
        },
    )


@pytest.mark.parametrize(
    "attributes",
    [
        {"orgAccountStatus": ["disabled"]},
        {"orgAccountStatus": ["suspended"]},
        {"orgAccountStatus": [" DISABLED "]},
        {"orgAccountStatus": ["a word nobody told us"]},
        {"orgAccountStatus": ["active", "disabled"]},
        {"orgAccountStatus": [b"\xff"]},
        {"orgAccountStatus": [""]},
        {"pwdAccountLockedTime": ["000001010000Z"]},
        {"nsAccountLock": ["TRUE"]},
        {"userAccountControl": ["514"]},
        {"userAccountControl": ["2"]},
        {"userAccountControl": ["0x2"]},
        {"userAccountControl": ["-1"]},
        {"userAccountControl": [""]},
    ],
    ids=str,
)
def test_status_that_is_not_plainly_active_is_disabled(attributes):
    assert standing(**attributes).status is AccountStatus.DISABLED


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"orgAccountStatus": ["active"]},
        {"orgAccountStatus": ["Enabled"]},
        {"pwdAccountLockedTime": ["20261125103717Z"]},
        {"nsAccountLock": ["FALSE"]},
        {"userAccountControl": ["512"]},
        {"msDS_User_Account_Control_Computed": ["0"]},
        {"accountExpires": ["0"]},
        {"accountExpires": ["9223372036854775807"]},
        {"shadowExpire": ["-1"]},
        {"orgContractEnd": ["20261125120001Z"]},
    ],
    ids=str,
)
def test_status_of_an_active_person_is_active(attributes):
    assert standing(**attributes).at(NOW) is AccountStatus.ACTIVE


def test_status_rule_values_are_compared_without_case():
    rule = StatusRule("employeeType", disabled=frozenset({"LEFT"}), active=frozenset({"Staff"}))

    assert not is_disabled([rule], {"employeetype": (b"staff",)})
    assert is_disabled([rule], {"employeetype": (b"left",)})


@pytest.mark.parametrize(
    "attributes",
    [
        {"orgContractEnd": ["20261125120000Z"]},
        {"orgContractEnd": ["202611251500+0300"]},
        {"orgContractEnd": ["20271231000000Z", "20261101000000Z"]},
        {"pwdEndTime": ["20200101000000Z"]},
        {"accountExpires": ["134090000000000000"]},
        {"shadowExpire": ["20000"]},
        {"orgContractEnd": ["next summer"]},
        {"orgContractEnd": [""]},
        {"orgContractEnd": [b"\xff"]},
        {"accountExpires": ["never"]},
        {"accountExpires": ["9" * 40]},
        {"shadowExpire": ["9" * 20]},
    ],
    ids=str,
)
def test_account_whose_end_has_passed_or_cannot_be_read_is_expired(attributes):
    assert standing(**attributes).at(NOW) is AccountStatus.EXPIRED


def test_account_ends_at_the_instant_and_not_before():
    found = standing(orgContractEnd=["20261125120000Z"])

    assert found.at(NOW - timedelta(seconds=1)) is AccountStatus.ACTIVE
    assert found.at(NOW) is AccountStatus.EXPIRED
    assert found.ends_at == NOW


def test_disabled_counts_before_expired():
    found = standing(orgAccountStatus=["disabled"], orgContractEnd=["20200101000000Z"])

    assert found.at(NOW) is AccountStatus.DISABLED


def test_lock_that_passes_is_no_disable():
    assert standing(msDS_User_Account_Control_Computed=["16"]).at(NOW) is AccountStatus.LOCKED


@pytest.mark.parametrize(
    ("attributes", "must"),
    [
        ({"pwdReset": ["TRUE"]}, True),
        ({"pwdReset": ["FALSE"]}, False),
        ({"pwdLastSet": ["0"]}, True),
        ({"pwdLastSet": ["134090000000000000"]}, False),
        ({"shadowLastChange": ["0"]}, True),
        ({}, False),
    ],
    ids=str,
)
def test_password_that_must_be_changed_is_said(attributes, must):
    assert standing(**attributes).must_change_password is must


def test_password_end_is_the_earliest():
    found = standing(passwordExpirationTime=["20270101000000Z"], krbPasswordExpiration=["20261231000000Z"])

    assert found.password_ends_at == datetime(2026, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        ("20261125123456Z", datetime(2026, 11, 25, 12, 34, 56, tzinfo=UTC)),
        ("20261125123456.75Z", datetime(2026, 11, 25, 12, 34, 56, tzinfo=UTC)),
        ("2026112512Z", datetime(2026, 11, 25, 12, tzinfo=UTC)),
        ("202611251230-0500", datetime(2026, 11, 25, 17, 30, tzinfo=UTC)),
        ("2026112512+03", datetime(2026, 11, 25, 9, tzinfo=UTC)),
        ("20261231235960Z", datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
@pytest.mark.spec("RFC 4517", "3.3.13", "generalized time in every form that the syntax allows")
def test_generalized_time_is_read(value, instant):
    assert read_instant(TimeForm.GENERALIZED, value.encode()) == instant


@pytest.mark.parametrize(
    "value",
    [
        "20261125123456",
        "2026112512345Z",
        "20261325123456Z",
        "20261125123456ZZ",
        "٢٠٢٦١١٢٥١٢Z",
        "99991231235959-2300",
    ],
)
def test_what_is_no_generalized_time_is_refused(value):
    with pytest.raises(ValueError):  # noqa: PT011 -- no more is promised
        read_instant(TimeForm.GENERALIZED, value.encode())


def test_filetime_counts_from_1601():
    ticks = (NOW - datetime(1601, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 10

    assert read_instant(TimeForm.FILETIME, str(ticks).encode()) == NOW


@given(st.binary(max_size=60), st.sampled_from(TimeForm))
def test_any_bytes_are_an_instant_never_or_refused(value, form):
    try:
        found = read_instant(form, value)
    except ValueError:
        found = LONG_PAST
    assert found is None or found.tzinfo is not None


def test_everything_that_decides_is_asked_for():
    wanted = wanted_attributes(replace(SOURCE, end_rules=(TimeRule("leavesOn"),)))

    assert {
        "orgAccountStatus",
        "userAccountControl",
        "leavesOn",
        "pwdReset",
        "passwordExpirationTime",
    } <= wanted
