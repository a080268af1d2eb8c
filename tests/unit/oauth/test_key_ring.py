"""The life of a signing key: the table of its passages, and what the deciders make of a ring (US-33)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol.claims import ACCESS_TOKEN_LIFE, ID_TOKEN_LIFE
from iam.oauth.protocol.key_ring import (
    JWKS_CACHE,
    OVERLAP,
    RETIRING_EMERGENCY,
    RETIRING_PLANNED,
    TRANSITIONS,
    Cause,
    Change,
    Plan,
    Reader,
    RingKey,
    Status,
    Waiting,
    Withdrawal,
    decide_due,
    decide_emergency,
    decide_first,
    decide_planned,
    decide_withdrawal,
    waiting_for,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ROTATION = timedelta(days=90)
SECOND = timedelta(seconds=1)


def key(
    kid: str, status: Status, *, age: timedelta = timedelta(), algorithm: str = "ES256", **more
) -> RingKey:
    at = NOW - age
    activated = at if status in {Status.ACTIVE, Status.RETIRING} else None
    return RingKey(kid, algorithm, status, at, **{"activated_at": activated, **more})


ACTIVE = key("a", Status.ACTIVE)
OLD = key("a", Status.ACTIVE, age=ROTATION - OVERLAP)
NEXT = key("n", Status.NEXT, age=OVERLAP)
RETIRING = key("r", Status.RETIRING, age=ROTATION, retires_at=NOW + timedelta(hours=1))


def after(ring: list[RingKey], plans: list[Plan], now: datetime) -> list[RingKey]:
    """Carry plans out as the database does, in values."""
    keys = {one.kid: one for one in ring}
    for number, plan in enumerate(plans):
        for change in plan.changes:
            assert keys[change.kid].status is change.before
            activated = now if change.after is Status.ACTIVE else keys[change.kid].activated_at
            keys[change.kid] = replace(
                keys[change.kid], status=change.after, retires_at=change.retires_at, activated_at=activated
            )
        if plan.makes:
            kid = f"made-{len(keys)}-{number}"
            activated = now if plan.makes is Status.ACTIVE else None
            keys[kid] = RingKey(kid, plan.algorithm, plan.makes, now, activated)
    return list(keys.values())


# -- the table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", Status)
@pytest.mark.parametrize("to", Status)
def test_change_only_passages_of_the_table_exist(before: Status, to: Status):
    if to in TRANSITIONS[before]:
        assert Change("k", before, to).after is to
    else:
        with pytest.raises(ValueError, match="cannot pass"):
            Change("k", before, to)


def test_table_nothing_comes_back():
    order = list(Status)

    assert all(order.index(to) >= order.index(before) for before in Status for to in TRANSITIONS[before])
    assert TRANSITIONS[Status.RETIRED] == frozenset()


@pytest.mark.spec(
    "OIDC Core", "10.1.1", "old keys stay published as long as what they signed may be verified"
)
@pytest.mark.rules("core/10.2.1/rotation")
def test_times_cover_every_token_and_every_cache():
    assert max(ACCESS_TOKEN_LIFE, ID_TOKEN_LIFE) + JWKS_CACHE <= RETIRING_PLANNED
    assert timedelta(hours=24) <= RETIRING_PLANNED
    assert timedelta(hours=24) <= OVERLAP
    assert max(ACCESS_TOKEN_LIFE, ID_TOKEN_LIFE) <= RETIRING_EMERGENCY


@pytest.mark.parametrize(
    ("status", "retires_at", "expected"),
    [
        (Status.NEXT, None, True),
        (Status.ACTIVE, None, True),
        (Status.RETIRING, None, True),
        (Status.RETIRING, NOW + SECOND, True),
        (Status.RETIRING, NOW, False),
        (Status.RETIRING, NOW - SECOND, False),
        (Status.RETIRED, None, False),
        (Status.RETIRED, NOW + SECOND, False),
    ],
)
def test_verifies_until_its_time_is_over(status, retires_at, expected):
    assert key("k", status, retires_at=retires_at).verifies(NOW) is expected


# -- first keys -------------------------------------------------------------------------------------------


def test_first_each_algorithm_without_an_active_key_gets_one():
    ring = [ACTIVE, key("n", Status.NEXT, algorithm="RS256"), key("x", Status.RETIRED, algorithm="EdDSA")]

    plans = decide_first(ring, ["ES256", "RS256", "EdDSA"])

    assert plans == [
        Plan("RS256", Cause.FIRST, "", Status.ACTIVE),
        Plan("EdDSA", Cause.FIRST, "", Status.ACTIVE),
    ]
    assert decide_first(after(ring, plans, NOW), ["ES256", "RS256", "EdDSA"]) == []


# -- planned ----------------------------------------------------------------------------------------------


def test_planned_publishes_a_next_key_and_changes_nothing_else():
    assert decide_planned([ACTIVE, RETIRING], "ES256") == Plan("ES256", Cause.PLANNED, "a", Status.NEXT)


@pytest.mark.parametrize(
    "ring",
    [
        pytest.param([ACTIVE, NEXT], id="there is one"),
        pytest.param([], id="nothing to follow"),
        pytest.param([key("a", Status.ACTIVE, algorithm="RS256")], id="another algorithm's"),
    ],
)
def test_planned_nothing_to_do(ring):
    assert decide_planned(ring, "ES256") is None


@pytest.mark.parametrize(
    ("age", "due"),
    [(ROTATION - OVERLAP - SECOND, False), (ROTATION - OVERLAP, True), (ROTATION * 3, True)],
)
def test_due_next_key_is_published_one_overlap_before_the_rotation(age, due):
    plans = decide_due([key("a", Status.ACTIVE, age=age)], [], ROTATION, NOW)

    assert plans == ([Plan("ES256", Cause.PLANNED, "a", Status.NEXT)] if due else [])


@pytest.mark.parametrize(
    ("published", "due"), [(OVERLAP - SECOND, False), (OVERLAP, True), (OVERLAP * 9, True)]
)
def test_due_next_key_takes_over_after_a_day_and_the_old_one_stays(published, due):
    plans = decide_due([OLD, replace(NEXT, created_at=NOW - published)], [], ROTATION, NOW)

    old = Change("a", Status.ACTIVE, Status.RETIRING, NOW + RETIRING_PLANNED)
    expected = Plan("ES256", Cause.PLANNED, "a", None, (old, Change("n", Status.NEXT, Status.ACTIVE)))
    assert plans == ([expected] if due else [])


def test_due_next_key_made_by_hand_takes_over_though_the_active_one_is_young():
    assert [plan.changes[1].kid for plan in decide_due([ACTIVE, NEXT], [], ROTATION, NOW)] == ["n"]


@pytest.mark.parametrize(
    ("reader", "waits"),
    [
        pytest.param(Reader("app", critical=True), True, id="critical, fetched nothing"),
        pytest.param(Reader("app", critical=True, kids=frozenset("a")), True, id="critical, has the old one"),
        pytest.param(Reader("app", critical=True, kids=frozenset("an")), False, id="critical, has it"),
        pytest.param(Reader("app", critical=False), False, id="not critical"),
    ],
)
def test_due_planned_rotation_waits_for_critical_applications_however_long(reader, waits):
    later = NOW + timedelta(days=60)

    assert bool(decide_due([OLD, NEXT], [reader], ROTATION, later)) is not waits
    assert waiting_for(NEXT, [reader]).for_clients == (("app",) if waits else ())


def test_waiting_names_everybody_and_the_hour():
    readers = [Reader("z", critical=True), Reader("b", critical=True), Reader("c", critical=False)]

    assert waiting_for(NEXT, readers) == Waiting(NEXT.created_at + OVERLAP, ("b", "z"))


def test_due_retiring_key_is_withdrawn_when_its_time_is_over():
    ring = [ACTIVE, RETIRING]

    assert decide_due(ring, [], ROTATION, NOW) == []
    (plan,) = decide_due(ring, [], ROTATION, NOW + timedelta(hours=1))
    assert plan == Plan("ES256", Cause.TIME_OVER, "a", None, (Change("r", Status.RETIRING, Status.RETIRED),))


# -- emergency --------------------------------------------------------------------------------------------


def test_emergency_withdraw_now_leaves_nothing_but_the_new_key():
    ring = [ACTIVE, NEXT, RETIRING, key("o", Status.ACTIVE, algorithm="RS256"), key("x", Status.RETIRED)]

    plan = decide_emergency(ring, "ES256", Withdrawal.NOW, NOW)

    assert (plan.held, plan.makes, plan.cause) == ("a", Status.ACTIVE, Cause.EMERGENCY)
    rest = {one.kid: one.status for one in after(ring, [plan], NOW)}
    assert rest.pop("made-5-0") is Status.ACTIVE
    assert rest == {
        "a": Status.RETIRED, "n": Status.RETIRED, "r": Status.RETIRED, "o": Status.ACTIVE, "x": Status.RETIRED,
    }  # fmt: skip


def test_emergency_after_tokens_end_shortens_every_end_and_drops_the_next_key():
    late, soon = replace(RETIRING, kid="late"), replace(RETIRING, kid="soon", retires_at=NOW + SECOND)

    plan = decide_emergency([ACTIVE, NEXT, late, soon], "ES256", Withdrawal.AFTER_TOKENS_END, NOW)

    ends = {one.kid: one for one in after([ACTIVE, NEXT, late, soon], [plan], NOW)}
    assert ends["a"].status is Status.RETIRING
    assert ends["a"].retires_at == ends["late"].retires_at == NOW + RETIRING_EMERGENCY
    assert ends["soon"].retires_at == NOW + SECOND
    assert ends["n"].status is Status.RETIRED


@pytest.mark.parametrize("withdrawal", Withdrawal)
def test_emergency_waits_for_nobody_and_works_without_an_active_key(withdrawal):
    plan = decide_emergency([RETIRING], "ES256", withdrawal, NOW)

    assert (plan.held, plan.makes) == ("", Status.ACTIVE)
    assert decide_emergency([], "ES256", withdrawal, NOW).makes is Status.ACTIVE


# -- by hand ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kid", "possible"), [("n", True), ("r", True), ("a", False), ("x", False), ("nobody", False)]
)
def test_withdrawal_never_of_the_key_that_signs(kid, possible):
    plan = decide_withdrawal([ACTIVE, NEXT, RETIRING, key("x", Status.RETIRED)], kid)

    assert (plan is not None) is possible
    assert plan is None or [change.kid for change in plan.changes] == [kid]


# -- whatever happens -------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["hour", "day", "month", "plan", "now", "later"]), max_size=40))
def test_any_history_keeps_one_active_key_and_never_signs_with_one_unpublished_for_a_day(history: list[str]):
    """At every instant exactly one key signs, and what it signed a token's life ago is still believed."""
    now, ring = NOW, after([], decide_first([], ["ES256"]), NOW)
    steps = {"hour": timedelta(hours=1), "day": timedelta(days=1), "month": timedelta(days=30)}
    for event in history:
        emergency = event in {"now", "later"}
        before = next(one for one in ring if one.status is Status.ACTIVE)
        if event in steps:
            now += steps[event]
            ring = after(ring, decide_due(ring, [], ROTATION, now), now)
            assert decide_due(ring, [], ROTATION, now) == []
        elif event == "plan":
            plan = decide_planned(ring, "ES256")
            ring = after(ring, [plan] if plan else [], now)
        else:
            withdrawal = Withdrawal.NOW if event == "now" else Withdrawal.AFTER_TOKENS_END
            ring = after(ring, [decide_emergency(ring, "ES256", withdrawal, now)], now)
        (active,) = [one for one in ring if one.status is Status.ACTIVE]
        assert len([one for one in ring if one.status is Status.NEXT]) <= 1
        if active.kid != before.kid:
            old = next(one for one in ring if one.kid == before.kid)
            assert emergency or active.created_at + OVERLAP <= now
            assert event == "now" or old.verifies(now + ACCESS_TOKEN_LIFE)
