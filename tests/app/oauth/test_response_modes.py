"""How answers travel: in the address, in a form, signed; and that nothing escapes on the way."""

import json
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

import jwt
import pytest
from django.test import Client as Browser

from iam.accounts import cookies
from iam.audit.facts import RequestFacts
from iam.oauth import interactions, state
from iam.oauth.models import Client, Grant
from iam.oauth.protocol.messages import (
    AuthorizationRequest,
    FormPost,
    Interaction,
    Need,
    Request,
    Response,
    ResponseMode,
)

from .conftest import World, answer_of, claims_of

pytestmark = pytest.mark.django_db
ISSUER = "http://localhost:8000"
SIGNED = [ResponseMode.JWT, ResponseMode.QUERY_JWT, ResponseMode.FORM_POST_JWT]
FACTS = RequestFacts(request_id=str(uuid4()), address="192.0.2.1", user_agent="")


def opened(token: str, algorithm: str = "ES256", audience: str = "web") -> dict:
    """Read a signed answer as a client would: with another library, the published keys and one algorithm."""
    published = {key.kid: key.jwk() for key in state.DatabaseState().published_keys()}
    header = jwt.get_unverified_header(token)
    assert header["typ"] == "oauth-authz-resp+jwt"
    key = jwt.PyJWK(published[header["kid"]])
    # The world's clock is whole seconds and may stand still: `exp` is judged by the test, not by today.
    return jwt.decode(
        token, key, algorithms=[algorithm], audience=audience, issuer=ISSUER, options={"verify_exp": False, "verify_iat": False}
    )  # fmt: skip


# -- form_post ------------------------------------------------------------------------------------------------------


@pytest.mark.spec("OAuth 2.0 Form Post Response Mode", "2", "the answer is posted to the redirect address")
@pytest.mark.rules("form-post/2/parameters", "form-post/2/action")
def test_form_post_answer_is_a_form_for_the_registered_address(world: World) -> None:
    world.sign_in()

    answer = world.authorize(response_mode="form_post")

    assert isinstance(answer, FormPost)
    assert answer.uri == "https://web.example/cb"
    fields = dict(answer.fields)
    assert set(fields) == {"code", "state", "iss"}
    assert (fields["state"], fields["iss"]) == ("st", ISSUER)
    assert world.exchange(fields["code"]).status == 200


@pytest.mark.spec("OAuth 2.0 Form Post Response Mode", "2", "an error is posted too")
@pytest.mark.rules("form-post/2/errors", "core/3.1.2.6/no-others")
def test_form_post_error_is_a_form_too(world: World) -> None:
    answer = world.authorize(response_mode="form_post", scope="openid secrets")

    assert isinstance(answer, FormPost)
    assert set(dict(answer.fields)) == {"error", "error_description", "state", "iss"}
    assert dict(answer.fields)["error"] == "invalid_scope"


def test_form_post_to_a_loopback_port_is_that_port(world: World) -> None:
    world.sign_in()

    answer = world.authorize("public", response_mode="form_post", redirect_uri="http://127.0.0.1:61000/cb")

    assert isinstance(answer, FormPost)
    assert answer.uri == "http://127.0.0.1:61000/cb"


@pytest.mark.parametrize("mode", ["form_post", "form_post.jwt"])
def test_a04_form_post_to_a_private_scheme_is_refused_by_redirect(mode: str, world: World) -> None:
    world.sign_in()
    Client.objects.filter(client_id="web").update(redirect_uri_list=["org.example.app:/cb"])

    answer = world.authorize(response_mode=mode, redirect_uri="org.example.app:/cb")

    assert isinstance(answer, Response)
    assert dict(answer.headers)["Location"].startswith("org.example.app:/cb?error=invalid_request")


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\u2028", "\u202e"], ids=ascii)
def test_a09_state_that_a_form_would_change_is_refused_and_not_changed(text: str, world: World) -> None:
    world.sign_in()

    answer = answer_of(world.authorize(response_mode="form_post", state=text))
    signed = claims_of(answer_of(world.authorize(response_mode="form_post.jwt", state=text))["response"])

    assert (answer["error"], answer["state"]) == ("invalid_request", text)
    assert signed["state"] == text
    assert "code" in signed


# -- signed answers ------------------------------------------------------------------------------------------------


@pytest.mark.spec("JARM", "2.1", "iss, aud, exp and the answer's parameters in one JWT")
@pytest.mark.parametrize("mode", SIGNED)
@pytest.mark.rules("fapi-ms/5.4.1/1-issue", "fapi-ms/5.4.1/iss-inside")
def test_signed_answer_holds_everything_and_nothing_stands_beside_it(
    mode: ResponseMode, world: World
) -> None:
    world.sign_in()

    answer = world.authorize(response_mode=mode.value)
    parameters = answer_of(answer)

    assert isinstance(answer, FormPost) is (mode is ResponseMode.FORM_POST_JWT)
    assert set(parameters) == {"response"}
    claims = opened(parameters["response"])
    assert set(claims) == {"iss", "aud", "iat", "exp", "code", "state"}
    assert 0 < claims["exp"] - world.now.timestamp() <= 600
    assert world.exchange(claims["code"]).status == 200


