"""Attacks on the engine that need a thought rather than a random request (A02 to A24)."""

import base64
import json
from urllib.parse import quote, urlencode

import pytest

from iam.accounts import cookies
from iam.accounts.models import LoginSession
from iam.audit.facts import RequestFacts
from iam.errors import Conflict
from iam.oauth import interactions, state
from iam.oauth.clients import apply_all
from iam.oauth.models import Consent, Grant, ParkedRequest
from iam.oauth.protocol.jose import encode_segment
from iam.oauth.protocol.messages import Answer, ErrorPage, Interaction, Need, Request, Response

from .conftest import CLIENTS, SECRET, World, answer_of, claims_of

pytestmark = pytest.mark.django_db

BROWSER = "b" * 43
FACTS = RequestFacts("r-1", "192.0.2.1")


def error_of(response: Response) -> str:
    return json.loads(response.body)["error"]


def register(world: World, **changes: object) -> None:
    """Apply the clients again, one of them changed."""
    items = [{**item, **changes} if item["client_id"] == changes["client_id"] else item for item in CLIENTS]
    apply_all(items, world.now, "system:test")
    state.forget()


def park(world: World, client: str = "other", **changes: str | None) -> interactions.Parked:
    asked = world.authorize(client, **changes)
    assert isinstance(asked, Interaction), asked
    return reload(world, interactions.park(asked, BROWSER, world.now))


def reload(world: World, handle: str) -> interactions.Parked:
    state.forget()
    parked = interactions.load(handle, BROWSER, world.now)
    assert parked is not None
    return parked


def session_of(world: World) -> LoginSession:
    return LoginSession.objects.select_related("user").get(pk=world.session.pk)


# -- parked requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"redirect_uris": ["https://other.example/new"]},
        {"enabled": False},
        {"grant_types": ["client_credentials"], "redirect_uris": []},
    ],
    ids=["address withdrawn", "switched off", "grant withdrawn"],
)
def test_a24_parked_request_of_a_client_that_changed_ends_on_a_page(change: dict, world: World) -> None:
    world.sign_in()
    parked = park(world)
    interactions.give_consent(parked, session_of(world), FACTS, world.now)
    register(world, client_id="other", **change)

    answer = interactions.evaluate(reload(world, parked.handle), session_of(world), FACTS, world.now)

    assert isinstance(answer, ErrorPage)
    assert not Grant.objects.exists()


def test_a24_parked_request_for_a_scope_withdrawn_meanwhile_gives_no_code(world: World) -> None:
    world.sign_in()
    parked = park(world)
    interactions.give_consent(parked, session_of(world), FACTS, world.now)
    register(world, client_id="other", scope="openid")

    answer = interactions.evaluate(reload(world, parked.handle), session_of(world), FACTS, world.now)

    assert answer_of(answer)["error"] == "access_denied"
    assert not Grant.objects.exists()


def test_a31_parked_request_finished_twice_makes_one_code(world: World) -> None:
    """Two tabs that both loaded the flow before either finished it."""
    world.sign_in()
    parked = park(world)
    interactions.give_consent(parked, session_of(world), FACTS, world.now)
    first, second = reload(world, parked.handle), reload(world, parked.handle)

    assert "code" in answer_of(interactions.evaluate(first, session_of(world), FACTS, world.now))
    with pytest.raises(Conflict):
        interactions.evaluate(second, session_of(world), FACTS, world.now)

    assert Grant.objects.count() == 1
    assert not ParkedRequest.objects.filter(finished_at=None).exists()


def test_a10_consent_given_for_one_flow_does_not_widen_to_another(world: World) -> None:
    world.sign_in()
    narrow = park(world, scope="openid")
    wide = park(world, scope="openid roles")
    interactions.give_consent(narrow, session_of(world), FACTS, world.now)

    answer = interactions.evaluate(reload(world, wide.handle), session_of(world), FACTS, world.now)

    assert isinstance(answer, Interaction)
    assert (answer.need, answer.disclosure.scopes) == (Need.CONSENT, ("openid", "roles"))
    assert Consent.objects.get().scopes == ["openid"]


