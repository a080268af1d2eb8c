"""The table of the sign-in: nothing is looked at that the open step does not accept (A31)."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from iam.login.flow import (
    ACCEPTS,
    Act,
    Page,
    Sent,
    Situation,
    Step,
    Wish,
    decide_act,
    decide_first,
    decide_name,
    decide_page,
    decide_step,
)
from iam.oauth.protocol.messages import Need

NOW = datetime(2026, 11, 25, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("situation", "step"),
    [
        (Situation(Need.LOGIN), Step.PASSWORD),
        (Situation(Need.FACTOR, has_factor=True), Step.CODE),
        (Situation(Need.FACTOR, password_at=NOW - timedelta(minutes=9)), Step.ENROLMENT),
        (Situation(Need.FACTOR, password_at=NOW - timedelta(minutes=10)), Step.PASSWORD),
        (Situation(Need.FACTOR), Step.PASSWORD),
        (Situation(Need.CONSENT), Step.CONSENT),
        (Situation(Need.REFUSED), Step.REFUSED),
    ],
)
def test_decide_step_follows_from_what_the_server_knows(situation, step):
    assert decide_step(situation, NOW) is step


@pytest.mark.parametrize("need", [Need.CONFIRM_LOGOUT, Need.SIGNED_OUT])
def test_decide_step_signing_out_is_no_step(need):
    with pytest.raises(ValueError, match="no step"):
        decide_step(Situation(need), NOW)


def everything_that_can_be_sent():
    flags = product([False, True], repeat=5)
    for (post, password, code, recovery, enrolment), wish in product(flags, Wish):
        yield Sent(post, "amina", password, code, recovery, enrolment, wish=wish)


@pytest.mark.parametrize("step", Step)
def test_a31_decide_act_never_does_what_the_open_step_does_not_accept(step):
    for sent in everything_that_can_be_sent():
        act = decide_act(step, sent)
        assert act is Act.LOOK or act in ACCEPTS[step]
        assert sent.is_post or act is Act.LOOK


@pytest.mark.parametrize(
    ("step", "sent", "act"),
    [
        (Step.CODE, Sent(True, has_code=True), Act.TRY_CODE),
        (Step.CODE, Sent(True, has_code=True, by_recovery=True), Act.TRY_RECOVERY),
        (Step.ENROLMENT, Sent(True, has_code=True, has_enrolment=True), Act.CONFIRM_ENROLMENT),
        (Step.ENROLMENT, Sent(True, has_code=True), Act.LOOK),
        (Step.CODE, Sent(True, has_code=True, has_enrolment=True), Act.LOOK),
        (Step.CONSENT, Sent(True, wish=Wish.AGREE), Act.AGREE),
        (Step.CONSENT, Sent(True, wish=Wish.DECLINE), Act.DECLINE),
        (Step.CONSENT, Sent(False, wish=Wish.AGREE), Act.LOOK),
        (Step.REFUSED, Sent(True, wish=Wish.AGREE), Act.LOOK),
        (Step.REFUSED, Sent(True, wish=Wish.LEAVE), Act.LEAVE),
        (Step.PASSWORD, Sent(True, has_code=True), Act.LOOK),
    ],
)
def test_decide_act_table(step, sent, act):
    assert decide_act(step, sent) is act


def test_decide_first_a_name_with_a_password_comes_before_any_old_session():
    assert decide_first(Sent(True, "amina", has_password=True))
    assert not decide_first(Sent(True, "", has_password=True))
    assert not decide_first(Sent(False, "amina", has_password=True))


@pytest.mark.parametrize(
    ("situation", "sent", "name"),
    [
        (Situation(Need.LOGIN, known_name="omar"), Sent(), "omar"),
        (Situation(Need.LOGIN, known_name="omar"), Sent(other_person=True), ""),
        (Situation(Need.LOGIN, reason="hint", known_name="omar"), Sent(), ""),
        (Situation(Need.LOGIN, known_name="omar"), Sent(True, "sara"), "sara"),
    ],
)
def test_decide_name_is_the_sessions_own_only_for_the_same_person(situation, sent, name):
    assert decide_name(situation, sent) == name


@pytest.mark.parametrize(
    ("step", "sent", "page"),
    [
        (Step.PASSWORD, Sent(), Page.NAME),
        (Step.PASSWORD, Sent(True, "omar"), Page.PASSWORD),
        (Step.CODE, Sent(), Page.CODE),
        (Step.CODE, Sent(by_recovery=True), Page.RECOVERY),
        (Step.ENROLMENT, Sent(), Page.ENROLMENT),
        (Step.CONSENT, Sent(), Page.CONSENT),
        (Step.REFUSED, Sent(), Page.REFUSED),
    ],
)
def test_decide_page_table(step, sent, page):
    assert decide_page(step, Situation(Need.LOGIN), sent) is page
