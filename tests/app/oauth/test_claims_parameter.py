"""Claims asked for by name, and conditions on the sign-in: what is told, to whom, and after whose consent."""

import json
from dataclasses import replace

import pytest

from iam.accounts.models import LoginSession, User
from iam.accounts.services import mark_factor, open_session
from iam.audit.facts import RequestFacts
from iam.audit.models import AuditEvent
from iam.oauth import interactions
from iam.oauth.clients import apply_all
from iam.oauth.models import Client, Consent
from iam.oauth.protocol.messages import Interaction, Need, Response

from .conftest import CLIENTS, SECRET, answer_of, claims_of

pytestmark = pytest.mark.django_db

BROWSER = "b" * 43
FACTS = RequestFacts("r-1", "192.0.2.1", "browser")


def asking(**places: dict) -> str:
    return json.dumps(places)


@pytest.fixture
def world(world):
    (other,) = (client for client in CLIENTS if client["client_id"] == "other")
    apply_all([{**other, "scope": "openid profile email roles"}], world.now, "system:test")
    User.objects.filter(pk=world.person.pk).update(email="amina@example.org")
    world.sign_in()
    return world.later(minutes=5)


def parked(world, client: str = "other", **changes: str) -> interactions.Parked:
    """Send a request that needs a page, park it, and return it as the sign-in pages see it."""
    interaction = world.authorize(client, **changes)
    assert isinstance(interaction, Interaction), interaction
    handle = interactions.park(interaction, BROWSER, world.now)
    return again(world, handle)


def again(world, handle: str) -> interactions.Parked:
    found = interactions.load(handle, BROWSER, world.now)
    assert found is not None
    return found


def evaluate(world, flow: interactions.Parked, session: LoginSession | None = None):
    return interactions.evaluate(again(world, flow.handle), session or world.session, FACTS, world.now)


# -- claims -----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("OIDC Core", "5.5", "a claim of the id_token member is in the ID token")
@pytest.mark.rules("core/5.5/id-token-member")
def test_claim_of_the_id_token_member_is_told_there_and_nowhere_else(world):
    tokens = world.tokens(
        scope="openid", claims=asking(id_token={"email": None, "name": {"essential": True}})
    )

    claims = claims_of(tokens["id_token"])
    userinfo = json.loads(world.userinfo(tokens["access_token"]).body)
    assert (claims["email"], claims["name"]) == ("amina@example.org", "Amina Diallo")
    assert not {"preferred_username", "locale", "office", "roles"} & set(claims)
    assert set(userinfo) == {"sub"}


@pytest.mark.spec("OIDC Core", "5.5", "a claim of the userinfo member is in the userinfo answer")
@pytest.mark.rules("core/5.5/userinfo-member")
def test_claim_of_the_userinfo_member_is_told_there_and_nowhere_else(world):
    tokens = world.tokens(scope="openid", claims=asking(userinfo={"locale": None, "office": None}))

    userinfo = json.loads(world.userinfo(tokens["access_token"]).body)
    assert userinfo == {"sub": world.person.sub, "locale": "fr", "office": "NIM"}
    assert not {"locale", "office"} & set(claims_of(tokens["id_token"]))


def test_claims_are_told_again_after_a_refresh(world):
    tokens = world.tokens(scope="openid", claims=asking(id_token={"email": None}, userinfo={"email": None}))

    refreshed = json.loads(world.refresh(tokens["refresh_token"]).body)

    assert claims_of(refreshed["id_token"])["email"] == "amina@example.org"
    assert json.loads(world.userinfo(refreshed["access_token"]).body)["email"] == "amina@example.org"


def test_claims_through_par_are_told(world):
    name = world.pushed(scope="openid", claims=asking(id_token={"email": None}))

    code = answer_of(world.visit(client_id="web", request_uri=name))["code"]

    assert claims_of(json.loads(world.exchange(code).body)["id_token"])["email"] == "amina@example.org"


def test_claim_of_a_scope_that_is_not_registered_is_not_told(world):
    (web,) = (client for client in CLIENTS if client["client_id"] == "web")
    apply_all([{**web, "scope": "openid roles"}], world.now, "system:test")

    tokens = world.tokens(scope="openid", claims=asking(id_token={"email": {"essential": True}}))

    assert "email" not in claims_of(tokens["id_token"])