def test_a46_consent_of_somebody_else_in_this_flow_counts_for_nothing(world: World) -> None:
    world.sign_in()
    parked = park(world, prompt="consent")
    interactions.give_consent(parked, session_of(world), FACTS, world.now)
    ParkedRequest.objects.update(consented_by="00000000-0000-0000-0000-000000000001")

    answer = interactions.evaluate(reload(world, parked.handle), session_of(world), FACTS, world.now)

    assert isinstance(answer, Interaction)
    assert answer.need is Need.CONSENT


@pytest.mark.rules("core/3.1.2.1/prompt-consent")
def test_prompt_consent_asks_again_though_the_person_agreed_before(world: World) -> None:
    world.sign_in()
    parked = park(world)
    interactions.give_consent(parked, session_of(world), FACTS, world.now)

    assert "code" in answer_of(world.authorize("other"))
    assert isinstance(world.authorize("other", prompt="consent"), Interaction)
    assert answer_of(world.authorize("other", prompt="none", scope="openid"))["code"]


@pytest.mark.rules("core/11/ignored")
def test_a10_scope_that_grants_nothing_gives_no_token_without_a_page(world: World) -> None:
    """An access token says who the person is whatever its scopes: one for no scope would be given without consent."""
    register(world, client_id="other", scope="openid roles offline_access")
    world.sign_in()

    answer = answer_of(world.authorize("other", scope="offline_access"))

    assert answer["error"] == "invalid_scope"
    assert not Grant.objects.exists()


# -- redirects ------------------------------------------------------------------------------------------------------

EVIL = [
    "https://web.example/cb?", "https://web.example/cb#", "https://web.example/cb%23", "https://web.example/cb;a=b",
    "https://web.example/cb/", "https://web.example/cb/.", "https://web.example/x/../cb", "https://web.example//cb",
    "https://web.example/c%62", "https://web.example/%2563b", "https://WEB.example/cb", "HTTPS://web.example/cb",
    "https://web.example:443/cb", "https://web.example./cb", "https://web.example@evil.example/cb",
    "https://evil.example/https://web.example/cb", "https://web.example\\@evil.example/cb", "//web.example/cb",
    " https://web.example/cb", "https://web.example/cb ", "https://web.example/cb\t", "https://web.exаmple/cb",
    "javascript:alert(1)", "data:text/html,x", "http://web.example/cb", "https://other.example/cb",
]  # fmt: skip


@pytest.mark.parametrize("uri", EVIL)
@pytest.mark.rules("core/3.1.2.6/redirect-invalid")
def test_a02_redirect_address_that_is_not_exactly_registered_is_a_page(uri: str, world: World) -> None:
    world.sign_in()

    assert isinstance(world.authorize(redirect_uri=uri), ErrorPage)
    assert isinstance(world.authorize(redirect_uri=uri, prompt="none"), ErrorPage)
    assert isinstance(world.authorize(redirect_uri=uri, response_type="token"), ErrorPage)


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:5000/cb/", "http://127.0.0.1:5000/cb?a", "http://127.0.0.1:5000/cb#", "http://127.1:5000/cb",
        "http://127.0.0.1:70000/cb", "http://127.0.0.1:05000/cb", "http://127.0.0.1:/cb", "http://127.0.0.1:5000\n/cb",
        "http://127.0.0.2:5000/cb", "http://localhost:5000/cb", "http://[::1]:5000/cb", "https://127.0.0.1:5000/cb",
        "http://127.0.0.1:5000@evil.example/cb", "http://127.0.0.1:5000.evil.example/cb", "http://127.0.0.1:５000/cb",
        "http://evil.example\\@127.0.0.1:5000/cb",
    ],
)  # fmt: skip
def test_a02_loopback_address_that_differs_in_more_than_the_port_is_a_page(uri: str, world: World) -> None:
    world.sign_in()

    assert isinstance(world.authorize("public", redirect_uri=uri), ErrorPage)


@pytest.mark.parametrize(
    "uri",
    [
        "https://other.example/cb?a=b%20c&flag", "https://other.example/cb?", "org.example.app:/cb",
        "org.example.app:///cb", "https://other.example/a%2Fb?x=%C3%A9&x=2",
    ],
)  # fmt: skip
@pytest.mark.rules("rfc6749/3.1.2/query-retained")
def test_registered_address_is_sent_as_it_was_registered(uri: str, world: World) -> None:
    """RFC 6749 §3.1.2: its query is retained; what is sent begins with what was registered, to the letter."""
    register(world, client_id="other", redirect_uris=[uri], trusted=True)
    world.sign_in()

    answer = world.authorize("other", redirect_uri=uri)

    assert isinstance(answer, Response)
    location = dict(answer.headers)["Location"]
    assert location.startswith(uri)
    assert location[len(uri) :].startswith(("code=", "?code=", "&code="))