@pytest.mark.spec("JARM", "2.1", "errors are signed too")
@pytest.mark.parametrize("mode", SIGNED)
def test_signed_error_is_signed_with_or_without_a_session(mode: ResponseMode, world: World) -> None:
    nobody = opened(answer_of(world.authorize(response_mode=mode.value, prompt="none"))["response"])
    world.sign_in()
    somebody = opened(answer_of(world.authorize(response_mode=mode.value, max_age="soon"))["response"])

    assert (nobody["error"], nobody["state"]) == ("login_required", "st")
    assert somebody["error"] == "invalid_request"
    assert "code" not in somebody


@pytest.mark.spec("JARM", "3", "authorization_signed_response_alg")
@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "PS256", "EdDSA"])
def test_signed_answer_uses_the_algorithm_of_the_client(algorithm: str, world: World) -> None:
    world.sign_in()
    Client.objects.filter(client_id="web").update(options={"authorization_signed_response_alg": algorithm})

    answer = answer_of(world.authorize(response_mode="jwt"))

    assert "code" in opened(answer["response"], algorithm)


@pytest.mark.spec("RFC 8725", "3.11", "kinds of JWT cannot be confused")
def test_a13_signed_answer_is_no_token_of_another_kind(world: World) -> None:
    world.sign_in()
    response = answer_of(world.authorize(response_mode="jwt"))["response"]

    as_hint = answer_of(world.authorize(id_token_hint=response))

    assert as_hint["error"] == "invalid_request"
    assert world.userinfo(response).status == 401
    assert world.introspect(response) == {"active": False}


@pytest.mark.parametrize(
    "mode", ["fragment", "web_message", "QUERY", "query ", "fragment.jwt", "none", "jwt.jwt"]
)
def test_a05_other_response_modes_are_refused_by_query(mode: str, world: World) -> None:
    world.sign_in()

    answer = world.authorize(response_mode=mode)

    assert isinstance(answer, Response)
    assert (answer_of(answer)["error"], answer_of(answer)["state"]) == ("invalid_request", "st")
    assert not Grant.objects.exists()


def test_a05_response_mode_twice_is_refused_by_query(world: World) -> None:
    world.sign_in()
    query = urlencode(world.wanted()) + "&response_mode=form_post&response_mode=query"

    answer = answer_of(world.ask(Request("GET", "/authorize", query=query)))

    assert answer["error"] == "invalid_request"


@pytest.mark.parametrize("mode", list(ResponseMode))
@pytest.mark.parametrize("changes", [{}, {"scope": "openid secrets"}, {"prompt": "none consent"}], ids=str)
@pytest.mark.spec("RFC 9207", "2", "iss in every answer, errors included")
@pytest.mark.rules("fapi/5.3.2.2/7", "core/3.1.2.6/state", "rfc9207/2/every-answer")
def test_a09_iss_and_state_are_in_every_answer_of_every_mode(
    mode: ResponseMode, changes: dict[str, str], world: World
) -> None:
    world.sign_in()

    answer = answer_of(world.authorize(response_mode=mode.value, state="x-1", **changes))
    said = claims_of(answer["response"]) if mode.is_signed else answer

    assert (said["iss"], said["state"]) == (ISSUER, "x-1")
    assert ("code" in said) != ("error" in said)


@pytest.mark.parametrize("mode", list(ResponseMode))
def test_a09_no_state_sent_is_no_state_answered(mode: ResponseMode, world: World) -> None:
    world.sign_in()

    answer = answer_of(world.authorize(response_mode=mode.value, state=None))

    assert "state" not in (claims_of(answer["response"]) if mode.is_signed else answer)


# -- through a sign-in ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [ResponseMode.FORM_POST, ResponseMode.FORM_POST_JWT, ResponseMode.JWT])
def test_mode_survives_the_wait_for_a_person(mode: ResponseMode, world: World) -> None:
    waiting = world.authorize(response_mode=mode.value)
    assert isinstance(waiting, Interaction)
    handle = interactions.park(waiting, "b" * 43, world.now)
    parked = interactions.load(handle, "b" * 43, world.now)
    assert parked is not None

    done = interactions.evaluate(parked, world.sign_in(), FACTS, world.now)

    answer = answer_of(done)
    assert isinstance(done, FormPost) is mode.is_form
    assert "code" in (claims_of(answer["response"]) if mode.is_signed else answer)
    assert interactions.load(handle, "b" * 43, world.now) is None


