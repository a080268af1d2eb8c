"""What a directory says about a password, read from its bytes and words."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.policy import (
    PasswordProblem,
    PolicyAnswer,
    Refusal,
    read_policy,
    read_windows_problem,
    read_windows_refusal,
    write_change,
    write_windows_password,
)


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (b"\x30\x00", PolicyAnswer()),
        (b"", PolicyAnswer()),
        (b"\x30\x05\xa0\x03\x80\x01\x3c", PolicyAnswer(expires_in=timedelta(seconds=60))),
        (b"\x30\x06\xa0\x04\x80\x02\x0e\x10", PolicyAnswer(expires_in=timedelta(hours=1))),
        (b"\x30\x05\xa0\x03\x81\x01\x02", PolicyAnswer(sign_ins_left=2)),
        (b"\x30\x03\x81\x01\x01", PolicyAnswer(error=1)),
        (b"\x30\x08\xa0\x03\x80\x01\x3c\x81\x01\x02", PolicyAnswer(timedelta(seconds=60), None, 2)),
    ],
    ids=repr,
)
def test_control_of_the_policy_is_read(value, answer):
    assert read_policy(value) == answer


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_harm(value):
    answer = read_policy(value)

    assert answer.refusal in Refusal
    assert answer.sign_ins_left is None or 0 <= answer.sign_ins_left <= 1000


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (0, Refusal.EXPIRED),
        (1, Refusal.WRONG),
        (2, Refusal.MUST_CHANGE),
        (None, Refusal.WRONG),
        (99, Refusal.WRONG),
    ],
)
def test_lock_is_told_to_nobody(error, refusal):
    """`accountLocked` is said of wrong passwords too: to show it would tell that the name exists."""
    assert PolicyAnswer(error=error).refusal is refusal


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (6, PasswordProblem.TOO_SHORT),
        (7, PasswordProblem.TOO_YOUNG),
        (8, PasswordProblem.IN_HISTORY),
        (5, PasswordProblem.TOO_SIMPLE),
        (3, PasswordProblem.NOT_ALLOWED),
        (0, None),
        (None, None),
    ],
)
def test_reasons_of_a_refused_password(error, problem):
    assert PolicyAnswer(error=error).problem is problem


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (
            "80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, data 52e, v4563",
            Refusal.WRONG,
        ),
        (
            "80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, data 773, v4563",
            Refusal.MUST_CHANGE,
        ),
        (
            "80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, data 532, v4563",
            Refusal.EXPIRED,
        ),
        (
            "80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, data 775, v4563",
            Refusal.WRONG,
        ),
        (
            "80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, data 533, v4563",
            Refusal.WRONG,
        ),
        ("", Refusal.WRONG),
    ],
)
def test_words_of_active_directory(text, refusal):
    assert read_windows_refusal(text) is refusal


def test_refused_change_of_active_directory_names_no_rule():
    assert read_windows_problem("0000052D: SvcErr: DSID-031A124C, problem 5003") is PasswordProblem.POLICY
    assert read_windows_problem("00000056: AtrErr: DSID-03191083") is None
    assert read_windows_problem("") is None


# RFC 3062 §2: userIdentity [0], oldPasswd [1], newPasswd [2].
def test_password_modify_request_is_written():
    assert write_change("cn=a", b"old", b"new") == b"\x30\x10\x80\x04cn=a\x81\x03old\x82\x03new"
    assert write_change("cn=a", None, b"new") == b"\x30\x0b\x80\x04cn=a\x82\x03new"
    assert write_change("cn=a", None, b"n" * 300)[:4] == b"\x30\x82\x01\x36"


def test_password_of_active_directory_is_quoted_utf_16():
    assert write_windows_password("é1") == b'"\x00\xe9\x001\x00"\x00'