# -- client authentication ------------------------------------------------------------------------------------------


def token_request(world: World, authorization: str, **form: str) -> Response:
    answer = world.ask(
        Request(
            "POST", "/token", body=urlencode({"grant_type": "client_credentials", **form}).encode(),
            content_type="application/x-www-form-urlencoded", authorization=authorization,
        )
    )  # fmt: skip
    assert isinstance(answer, Response)
    return answer


def basic(pair: bytes) -> str:
    return "Basic " + base64.b64encode(pair).decode()


@pytest.mark.parametrize(
    "authorization",
    [
        basic(b"service:" + SECRET.encode())[:-1],
        basic(b"service:" + SECRET.encode()) + "\n",
        basic(b"service\0:" + SECRET.encode()),
        basic(b"service%00:" + SECRET.encode()),
        basic(b"service :" + SECRET.encode()),
        basic(b"SERVICE:" + SECRET.encode()),
        basic("sérvice:x".encode("latin-1")),
        basic("service:\ud800".encode("utf-8", "surrogatepass")),
        basic(b"service:%ED%A0%80"),
        basic(b"service:" + SECRET.encode() + b"%00"),
        basic(b"service:" + SECRET.encode() + b"+"),
        basic(b"service:"),
        basic(b":" + SECRET.encode()),
        basic(b"public:"),
        "Basic",
        "Basic  ",
        "Bearer " + base64.b64encode(b"service:" + SECRET.encode()).decode(),
    ],
)
@pytest.mark.rules("core/9/basic", "rfc6749/5.2/invalid-client")
def test_token_wrong_basic_header_is_401_with_the_scheme(authorization: str, world: World) -> None:
    response = token_request(world, authorization)

    if authorization.endswith("\n"):  # white space around the value is nothing (RFC 9110 §5.5)
        assert response.status == 200
        return
    assert (response.status, error_of(response)) == (401, "invalid_client")
    assert dict(response.headers)["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    "form",
    [
        {"client_id": "web"}, {"client_id": "public"}, {"client_secret": SECRET}, {"client_secret": "x"},
        {"client_id": "service", "client_secret": SECRET},
    ],
)  # fmt: skip
def test_token_two_stories_about_the_client_are_refused(form: dict[str, str], world: World) -> None:
    assert error_of(token_request(world, basic(b"service:" + SECRET.encode()), **form)) == "invalid_request"


@pytest.mark.rules("core/3.1.3.1/registered-method")
def test_token_secret_in_the_wrong_place_is_refused(world: World) -> None:
    assert token_request(world, "", client_id="service", client_secret=SECRET).status == 401


# -- hints and logout -----------------------------------------------------------------------------------------------


def logout(world: World, cookie: bool = True, method: str = "GET", **parameters: str) -> Answer:
    text = urlencode(parameters)
    jar = {cookies.SESSION: world.cookie} if cookie else {}
    form = "application/x-www-form-urlencoded" if method == "POST" else ""
    query, body = (text, b"") if method == "GET" else ("", text.encode())
    return world.ask(Request(method, "/logout", query=query, body=body, content_type=form, cookies=jar))


def lives(world: World) -> bool:
    return not LoginSession.objects.get(pk=world.session.pk).ended_at


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.rules(
    "rp-logout/2/hint-issuer",
    "rp-logout/2/ask-without-hint",
    "rp-logout/4/failed-unused",
    "rp-logout/6/confirm",
)
def test_a47_logout_without_proof_asks_and_ends_nothing(method: str, world: World) -> None:
    world.sign_in()
    tokens = world.tokens()
    broken = tokens["id_token"][:-4] + "AAAA"
    header, body, _ = tokens["id_token"].split(".")
    unsigned = encode_segment(json.dumps({"alg": "none", "typ": "JWT"}).encode()) + f".{body}."
    made_up = f"{header}.{body}.{encode_segment(b'x' * 64)}"

    for parameters in (
        {}, {"client_id": "web"}, {"id_token_hint": broken}, {"id_token_hint": unsigned}, {"id_token_hint": made_up},
        {"id_token_hint": tokens["access_token"], "client_id": "web"},
    ):  # fmt: skip
        answer = logout(world, method=method, **parameters)
        assert isinstance(answer, Interaction), parameters
        assert answer.need is Need.CONFIRM_LOGOUT
    assert lives(world)


