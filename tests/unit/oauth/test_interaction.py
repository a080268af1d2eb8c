"""The decision of the authorization endpoint, as a table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from iam.access.policy import Admitted, Level, Refused, Requirement
from iam.oauth.protocol.interaction import (
    AskConsent,
    AskFactor,
    AskLogin,
    Fail,
    FlowError,
    Issue,
    NoAccess,
    decide_interaction,
)
from iam.oauth.protocol.messages import AuthorizationRequest, SessionFacts

NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
REQUEST = AuthorizationRequest("app", "https://app.example/cb", ("openid",), NOW, "c" * 43)
SESSION = SessionFacts(
    UUID(int=1), 0, UUID(int=2), "sub-1", 0, NOW - timedelta(minutes=10), NOW - timedelta(minutes=10), "otp",
    NOW + timedelta(hours=11),
)  # fmt: skip
PASSWORD_ONLY = replace(SESSION, factor_at=None, factor_kind="")
AAL1 = Requirement(Level.AAL1, None, ())
AAL2 = Requirement(Level.AAL2, None, ("organisation",))
FRESH = Requirement(Level.AAL2, timedelta(seconds=300), ("application",))


def decide(request=REQUEST, session=SESSION, admission=Admitted(), requirement=AAL2, unagreed=(), now=NOW):
    known = session is not None
    return decide_interaction(
        request,
        session,
        admission if known else None,
        requirement if known else None,
        unagreed,
        session.sub if known else "",
        now,
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"session": None}, AskLogin("none"), id="no session"),
        pytest.param(
            {"request": replace(REQUEST, prompt=frozenset({"login"}))}, AskLogin("prompt"), id="prompt=login"
        ),
        pytest.param({"request": replace(REQUEST, max_age=599)}, AskLogin("max_age"), id="too old"),
        pytest.param({"request": replace(REQUEST, max_age=0)}, AskLogin("max_age"), id="max_age=0"),
        pytest.param(
            {"request": replace(REQUEST, hinted_sub="other")}, AskLogin("hint"), id="hint names another"
        ),
        pytest.param({"admission": Refused("no_role")}, NoAccess("no_role"), id="not admitted"),
        pytest.param({"session": PASSWORD_ONLY}, AskFactor("policy"), id="policy asks a factor"),
        pytest.param({"requirement": FRESH}, AskFactor("age"), id="factor too old"),
        pytest.param(
            {
                "session": PASSWORD_ONLY,
                "requirement": AAL1,
                "request": replace(REQUEST, acr_values=("aal2", "aal1")),
            },
            AskFactor("acr"),
            id="acr_values prefers aal2",
        ),
        pytest.param({"unagreed": ("openid",)}, AskConsent(("openid",)), id="consent"),
    ],
)
def test_decide_missing_step_asks_for_it(changes, expected):
    assert decide(**changes) == expected


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param({"session": None}, FlowError.LOGIN_REQUIRED, id="no session"),
        pytest.param({"session": PASSWORD_ONLY}, FlowError.INTERACTION_REQUIRED, id="no factor"),
        pytest.param({"requirement": FRESH}, FlowError.INTERACTION_REQUIRED, id="old factor"),
        pytest.param({"unagreed": ("openid",)}, FlowError.CONSENT_REQUIRED, id="no consent"),
        pytest.param({"admission": Refused("no_role")}, FlowError.ACCESS_DENIED, id="not admitted"),
    ],
)
@pytest.mark.spec("OIDC Core", "3.1.2.6", "prompt=none answers every question with an error")
def test_decide_prompt_none_never_asks(changes, error):
    decision = decide(**{"request": replace(REQUEST, prompt=frozenset({"none"})), **changes})

    assert isinstance(decision, Fail)
    assert decision.error is error


def test_decide_everything_there_issues_with_the_sessions_own_facts():
    assert decide() == Issue("aal2", ("pwd", "otp", "mfa"), SESSION.password_at)


def test_decide_password_only_says_aal1_and_nothing_more():
    assert decide(session=PASSWORD_ONLY, requirement=AAL1) == Issue("aal1", ("pwd",), SESSION.password_at)


@pytest.mark.parametrize("max_age", [0, 1, 300])
@pytest.mark.spec("OIDC Core", "3.1.2.1", "max_age is met by a sign-in inside the flow")
def test_decide_signed_in_since_the_request_meets_max_age_and_prompt(max_age):
    later = NOW + timedelta(minutes=8)
    fresh = replace(SESSION, password_at=NOW + timedelta(minutes=1), factor_at=NOW + timedelta(minutes=2))
    request = replace(REQUEST, max_age=max_age, prompt=frozenset({"login"}))

    assert isinstance(decide(request=request, session=fresh, now=later), Issue)


def test_decide_prompt_login_with_a_fresh_password_still_asks_the_factor_again():
    half = replace(SESSION, password_at=NOW + timedelta(minutes=1))
    request = replace(REQUEST, prompt=frozenset({"login"}))

    assert decide(request=request, session=half, now=NOW + timedelta(minutes=2)) == AskFactor("prompt")


def test_decide_factor_exactly_as_old_as_allowed_is_fresh():
    session = replace(SESSION, factor_at=NOW - timedelta(seconds=300))

    assert isinstance(decide(session=session, requirement=FRESH), Issue)


def test_decide_somebody_else_signed_in_than_hinted_ends_with_login_required():
    session = replace(SESSION, password_at=NOW + timedelta(minutes=1))
    request = replace(REQUEST, hinted_sub="other")

    decision = decide(request=request, session=session, now=NOW + timedelta(minutes=2))

    assert isinstance(decision, Fail)
    assert decision.error is FlowError.LOGIN_REQUIRED


def test_decide_refused_person_is_told_before_being_asked_for_a_code():
    assert decide(session=PASSWORD_ONLY, admission=Refused("no_role")) == NoAccess("no_role")
