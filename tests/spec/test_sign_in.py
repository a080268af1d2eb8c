"""From a browser's first request to tokens, over HTTP, through slapd and TOTP."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.servers.organisation import CLIENT_SECRET, PASSWORD
from tests.servers.person import Page, Person
from tests.servers.service import Service


def claims_of(token: str) -> dict:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def token(
    service: Service, auth: tuple[str, str] | None = ("test-web", CLIENT_SECRET), **form: str
) -> requests.Response:
    return requests.post(f"{service.issuer}/token", data=form, auth=auth, timeout=20)


# -- the journey ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("login", "language", "direction"), [("omar", "ar", "rtl"), ("amina", "fr", "ltr"), ("sara", "en", "ltr")]
)
def test_us04_sign_in_in_each_language_ends_with_tokens_that_say_who_and_where(
    service, login, language, direction
):
    person = Person(service.issuer, login, language=language)
    first = person.open(person.request())
    assert isinstance(first, Page)
    assert (first.attributes["lang"], first.attributes["dir"]) == (language, direction)

    answer = person.go_on(first)

    identity = claims_of(person.tokens(answer)["id_token"])
    assert identity["office"] == {"omar": "GVA", "amina": "NIM", "sara": "KBL"}[login]
    assert identity["roles"] == ["staff"]
    assert identity["access"] == [{"role": "staff", "office": identity["office"], "subtree": False}]
    assert (identity["acr"], identity["amr"]) == ("aal2", ["pwd", "otp", "mfa"])


@pytest.mark.rules("core/2/signed")
def test_sign_in_a_real_client_library_accepts_the_id_token(service):
    person = Person(service.issuer, "crowd01")
    tokens = person.tokens(person.sign_in())
    metadata = requests.get(f"{service.issuer}/.well-known/openid-configuration", timeout=20).json()
    keys = KeySet.import_key_set(requests.get(metadata["jwks_uri"], timeout=20).json())

    claims = jwt.decode(tokens["id_token"], keys, algorithms=["ES256"]).claims
    jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": metadata["issuer"]}, aud={"essential": True, "value": "test-web"}
    ).validate(claims)

    assert claims["nonce"] == "no"


def test_us03_second_application_opens_without_a_prompt(service):
    person = Person(service.issuer, "crowd02")
    person.sign_in()

    again = person.open(person.request())

    assert isinstance(again, dict)
    assert "code" in again


@pytest.mark.spec("OIDC Core", "3.1.2.1", "prompt=login asks again")
@pytest.mark.rules("core/3.1.2.1/prompt-login", "core/3.1.2.3/prompt-login", "core/15.1/prompt")
def test_us35_prompt_login_asks_for_password_and_code_again(service):
    person = Person(service.issuer, "crowd03")
    person.sign_in()

    page = person.open(person.request(prompt="login"))
    assert isinstance(page, Page)
    assert page.has("password") or page.has("username")
    answer = person.go_on(page, stop_at="code")

    assert isinstance(answer, Page), answer
    assert answer.has("code")


@pytest.mark.spec("OIDC Core", "3.1.2.1", "prompt=none never shows a page")
@pytest.mark.rules(
    "core/3.1.2.1/prompt-none", "core/3.1.2.3/prompt-none", "core/3.1.2.6/no-others", "core/15.1/prompt"
)
def test_us03_prompt_none_without_session_is_login_required(service):
    person = Person(service.issuer, "crowd03")

    answer = person.open(person.request(prompt="none"))

    assert answer == {
        "error": "login_required", "error_description": answer["error_description"], "state": "st", "iss": service.issuer
    }  # fmt: skip


def test_password_alone_is_enough_only_where_the_office_says_so(service):
    person = Person(service.issuer, "load01")

    identity = claims_of(person.tokens(person.sign_in())["id_token"])

    assert (identity["acr"], identity["amr"], identity["office"]) == ("aal1", ["pwd"], "TEST")


def test_us35_acr_values_asks_for_the_factor_that_the_office_does_not(service):
    person = Person(service.issuer, "load02")

    page = person.go_on(person.open(person.request(acr_values="aal2")), stop_at="code")

    assert isinstance(page, Page)
    assert page.has("code")  # nothing enrolled yet: the enrolment asks for a code


def test_newcomer_is_led_to_enrol_and_cannot_skip(service):
    person = Person(service.issuer, "newcomer")
    page = person.go_on(person.open(person.request()), stop_at="code")
    assert isinstance(page, Page)
    assert "otpauth" in page.response.text or "svg" in page.response.text

    around = person.open(person.request(prompt="none"))

    assert around["error"] == "interaction_required"


class Watched(Person):
    """A person who notes how each of their posts was answered."""

    statuses: list[int]

    def submit(self, page: Page, name: str, **values: str):
        form = page.form_with(name)
        response = self.browser.post(
            form.action, data={**form.fields, **values}, allow_redirects=False,
            headers={"Origin": self.issuer, "Referer": page.response.url},
        )  # fmt: skip
        self.statuses.append(response.status_code)
        return self._follow(response)


@pytest.mark.rules("fapi/5.3.2.2/10", "fapi/5.3.2.2/11", "core/16.22/no-307", "rfc9700/4.12/no-307")
def test_credentials_are_never_sent_on_by_a_redirect(service):
    """307 and 308 would make the browser post password and code again, to wherever it is sent."""
    person = Watched(service.issuer, "crowd38")
    person.statuses = []

    answer = person.sign_in()

    assert "code" in answer
    assert 303 in person.statuses
    assert set(person.statuses) <= {200, 303}


# -- refusals ---------------------------------------------------------------------------------------------------


def test_wrong_password_and_unknown_name_look_the_same(service):
    known = Person(service.issuer, "crowd04", "not the password at all")
    unknown = Person(service.issuer, "nobody-of-that-name", "not the password at all")

    pages = []
    for person in (known, unknown):
        page = person.open(person.request())
        if not page.has("password"):
            page = person.submit(page, "username", username=person.login)
        page = person.submit(page, "password", password=person.password)
        assert isinstance(page, Page)
        pages.append(page)

    assert pages[0].response.status_code == pages[1].response.status_code
    assert pages[0].text.replace("crowd04", "X") == pages[1].text.replace("nobody-of-that-name", "X")


@pytest.mark.parametrize(
    "order",
    [("lock", "--until", "2099-01-01T00:00:00+00:00"), ("expire", "--at", "2001-01-01T00:00:00+00:00")],
    ids=["locked", "expired"],
)
def test_a22_locked_or_expired_person_has_no_session_and_cannot_sign_in(service, order):
    login = {"lock": "crowd25", "expire": "crowd26"}[order[0]]
    person = Person(service.issuer, login)
    given = person.tokens(person.sign_in())

    service.manage("person", order[0], login, *order[1:])

    assert isinstance(person.open(person.request()), Page)
    refused = token(service, grant_type="refresh_token", refresh_token=given["refresh_token"])
    assert refused.json()["error"] == "invalid_grant"
    page = Person(service.issuer, login).go_on(person.open(person.request()), stop_at="code")
    assert isinstance(page, Page)
    assert not page.has("code")


def test_disabled_person_learns_it_only_after_the_right_password(service):
    wrong = Person(service.issuer, "gone", "not the password at all")
    right = Person(service.issuer, "gone")

    refused_wrong = wrong.submit(step_to_password(wrong), "password", password=wrong.password)
    refused_right = right.submit(step_to_password(right), "password", password=right.password)

    assert isinstance(refused_wrong, Page)
    assert isinstance(refused_right, Page)
    assert refused_wrong.has("password")
    assert not refused_right.has("password")
    assert "Ask" in refused_right.text or "disabled" in refused_right.text
    assert right.open(right.request(prompt="none"))["error"] == "login_required"


def step_to_password(person: Person) -> Page:
    page = person.open(person.request())
    assert isinstance(page, Page)
    if not page.has("password"):
        page = person.submit(page, "username", username=person.login)
    assert isinstance(page, Page)
    return page


def test_person_without_a_staff_role_is_refused_by_name_of_the_application(service):
    service.python(
        "from mfa.service import import_totp\nfrom datetime import datetime, UTC\nfrom iam.management.people import person_named\n"
        "from tests.servers.organisation import TOTP_SECRET\nnow=datetime.now(UTC)\n"
        "import_totp(str(person_named('stranger', now, print).user.pk), TOTP_SECRET, now)"
    )
    person = Person(service.issuer, "stranger")

    page = person.go_on(person.open(person.request()))

    assert isinstance(page, Page)
    assert "Correspondence" in page.text


def test_a31_steps_cannot_be_skipped_by_posting_to_a_later_one(service):
    person = Person(service.issuer, "crowd05")
    page = person.open(person.request())
    assert isinstance(page, Page)
    form = page.form_with("username")

    response = person.browser.post(
        form.action, data={**form.fields, "code": person.code()}, allow_redirects=False
    )

    assert "code=ac_" not in response.headers.get("Location", "")
    assert person.open(person.request(prompt="none"))["error"] == "login_required"


def test_a45_flow_begun_in_another_browser_cannot_be_finished_here(service):
    attacker, victim = Person(service.issuer, "crowd06"), Person(service.issuer, "crowd07")
    page = attacker.open(attacker.request())
    assert isinstance(page, Page)

    stolen = victim.open(page.response.url)

    assert isinstance(stolen, Page)
    assert not stolen.has("password")


@pytest.mark.rules("core/3.1.2.3/csrf")
def test_a47_sign_in_form_without_the_csrf_field_is_refused(service):
    person = Person(service.issuer, "crowd08")
    page = person.open(person.request())
    assert isinstance(page, Page)
    form = page.form_with("username")
    fields = {name: value for name, value in form.fields.items() if "csrf" not in name}

    response = person.browser.post(form.action, data={**fields, "username": "crowd08", "password": PASSWORD})

    assert response.status_code == 403


def test_finance_asks_for_a_fresh_code_when_the_factor_is_old_and_not_when_it_is_fresh(service):
    person = Person(service.issuer, "amina")
    person.steps_taken = 1
    redirect = "http://127.0.0.1:9902/callback"
    page = person.go_on(person.open(person.request()), stop_at="code")
    import time

    if isinstance(page, Page):
        time.sleep(0)
        page = person.go_on(page)
    assert isinstance(page, dict), page.text
    finance = person.request("test-finance", redirect, scope="openid roles")
    assert "code" in person.open(finance)
    service.python(
        "from datetime import timedelta\nfrom django.db.models import F\nfrom iam.accounts.models import LoginSession\n"
        "LoginSession.objects.filter(user__links__login='amina').update(factor_at=F('factor_at') - timedelta(seconds=301))"
    )

    aged = person.open(finance)

    assert isinstance(aged, Page)
    assert aged.has("code")
    assert not aged.has("password")


def test_finance_refuses_who_has_not_the_role(service):
    person = Person(service.issuer, "crowd09")
    person.sign_in()

    page = person.open(person.request("test-finance", "http://127.0.0.1:9902/callback", scope="openid roles"))

    assert isinstance(page, Page)
    assert "Finance" in page.text
    assert "finance@test.example" in page.text


@pytest.mark.rules("fapi/5.3.2.2/13", "core/3.1.2.1/prompt-consent-error", "core/3.1.2.4/consent")
def test_us03_consent_is_asked_once_and_can_be_refused(service):
    person = Person(service.issuer, "crowd10")
    redirect = "http://127.0.0.1:9901/callback"
    address = person.request("test-ask", redirect, scope="openid profile")
    page = person.go_on(person.open(address))
    assert isinstance(page, Page)
    assert "Consent Test" in page.text
    form = page.form_with("consent")
    response = person.browser.post(
        form.action, data={**form.fields, "decision": "decline"}, allow_redirects=False
    )
    assert "error=access_denied" in response.headers["Location"]

    page = person.open(address)
    assert isinstance(page, Page)
    form = page.form_with("consent")
    response = person.browser.post(
        form.action, data={**form.fields, "decision": "agree"}, allow_redirects=False
    )
    if not response.headers["Location"].startswith(redirect):
        response = person.browser.get(
            service.issuer + response.headers["Location"].removeprefix(service.issuer), allow_redirects=False
        )
    assert "code=ac_" in response.headers["Location"]
    assert "code" in person.open(address)


# -- roles ------------------------------------------------------------------------------------------------------


def test_role_granted_a_minute_ago_is_in_the_next_token_and_revoked_is_gone(service):
    person = Person(service.issuer, "crowd11")
    tokens = person.tokens(person.sign_in())
    service.manage("access", "grant", "crowd11", "correspondence.registrar", "--office", "GVA")

    refreshed = token(service, grant_type="refresh_token", refresh_token=tokens["refresh_token"]).json()

    assert claims_of(refreshed["id_token"])["roles"] == ["correspondence.registrar", "staff"]
    service.manage("access", "revoke", "crowd11", "correspondence.registrar", "--office", "GVA")
    userinfo = requests.get(
        f"{service.issuer}/userinfo",
        headers={"Authorization": f"Bearer {refreshed['access_token']}"},
        timeout=20,
    )
    assert userinfo.status_code == 401
    again = token(service, grant_type="refresh_token", refresh_token=refreshed["refresh_token"]).json()
    assert claims_of(again["id_token"])["roles"] == ["staff"]


# -- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "", "client_id=nobody", "client_id=test-web", "client_id=test-web&redirect_uri=https://evil.example/",
        "client_id=%00", "client_id=test-web&client_id=test-web", "client_id=" + "x" * 20_000, "%ff%fe", "&&&==&",
    ],
)  # fmt: skip
def test_authorize_bad_request_is_a_page_with_a_reference_number(service, query):
    response = requests.get(f"{service.issuer}/authorize?{query}", allow_redirects=False, timeout=20)

    assert response.status_code == 400
    assert "Location" not in response.headers
    assert response.headers["Cache-Control"] == "no-store" or "no-store" in response.headers["Cache-Control"]
    assert Page(response).attributes["lang"] in {"ar", "fr", "en"}


@pytest.mark.parametrize("path", ["/token", "/introspect", "/revoke"])
@pytest.mark.parametrize(
    ("method", "headers", "body", "status", "error"),
    [
        ("GET", {}, b"", 405, "invalid_request"),
        ("POST", {"Content-Type": "application/json"}, b"{", 400, "invalid_request"),
        ("POST", {"Content-Type": "application/x-www-form-urlencoded"}, b"a=1&a=2", 400, "invalid_request"),
        ("POST", {"Content-Type": "application/x-www-form-urlencoded"}, b"a=%00", 400, "invalid_request"),
        (
            "POST",
            {"Content-Type": "application/x-www-form-urlencoded"},
            b"a=" + b"x" * 1_000_000,
            400,
            "invalid_request",
        ),
        (
            "POST",
            {"Content-Type": "application/x-www-form-urlencoded", "Authorization": "Basic !!"},
            b"a=1",
            401,
            "invalid_client",
        ),
        (
            "POST",
            {"Content-Type": "application/x-www-form-urlencoded"},
            b"grant_type=x",
            401,
            "invalid_client",
        ),
    ],
)
def test_machine_endpoints_bad_request_gets_the_registered_error(
    service, path, method, headers, body, status, error
):
    response = requests.request(method, service.issuer + path, headers=headers, data=body, timeout=20)

    assert (response.status_code, response.json()["error"]) == (status, error)
    assert "reference" in response.json()["error_description"]


@pytest.mark.rules("fapi/5.3.2.1/1", "rp-logout/2.1/metadata", "rfc8414/3/well-known")
def test_discovery_lists_what_is_there(service):
    metadata = requests.get(f"{service.issuer}/.well-known/openid-configuration", timeout=20).json()

    assert (
        metadata
        == requests.get(f"{service.issuer}/.well-known/oauth-authorization-server", timeout=20).json()
    )
    assert metadata["issuer"] == service.issuer
    assert "demo.read" in metadata["scopes_supported"]
    for name in ("jwks_uri", "userinfo_endpoint", "authorization_endpoint", "end_session_endpoint"):
        assert requests.get(metadata[name], allow_redirects=False, timeout=20).status_code < 500


# -- sign-out ---------------------------------------------------------------------------------------------------


@pytest.mark.spec("OIDC RP-Initiated Logout", "2", "a valid hint ends the session and returns")
def test_logout_with_a_hint_ends_this_session_only_and_returns(service):
    person, elsewhere = Person(service.issuer, "crowd12"), Person(service.issuer, "crowd12")
    elsewhere.steps_taken = 1
    tokens = person.tokens(person.sign_in())
    other = elsewhere.tokens(elsewhere.sign_in())
    query = urlencode(
        {
            "id_token_hint": tokens["id_token"],
            "post_logout_redirect_uri": "http://127.0.0.1:9900/bye",
            "state": "s",
        }
    )

    response = person.browser.get(f"{service.issuer}/logout?{query}", allow_redirects=False)

    assert response.headers["Location"] == "http://127.0.0.1:9900/bye?state=s"
    assert person.open(person.request(prompt="none"))["error"] == "login_required"
    assert (
        token(service, grant_type="refresh_token", refresh_token=tokens["refresh_token"]).status_code == 400
    )
    assert token(service, grant_type="refresh_token", refresh_token=other["refresh_token"]).status_code == 200


@pytest.mark.parametrize("query", ["", "client_id=test-web", "id_token_hint=x.y.z"])
@pytest.mark.rules("rp-logout/2/ask-without-hint", "rp-logout/6/confirm", "rp-logout/2/yes-ends")
def test_logout_without_proof_asks_first(service, query):
    person = Person(service.issuer, "crowd13")
    if not isinstance(person.open(person.request(prompt="none")), dict) or True:
        person.steps_taken = {"": 0, "client_id=test-web": 1, "id_token_hint=x.y.z": 0}[query]
    page = step_to_password(person)
    page = person.submit(page, "password", password=PASSWORD)

    asked = person.open(f"{service.issuer}/logout?{query}")

    assert isinstance(asked, Page)
    assert asked.forms
    gone = person.submit(asked, next(iter(asked.forms[0].fields)))
    assert isinstance(gone, Page)
    assert person.open(person.request(prompt="none"))["error"] == "login_required"


@pytest.mark.parametrize(
    "query",
    [
        "post_logout_redirect_uri=https://evil.example/",
        "client_id=test-web&post_logout_redirect_uri=https://evil.example/",
    ],
)
def test_logout_to_an_unregistered_address_is_a_page(service, query):
    response = requests.get(f"{service.issuer}/logout?{query}", allow_redirects=False, timeout=20)

    assert response.status_code == 400


# -- one time means once ------------------------------------------------------------------------------------------


@pytest.mark.spec("RFC 6749", "4.1.2", "one of fifty parallel redemptions wins")
def test_a07_fifty_parallel_redemptions_of_one_code_give_one_success(service):
    person = Person(service.issuer, "crowd14")
    answer = person.sign_in()
    form = {
        "grant_type": "authorization_code", "code": answer["code"], "redirect_uri": "http://127.0.0.1:9900/callback",
        "code_verifier": person.verifier,
    }  # fmt: skip

    with ThreadPoolExecutor(50) as pool:
        responses = list(pool.map(lambda _: token(service, **form), range(50)))

    won = [response.json() for response in responses if response.status_code == 200]
    assert len(won) == 1
    assert {response.json()["error"] for response in responses if response.status_code != 200} == {
        "invalid_grant"
    }
    refused = token(service, grant_type="refresh_token", refresh_token=won[0]["refresh_token"])
    assert refused.json()["error"] == "invalid_grant"


@pytest.mark.spec("RFC 9700", "4.14.2", "fifty parallel refreshes make one successor")
def test_a15_fifty_parallel_refreshes_share_one_successor_and_the_family_lives(service):
    person = Person(service.issuer, "crowd15")
    first = person.tokens(person.sign_in())["refresh_token"]

    with ThreadPoolExecutor(50) as pool:
        responses = list(
            pool.map(lambda _: token(service, grant_type="refresh_token", refresh_token=first), range(50))
        )

    successors = {response.json()["refresh_token"] for response in responses if response.status_code == 200}
    assert len(successors) == 1
    assert all(response.status_code == 200 for response in responses)
    assert token(service, grant_type="refresh_token", refresh_token=successors.pop()).status_code == 200


def test_a34_the_same_code_typed_in_two_browsers_at_once_works_once(service):
    people = [Person(service.issuer, "crowd16"), Person(service.issuer, "crowd16")]
    pages = [person.go_on(person.open(person.request()), stop_at="code") for person in people]
    code = people[0].code()

    with ThreadPoolExecutor(2) as pool:
        results = list(
            pool.map(lambda pair: pair[0].submit(pair[1], "code", code=code), zip(people, pages, strict=True))
        )

    assert sum(isinstance(result, dict) for result in results) == 1


# -- the directory is down --------------------------------------------------------------------------------------


def test_directory_down_has_a_page_of_its_own_and_costs_no_try(service):
    person = Person(service.issuer, "crowd17")
    page = step_to_password(person)
    service.directory.stop()
    try:
        down = person.submit(page, "password", password=PASSWORD)
    finally:
        service.directory.start()

    assert isinstance(down, Page)
    assert down.response.status_code == 503
    assert "cannot be checked" in down.text
    assert isinstance(person.go_on(person.open(person.request())), dict)


def test_audit_tells_the_whole_story_and_no_secret(service):
    person = Person(service.issuer, "crowd18")
    tokens = person.tokens(person.sign_in())

    lines = service.manage("audit", "list", "--person", "crowd18").stdout

    for action in (
        "person:password:verify",
        "person:factor:verify",
        "person:session:open",
        "person:code:issue",
        "client:token:issue",
    ):
        assert action in lines
    for secret in (PASSWORD, tokens["access_token"], tokens["refresh_token"], CLIENT_SECRET):
        assert secret not in lines


def test_a46_consent_page_of_one_person_cannot_be_answered_by_the_next(service):
    redirect = "http://127.0.0.1:9901/callback"
    first = Person(service.issuer, "crowd19")
    page = first.go_on(first.open(first.request("test-ask", redirect, scope="openid email")))
    assert isinstance(page, Page)
    second = Person(service.issuer, "crowd21")
    second.browser = first.browser  # the same browser, another tab
    again = second.open(second.request(prompt="login"))
    assert isinstance(again, Page)
    signed_in = second.submit(again, "password", username="crowd21", password=PASSWORD)
    assert isinstance(second.go_on(signed_in), dict)

    answered = second.submit(page, "consent", decision="agree")

    assert isinstance(answered, Page)
    assert answered.form_with("consent").fields["consent"] != page.form_with("consent").fields["consent"]
    for forged in ("", "1", page.form_with("consent").fields["consent"][:-1]):
        assert isinstance(second.submit(answered, "consent", consent=forged, decision="agree"), Page)
    assert "code" in second.submit(answered, "consent", decision="agree")