def test_a24_claim_whose_scope_was_taken_from_the_client_is_told_no_more(world):
    tokens = world.tokens(scope="openid", claims=asking(id_token={"email": None}, userinfo={"email": None}))
    Client.objects.filter(client_id="web").update(scope_list=["openid", "roles"])

    refreshed = json.loads(world.refresh(tokens["refresh_token"]).body)

    assert "email" not in claims_of(refreshed["id_token"])
    assert "email" not in json.loads(world.userinfo(refreshed["access_token"]).body)


@pytest.mark.parametrize(
    "claims", ["", "x", "[]", '{"id_token": 1}', '{"id_token": {"acr": {"value": 1}}}', "{" * 4000]
)
def test_claims_not_well_formed_are_refused_at_the_clients_address(world, claims):
    answer = answer_of(world.authorize(claims=claims or "\x7f"))

    assert (answer["error"], answer["state"]) == ("invalid_request", "st")


def test_claims_doubled_are_refused(world):
    parameters = world.wanted()

    answer = answer_of(world.visit(**parameters, claims=["{}", "{}"]))

    assert answer["error"] == "invalid_request"


def test_discovery_says_that_claims_are_understood(world):
    from iam.oauth.protocol.messages import Request

    answer = world.ask(Request("GET", "/.well-known/openid-configuration"))

    metadata = json.loads(answer.body)
    assert metadata["claims_parameter_supported"] is True
    assert metadata["acr_values_supported"] == ["aal1", "aal2"]
    assert "select_account" in metadata["prompt_values_supported"]
    assert {"email", "name", "office"} <= set(metadata["claims_supported"])


# -- consent ----------------------------------------------------------------------------------------------------------


def test_consent_page_names_the_claims_beyond_the_scopes(world):
    answer = world.authorize(
        "other", scope="openid email", claims=asking(userinfo={"email": None, "locale": None})
    )

    assert isinstance(answer, Interaction)
    assert (answer.need, answer.disclosure.scopes, answer.disclosure.claims) == (
        Need.CONSENT, ("openid", "email"), ("locale",),
    )  # fmt: skip


def test_a10_consent_to_one_claim_is_remembered_and_is_no_consent_to_another(world):
    flow = parked(world, scope="openid", claims=asking(userinfo={"locale": None}))
    interactions.give_consent(flow, world.session, FACTS, world.now)
    assert isinstance(evaluate(world, flow), Response)

    same = world.authorize("other", scope="openid", claims=asking(userinfo={"locale": None}))
    more = world.authorize("other", scope="openid", claims=asking(userinfo={"locale": None, "email": None}))
    whole = world.authorize("other", scope="openid profile")

    assert "code" in answer_of(same)
    assert isinstance(more, Interaction)
    assert isinstance(whole, Interaction)
    assert (more.need, whole.need) == (Need.CONSENT, Need.CONSENT)
    assert Consent.objects.get().claims == ["locale"]
    assert AuditEvent.objects.get(action="person:consent:give").method == "openid claim:locale"


def test_a10_consent_of_another_person_in_the_same_flow_counts_for_nothing(world):
    flow = parked(world, scope="openid", claims=asking(userinfo={"email": None}))
    interactions.give_consent(flow, world.session, FACTS, world.now)
    somebody = User.objects.create(name_latin="Omar", created_at=world.now)
    session, _ = open_session(somebody, world.now, world.session.expires_at - world.now)
    mark_factor(session, "otp", world.now)

    answer = evaluate(world, flow, session)

    assert isinstance(answer, Interaction)
    assert answer.need is Need.CONSENT


def test_a10_mark_of_a_consent_page_is_of_one_flow_one_person_and_what_was_shown(world):
    flow = parked(world, scope="openid", claims=asking(userinfo={"email": None}))
    other = parked(world, scope="openid", claims=asking(userinfo={"locale": None}))
    marks = {interactions.consent_mark(flow, world.session), interactions.consent_mark(other, world.session)}
    assert flow.request is not None
    grown = replace(flow, request=replace(flow.request, scopes=("openid", "roles")))

    marks.add(interactions.consent_mark(grown, world.session))
    marks.add(interactions.account_mark(flow, world.session))

    assert len(marks) == 4


