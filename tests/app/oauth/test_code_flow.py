"""From an authorization request to tokens, on a real database."""

import json
from datetime import timedelta

import pytest

from iam.accounts.models import LoginSession, User
from iam.accounts.services import end_session
from iam.audit.models import AuditEvent
from iam.oauth.models import Client, TokenFamily
from iam.oauth.protocol.messages import ErrorPage, Interaction, Need

from .conftest import SECRET, answer_of, claims_of

pytestmark = pytest.mark.django_db


def error_of(response) -> str:
    return json.loads(response.body)["error"]


# -- authorize ----------------------------------------------------------------------------------------------


@pytest.mark.rules("core/3.1.2.3/not-signed-in")
def test_authorize_nobody_signed_in_asks_for_a_login(world):
    answer = world.authorize()

    assert isinstance(answer, Interaction)
    assert answer.need is Need.LOGIN


def test_authorize_password_only_where_a_factor_is_required_asks_for_it(world):
    world.sign_in(factor=False)

    answer = world.authorize()

    assert isinstance(answer, Interaction)
    assert (answer.need, answer.reason) == (Need.FACTOR, "policy")


@pytest.mark.spec("RFC 9207", "2", "iss in every answer")
@pytest.mark.rules("core/3.1.2.5/query")
def test_authorize_live_session_redirects_with_code_state_and_iss(world):
    world.sign_in()

    answer = answer_of(world.authorize())

    assert set(answer) == {"code", "state", "iss"}
    assert (answer["state"], answer["iss"]) == ("st", "http://localhost:8000")


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None}, {"client_id": "nobody"}, {"client_id": "a\0b"}, {"redirect_uri": None},
        {"redirect_uri": "https://evil.example/cb"}, {"redirect_uri": "https://web.example/cb?x"},
        {"redirect_uri": "https://web.example/cb\0"}, {"prompt": "none", "redirect_uri": "https://evil.example/"},
    ],
)  # fmt: skip
@pytest.mark.rules(
    "core/3.1.2.1/client-id",
    "core/3.1.2.2/required",
    "core/3.1.2.6/redirect-invalid",
    "rfc6749/3.1.2.4/no-redirect",
)
def test_a01_authorize_unknown_client_or_address_is_a_page_never_a_redirect(world, changes):
    world.sign_in()

    answer = world.authorize(**changes)

    assert isinstance(answer, ErrorPage)
    assert answer.status == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "openid nothing"}, "invalid_scope"),
        ({"scope": "openid\0"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "sing"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "1e3"}, "invalid_request"),
        ({"max_age": "٣٠٠"}, "invalid_request"),
        ({"request_uri": "https://evil.example"}, "request_uri_not_supported"),
        ({"id_token_hint": "x.y.z"}, "invalid_request"),
        ({"nonce": "n" * 256}, "invalid_request"),
    ],
)  # fmt: skip
@pytest.mark.rules(
    "core/3.1.2.1/prompt-none-alone",
    "core/3.1.2.2/oauth-parameters",
    "core/3.1.2.2/errors",
    "core/3.1.2.6/error",
    "core/3.1.2.6/state",
    "core/6.2/not-supported",
    "rfc6749/4.1.2.1/errors",
    "rfc9207/2/every-answer",
)
def test_authorize_wrong_request_is_redirected_with_the_registered_error(world, changes, error):
    world.sign_in()

    answer = answer_of(world.authorize(**changes))

    assert (answer["error"], answer["iss"], answer["state"]) == (error, "http://localhost:8000", "st")
    assert "code" not in answer


@pytest.mark.rules("core/3.1.2.2/oauth-parameters", "rfc6749/3.1/repeated")
def test_authorize_doubled_parameter_is_refused(world):
    from urllib.parse import urlencode

    from iam.oauth.protocol.messages import Request

    world.sign_in()
    pairs = [
        ("client_id", "web"),
        ("redirect_uri", "https://web.example/cb"),
        ("scope", "openid"),
        ("scope", "roles"),
    ]

    answer = answer_of(world.ask(Request("GET", "/authorize", query=urlencode(pairs))))

    assert answer["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("changes", "error"),
    [({}, "login_required")],
)
def test_authorize_prompt_none_without_session_answers_an_error(world, changes, error):
    assert answer_of(world.authorize(prompt="none", **changes))["error"] == error


@pytest.mark.rules("rfc8252/8.6/impersonation")
def test_authorize_untrusted_client_asks_for_consent(world):
    world.sign_in()

    answer = world.authorize("other")

    assert isinstance(answer, Interaction)
    assert (answer.need, answer.disclosure.scopes) == (Need.CONSENT, ("openid", "roles"))


