"""The decision of the authorization endpoint, as a table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.access.policy import Admitted, Level, Refused, Requirement
from iam.oauth.protocol.asked import Asked, RequestedClaim, RequestedClaims
from iam.oauth.protocol.interaction import (
    AskAccount,
    AskConsent,
    AskFactor,
    AskLogin,
    Fail,
    FlowError,
    Issue,
    NoAccess,
    Present,
    decide_interaction,
)
from iam.oauth.protocol.levels import LEVELS, REACHABLE, worth_of
from iam.oauth.protocol.messages import NO_DISCLOSURE, AuthorizationRequest, Disclosure, SessionFacts

NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
REQUEST = AuthorizationRequest("app", "https://app.example/cb", ("openid",), NOW, "c" * 43)
SESSION = SessionFacts(
    UUID(int=1), 0, UUID(int=2), "sub-1", 0, NOW - timedelta(minutes=10), NOW - timedelta(minutes=10), "otp",
    NOW + timedelta(hours=11),
)  # fmt: skip
PASSWORD_ONLY = replace(SESSION, factor_at=None, factor_kind="")
AAL1 = Requirement(Level.AAL1, None, ())
AAL2 = Requirement(Level.AAL2, None, ("organisation",))
SCOPE = Disclosure(("openid",))
ADMITTED = Admitted()
FRESH = Requirement(Level.AAL2, timedelta(seconds=300), ("application",))


def decide(
    request=REQUEST,
    session=SESSION,
    admission=ADMITTED,
    requirement=AAL2,
    unagreed=NO_DISCLOSURE,
    now=NOW,
    **more,
):
    present = None
    if session is not None:
        present = Present(session, session.sub, admission, requirement, unagreed, **more)
    return decide_interaction(request, present, now)


def with_claims(request=REQUEST, **id_token):
    """Return a request that asks for claims in the ID token."""
    return replace(request, asked=Asked(claims=RequestedClaims(id_token=id_token)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"session": None}, AskLogin("none"), id="no session"),
        pytest.param(
            {"request": replace(REQUEST, prompt=frozenset({"login"}))}, AskLogin("prompt"), id="prompt=login"
        ),
        pytest.param(
            {"request": replace(REQUEST, prompt=frozenset({"select_account"}))},
            AskAccount(),
            id="select_account",
        ),
        pytest.param(
            {"request": replace(REQUEST, prompt=frozenset({"select_account", "login"})), "chosen": True},
            AskLogin("prompt"),
            id="chosen, then prompt=login",
        ),
        pytest.param(
            {"request": with_claims(sub=RequestedClaim(values=("other",)))},
            AskLogin("hint"),
            id="sub of another",
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
        pytest.param({"unagreed": SCOPE}, AskConsent(SCOPE), id="consent"),
    ],
)
@pytest.mark.rules("core/3.1.2.1/max-age")
def test_decide_missing_step_asks_for_it(changes, expected):
    assert decide(**changes) == expected


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param({"session": None}, FlowError.LOGIN_REQUIRED, id="no session"),
        pytest.param({"session": PASSWORD_ONLY}, FlowError.INTERACTION_REQUIRED, id="no factor"),
        pytest.param({"requirement": FRESH}, FlowError.INTERACTION_REQUIRED, id="old factor"),
        pytest.param({"unagreed": SCOPE}, FlowError.CONSENT_REQUIRED, id="no consent"),
        pytest.param({"admission": Refused("no_role")}, FlowError.ACCESS_DENIED, id="not admitted"),
    ],
)
@pytest.mark.spec("OIDC Core", "3.1.2.6", "prompt=none answers every question with an error")
@pytest.mark.rules("core/3.1.2.3/prompt-none", "core/3.1.2.6/error")
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


@pytest.mark.rules("core/3.1.2.1/hint-other", "core/3.1.2.1/prompt-login-error")
def test_decide_somebody_else_signed_in_than_hinted_ends_with_login_required():
    session = replace(SESSION, password_at=NOW + timedelta(minutes=1))
    request = replace(REQUEST, hinted_sub="other")

    decision = decide(request=request, session=session, now=NOW + timedelta(minutes=2))

    assert isinstance(decision, Fail)
    assert decision.error is FlowError.LOGIN_REQUIRED


def test_decide_refused_person_is_told_before_being_asked_for_a_code():
    assert decide(session=PASSWORD_ONLY, admission=Refused("no_role")) == NoAccess("no_role")


# -- select_account, and whom the request names -------------------------------------------------------------------


SELECT = replace(REQUEST, prompt=frozenset({"select_account"}))


@pytest.mark.spec("OIDC Core", "3.1.2.1", "select_account is met by a choice or a sign-in inside the flow")
@pytest.mark.parametrize(
    "changes",
    [{"chosen": True}, {"session": replace(SESSION, password_at=NOW, factor_at=NOW)}],
    ids=["chosen", "signed in since"],
)
def test_decide_select_account_met_goes_on(changes):
    assert isinstance(decide(request=SELECT, **changes), Issue)


def test_decide_select_account_asks_for_the_choice_before_anything_else_of_that_account():
    decision = decide(
        request=SELECT, session=PASSWORD_ONLY, admission=Refused("no_role"), unagreed=SCOPE, requirement=FRESH
    )

    assert decision == AskAccount()


@pytest.mark.rules("core/3.1.2.1/prompt-select-account-error")
def test_decide_choice_that_cannot_be_asked_for_is_account_selection_required():
    decision = decide(request=replace(REQUEST, prompt=frozenset({"none", "select_account"})))

    assert isinstance(decision, Fail)
    assert decision.error is FlowError.ACCOUNT_SELECTION_REQUIRED


@pytest.mark.spec("OIDC Core", "3.1.2.2", "somebody else than the hint names signs in: login_required")
@pytest.mark.parametrize(
    "request_",
    [
        replace(REQUEST, hinted_sub="other", prompt=frozenset({"login"})),
        replace(REQUEST, hinted_sub="other", prompt=frozenset({"select_account"})),
        with_claims(sub=RequestedClaim(values=("other", "third"))),
        with_claims(replace(REQUEST, hinted_sub="sub-1"), sub=RequestedClaim(values=("other",))),
        with_claims(replace(REQUEST, hinted_sub="other"), sub=RequestedClaim(values=("sub-1",))),
    ],
    ids=[
        "hint and login",
        "hint and select",
        "sub values",
        "hint is right, sub is not",
        "sub is right, hint is not",
    ],
)
@pytest.mark.rules("core/3.1.2.2/sub-asked")
def test_decide_somebody_else_than_named_is_asked_to_sign_in_and_then_refused(request_):
    before = decide(request=request_)
    after = decide(request=request_, session=replace(SESSION, password_at=NOW, factor_at=NOW), chosen=True)
    silent = decide(request=replace(request_, prompt=frozenset({"none"})))

    assert before == AskLogin("hint")
    assert isinstance(after, Fail)
    assert isinstance(silent, Fail)
    assert after.error is silent.error is FlowError.LOGIN_REQUIRED


@pytest.mark.spec("OIDC Core", "5.5.1", "the person of the value of sub is answered")
@pytest.mark.parametrize(
    "claim", [RequestedClaim(values=("sub-1",)), RequestedClaim(values=("x", "sub-1")), RequestedClaim()]
)
def test_decide_person_whom_sub_names_is_answered(claim):
    assert isinstance(decide(request=with_claims(sub=claim)), Issue)


def test_decide_prompt_login_of_the_hinted_person_asks_for_their_password():
    request = replace(REQUEST, hinted_sub="sub-1", prompt=frozenset({"login"}))

    assert decide(request=request) == AskLogin("prompt")


# -- levels -----------------------------------------------------------------------------------------------------------


RECOVERY = replace(SESSION, factor_kind="recovery")
UNKNOWN = replace(SESSION, factor_kind="telepathy")


def acr(*values, essential=False):
    return with_claims(acr=RequestedClaim(essential, values))


def asking(*values):
    return replace(REQUEST, acr_values=values)


@pytest.mark.parametrize(
    ("request_", "session", "expected"),
    [
        # wished for: tried, and told truthfully
        (asking(), PASSWORD_ONLY, "aal1"),
        (asking("aal1"), PASSWORD_ONLY, "aal1"),
        (asking("aal2"), PASSWORD_ONLY, AskFactor("acr")),
        (asking("aal1", "aal2"), PASSWORD_ONLY, "aal1"),
        (asking("aal2", "aal1"), PASSWORD_ONLY, AskFactor("acr")),
        (asking("phr"), PASSWORD_ONLY, AskFactor("acr")),
        (asking("phrh", "phr"), SESSION, "aal2"),
        (asking("phr", "aal1"), PASSWORD_ONLY, "aal1"),
        (asking("urn:other", "gold"), PASSWORD_ONLY, "aal1"),
        (asking("gold", "aal2"), PASSWORD_ONLY, AskFactor("acr")),
        (asking("aal1"), SESSION, "aal2"),
        (acr("aal2"), PASSWORD_ONLY, AskFactor("acr")),
        (acr("phr"), SESSION, "aal2"),
        (acr(), PASSWORD_ONLY, "aal1"),
        # essential: met, or an error
        (acr("aal1", essential=True), PASSWORD_ONLY, "aal1"),
        (acr("aal2", essential=True), PASSWORD_ONLY, AskFactor("acr")),
        (acr("aal2", essential=True), SESSION, "aal2"),
        (acr("aal1", essential=True), SESSION, "aal1"),
        (acr("aal2", "aal1", essential=True), PASSWORD_ONLY, "aal1"),
        (acr("aal1", "aal2", essential=True), SESSION, "aal2"),
        (acr("phr", "aal2", essential=True), PASSWORD_ONLY, AskFactor("acr")),
        (acr("phr", "aal2", essential=True), SESSION, "aal2"),
        (acr("phr", essential=True), SESSION, FlowError.UNMET_AUTHENTICATION_REQUIREMENTS),
        (acr("phr", essential=True), None, FlowError.UNMET_AUTHENTICATION_REQUIREMENTS),
        (acr("gold", "phrh", essential=True), PASSWORD_ONLY, FlowError.UNMET_AUTHENTICATION_REQUIREMENTS),
        (acr("AAL2", essential=True), SESSION, FlowError.UNMET_AUTHENTICATION_REQUIREMENTS),
        (acr(essential=True), PASSWORD_ONLY, "aal1"),
        # what must be met stands above what is wished
        (replace(acr("aal1", essential=True), acr_values=("aal2",)), PASSWORD_ONLY, "aal1"),
        (replace(acr("aal2", essential=True), acr_values=("aal1",)), PASSWORD_ONLY, AskFactor("acr")),
        # a factor that is not known adds nothing
        (asking(), UNKNOWN, "aal1"),
        (acr("aal2", essential=True), UNKNOWN, AskFactor("acr")),
    ],
)
@pytest.mark.spec("OIDC Core", "5.5.1.1", "essential acr is met or refused, a voluntary one is tried")
def test_decide_level_asked_for(request_, session, expected):
    decision = decide(request=request_, session=session, requirement=AAL1)

    match decision:
        case Issue():
            assert decision.acr == expected
        case Fail():
            assert decision.error is expected
        case _:
            assert decision == expected


@pytest.mark.spec("RFC 8176", "2", "amr names the methods used")
@pytest.mark.parametrize(
    ("session", "amr"),
    [
        (PASSWORD_ONLY, ("pwd",)),
        (SESSION, ("pwd", "otp", "mfa")),
        (RECOVERY, ("pwd", "mfa")),
        (UNKNOWN, ("pwd",)),
    ],
)
def test_decide_methods_told_are_those_used(session, amr):
    decision = decide(session=session, requirement=AAL1)

    assert isinstance(decision, Issue)
    assert decision.amr == amr


def test_decide_essential_level_of_the_userinfo_member_counts_too():
    asked = Asked(claims=RequestedClaims(userinfo={"acr": RequestedClaim(essential=True, values=("phr",))}))

    decision = decide(request=replace(REQUEST, asked=asked))

    assert isinstance(decision, Fail)
    assert decision.error is FlowError.UNMET_AUTHENTICATION_REQUIREMENTS


def test_decide_policy_asks_for_a_factor_though_a_password_would_do_for_the_request():
    assert decide(request=acr("aal1", essential=True), session=PASSWORD_ONLY) == AskFactor("policy")


@pytest.mark.spec("RFC 9470", "4", "acr_values and max_age step an existing session up")
def test_decide_step_up_with_max_age_asks_password_then_factor_then_issues():
    request = replace(REQUEST, acr_values=("aal2",), max_age=60)
    password = replace(PASSWORD_ONLY, password_at=NOW + timedelta(seconds=5))
    both = replace(password, factor_at=NOW + timedelta(seconds=9), factor_kind="otp")

    assert decide(request=request, session=PASSWORD_ONLY, requirement=AAL1) == AskLogin("max_age")
    assert decide(request=request, session=password, requirement=AAL1) == AskFactor("acr")
    assert decide(request=request, session=both, requirement=AAL1) == Issue(
        "aal2", ("pwd", "otp", "mfa"), password.password_at
    )


levels = st.lists(st.sampled_from([*LEVELS, "gold", ""]), max_size=4).map(tuple)
sessions = st.sampled_from([PASSWORD_ONLY, SESSION, RECOVERY, UNKNOWN])


@given(
    levels,
    levels,
    st.booleans(),
    sessions,
    st.sampled_from([AAL1, AAL2]),
    st.sampled_from(["", "none", "login"]),
)
def test_decide_whatever_levels_are_asked_never_tells_more_than_happened_nor_less_than_must_be(
    wished, claimed, essential, session, requirement, prompt
):
    request = replace(
        acr(*claimed, essential=essential), acr_values=wished, prompt=frozenset({prompt} - {""})
    )

    decision = decide(request=request, session=session, requirement=requirement)

    if isinstance(decision, Issue):
        happened = worth_of(session)
        assert decision.acr in happened.levels
        assert decision.amr == happened.amr
        if essential and claimed:
            assert decision.acr in claimed
        elif not (essential and claimed):
            assert decision.acr == happened.levels[-1]
        assert prompt != "login"
    if essential and claimed and not set(claimed) & set(REACHABLE):
        assert isinstance(decision, Fail)
        assert decision.error is FlowError.UNMET_AUTHENTICATION_REQUIREMENTS


@given(levels, levels, st.booleans())
def test_decide_whoever_does_what_is_asked_is_answered(wished, claimed, essential):
    request = replace(acr(*claimed, essential=essential), acr_values=wished)

    decision = decide(request=request, session=PASSWORD_ONLY, requirement=AAL1)
    if isinstance(decision, AskFactor):
        decision = decide(request=request, session=SESSION, requirement=AAL1)

    reachable = not (essential and claimed) or bool(set(claimed) & set(REACHABLE))
    assert isinstance(decision, Issue) == reachable