def test_consent_asked_by_prompt_none_is_consent_required(world):
    answer = world.authorize("other", scope="openid", prompt="none", claims=asking(userinfo={"email": None}))

    assert answer_of(answer)["error"] == "consent_required"


# -- conditions on the sign-in (US-35) --------------------------------------------------------------------------------


@pytest.mark.spec("OIDC Core", "5.5.1.1", "an essential acr that cannot be met is an error")
@pytest.mark.spec("OIDC Unmet Authentication Requirements", "2", "unmet_authentication_requirements")
@pytest.mark.parametrize("values", [["phr"], ["phrh", "phr"], ["https://refeds.org/profile/mfa"]])
@pytest.mark.rules("core/5.5.1.1/acr-essential")
def test_us35_essential_level_that_cannot_be_reached_is_an_error_never_a_lower_level(world, values):
    answer = answer_of(
        world.authorize(claims=asking(id_token={"acr": {"essential": True, "values": values}}))
    )

    assert answer["error"] == "unmet_authentication_requirements"
    assert "code" not in answer


@pytest.mark.rules("core/5.5.1.1/acr-essential")
def test_us35_essential_level_reached_is_told(world):
    tokens = world.tokens(claims=asking(id_token={"acr": {"essential": True, "value": "aal2"}}))

    for token in (tokens["id_token"], tokens["access_token"]):
        claims = claims_of(token)
        assert (claims["acr"], claims["amr"]) == ("aal2", ["pwd", "otp", "mfa"])


@pytest.mark.rules("core/3.1.2.1/acr-values", "core/5.5.1.1/acr-voluntary")
def test_us35_wish_for_a_level_out_of_reach_gets_the_best_there_is_and_is_told_so(world):
    claims = claims_of(world.tokens(acr_values="phrh phr")["id_token"])

    assert claims["acr"] == "aal2"


def test_us35_recovery_code_is_told_as_a_second_factor_without_a_method(world):
    world.cookie = mark_factor(world.session, "recovery", world.now)

    claims = claims_of(world.tokens()["id_token"])

    assert (claims["acr"], claims["amr"]) == ("aal2", ["pwd", "mfa"])


@pytest.mark.spec("RFC 9470", "4", "acr_values steps up an existing session")
@pytest.mark.parametrize(
    "changes",
    [
        {"acr_values": "aal2"},
        {"acr_values": "phr"},
        {"claims": asking(id_token={"acr": {"value": "aal2"}})},
        {"claims": asking(id_token={"acr": {"essential": True, "values": ["aal2", "phr"]}})},
    ],
)
def test_us35_step_up_asks_for_the_factor_and_then_answers(world, changes):
    from iam.access.models import Office

    Office.objects.update(second_factor="optional")
    world.sign_in(factor=False)
    flow = parked(world, "web", **changes)
    before = evaluate(world, flow)
    assert isinstance(before, Interaction)
    assert (before.need, before.reason) == (Need.FACTOR, "acr")

    world.cookie = mark_factor(world.session, "otp", world.later(seconds=30).now)
    code = answer_of(evaluate(world, flow))["code"]

    claims = claims_of(json.loads(world.exchange(code).body)["access_token"])
    assert claims["acr"] == "aal2"
    assert claims["auth_time"] == int(world.session.password_at.timestamp())


@pytest.mark.spec("OIDC Core", "5.5.1", "a value of sub is answered for that person alone")
@pytest.mark.rules("core/3.1.2.2/sub-asked", "core/5.5.1/sub-value")
def test_claims_sub_of_somebody_else_asks_to_sign_in_and_never_answers_for_who_is_there(world):
    wanted = asking(id_token={"sub": {"value": "0" * 40}})

    asked, silent = world.authorize(claims=wanted), world.authorize(claims=wanted, prompt="none")
    mine = world.authorize(claims=asking(id_token={"sub": {"value": world.person.sub}}))

    assert isinstance(asked, Interaction)
    assert (asked.need, asked.reason) == (Need.LOGIN, "hint")
    assert answer_of(silent)["error"] == "login_required"
    assert "code" in answer_of(mine)