def test_authorize_switched_off_client_is_a_page(world):
    Client.objects.filter(client_id="web").update(enabled=False)
    world.sign_in()

    assert isinstance(world.authorize(), ErrorPage)


@pytest.mark.parametrize("how", ["ended", "old", "idle", "inactive"])
@pytest.mark.rules("core/3.1.2.3/not-signed-in")
def test_a23_authorize_session_that_is_over_asks_for_a_login(world, how):
    session = world.sign_in()
    match how:
        case "ended":
            end_session(session.pk, reason="test", now=world.now)
        case "old":
            world.later(hours=12)
            LoginSession.objects.update(seen_at=world.now)
        case "idle":
            world.later(minutes=61)
        case "inactive":
            User.objects.update(is_active=False)

    assert world.authorize().need is Need.LOGIN


# -- tokens ---------------------------------------------------------------------------------------------------


@pytest.mark.rules("core/5.2/tags")
def test_exchange_gives_tokens_that_say_who_and_which_roles(world):
    world.sign_in()

    tokens = world.tokens(scope="openid profile roles demo.read")

    access, identity = claims_of(tokens["access_token"]), claims_of(tokens["id_token"])
    assert tokens["expires_in"] == 300
    assert access["aud"] == ["resource", "http://localhost:8000"]
    assert access["roles"] == ["registry.clerk", "staff"]
    assert identity["roles"] == ["mail.reader", "staff"]
    assert identity["access"] == [
        {"role": "mail.reader", "office": "NIM", "subtree": False},
        {"role": "staff", "office": "NIM", "subtree": False},
    ]
    assert (identity["office"], identity["nonce"], identity["aud"]) == ("NIM", "no", "web")
    assert (identity["acr"], identity["amr"], identity["sub"]) == (
        "aal2",
        ["pwd", "otp", "mfa"],
        world.person.sub,
    )
    assert identity["name#ar"] == "أمينة ديالو"
    assert access["sid"] == identity["sid"]


def test_exchange_person_without_roles_gets_empty_lists_never_absent_ones(world):
    world.sign_in()
    world.person.assignments.update(valid_until=world.now)

    identity = claims_of(world.tokens()["id_token"])

    assert (identity["access"], identity["roles"]) == ([], [])


def test_exchange_token_ends_with_the_assignment_that_it_expresses(world):
    world.sign_in()
    world.person.assignments.filter(role__code="staff").update(valid_until=world.now + timedelta(seconds=40))

    tokens = world.tokens()

    assert tokens["expires_in"] == 40
    assert claims_of(tokens["id_token"])["exp"] == int(world.now.timestamp()) + 40


def test_exchange_assignment_of_another_application_does_not_shorten_the_token(world):
    world.sign_in()
    world.person.assignments.filter(role__code="registry.clerk").update(
        valid_until=world.now + timedelta(seconds=40)
    )

    assert world.tokens()["expires_in"] == 300


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code": "ac_unknown"}, "invalid_grant"),
        ({"code": None}, "invalid_request"),
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": "x" * 43}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"redirect_uri": "https://web.example/other"}, "invalid_grant"),
        ({"grant_type": None}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, "unauthorized_client"),
    ],
)
@pytest.mark.rules(
    "fapi/5.3.2.1/2",
    "core/3.1.3.2/valid-code",
    "core/3.1.3.2/redirect-same",
    "rfc6749/4.1.2/bound",
    "rfc7636/4.6/verified",
    "rfc9700/2.4/password",
)
def test_exchange_wrong_request_gets_the_registered_error_and_keeps_the_code(world, changes, error):
    world.sign_in()
    code = world.code()

    response = world.exchange(**{"code": code, **changes})

    assert (response.status, error_of(response)) == (400, error)
    assert "(reference r-1)" in json.loads(response.body)["error_description"]
    assert world.exchange(code).status == 200


@pytest.mark.rules("core/3.1.3.2/own-code", "rfc6749/4.1.2/bound")
def test_a07_exchange_code_of_another_client_is_refused_and_stays(world):
    world.sign_in()
    code = world.code()

    assert error_of(world.exchange(code, "other")) == "invalid_grant"
    assert world.exchange(code).status == 200


