"""RP-Initiated Logout at the engine, rule by rule; the pages behind it: tests/spec/test_sign_out.py."""

import json

import pytest

from iam.accounts.models import LoginSession
from iam.oauth.protocol.messages import ErrorPage, Interaction, Need, Response
from tests.app.oauth.conftest import World, claims_of
from tests.app.oauth.test_backchannel import register
from tests.app.oauth.test_hostile import lives, logout

RP_INITIATED = "OIDC RP-Initiated Logout"
BYE = "https://web.example/bye"


@pytest.fixture(autouse=True)
def _outbound(settings):
    settings.IAM_OUTBOUND_ALLOW = ("web.example", "public.example")


@pytest.fixture
def hint(world: World) -> str:
    world.sign_in()
    token: str = world.tokens()["id_token"]
    return token


def location(answer: object) -> str:
    assert isinstance(answer, Response), answer
    return dict(answer.headers)["Location"]


@pytest.mark.spec(RP_INITIATED, "4", "an ID token that has expired is a good hint")
@pytest.mark.rules("rp-logout/2/get", "rp-logout/2/hint-expired")
def test_hint_that_has_expired_is_good(world: World, hint: str) -> None:
    world.later(minutes=50)

    assert location(logout(world, id_token_hint=hint, post_logout_redirect_uri=BYE)) == BYE
    assert not lives(world)


@pytest.mark.spec(RP_INITIATED, "2", "client_id that is not the hint's audience is refused")
@pytest.mark.parametrize("client", ["other", "public", "nobody"])
@pytest.mark.rules("rp-logout/2/client-id-matches")
def test_hint_of_another_client_is_refused(world: World, hint: str, client: str) -> None:
    answer = logout(world, id_token_hint=hint, client_id=client)

    assert isinstance(answer, ErrorPage)
    assert lives(world)


@pytest.mark.spec(RP_INITIATED, "3", "state is returned as it came, and only if it came")
@pytest.mark.parametrize(
    ("state", "query"), [(None, ""), ("", ""), ("a b&c=d", "?state=a+b%26c%3Dd"), ("é", "?state=%C3%A9")]
)
@pytest.mark.rules("rp-logout/2/state-back")
def test_state_comes_back_as_it_was(world: World, hint: str, state: str | None, query: str) -> None:
    more = {} if state is None else {"state": state}

    assert location(logout(world, id_token_hint=hint, post_logout_redirect_uri=BYE, **more)) == BYE + query


@pytest.mark.spec(RP_INITIATED, "2", "without an address to return to, a page says that it is done")
def test_without_an_address_a_page_says_that_it_is_done(world: World, hint: str) -> None:
    answer = logout(world, id_token_hint=hint)

    assert isinstance(answer, Interaction)
    assert (answer.need, answer.session) == (Need.SIGNED_OUT, world.session.pk)
    assert not lives(world)


@pytest.mark.spec(RP_INITIATED, "3", "an address without a client to judge it by is no redirect")
@pytest.mark.rules("rp-logout/3/no-proof-no-redirect")
def test_address_of_nobody_is_no_redirect(world: World, hint: str) -> None:
    assert isinstance(logout(world, post_logout_redirect_uri=BYE), ErrorPage)
    assert lives(world)


@pytest.mark.spec(RP_INITIATED, "2", "GET and POST, and nothing else")
@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS"])
def test_a47_other_methods_end_nothing(world: World, hint: str, method: str) -> None:
    answer = logout(world, method=method, id_token_hint=hint)

    assert isinstance(answer, ErrorPage)
    assert lives(world)


@pytest.mark.parametrize(
    "name", ["id_token_hint", "client_id", "post_logout_redirect_uri", "state", "logout_hint"]
)
@pytest.mark.parametrize("value", ["\0", "\ufffd", "x" * 9000])
@pytest.mark.rules("rp-logout/4/error-no-redirect")
def test_value_that_cannot_be_used_ends_nothing(world: World, hint: str, name: str, value: str) -> None:
    good = {"id_token_hint": hint, "client_id": "web", "post_logout_redirect_uri": BYE, "state": "s"}

    assert isinstance(logout(world, **{**good, name: value}), ErrorPage)
    assert lives(world)


