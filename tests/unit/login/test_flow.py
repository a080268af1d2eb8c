"""The table of steps, whole: what is open, what is looked at, and what is shown (A31)."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.login.flow import (
    ACCEPTS,
    ENROLMENT_PASSWORD_AGE,
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

NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
SIGNING_IN = (Need.LOGIN, Need.FACTOR, Need.ACCOUNT, Need.CONSENT, Need.DEVICE, Need.REFUSED)
YES_NO = (False, True)
# Everything that a request can bring: 2 * 2 * 2 * 2 * 2 * 2 * 2 * 7 of them.
EVERYTHING_SENT = tuple(
    Sent(is_post, name, has_password, has_code, by_recovery, has_enrolment, other_person, wish)
    for is_post, name, has_password, has_code, by_recovery, has_enrolment, other_person, wish in product(
        YES_NO, ("", "amina"), YES_NO, YES_NO, YES_NO, YES_NO, YES_NO, Wish
    )
)
EVERY_SITUATION = tuple(
    Situation(need, reason, known, hinted, has_factor, password_at)
    for need, reason, known, hinted, has_factor, password_at in product(
        SIGNING_IN,
        ("", "hint", "max_age"),
        ("", "omar"),
        ("", "sara"),
        YES_NO,
        (None, NOW, NOW - ENROLMENT_PASSWORD_AGE),
    )
)


# -- which step is open ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "has_factor", "password_at", "step"),
    [
        (Need.LOGIN, False, None, Step.PASSWORD),
        (Need.LOGIN, True, NOW, Step.PASSWORD),
        (Need.FACTOR, True, None, Step.CODE),
        (Need.FACTOR, True, NOW - timedelta(hours=9), Step.CODE),
        (Need.FACTOR, False, NOW, Step.ENROLMENT),
        (Need.FACTOR, False, NOW - ENROLMENT_PASSWORD_AGE + timedelta(microseconds=1), Step.ENROLMENT),
        (Need.FACTOR, False, NOW - ENROLMENT_PASSWORD_AGE, Step.PASSWORD),
        (Need.FACTOR, False, NOW - timedelta(days=1), Step.PASSWORD),
        (Need.FACTOR, False, None, Step.PASSWORD),
        (Need.ACCOUNT, False, None, Step.ACCOUNT),
        (Need.ACCOUNT, True, NOW, Step.ACCOUNT),
        (Need.CONSENT, False, None, Step.CONSENT),
        (Need.CONSENT, True, NOW, Step.CONSENT),
        (Need.DEVICE, True, NOW, Step.DEVICE),
        (Need.REFUSED, False, None, Step.REFUSED),
        (Need.REFUSED, True, NOW, Step.REFUSED),
    ],
)
def test_step_of_a_need(need, has_factor, password_at, step):
    assert decide_step(Situation(need, has_factor=has_factor, password_at=password_at), NOW) is step


@pytest.mark.parametrize("need", [need for need in Need if need not in SIGNING_IN])
def test_step_of_a_need_that_is_no_signing_in_is_an_error(need):
    with pytest.raises(ValueError, match="no step"):
        decide_step(Situation(need), NOW)


# -- what is looked at ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("need", SIGNING_IN)
@pytest.mark.parametrize("has_factor", YES_NO)
def test_act_of_everything_sent_is_one_that_the_open_step_accepts_or_a_look(need, has_factor):
    step = decide_step(Situation(need, has_factor=has_factor, password_at=NOW), NOW)

    for sent in EVERYTHING_SENT:
        act = decide_act(step, sent)
        assert act is Act.LOOK or act in ACCEPTS[step]
        assert sent.is_post or act is Act.LOOK


def test_act_of_everything_sent_while_the_password_is_asked_for_is_a_look():
    assert {decide_act(Step.PASSWORD, sent) for sent in EVERYTHING_SENT} == {Act.LOOK}


def test_act_table_accepts_nothing_twice():
    accepted = [act for acts in ACCEPTS.values() for act in acts]

    assert set(ACCEPTS) == set(Step)
    assert len(accepted) == len(set(accepted))
    assert not {Act.LOOK, Act.TRY_PASSWORD} & set(accepted)


@pytest.mark.parametrize(
    ("step", "sent", "act"),
    [
        (Step.CODE, Sent(True, has_code=True), Act.TRY_CODE),
        (Step.CODE, Sent(True, has_code=True, by_recovery=True), Act.TRY_RECOVERY),
        (Step.CODE, Sent(True, has_code=True, has_enrolment=True), Act.LOOK),
        (Step.CODE, Sent(True, wish=Wish.AGREE), Act.LOOK),
        (Step.CODE, Sent(True), Act.LOOK),
        (Step.CODE, Sent(False, has_code=True), Act.LOOK),
        (Step.ENROLMENT, Sent(True, has_code=True, has_enrolment=True), Act.CONFIRM_ENROLMENT),
        (Step.ENROLMENT, Sent(True, has_code=True), Act.LOOK),
        (Step.ENROLMENT, Sent(True, has_code=True, by_recovery=True), Act.LOOK),
        (Step.ENROLMENT, Sent(True, has_enrolment=True), Act.LOOK),
        (Step.ACCOUNT, Sent(True, wish=Wish.CONTINUE), Act.CONTINUE),
        (Step.ACCOUNT, Sent(False, wish=Wish.CONTINUE), Act.LOOK),
        (Step.ACCOUNT, Sent(True, wish=Wish.AGREE), Act.LOOK),
        (Step.ACCOUNT, Sent(True, has_code=True, wish=Wish.CONTINUE), Act.LOOK),
        (Step.CONSENT, Sent(True, wish=Wish.CONTINUE), Act.LOOK),
        (Step.PASSWORD, Sent(True, wish=Wish.CONTINUE), Act.LOOK),
        (Step.CONSENT, Sent(True, wish=Wish.AGREE), Act.AGREE),
        (Step.CONSENT, Sent(True, wish=Wish.DECLINE), Act.DECLINE),
        (Step.CONSENT, Sent(True, wish=Wish.LEAVE), Act.LOOK),
        (Step.CONSENT, Sent(False, wish=Wish.AGREE), Act.LOOK),
        (Step.CONSENT, Sent(True, has_code=True, wish=Wish.AGREE), Act.LOOK),
        (Step.DEVICE, Sent(True, wish=Wish.LET_IN), Act.LET_IN),
        (Step.DEVICE, Sent(True, wish=Wish.TURN_AWAY), Act.TURN_AWAY),
        (Step.DEVICE, Sent(True, wish=Wish.AGREE), Act.LOOK),  # a consent is no word about a device
        (Step.DEVICE, Sent(False, wish=Wish.LET_IN), Act.LOOK),
        (Step.CONSENT, Sent(True, wish=Wish.LET_IN), Act.LOOK),
        (Step.CODE, Sent(True, wish=Wish.LET_IN), Act.LOOK),
        (Step.REFUSED, Sent(True, wish=Wish.LEAVE), Act.LEAVE),
        (Step.REFUSED, Sent(True, wish=Wish.AGREE), Act.LOOK),
        (Step.PASSWORD, Sent(True, has_code=True), Act.LOOK),
        (Step.PASSWORD, Sent(True, wish=Wish.AGREE), Act.LOOK),
        (Step.PASSWORD, Sent(True, has_password=True), Act.LOOK),
    ],
)
def test_act_of_what_was_sent(step, sent, act):
    assert decide_act(step, sent) is act


def test_password_comes_first_only_with_a_name_and_a_post():
    for sent in EVERYTHING_SENT:
        assert decide_first(sent) is (sent.is_post and sent.name != "" and sent.has_password)


# -- what is shown --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_recovery", YES_NO)
@pytest.mark.parametrize(
    ("step", "pages"),
    [
        (Step.CODE, (Page.CODE, Page.RECOVERY)),
        (Step.ENROLMENT, (Page.ENROLMENT, Page.ENROLMENT)),
        (Step.ACCOUNT, (Page.ACCOUNT, Page.ACCOUNT)),
        (Step.CONSENT, (Page.CONSENT, Page.CONSENT)),
        (Step.DEVICE, (Page.DEVICE, Page.DEVICE)),
        (Step.REFUSED, (Page.REFUSED, Page.REFUSED)),
        (Step.PASSWORD, (Page.NAME, Page.NAME)),
    ],
)
def test_page_of_a_step(step, pages, by_recovery):
    assert decide_page(step, Situation(Need.LOGIN), Sent(by_recovery=by_recovery)) is pages[by_recovery]


@pytest.mark.parametrize(
    ("situation", "sent", "name"),
    [
        (Situation(Need.LOGIN), Sent(), ""),
        (Situation(Need.LOGIN), Sent(name="amina"), "amina"),
        (Situation(Need.LOGIN, known_name="omar"), Sent(), "omar"),
        (Situation(Need.LOGIN, known_name="omar"), Sent(name="amina"), "amina"),
        (Situation(Need.LOGIN, known_name="omar"), Sent(other_person=True), ""),
        (Situation(Need.LOGIN, "hint", known_name="omar", hinted_name="sara"), Sent(), ""),
        (Situation(Need.LOGIN, "hint", known_name="omar"), Sent(name="sara"), "sara"),
        (Situation(Need.LOGIN, hinted_name="sara"), Sent(), ""),  # a hint is a proposal, never a name
    ],
)
def test_name_whose_password_is_asked_for(situation, sent, name):
    assert decide_name(situation, sent) == name
    assert decide_page(Step.PASSWORD, situation, sent) is (Page.PASSWORD if name else Page.NAME)


@pytest.mark.parametrize(
    ("sent", "page"),
    [
        (Sent(), Page.ACCOUNT),
        (Sent(other_person=True), Page.NAME),
        (Sent(name="sara"), Page.PASSWORD),
        (Sent(other_person=True, name="sara"), Page.PASSWORD),
        (Sent(wish=Wish.CONTINUE), Page.ACCOUNT),
    ],
)
def test_page_while_an_account_is_chosen(sent, page):
    assert decide_page(Step.ACCOUNT, Situation(Need.ACCOUNT, known_name="omar"), sent) is page


def test_every_situation_with_everything_sent_has_a_page_of_its_own_step():
    belongs = {
        Step.PASSWORD: {Page.NAME, Page.PASSWORD}, Step.CODE: {Page.CODE, Page.RECOVERY},
        Step.ENROLMENT: {Page.ENROLMENT}, Step.ACCOUNT: {Page.ACCOUNT, Page.NAME, Page.PASSWORD},
        Step.CONSENT: {Page.CONSENT}, Step.DEVICE: {Page.DEVICE}, Step.REFUSED: {Page.REFUSED},
    }  # fmt: skip
    for situation, sent in product(EVERY_SITUATION, EVERYTHING_SENT):
        step = decide_step(situation, NOW)
        assert decide_page(step, situation, sent) in belongs[step]


# -- any order ------------------------------------------------------------------------------------------------


class Walker:
    """A person's progress as the server would know it; `order` says in which order things happened."""

    def __init__(self, *, enrolled: bool, asks_consent: bool) -> None:
        self.password_at: datetime | None = None
        self.factor = self.consent = False
        self.enrolled, self.asks_consent = enrolled, asks_consent
        self.order: list[Act] = []

    def need(self) -> Need | None:
        if self.password_at is None:
            return Need.LOGIN
        if not self.factor:
            return Need.FACTOR
        return Need.CONSENT if self.asks_consent and not self.consent else None

    def send(self, sent: Sent, now: datetime) -> None:
        if decide_first(sent):
            self.order.append(Act.TRY_PASSWORD)
            self.password_at = now
            return
        need = self.need()
        if need is None:
            return
        step = decide_step(Situation(need, has_factor=self.enrolled, password_at=self.password_at), now)
        act = decide_act(step, sent)
        if act is not Act.LOOK:
            assert act in ACCEPTS[step]
            self.order.append(act)
        match act:
            case Act.TRY_CODE | Act.TRY_RECOVERY:
                self.factor = True
            case Act.CONFIRM_ENROLMENT:
                self.factor = self.enrolled = True
            case Act.AGREE:
                self.consent = True


@given(
    forms=st.lists(
        st.tuples(st.sampled_from(EVERYTHING_SENT), st.sampled_from((0, 30, 599, 600, 7200))), max_size=12
    ),
    enrolled=st.booleans(),
    asks_consent=st.booleans(),
)
def test_walk_in_any_order_never_gets_ahead_of_what_is_open(forms, enrolled, asks_consent):
    walker, now = Walker(enrolled=enrolled, asks_consent=asks_consent), NOW

    for sent, seconds in forms:
        now += timedelta(seconds=seconds)
        walker.send(sent, now)

    order = walker.order
    assert not order or order[0] is Act.TRY_PASSWORD
    assert (walker.need() is None) <= {Act.TRY_PASSWORD}.issubset(order)
    if Act.AGREE in order:
        before = order[: order.index(Act.AGREE)]
        assert {Act.TRY_CODE, Act.TRY_RECOVERY, Act.CONFIRM_ENROLMENT} & set(before)
    if enrolled:
        assert Act.CONFIRM_ENROLMENT not in order
    elif Act.TRY_CODE in order or Act.TRY_RECOVERY in order:
        raise AssertionError("a code was tried of somebody who has no second factor")