@pytest.mark.rules("rp-logout/2/hint-other-session", "rp-logout/2/ask-other-person")
def test_a47_logout_with_the_hint_of_another_session_ends_nothing(world: World) -> None:
    """The attacker's own ID token, of the same application, in a link for the victim."""
    world.sign_in()
    attacker = world.tokens()["id_token"]
    world.sign_in()

    answer = logout(world, id_token_hint=attacker, post_logout_redirect_uri="https://web.example/bye")

    assert isinstance(answer, Interaction)
    assert lives(world)


def test_logout_with_its_own_hint_ends_this_session_only(world: World) -> None:
    first = world.sign_in()
    world.tokens()
    world.sign_in()
    hint = world.tokens()["id_token"]

    answer = logout(
        world, id_token_hint=hint, post_logout_redirect_uri="https://web.example/bye", state="a b&c"
    )

    assert isinstance(answer, Response)
    assert dict(answer.headers)["Location"] == "https://web.example/bye?state=a+b%26c"
    assert answer.cookies_ended == ("session",)
    assert not lives(world)
    assert LoginSession.objects.get(pk=first.pk).ended_at is None


@pytest.mark.parametrize(
    "parameters",
    [
        {"post_logout_redirect_uri": "https://evil.example/"},
        {"post_logout_redirect_uri": "https://web.example/bye"},
        {"post_logout_redirect_uri": "https://web.example/bye", "client_id": "other"},
        {"post_logout_redirect_uri": "https://web.example/bye", "client_id": "nobody"},
        {"post_logout_redirect_uri": "https://web.example/bye?x", "client_id": "web"},
        {"post_logout_redirect_uri": "https://web.example/cb", "client_id": "web"},
        {"post_logout_redirect_uri": "https://web.example/bye", "id_token_hint": "HINT", "client_id": "other"},
        {"post_logout_redirect_uri": "https://evil.example/", "id_token_hint": "HINT"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("cookie", [True, False])
@pytest.mark.rules("fapi/5.3.2.1/7", "rp-logout/2/return-registered", "rp-logout/3/exact")
def test_a02_logout_never_redirects_to_what_is_not_registered(
    parameters: dict[str, str], cookie: bool, world: World
) -> None:
    world.sign_in()
    hint = world.tokens()["id_token"]

    answer = logout(
        world, cookie, **{name: value.replace("HINT", hint) for name, value in parameters.items()}
    )

    assert isinstance(answer, ErrorPage)
    assert lives(world)


@pytest.mark.rules("core/3.1.2.2/hint-issuer")
def test_id_token_hint_of_another_client_is_refused(world: World) -> None:
    world.sign_in()
    hint = world.tokens("public", None)["id_token"]

    assert answer_of(world.authorize(id_token_hint=hint))["error"] == "invalid_request"
    assert answer_of(world.authorize("public", id_token_hint=hint))["code"]


@pytest.mark.parametrize(
    "prompt", ["none", "none consent", "none login", "login none", " none ", "none none"]
)
@pytest.mark.rules("core/3.1.2.1/prompt-none")
def test_prompt_none_never_shows_a_page(prompt: str, world: World) -> None:
    """Whatever else is asked for: an error or a code, never a page."""
    for changes in ({}, {"max_age": "0"}, {"acr_values": "aal2"}, {"scope": "openid demo.read"}):
        assert isinstance(world.authorize(prompt=prompt, **changes), Response)
    world.sign_in(factor=False)
    for client in ("web", "other", "public"):
        assert isinstance(world.later(seconds=30).authorize(client, prompt=prompt, scope="openid"), Response)


@pytest.mark.rules(
    "core/3.1.2.1/max-age",
    "core/3.1.2.3/prompt-login",
    "core/15.1/max-age",
    "core/3.1.2.1/prompt-login-error",
)
def test_a07_max_age_zero_and_login_are_met_by_a_sign_in_of_this_flow_only(world: World) -> None:
    world.sign_in()
    world.later(seconds=5)

    for changes in ({"max_age": "0"}, {"prompt": "login"}, {"max_age": "4"}):
        answer = world.authorize(**changes)
        assert isinstance(answer, Interaction)
        assert answer.need is Need.LOGIN
    assert "code" in answer_of(world.authorize(max_age="999999999"))


# -- tokens -----------------------------------------------------------------------------------------------------------


def test_refresh_with_the_scope_of_the_first_request_is_granted(world: World) -> None:
    """Many libraries repeat the scope that they began with, `offline_access` and all (RFC 6749 §6)."""
    register(world, client_id="web", scope="openid profile email roles demo.read offline_access")
    world.sign_in()
    first = world.tokens(scope="openid offline_access")

    refreshed = world.refresh(first["refresh_token"], scope="openid offline_access")

    assert json.loads(refreshed.body)["scope"] == "openid"


@pytest.mark.parametrize("scope", [" ", "   ", "offline_access", "demo.read", "openid demo.read", "OPENID"])
def test_refresh_for_nothing_or_more_is_refused_and_keeps_the_token(scope: str, world: World) -> None:
    world.sign_in()
    first = world.tokens(scope="openid roles")["refresh_token"]

    assert error_of(world.refresh(first, scope=scope)) == "invalid_scope"
    assert world.refresh(first).status == 200


def test_refresh_narrowed_once_is_whole_again_the_next_time(world: World) -> None:
    world.sign_in()
    first = world.tokens(scope="openid roles")["refresh_token"]
    second = json.loads(world.refresh(first, scope="openid").body)

    assert "roles" not in claims_of(second["id_token"])
    assert json.loads(world.refresh(second["refresh_token"]).body)["scope"] == "openid roles"


def test_a15_refresh_token_of_another_position_or_family_is_a_guess(world: World) -> None:
    world.sign_in()
    one, two = world.tokens()["refresh_token"], world.tokens()["refresh_token"]
    raw_one, raw_two = (base64.urlsafe_b64decode(token[3:] + "==") for token in (one, two))
    forged = [
        raw_two[:16] + raw_one[16:],
        raw_one[:16] + (1).to_bytes(4, "big") + raw_one[20:],
        raw_one[:16] + (2**32 - 1).to_bytes(4, "big") + raw_one[20:],
        raw_one[:20] + raw_two[20:],
    ]

    for data in forged:
        assert error_of(world.refresh("rt_" + encode_segment(data))) == "invalid_grant"
    assert world.refresh(one).status == 200
    assert world.refresh(two).status == 200


def test_a17_introspection_of_a_refresh_token_is_its_owners_alone(world: World) -> None:
    world.sign_in()
    token = world.tokens(scope="openid demo.read")["refresh_token"]

    assert world.introspect(token) == {"active": False}
    assert world.introspect(token, "other", SECRET) == {"active": False}
    assert world.introspect(token, "web", SECRET)["active"]
    world.refresh(token)
    assert world.introspect(token, "web", SECRET) == {"active": False}


@pytest.mark.parametrize(
    "change",
    [
        {"typ": "JWT"}, {"alg": "none"}, {"alg": "HS256"}, {"alg": "RS256"}, {"kid": "../../etc/passwd"}, {"kid": None},
        {"crit": ["exp"]}, {"b64": False}, {"kid": ["a"]},
    ],
)  # fmt: skip
@pytest.mark.rules("fapi/5.3.4/3", "rfc7009/2.2/unknown", "rfc7662/4/checks", "rfc9068/2.1/typ")
def test_a11_access_token_with_another_header_is_nothing(change: dict, world: World) -> None:
    world.sign_in()
    token = world.tokens(scope="openid demo.read")["access_token"]
    head, body, tail = token.split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    forged = f"{encode_segment(json.dumps({**header, **change}).encode())}.{body}.{tail}"

    assert world.introspect(forged) == {"active": False}
    assert world.userinfo(forged).status == 401
    assert world.post("/revoke", token=forged).status == 200
    assert world.userinfo(token).status == 200


@pytest.mark.parametrize(
    "counters", ["0.0.0", "0.0.0.0.0", "-1.0.0.0", "٠.0.0.0", "²", "9" * 30, None, 5, [0], "0.0.0.0"]
)
def test_counters_that_are_not_todays_are_never_accepted(counters: object, world: World) -> None:
    """As a key of ours could have signed them: the parser is not the last defence, nor the first."""
    session = world.sign_in()
    LoginSession.objects.filter(pk=session.pk).update(generation=3)
    token = world.tokens(scope="openid demo.read")["access_token"]
    now = state.DatabaseState()
    signed = now.signing_key("ES256").sign("at+jwt", {**claims_of(token), "gen": counters})

    assert world.introspect(signed) == {"active": False}
    assert world.introspect(token)["active"]


def test_denylist_key_that_is_longer_than_its_column_still_denies_only_itself(world: World) -> None:
    """`jti` is cut to the column's length in both statements: ours are shorter, so nothing is cut."""
    world.sign_in()
    tokens = world.tokens(scope="openid demo.read")
    machine = json.loads(world.post("/token", "service", grant_type="client_credentials").body)[
        "access_token"
    ]
    assert max(len(claims_of(token)["jti"]) for token in (tokens["access_token"], machine)) <= 64

    world.post("/revoke", "service", token=machine)

    assert world.introspect(machine) == {"active": False}
    assert world.introspect(tokens["access_token"])["active"]
    another = json.loads(world.post("/token", "service", grant_type="client_credentials").body)[
        "access_token"
    ]
    assert world.introspect(another)["active"]


@pytest.mark.parametrize(
    "text", ["é", "ب" * 200, "😀" * 100, "\u202e", "a+b c%20d", "<script>", "'\"\\", "\x7f\x1b"]
)
@pytest.mark.rules("core/2/nonce-untouched")
def test_state_and_nonce_of_any_text_come_back_as_they_were(text: str, world: World) -> None:
    world.sign_in()

    answer = answer_of(world.authorize(state=text, nonce=text))

    assert answer["state"] == text
    identity = claims_of(json.loads(world.exchange(answer["code"]).body)["id_token"])
    assert identity["nonce"] == text


@pytest.mark.parametrize(
    "name", ["state", "nonce", "login_hint", "acr_values", "ui_locales", "claims", "a\0b"]
)
@pytest.mark.parametrize("value", ["a\0b", "\0", "a\ud800", "x" * 8193])
def test_unstorable_text_in_any_parameter_is_refused_before_the_database(
    name: str, value: str, world: World
) -> None:
    world.sign_in()
    base = urlencode(
        {
            "client_id": "web",
            "redirect_uri": "https://web.example/cb",
            "response_type": "code",
            "scope": "openid",
        }
    )
    query = f"{base}&{quote(name)}={quote(value, errors='surrogatepass')}"

    answer = world.ask(Request("GET", "/authorize", query=query, cookies={cookies.SESSION: world.cookie}))

    if isinstance(answer, ErrorPage):
        assert name == "state"
    else:
        assert answer_of(answer)["error"] == "invalid_request"


def test_a19_changed_bits_of_a_session_secret_are_nobody(world: World) -> None:
    world.sign_in()
    good = world.cookie
    for bad in (
        good[:-1],
        good + "A",
        good.swapcase(),
        good + "\0",
        "é" + good,
        "\ud800",
        " " + good,
        good * 4,
    ):
        world.cookie = bad
        answer = world.authorize()
        assert isinstance(answer, Interaction)
        assert answer.need is Need.LOGIN
    world.cookie = good
    assert "code" in answer_of(world.authorize())


def test_a06_exchange_with_a_challenge_instead_of_its_verifier_is_refused(world: World) -> None:
    world.sign_in()
    code = world.code()
    challenge = Grant.objects.get().code_challenge

    assert error_of(world.exchange(code, code_verifier=challenge)) == "invalid_grant"
    assert world.exchange(code).status == 200


def test_a07_code_of_one_client_shown_by_another_after_use_ends_the_family(world: World) -> None:
    """Whoever shows a used code, it leaked."""
    world.sign_in()
    code = world.code(scope="openid demo.read")
    tokens = json.loads(world.exchange(code).body)

    assert error_of(world.exchange(code, "public", None)) == "invalid_grant"

    assert world.introspect(tokens["access_token"]) == {"active": False}
    assert error_of(world.refresh(tokens["refresh_token"])) == "invalid_grant"