@pytest.mark.rules("rp-logout/2/post")
def test_post_without_a_cookie_takes_the_proof_along_but_not_past_a_logout_hint(
    world: World, hint: str
) -> None:
    plain = logout(world, cookie=False, method="POST", id_token_hint=hint)
    with_hint = logout(world, cookie=False, method="POST", id_token_hint=hint, logout_hint="amina")
    without = logout(world, cookie=False, method="POST", client_id="web")

    for answer, proof in ((plain, world.session.pk), (with_hint, None), (without, None)):
        assert isinstance(answer, Interaction)
        assert (answer.need, answer.session) == (Need.CONFIRM_LOGOUT, proof)
    assert lives(world)


@pytest.mark.spec(RP_INITIATED, "2", "logout_hint may be what the client knows the person by")
def test_logout_hint_may_be_the_clients_own_subject(world: World) -> None:
    register("web", "https://web.example/out", subject_type="pairwise")
    world.sign_in()
    token = world.tokens()["id_token"]

    asked = logout(world, id_token_hint=token, logout_hint=world.person.sub)
    assert isinstance(asked, Interaction)
    assert asked.need is Need.CONFIRM_LOGOUT
    assert isinstance(
        logout(world, id_token_hint=token, logout_hint=claims_of(token)["sub"], post_logout_redirect_uri=BYE),
        Response,
    )
    assert not lives(world)


@pytest.mark.rules("rp-logout/2/ui-locales")
def test_us03_browser_passes_the_last_page_only_if_another_application_must_be_told(world: World) -> None:
    register("web", "https://web.example/out")
    world.sign_in()
    alone = world.tokens()["id_token"]
    assert location(logout(world, id_token_hint=alone, post_logout_redirect_uri=BYE)) == BYE

    register("public", "https://public.example/out")
    world.sign_in()
    world.tokens("public", None, scope="openid")
    both = world.tokens()["id_token"]
    answer = logout(world, id_token_hint=both, post_logout_redirect_uri=BYE, ui_locales="fr-FR xx ar")

    assert isinstance(answer, Interaction)
    assert (answer.need, answer.session, answer.return_to) == (Need.SIGNED_OUT, world.session.pk, BYE)
    assert answer.ui_locales == ("fr", "ar")


@pytest.mark.spec("OIDC Back-Channel Logout", "2.7", "refresh and access tokens of the session end with it")
@pytest.mark.rules("back-logout/2.7/refresh-revoked", "rfc9700/4.14.2/end")
def test_tokens_end_with_the_session(world: World) -> None:
    world.sign_in()
    tokens = world.tokens()

    logout(world, id_token_hint=tokens["id_token"])

    assert json.loads(world.refresh(tokens["refresh_token"]).body)["error"] == "invalid_grant"
    assert world.userinfo(tokens["access_token"]).status == 401
    assert world.introspect(tokens["access_token"]) == {"active": False}
    assert LoginSession.objects.get(pk=world.session.pk).end_reason == "signed_out"


@pytest.mark.spec(RP_INITIATED, "4", "a request with an error in it sends the browser nowhere")
@pytest.mark.parametrize("cookie", [True, False])
@pytest.mark.rules("rp-logout/4/error-no-redirect")
def test_forged_hint_takes_the_way_back_with_it(world: World, hint: str, cookie: bool) -> None:
    forged = hint[:-8] + "AAAAAAAA"

    for named in ({}, {"client_id": "web"}):
        answer = logout(world, cookie, id_token_hint=forged, post_logout_redirect_uri=BYE, **named)
        assert isinstance(answer, ErrorPage if not named else Interaction)
        assert named == {} or answer.return_to == ""
    assert lives(world)


@pytest.mark.rules("rp-logout/3/no-proof-no-redirect", "rp-logout/4/idempotent")
def test_address_of_a_named_client_is_a_redirect_where_nobody_is_signed_in(world: World) -> None:
    assert location(logout(world, cookie=False, client_id="web", post_logout_redirect_uri=BYE)) == BYE