@pytest.mark.rules("core/3.1.3.2/valid-code", "core/16.9/short", "rfc6749/4.1.2/short")
def test_a07_exchange_after_sixty_seconds_is_refused(world):
    world.sign_in()
    code = world.code()
    world.later(seconds=60)

    assert error_of(world.exchange(code)) == "invalid_grant"


@pytest.mark.spec("RFC 6749", "4.1.2", "a replayed code ends what the first exchange got")
@pytest.mark.rules("fapi/5.3.2.2/9", "core/3.1.3.2/unused-code", "rfc6749/4.1.2/once")
def test_a07_exchange_replay_ends_the_first_exchanges_tokens(world):
    world.sign_in()
    code = world.code(scope="openid demo.read")
    tokens = json.loads(world.exchange(code).body)
    assert world.introspect(tokens["access_token"])["active"]

    replay = world.exchange(code)

    assert error_of(replay) == "invalid_grant"
    assert not world.introspect(tokens["access_token"])["active"]
    assert world.userinfo(tokens["access_token"]).status == 401
    assert error_of(world.refresh(tokens["refresh_token"])) == "invalid_grant"
    assert AuditEvent.objects.filter(action="client:code:replay", outcome="refused").count() == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": None},
        {"code_verifier": "short"},
        {"redirect_uri": None},
        {"code_verifier": "x" * 43},
    ],
)
def test_a07_exchange_replay_without_the_verifier_is_a_replay_too(world, changes):
    world.sign_in()
    code = world.code(scope="openid demo.read")
    tokens = json.loads(world.exchange(code).body)

    assert error_of(world.exchange(code, **changes)) == "invalid_grant"

    assert not world.introspect(tokens["access_token"])["active"]
    assert error_of(world.refresh(tokens["refresh_token"])) == "invalid_grant"


@pytest.mark.parametrize("how", ["inactive", "session", "client"])
def test_a07_exchange_after_person_session_or_client_ended_is_refused(world, how):
    session = world.sign_in()
    code = world.code()
    match how:
        case "inactive":
            User.objects.update(is_active=False)
        case "session":
            end_session(session.pk, reason="test", now=world.now)
        case "client":
            Client.objects.filter(client_id="web").update(enabled=False)

    assert world.exchange(code).status in {400, 401}
    assert not TokenFamily.objects.exists()


@pytest.mark.rules("rfc8252/8.1/pkce")
def test_exchange_public_client_needs_no_secret_but_its_verifier(world):
    world.sign_in()

    tokens = world.tokens("public", None)

    assert tokens["refresh_token"].startswith("rt_")


@pytest.mark.parametrize(
    ("client", "secret"), [("web", "x" * 40), ("nobody", SECRET), ("web", None), ("public", SECRET)]
)
@pytest.mark.rules("core/3.1.3.2/authenticate", "rfc9700/2.5/authentication")
def test_exchange_wrong_client_authentication_is_401(world, client, secret):
    world.sign_in()
    code = world.code()

    response = world.exchange(code, client, secret)

    assert (response.status, error_of(response)) == (401, "invalid_client")
    assert dict(response.headers)["WWW-Authenticate"].startswith("Basic")


# -- refresh ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 9700", "4.14.2", "refresh tokens rotate, and a replay ends the family")
@pytest.mark.rules("rfc9700/2.2.2/refresh", "rfc9700/4.14.2/rotation")
def test_refresh_rotates_and_an_old_token_ends_the_family(world):
    world.sign_in()
    first = world.tokens(scope="openid demo.read")["refresh_token"]
    second = json.loads(world.refresh(first).body)["refresh_token"]
    third = json.loads(world.later(seconds=5).refresh(second).body)
    assert len({first, second, third["refresh_token"]}) == 3

    replay = world.refresh(first)

    assert error_of(replay) == "invalid_grant"
    assert error_of(world.refresh(third["refresh_token"])) == "invalid_grant"
    assert not world.introspect(third["access_token"])["active"]


def test_refresh_retry_within_thirty_seconds_gets_the_same_successor(world):
    world.sign_in()
    first = world.tokens()["refresh_token"]
    second = json.loads(world.refresh(first).body)["refresh_token"]

    again = json.loads(world.later(seconds=30).refresh(first).body)

    assert again["refresh_token"] == second
    assert world.refresh(second).status == 200


def test_refresh_retry_after_thirty_seconds_is_a_replay(world):
    world.sign_in()
    first = world.tokens()["refresh_token"]
    second = json.loads(world.refresh(first).body)["refresh_token"]

    assert error_of(world.later(seconds=31).refresh(first)) == "invalid_grant"
    assert error_of(world.refresh(second)) == "invalid_grant"