def test_claims_sub_of_a_pairwise_client_is_the_name_that_this_client_knows(world):
    (web,) = (client for client in CLIENTS if client["client_id"] == "web")
    apply_all([{**web, "subject_type": "pairwise"}], world.now, "system:test")
    known = claims_of(world.tokens()["id_token"])["sub"]

    mine = world.authorize(claims=asking(id_token={"sub": {"value": known}}))
    internal = world.authorize(claims=asking(id_token={"sub": {"value": world.person.sub}}), prompt="none")

    assert known != world.person.sub
    assert "code" in answer_of(mine)
    assert answer_of(internal)["error"] == "login_required"


# -- select_account ---------------------------------------------------------------------------------------------------


@pytest.mark.spec("OIDC Core", "3.1.2.1", "select_account prompts for an account")
@pytest.mark.rules("core/3.1.2.1/prompt-select-account")
def test_select_account_asks_who_is_signed_in_to_choose_and_then_answers(world):
    flow = parked(world, "web", prompt="select_account")
    before = evaluate(world, flow)
    assert isinstance(before, Interaction)
    assert before.need is Need.ACCOUNT

    interactions.choose_account(flow, world.session)

    assert "code" in answer_of(evaluate(world, flow))


def test_a46_account_chosen_by_one_person_is_not_chosen_by_the_next(world):
    flow = parked(world, "web", prompt="select_account")
    interactions.choose_account(flow, world.session)
    world.later(seconds=-60)
    somebody = User.objects.create(name_latin="Omar", created_at=world.now)
    session, _ = open_session(somebody, world.now, world.session.expires_at - world.now)
    mark_factor(session, "otp", world.now)
    world.later(seconds=60)

    answer = evaluate(world, flow, session)

    assert isinstance(answer, Interaction)
    assert answer.need is Need.ACCOUNT


def test_select_account_with_nobody_signed_in_asks_for_a_sign_in_that_is_the_choice(world):
    world.cookie = ""
    interaction = world.authorize(prompt="select_account")
    assert isinstance(interaction, Interaction)
    assert interaction.need is Need.LOGIN
    handle = interactions.park(interaction, BROWSER, world.now)

    world.later(seconds=9).sign_in()

    assert "code" in answer_of(interactions.evaluate(again(world, handle), world.session, FACTS, world.now))


@pytest.mark.rules("core/3.1.2.1/prompt-none-alone")
def test_select_account_with_none_is_refused(world):
    assert answer_of(world.authorize(prompt="none select_account"))["error"] == "invalid_request"


@pytest.mark.parametrize(("secret", "status"), [(SECRET, 200), ("x" * 40, 401)])
def test_codes_after_a_choice_are_redeemed_as_any(world, secret, status):
    flow = parked(world, "web", prompt="select_account consent")
    interactions.choose_account(flow, world.session)
    needed = evaluate(world, flow)
    assert isinstance(needed, Interaction)
    assert needed.need is Need.CONSENT
    interactions.give_consent(flow, world.session, FACTS, world.now)

    code = answer_of(evaluate(world, flow))["code"]

    assert world.exchange(code, secret=secret).status == status


# -- what only helps ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("OIDC Core", "3.1.2.1", "login_hint and ui_locales are hints and never an error")
@pytest.mark.parametrize(
    ("changes", "hint", "locales"),
    [
        ({"login_hint": "amina"}, "amina", ()),
        ({"login_hint": "a" * 256}, "a" * 256, ()),
        ({"login_hint": "a" * 257}, "", ()),
        ({"login_hint": "<b>\u202e"}, "<b>\u202e", ()),
        ({"ui_locales": "fr-CA en xx AR-ne fr"}, "", ("fr", "en", "ar")),
        ({"ui_locales": "x " * 3000}, "", ()),
        ({"ui_locales": "\u0627 -- fr_"}, "", ()),
    ],
)
@pytest.mark.rules("core/3.1.2.1/ui-locales")
def test_hints_are_kept_as_far_as_they_help(world, changes, hint, locales):
    world.cookie = ""

    answer = world.authorize(**changes)

    assert isinstance(answer, Interaction)
    assert answer.request is not None
    assert (answer.request.login_hint, answer.request.ui_locales) == (hint, locales)