@pytest.mark.parametrize("end", [interactions.refuse_consent, interactions.release_refused])
def test_mode_survives_a_refusal_on_our_pages(end, world: World) -> None:
    session = world.sign_in()
    waiting = world.authorize("other", response_mode="form_post.jwt")
    assert isinstance(waiting, Interaction)
    assert waiting.need is Need.CONSENT
    parked = interactions.load(interactions.park(waiting, "b" * 43, world.now), "b" * 43, world.now)
    assert parked is not None

    done = end(parked, session, FACTS, world.now)

    assert isinstance(done, FormPost)
    assert opened(dict(done.fields)["response"], audience="other")["error"] == "access_denied"


def test_request_parked_by_the_release_before_is_answered_by_query(world: World) -> None:
    waiting = world.authorize()
    assert isinstance(waiting, Interaction)
    assert waiting.request is not None
    old = {name: value for name, value in waiting.request.as_json().items() if name != "response_mode"}

    assert AuthorizationRequest.from_json(json.loads(json.dumps(old))) == waiting.request


# -- the page ---------------------------------------------------------------------------------------------------------


class Seen(HTMLParser):
    """What a browser would take from the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[dict[str, str | None]] = []
        self.fields: dict[str, str] = {}
        self.scripts: list[dict[str, str | None]] = []
        self.buttons = 0
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if tag == "form":
            self.forms.append(given)
        elif tag == "input":
            self.fields[given["name"] or ""] = given["value"] or ""
        elif tag == "script":
            self.scripts.append(given)
        elif tag == "button":
            self.buttons += 1


def page_of(world: World, language: str = "en", **changes: str | None):
    """Ask through Django's door, as a browser that is signed in."""
    if world.session is None:
        # The door reads the clock itself.
        world.sign_in()
    browser = Browser(HTTP_HOST="localhost:8000", HTTP_ACCEPT_LANGUAGE=language)
    browser.cookies[cookies.SESSION] = world.cookie
    return browser.get("/authorize?" + urlencode(world.wanted(**changes)))


HOSTILE = [
    '"><script>alert(1)</script>', "'><img src=x onerror=alert(1)>", "</form><form action=https://evil.example>",
    "{{ 7*7 }}{% csrf_token %}", "&quot;&#34;&lt;", "javascript:alert(1)", "é ب 😀 \\",
]  # fmt: skip


@pytest.mark.spec("OAuth 2.0 Form Post Response Mode", "2", "values are escaped")
@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.rules("form-post/2/parameters", "form-post/2/action", "form-post/4/escaped")
def test_a04_markup_in_state_stays_a_value(text: str, world: World) -> None:
    response = page_of(world, response_mode="form_post", state=text)

    seen = Seen(response.content.decode())
    assert response.status_code == 200
    assert [form["action"] for form in seen.forms] == ["https://web.example/cb"]
    assert seen.fields["state"] == text
    assert set(seen.fields) == {"code", "state", "iss"}
    assert len(seen.scripts) == 1
    assert "img" not in seen.tags


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.rules("form-post/4/escaped")
def test_a04_markup_in_any_parameter_of_a_refused_request_stays_a_value(text: str, world: World) -> None:
    response = page_of(world, response_mode="form_post", state=text, scope=text, prompt=text, nonce=text)

    seen = Seen(response.content.decode())
    assert [form["action"] for form in seen.forms] == ["https://web.example/cb"]
    assert seen.fields["state"] == text
    assert len(seen.scripts) == 1
    assert "img" not in seen.tags


@pytest.mark.rules("form-post/2/method")
def test_a04_page_runs_only_our_own_script_and_posts_only_to_the_client(world: World) -> None:
    response = page_of(world, response_mode="form_post")

    policy = dict(part.strip().split(" ", 1) for part in response["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["form-action"] == "'self' https://web.example"
    assert policy["frame-ancestors"] == "'none'"
    seen = Seen(response.content.decode())
    assert [(one["src"], "defer" in one) for one in seen.scripts] == [("/static/portal/form_post.js", True)]
    assert seen.forms[0]["method"] == "post"
    assert seen.buttons == 1


@pytest.mark.spec("OAuth 2.0 Form Post Response Mode", "4", "the page is kept by no cache")
@pytest.mark.rules("form-post/2/not-kept", "rfc9700/4.2.4/referrer")
def test_form_page_is_not_kept_and_tells_the_client_our_origin_only(world: World) -> None:
    response = page_of(world, response_mode="form_post")

    assert response["Cache-Control"] == "no-store"
    assert response["Referrer-Policy"] == "origin"
    assert "csrf" not in response.content.decode()


@pytest.mark.parametrize(("language", "direction"), [("ar", "rtl"), ("fr", "ltr"), ("en", "ltr")])
def test_form_page_is_in_the_persons_language(language: str, direction: str, world: World) -> None:
    text = page_of(world, language, response_mode="form_post").content.decode()

    assert f'lang="{language}" dir="{direction}"' in text


@pytest.mark.rules("core/3.1.2.5/query")
def test_query_answer_through_the_door_is_still_a_redirect(world: World) -> None:
    response = page_of(world, response_mode="query")

    assert response.status_code == 303
    assert "code" in dict(parse_qsl(urlsplit(response["Location"]).query))