def test_refresh_retry_after_the_successor_was_used_is_a_replay(world):
    world.sign_in()
    first = world.tokens()["refresh_token"]
    second = json.loads(world.refresh(first).body)["refresh_token"]
    third = json.loads(world.refresh(second).body)["refresh_token"]

    assert error_of(world.refresh(first)) == "invalid_grant"
    assert error_of(world.refresh(third)) == "invalid_grant"


@pytest.mark.rules("core/12.1/authenticate", "core/12.1/own", "rfc6749/6/own")
def test_a15_refresh_by_another_client_is_refused_and_revokes_nothing(world):
    world.sign_in()
    first = world.tokens()["refresh_token"]

    assert error_of(world.refresh(first, "other")) == "invalid_grant"
    assert world.refresh(first).status == 200


@pytest.mark.parametrize("token", ["rt_x", "", "rt_" + "A" * 70, "ac_x", "x\0"])
@pytest.mark.rules("core/12.1/valid")
def test_refresh_guess_is_refused(world, token):
    world.sign_in()
    world.tokens()

    assert world.refresh(token).status == 400
    assert not TokenFamily.objects.exclude(revoked_at=None).exists()


@pytest.mark.rules("rfc6749/3.3/scope-told", "rfc6749/6/scope")
def test_refresh_narrower_scope_is_given_and_wider_is_refused_without_rotation(world):
    world.sign_in()
    first = world.tokens(scope="openid roles")["refresh_token"]

    assert error_of(world.refresh(first, scope="openid demo.read")) == "invalid_scope"
    narrowed = json.loads(world.refresh(first, scope="openid").body)

    assert narrowed["scope"] == "openid"


@pytest.mark.rules("core/11/no-offline", "rfc9700/4.14.2/end")
def test_refresh_ends_with_the_session_at_the_latest(world):
    session = world.sign_in()
    first = world.tokens()["refresh_token"]
    world.later(hours=12)
    LoginSession.objects.filter(pk=session.pk).update(seen_at=world.now)

    assert error_of(world.refresh(first)) == "invalid_grant"


@pytest.mark.parametrize("how", ["inactive", "session", "client", "not admitted"])
@pytest.mark.rules("core/12.1/valid")
def test_a22_refresh_after_person_session_client_or_right_ended_is_refused(world, how):
    session = world.sign_in()
    first = world.tokens()["refresh_token"]
    match how:
        case "inactive":
            User.objects.update(is_active=False)
        case "session":
            end_session(session.pk, reason="test", now=world.now)
        case "client":
            Client.objects.filter(client_id="web").update(enabled=False)
        case "not admitted":
            application = Client.objects.get(client_id="web").application
            application.admits = "roles"
            application.save()

    assert world.refresh(first).status in {400, 401}


def test_refresh_shows_the_roles_of_now(world):
    world.sign_in()
    first = world.tokens()["refresh_token"]
    world.person.assignments.filter(role__code="mail.reader").update(valid_until=world.now)

    refreshed = json.loads(world.refresh(first).body)

    assert claims_of(refreshed["id_token"])["roles"] == ["staff"]


# -- client credentials, introspection, userinfo, revocation ------------------------------------------------------


def test_client_credentials_token_is_for_the_owner_of_its_scope(world):
    response = world.post("/token", "service", grant_type="client_credentials", scope="demo.read")
    token = json.loads(response.body)["access_token"]

    assert world.introspect(token)["client_id"] == "service"
    assert claims_of(token)["aud"] == ["resource"]
    assert (claims_of(token)["roles"], claims_of(token)["access"]) == ([], [])


@pytest.mark.parametrize("scope", ["openid", "profile", "roles", "demo.read openid", "nothing"])
def test_a57_client_credentials_never_gains_a_scope_of_a_person(world, scope):
    response = world.post("/token", "service", grant_type="client_credentials", scope=scope)

    assert error_of(response) == "invalid_scope"


def test_client_credentials_two_tokens_of_one_second_differ(world):
    one = world.post("/token", "service", grant_type="client_credentials").body
    two = world.post("/token", "service", grant_type="client_credentials").body

    assert json.loads(one)["access_token"] != json.loads(two)["access_token"]


@pytest.mark.rules("fapi-ms/6.2/no-client", "rfc7662/2.2/inactive")
def test_a17_introspect_somebody_elses_token_is_inactive(world):
    world.sign_in()
    token = world.tokens(scope="openid demo.read")["access_token"]

    assert world.introspect(token, "other", SECRET) == {"active": False}
    assert world.introspect(token, "web", SECRET)["active"]
    assert world.introspect(token)["roles"] == ["registry.clerk", "staff"]


@pytest.mark.rules("rfc7662/2.1/authorized")
def test_introspect_without_authentication_is_401(world):
    assert world.post("/introspect", None, token="x").status == 401
    assert world.post("/introspect", "public", None, token="x").status == 401


def test_a13_id_token_is_no_access_token(world):
    world.sign_in()
    tokens = world.tokens()

    assert world.userinfo(tokens["id_token"]).status == 401
    assert world.introspect(tokens["id_token"], "web", SECRET) == {"active": False}


@pytest.mark.rules("fapi/5.3.4/1", "core/5.4/profile", "core/5.6/normal")
def test_userinfo_says_what_the_scopes_stand_for(world):
    world.sign_in()
    token = world.tokens(scope="openid profile roles")["access_token"]

    answer = json.loads(world.userinfo(token).body)

    assert answer["sub"] == world.person.sub
    assert (answer["name"], answer["preferred_username"], answer["locale"]) == ("Amina Diallo", "amina", "fr")
    assert answer["roles"] == ["mail.reader", "staff"]


@pytest.mark.rules("core/5.3.3/errors", "rfc6750/3/challenge")
def test_userinfo_without_token_names_no_error_code(world):
    from iam.oauth.protocol.messages import Request

    answer = world.ask(Request("GET", "/userinfo"))

    assert answer.status == 401
    assert "error=" not in dict(answer.headers)["WWW-Authenticate"]


@pytest.mark.rules("fapi/5.3.4/2", "core/16.4/disclosure")
def test_a20_userinfo_token_in_the_query_is_not_read(world):
    from iam.oauth.protocol.messages import Request

    world.sign_in()
    token = world.tokens()["access_token"]

    assert world.ask(Request("GET", "/userinfo", query=f"access_token={token}")).status == 401


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
@pytest.mark.rules("fapi/5.3.4/3", "rfc7009/2.1/pair", "rfc7662/4/checks")
def test_a16_revoke_ends_the_pair(world, which):
    world.sign_in()
    tokens = world.tokens()

    assert world.post("/revoke", token=tokens[which]).status == 200

    assert world.userinfo(tokens["access_token"]).status == 401
    assert error_of(world.refresh(tokens["refresh_token"])) == "invalid_grant"


@pytest.mark.parametrize("which", ["access_token", "refresh_token"])
@pytest.mark.rules("rfc7009/2.1/own", "rfc7009/2.2/unknown")
def test_a16_revoke_of_another_clients_token_changes_nothing_and_says_200(world, which):
    world.sign_in()
    tokens = world.tokens()

    assert world.post("/revoke", "other", token=tokens[which]).status == 200

    assert world.userinfo(tokens["access_token"]).status == 200
    assert world.refresh(tokens["refresh_token"]).status == 200


@pytest.mark.parametrize("counter", ["installation", "subject", "client", "session"])
def test_counter_raised_ends_every_access_token_before_it(world, counter):
    from iam.oauth.versions import end_every_token

    session = world.sign_in()
    token = world.tokens(scope="openid demo.read")["access_token"]
    assert world.introspect(token)["active"]
    match counter:
        case "installation":
            end_every_token()
        case "subject":
            User.objects.update(generation=1)
        case "client":
            Client.objects.filter(client_id="web").update(generation=1)
        case "session":
            LoginSession.objects.filter(pk=session.pk).update(generation=7)

    assert world.introspect(token) == {"active": False}
    assert world.userinfo(token).status == 401


@pytest.mark.rules("fapi/5.3.4/3", "core/16.18/short-tokens", "rfc7662/2.2/inactive", "rfc7662/4/checks")
def test_access_token_expires(world):
    world.sign_in()
    token = world.tokens(scope="openid demo.read")["access_token"]

    assert not world.later(seconds=300).introspect(token)["active"]


@pytest.mark.rules("core/16.4/disclosure")
def test_no_secret_code_or_token_is_in_the_audit(world):
    world.sign_in()
    code = world.code(scope="openid demo.read")
    tokens = json.loads(world.exchange(code).body)
    world.refresh(tokens["refresh_token"])
    world.exchange(code)

    everything = "".join(str(bytes(event.canonical)) for event in AuditEvent.objects.all())

    assert everything
    for value in (code, tokens["access_token"], tokens["refresh_token"], SECRET, world.cookie):
        assert value not in everything
