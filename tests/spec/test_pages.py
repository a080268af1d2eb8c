"""The pages of signing in under bad input, over HTTP: delays, forms that are not ours, steps out of order, two people.

The service spares 127.0.0.1 the delays; who is to feel them comes from another address of the loopback network.
"""

import http.client
import re
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

import pytest
import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from tests.servers.organisation import PASSWORD
from tests.servers.person import Form, Page, Person
from tests.servers.service import Service

LANGUAGES = ["ar", "fr", "en"]
WRONG = "not the password at all"
REFERENCE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
SECONDS = 30


class FromAddress(HTTPAdapter):
    """A connection that comes from a chosen address."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **more: Any) -> None:  # Any: requests' own
        super().init_poolmanager(*args, source_address=(self.address, 0), **more)


def visitor(
    service: Service, login: str, *, language: str = "en", address: str = "", password: str = PASSWORD
) -> Person:
    person = Person(service.issuer, login, password, language=language)
    if address:
        person.browser.mount("http://", FromAddress(address))
    return person


def to_name(person: Person, **more: str) -> Page:
    page = person.open(person.request(**more))
    assert isinstance(page, Page), page
    return page


def to_password(person: Person, **more: str) -> Page:
    page = to_name(person, **more)
    if not page.has("password"):
        page = submit(person, page, "username", username=person.login)
    return page


def to_code(person: Person, **more: str) -> Page:
    return submit(person, to_password(person, **more), "password", password=person.password)


def submit(person: Person, page: Page, name: str, **values: str) -> Page:
    """Submit a form whose answer is a page."""
    answer = person.submit(page, name, **values)
    assert isinstance(answer, Page), answer
    return answer


def send(person: Person, form: Form, data: Any, **more: Any) -> requests.Response:  # Any: requests' own
    """Send what no browser would, to where a form goes, and follow nothing."""
    return person.browser.post(form.action, data=data, allow_redirects=False, timeout=SECONDS, **more)


def csrf_of(form: Form) -> dict[str, str]:
    return {name: value for name, value in form.fields.items() if "csrf" in name}


def is_signed_in(person: Person) -> bool:
    answer = person.open(person.request(prompt="none"))
    assert isinstance(answer, dict), answer.text
    return answer.get("error") != "login_required"


def assert_is_page(response: requests.Response) -> Page:
    """Every page, the worst included, speaks a language, is kept by nobody, and runs and frames nothing."""
    page, headers = Page(response), response.headers
    assert response.status_code < 500, response.text
    assert page.attributes.get("lang") in LANGUAGES
    assert page.attributes["dir"] == ("rtl" if page.attributes["lang"] == "ar" else "ltr")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Language"] == page.attributes["lang"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    assert "no-store" in headers["Cache-Control"]
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["form-action"].startswith("'self'")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "*" not in headers["Content-Security-Policy"]
    return page


def assert_is_error_page(response: requests.Response, *statuses: int) -> Page:
    page = assert_is_page(response)
    assert response.status_code in statuses
    shown = REFERENCE.search(page.text)
    assert shown is not None, page.text
    assert shown[0] == response.headers["X-Request-Id"]
    return page


# -- delays (A33, A42, A43) -------------------------------------------------------------------------------------

SLOWED = {
    "ar": "محاولات كثيرة. انتظر دقيقة واحدة.",
    "fr": "Trop d’essais. Attendez 1 minute.",
    "en": "Too many tries. Wait 1 minute.",
}


def assert_is_slowed(page: Page, language: str = "en") -> None:
    assert_is_page(page.response)
    assert page.response.status_code == 429
    assert 1 <= int(page.response.headers["Retry-After"]) <= 30
    assert page.attributes["lang"] == language
    assert SLOWED[language] in page.text


@pytest.mark.parametrize(("language", "n"), [("ar", 1), ("fr", 2), ("en", 3)])
def test_a33_sixth_password_is_slowed_in_every_language_even_the_right_one(service, language, n):
    person = visitor(service, f"desk{n:02}", language=language, address=f"127.0.1.{n}")
    page = to_password(person)
    for _ in range(5):
        page = submit(person, page, "password", password=WRONG)
        assert page.response.status_code == 200
        assert "Retry-After" not in page.response.headers

    page = submit(person, page, "password", password=PASSWORD)

    assert_is_slowed(page, language)
    assert page.has("password")
    assert not is_signed_in(person)


def test_a33_failures_of_one_source_slow_every_name_from_it_and_none_from_elsewhere(service):
    guesser = visitor(service, "", address="127.0.2.1")
    page = to_name(guesser)
    for n in range(5):
        page = submit(guesser, page, "username", username=f"nobody{n}", password=WRONG)

    same_source = visitor(service, "plain01", address="127.0.2.1")
    elsewhere = visitor(service, "plain01", address="127.0.2.2")
    slowed = submit(same_source, to_password(same_source), "password", password=PASSWORD)
    entered = elsewhere.go_on(to_name(elsewhere))

    assert_is_slowed(slowed)
    assert "code" in entered
    assert not is_signed_in(same_source)


def test_a43_a_slowed_account_is_slowed_from_everywhere_until_an_operator_unlocks_it(service):
    for n in range(5):
        guesser = visitor(service, "plain02", address=f"127.0.3.{n + 1}")
        submit(guesser, to_password(guesser), "password", password=WRONG)
    person = visitor(service, "plain02", address="127.0.3.9")
    slowed = submit(person, to_password(person), "password", password=PASSWORD)
    assert_is_slowed(slowed)

    service.manage("person", "unlock", "plain02")

    assert "code" in person.go_on(to_name(person))


def test_a43_who_is_signed_in_already_notices_nothing_of_guesses_at_the_name(service):
    person = visitor(service, "plain03", address="127.0.4.1")
    assert "code" in person.sign_in()
    for n in range(6):
        guesser = visitor(service, "plain03", address=f"127.0.4.{n + 2}")
        submit(guesser, to_password(guesser), "password", password=WRONG)

    assert "code" in person.open(person.request())


@pytest.mark.parametrize("by_recovery", [False, True])
def test_a33_sixth_code_is_slowed_even_the_right_one_and_passwords_are_counted_apart(service, by_recovery):
    login, address = ("desk04", "127.0.5.1") if by_recovery else ("desk05", "127.0.5.2")
    person = visitor(service, login, address=address)
    page = to_code(person)
    for n in range(5):
        if by_recovery and n % 2:
            page = person.open(page.response.url + "?recovery=1")
            page = submit(person, page, "code", code=f"{n + 1} BCDF-GHJK-MNPQ-RSTV")
            page = person.open(page.response.url.partition("?")[0])
        else:
            page = submit(person, page, "code", code=f"00000{n}")
        assert page.response.status_code == 200

    slowed = submit(person, page, "code", code=person.code())
    colleague = visitor(service, "plain04", address=address)

    assert_is_slowed(slowed)
    assert slowed.has("code")
    assert not slowed.has("password")
    assert "code" in colleague.go_on(to_name(colleague))


def test_a33_codes_are_counted_over_many_sessions_of_one_person(service):
    for n in range(5):
        guesser = visitor(service, "desk06", address=f"127.0.6.{n + 1}")
        submit(guesser, to_code(guesser), "code", code="000000")
    person = visitor(service, "desk06", address="127.0.6.9")

    slowed = submit(person, to_code(person), "code", code=person.code())

    assert_is_slowed(slowed)


def comparable(response: requests.Response, login: str) -> tuple[int, dict[str, str], str]:
    """Return an answer without what differs between any two answers."""
    varies = {"date", "x-request-id", "content-length", "set-cookie"}
    headers = {name: value for name, value in response.headers.items() if name.lower() not in varies}
    body = re.sub(r'(csrfmiddlewaretoken" value=")[^"]*|/sign-in/[\w-]{20,}', "", response.text)
    return response.status_code, headers, body.replace(login, "NAME")


def test_a42_known_disabled_and_unknown_names_are_alike_at_every_try_and_when_slowed(service):
    answers = []
    for n, login in enumerate(("desk07", "gone", "nobody-here")):
        person, seen = visitor(service, login, address=f"127.0.7.{n + 1}"), []
        page = to_name(person)
        page = submit(person, page, "username", username=login)
        seen.append(comparable(page.response, login))
        for _ in range(6):
            page = submit(person, page, "password", password=WRONG)
            headers = page.response.headers
            if "Retry-After" in headers:
                assert 25 <= int(headers.pop("Retry-After")) <= 30
            seen.append(comparable(page.response, login))
        answers.append((seen, sorted(person.browser.cookies.keys())))

    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0][-1][0] == 429


@pytest.mark.parametrize("n", range(3))
@pytest.mark.rules("rfc9700/4.13/proxy")
def test_a41_forwarded_headers_of_a_stranger_are_no_other_source(service, n):
    name = ("X-Forwarded-For", "Forwarded", "X-Real-IP")[n]
    guesser = visitor(service, "", address=f"127.0.8.{n + 1}")
    page = to_name(guesser)
    for turn in range(6):
        guesser.browser.headers[name] = (
            f"for=198.51.100.{turn}" if name == "Forwarded" else f"198.51.100.{turn}"
        )
        page = submit(guesser, page, "username", username=f"nobody{turn}", password=WRONG)

    assert page.response.status_code == 429


# -- fields that no person types ----------------------------------------------------------------------------------

KB = 1000


def hostile_bodies(field: str) -> dict[str, str]:
    """Return bodies with one field made hostile, as they go over the wire."""
    return {
        "doubled": f"{field}=a&{field}=b",
        "empty": f"{field}=",
        "bare": field,
        "nul": f"{field}=a%00b",
        "only nul": f"{field}=%00",
        "invalid utf-8": f"{field}=%ff%fe%c3",
        "surrogate": f"{field}=%ed%a0%80",
        "line breaks": f"{field}=a%0d%0aSet-Cookie:%20x=y",
        "markup": f"{field}=" + quote('"><script>alert(1)</script>'),
        "filter": f"{field}=" + quote("*)(uid=*"),
        "dn": f"{field}=" + quote("uid=desk08,ou=GVA"),
        "200 KB": f"{field}=" + "x" * 200 * KB,
        "1 MB": f"{field}=" + "x" * 1000 * KB,
        "a field too many": "&".join(f"f{n}=1" for n in range(200)) + f"&{field}=a",
        "array": f"{field}[]=a&{field}[x]=b",
        "semicolons": f"a=1;{field}=b",
        "not escaped": f"{field}=%&%zz=%u0041",
    }


@pytest.mark.parametrize("what", hostile_bodies(""))
@pytest.mark.parametrize("field", ["username", "password", "code", "enrolment", "decision", "language"])
def test_hostile_field_is_a_page_at_every_step_and_the_sign_in_goes_on(service, field, what, walkers):
    for person, page in walkers:
        form = page.forms[0]
        body = (
            hostile_bodies(field)[what]
            + "&"
            + urlencode(form.fields | {"csrfmiddlewaretoken": token_of(page)})
        )
        if field == "password":
            body += "&username=nobody"

        response = send(person, form, body, headers={"Content-Type": "application/x-www-form-urlencoded"})

        page_now = assert_is_page(response)
        assert response.status_code in {200, 400}
        if response.status_code == 400:
            assert_is_error_page(response, 400)
        assert "<script>alert" not in response.text
        assert "x" not in response.headers.get("Set-Cookie", "").split("=")[0]
        assert page_now.attributes["lang"] == "en"
        assert not is_signed_in(person) or page.has("code")


def token_of(page: Page) -> str:
    return page.forms[0].fields["csrfmiddlewaretoken"]


@pytest.fixture(scope="module", name="walkers")
def _walkers(service) -> list[tuple[Person, Page]]:
    """Two people who stand still at the name and at the code."""
    early, late = visitor(service, "desk08"), visitor(service, "desk09")
    return [(early, to_name(early)), (late, to_code(late))]


def test_people_who_met_every_hostile_field_still_finish(service, walkers):
    service.manage("person", "unlock", "desk09")
    for person, page in walkers:
        again = person.open(page.response.url)

        assert isinstance(person.go_on(again), dict)


def test_name_that_is_too_long_is_nobodys_even_if_it_begins_as_somebodys(service):
    person = visitor(service, "plain24")

    page = submit(
        person, to_name(person), "username", username="plain24" + " " * 300 + "x", password=PASSWORD
    )

    assert page.has("password")
    assert "The name or password is not right." in page.text
    assert len(page.form_with("password").fields["username"]) < 300
    assert not is_signed_in(person)


@pytest.mark.parametrize(
    ("content_type", "body", "statuses"),
    [
        ("application/json", b'{"username": "desk10", "password": "x"}', {403}),
        ("application/json", b"{", {403}),
        ("text/plain", b"username=desk10&password=x", {403}),
        ("", b"username=desk10&password=x", {403}),
        ("application/x-www-form-urlencoded; charset=utf-16", b"username=desk10", {403}),
        ("application/x-www-form-urlencoded; charset=utf-7", b"username=desk10", {403}),
        ("application/x-www-form-urlencoded; charset=hex", b"username=desk10", {403}),
        ("application/x-www-form-urlencoded; charset=no-such", b"username=desk10", {403}),
        ("multipart/form-data", b"--x", {400}),
        ("multipart/form-data; boundary=", b"--x", {400}),
        ("multipart/form-data; boundary=" + "b" * 500, b"--x", {400, 403}),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1", {400, 403}),
        (
            "multipart/form-data; boundary=x; charset=hex",
            b'--x\r\nContent-Disposition: form-data; name="username"\r\n\r\ndesk10\r\n--x--\r\n',
            {400, 403},
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="username"; filename="f"\r\n\r\n1\r\n--x--\r\n',
            {400, 403},
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="username"\r\n'
            b"Content-Transfer-Encoding: base64\r\n\r\n!!!\r\n--x--\r\n",
            {400, 403},
        ),
    ],
)
def test_a47_other_content_types_are_refused_with_a_page(service, content_type, body, statuses):
    person = visitor(service, "desk10")
    page = to_name(person)
    headers = {"Content-Type": content_type} if content_type else {}

    response = send(person, page.form_with("username"), body, headers=headers)

    assert_is_error_page(response, *statuses)


@pytest.mark.parametrize(
    "charset",
    [
        "=hex",
        "=rot13",
        "=base64",
        "=utf-16",
        "=idna",
        "=undefined",
        "=no-such",
        "=\\",
        "*=no-such''x",
        "=" + "x" * 20_000,
    ],
)
@pytest.mark.parametrize(
    "path",
    ["/sign-in?a=%ff", "/sign-out?to=x", "/?x=1", "/signed-out?x=%e9", "/authorize?x=1", "/jwks?x=%ff"],
)
def test_charset_of_a_get_request_changes_nothing(service, path, charset):
    response = requests.get(
        service.issuer + path, headers={"Content-Type": f"text/plain; charset{charset}"},
        allow_redirects=False, timeout=SECONDS,
    )  # fmt: skip

    assert response.status_code < 500


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND", "post"])
@pytest.mark.parametrize("path", ["/", "/sign-in", "/sign-in/x", "/language", "/sign-out", "/signed-out"])
def test_wrong_method_is_a_page_that_says_which_are_right(service, path, method):
    response = requests.request(
        method,
        service.issuer + path,
        allow_redirects=False,
        timeout=SECONDS,
        headers={"Accept-Language": "fr"},
    )

    assert response.status_code in {403, 405}
    if response.status_code == 405:
        assert set(response.headers["Allow"].split(", ")) <= {"GET", "POST"}
    if method != "HEAD":
        assert assert_is_error_page(response, 403, 405).attributes["lang"] == "fr"


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a47_method_override_is_not_known(service, header):
    person = visitor(service, "plain05")
    person.sign_in()

    by_get = person.browser.get(
        service.issuer + "/sign-out", headers={header: "POST"}, params={"_method": "POST"}, timeout=SECONDS
    )
    by_post = person.browser.post(
        service.issuer + "/sign-out", headers={header: "GET"}, data={"_method": "GET"}, timeout=SECONDS
    )

    assert_is_page(by_get)
    assert_is_error_page(by_post, 403)
    assert is_signed_in(person)


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere", "/sign-in/" + "h" * 5000, "/sign-in/%00", "/sign-in/%ff%fe", "/sign-in/x/code", "/sign-in/x/",
        "/sign-in/..%2f..%2fetc", "/sign-in/ab%0d%0aX:%20y", "//evil.example/%2e%2e", "/static/nowhere.css",
        "/static/..%2f..%2fsettings.py", "/admin/", "/accounts/login/",
    ],
)  # fmt: skip
def test_addresses_that_are_nothing_are_a_page_with_a_reference_number(service, path):
    response = requests.get(
        service.issuer + path, allow_redirects=False, timeout=SECONDS, headers={"Accept-Language": "ar"}
    )

    assert assert_is_error_page(response, 404).attributes["lang"] == "ar"


# -- forms that are not ours (A47) ------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="pages_with_forms")
def _pages_with_forms(service) -> dict[str, tuple[Person, Form, dict[str, str]]]:
    """One person who stands still before each kind of form, and what the form is to be sent with."""
    at_name, at_password, at_code = (visitor(service, login) for login in ("desk11", "desk12", "desk13"))
    at_enrolment, at_consent, inside = (visitor(service, f"plain{n:02}") for n in (6, 7, 8))
    enrolment = to_code(at_enrolment, acr_values="aal2")
    consent = at_consent.go_on(
        at_consent.open(
            at_consent.request("test-ask", "http://127.0.0.1:9901/callback", scope="openid profile")
        )
    )
    assert isinstance(consent, Page)
    inside.sign_in()
    home, sign_out = inside.open(service.issuer + "/"), inside.open(service.issuer + "/sign-out")
    assert isinstance(home, Page)
    assert isinstance(sign_out, Page)
    return {
        "name": (at_name, to_name(at_name).form_with("username"), {"username": "desk11"}),
        "password": (at_password, to_password(at_password).form_with("password"), {"password": PASSWORD}),
        "code": (at_code, to_code(at_code).form_with("code"), {"code": "000000"}),
        "enrolment": (at_enrolment, enrolment.form_with("enrolment"), {"code": "000000"}),
        "consent": (at_consent, consent.form_with("consent"), {"decision": "agree"}),
        "language": (inside, home.form_with("next"), {"language": "fr"}),
        "sign-out": (inside, sign_out.form_with("to"), {}),
    }


FORMS = ["name", "password", "code", "enrolment", "consent", "language", "sign-out"]


@pytest.mark.parametrize(
    "trick",
    ["no field", "empty", "garbage", "a stranger's", "no cookie", "evil origin", "null origin", "by get"],
)
@pytest.mark.parametrize("which", FORMS)
def test_a47_form_that_is_not_ours_is_refused(service, pages_with_forms, which, trick):
    person, form, values = pages_with_forms[which]
    fields, headers = {**form.fields, **values}, {}
    stranger = visitor(service, "")
    match trick:
        case "no field":
            del fields["csrfmiddlewaretoken"]
        case "empty":
            fields["csrfmiddlewaretoken"] = ""
        case "garbage":
            fields["csrfmiddlewaretoken"] = "x" * 64
        case "a stranger's":
            fields["csrfmiddlewaretoken"] = token_of(to_name(stranger))
        case "no cookie":
            kept = "; ".join(f"{c.name}={c.value}" for c in person.browser.cookies if c.name != "iam-csrf")
            response = requests.post(
                form.action, data=fields, headers={"Cookie": kept}, allow_redirects=False, timeout=SECONDS
            )
            assert_is_error_page(response, 403)
            return
        case "evil origin":
            headers["Origin"] = "https://evil.example"
        case "null origin":
            headers["Origin"] = "null"
        case "by get":
            response = person.browser.get(form.action, params=fields, allow_redirects=False, timeout=SECONDS)
            assert response.status_code in {200, 405}
            assert "Location" not in response.headers
            return

    assert_is_error_page(send(person, form, fields, headers=headers), 403)


def test_a47_after_every_refused_form_nothing_has_happened(pages_with_forms):
    for which in ("name", "password", "code", "enrolment", "consent"):
        person, form, _ = pages_with_forms[which]
        page = Page(person.browser.get(form.action, timeout=SECONDS))
        assert page.has({"password": "username"}.get(which, which) if which != "name" else "username"), which
    person = pages_with_forms["sign-out"][0]
    assert is_signed_in(person)
    assert "iam-lang" not in person.browser.cookies


# -- steps out of order, twice, elsewhere (A31, A45) --------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a45_flow_of_another_browser_is_over_here_and_goes_on_there(service, method):
    owner, thief = visitor(service, "plain09"), visitor(service, "plain10")
    page, own = to_name(owner), to_name(thief)
    form = page.form_with("username")
    fields = {**csrf_of(own.form_with("username")), "username": "plain10", "password": PASSWORD}

    response = thief.browser.request(
        method, form.action, data=fields if method == "POST" else None, timeout=SECONDS
    )

    assert_is_error_page(response, 404)
    assert not is_signed_in(thief)
    assert isinstance(owner.go_on(page), dict)


def test_a45_secret_of_a_session_from_before_a_step_is_worth_nothing_after_it(service):
    person = visitor(service, "desk14")
    page = to_code(person)
    before = person.browser.cookies["iam-session"]
    assert isinstance(person.submit(page, "code", code=person.code()), dict)
    thief = visitor(service, "")
    thief.browser.cookies.set("iam-session", before)

    assert person.browser.cookies["iam-session"] != before
    assert not is_signed_in(thief)
    assert is_signed_in(person)


def test_a45_session_secret_that_somebody_planted_is_not_taken_over(service):
    person = visitor(service, "plain11")
    person.browser.cookies.set("iam-session", "p" * 43, domain="localhost.local", path="/")

    person.sign_in()

    thief = visitor(service, "")
    thief.browser.cookies.set("iam-session", "p" * 43)
    assert not is_signed_in(thief)


def test_a31_flow_that_waited_too_long_is_over_and_says_how_to_begin_again(service):
    person = visitor(service, "plain12", language="fr")
    page = to_password(person)
    service.python(
        "from datetime import timedelta\nfrom django.db.models import F\nfrom iam.oauth.models import ParkedRequest\n"
        "ParkedRequest.objects.update(expires_at=F('expires_at') - timedelta(minutes=31))"
    )

    over = submit(person, page, "password", password=PASSWORD)

    assert_is_error_page(over.response, 404)
    assert over.attributes["lang"] == "fr"
    assert "/sign-in" in over.response.text
    assert not is_signed_in(person)


def test_a31_last_form_sent_again_after_the_end_makes_no_second_code(service):
    person = visitor(service, "desk15")
    page = to_code(person)
    form, code = page.form_with("code"), person.code()
    first = send(person, form, {**form.fields, "code": code})
    answer = dict(parse_qsl(urlsplit(first.headers["Location"]).query))
    assert "access_token" in person.tokens(answer)  # it arrived

    again = [send(person, form, {**form.fields, "code": code}) for _ in range(2)]
    back = person.browser.get(form.action, allow_redirects=False, timeout=SECONDS)

    for response in (*again, back):
        assert_is_error_page(response, 404)
    assert is_signed_in(person)


def send_twice(person: Person, form: Form, fields: dict[str, str]) -> list[requests.Response]:
    """Send one form twice at the same time with the same cookies, as an impatient browser does."""
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in person.browser.cookies)

    def once(_: int) -> requests.Response:
        return requests.post(
            form.action, data=fields, headers={"Cookie": cookies}, allow_redirects=False, timeout=SECONDS
        )

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(once, range(2)))


@pytest.mark.parametrize("turn", range(3))
def test_a31_last_form_sent_twice_at_once_makes_one_code_and_breaks_nothing(service, turn):
    person = visitor(service, f"desk{16 + turn}")
    form = to_code(person).form_with("code")

    responses = send_twice(person, form, {**form.fields, "code": person.code()})

    assert all(response.status_code < 500 for response in responses)
    assert good_codes(person, responses) == 1


def good_codes(person: Person, responses: list[requests.Response]) -> int:
    """Count the codes that can be exchanged: an answer that may have been lost is given again, and ends the one before."""
    locations = [response.headers.get("Location", "") for response in responses]
    codes = [
        dict(parse_qsl(urlsplit(location).query))["code"] for location in locations if "code=ac_" in location
    ]
    count = 0
    for code in reversed(codes):
        try:
            count += "access_token" in person.tokens({"code": code})
        except AssertionError as problem:
            assert "invalid_grant" in str(problem)
    return count


@pytest.mark.parametrize("turn", range(3))
def test_a31_password_sent_twice_at_once_signs_in_whichever_answer_the_browser_keeps(service, turn):
    person = visitor(service, f"plain{13 + turn}")
    form = to_password(person).form_with("password")

    responses = send_twice(person, form, {**form.fields, "password": PASSWORD})

    assert all(response.status_code < 500 for response in responses)
    assert good_codes(person, responses) == 1
    for response in responses:  # each answer alone leaves a browser that is signed in
        kept = visitor(service, person.login)
        for name, morsel in SimpleCookie(response.headers.get("Set-Cookie", "")).items():
            kept.browser.cookies.set(name, morsel.value)
        assert is_signed_in(kept) or response.status_code == 404


def test_two_tabs_of_one_browser_both_finish(service):
    person = visitor(service, "desk19")
    one, two = to_name(person, state="one"), to_name(person, state="two")

    first = person.go_on(one)
    second = person.go_on(two)

    assert isinstance(first, dict)
    assert isinstance(second, dict), second.text
    assert (first["state"], second["state"]) == ("one", "two")
    assert first["code"] != second["code"]


def test_two_tabs_that_stand_at_the_code_both_finish_with_one_code(service):
    person = visitor(service, "desk20")
    one = to_code(person, state="one")
    two = person.open(person.request(state="two"))
    assert isinstance(two, Page)
    assert two.has("code")

    first = person.submit(one, "code", code=person.code())
    second = person.open(two.response.url)  # what is needed is there: no second code is asked for

    assert isinstance(first, dict)
    assert isinstance(second, dict), second.text
    assert (first["state"], second["state"]) == ("one", "two")


@pytest.mark.parametrize(
    "fields",
    [
        {"code": "123456"}, {"code": "123456", "recovery": "1"}, {"code": "1", "enrolment": "x"}, {"decision": "agree"},
        {"decision": "decline"}, {"decision": "leave"}, {"consent": "1", "decision": "agree"}, {"password": PASSWORD}, {},
        {"username": "", "password": PASSWORD}, {"recovery": "1"}, {"step": "code", "next": "/"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("login", ["", "desk21"])
def test_a31_what_belongs_to_another_step_is_not_looked_at(service, fields, login, still):
    person, form = still[login]

    response = send(person, form, {**csrf_of(form), **fields})

    page = assert_is_page(response)
    assert response.status_code == 200
    assert page.has("code" if login else "username")
    assert "Set-Cookie" not in response.headers or "iam-session" not in response.headers["Set-Cookie"]


@pytest.fixture(scope="module", name="still")
def _still(service) -> dict[str, tuple[Person, Form]]:
    """Somebody at the first step, and somebody at the code."""
    nobody, person = visitor(service, ""), visitor(service, "desk21")
    return {"": (nobody, to_name(nobody).forms[0]), "desk21": (person, to_code(person).forms[0])}


@pytest.mark.parametrize(
    "query", ["recovery=1", "other=1", "step=consent", "decision=agree", "code=1", "username=gone"]
)
def test_a31_query_of_a_later_step_shows_the_open_one(service, still, query):
    person, form = still[""]

    page = assert_is_page(person.browser.get(f"{form.action}?{query}", timeout=SECONDS))

    assert page.has("username")
    assert not page.has("code")
    assert not page.has("password")


# -- two people, one browser (A46) --------------------------------------------------------------------------------


def test_a46_another_person_in_the_same_browser_ends_the_session_before(service):
    person = visitor(service, "plain16")
    tokens = person.tokens(person.sign_in())
    first_secret = person.browser.cookies["iam-session"]
    page = person.open(person.request(prompt="login"))
    assert isinstance(page, Page)
    page = person.open(page.response.url + "?other=1")
    assert isinstance(page, Page)
    assert "plain16" not in page.text + str(page.forms)

    answer = person.submit(page, "username", username="plain17", password=PASSWORD)

    assert isinstance(answer, dict), answer.text
    assert person.tokens(answer)["id_token"] != tokens["id_token"]
    home = person.open(service.issuer + "/")
    assert isinstance(home, Page)
    assert "Plain 17" in home.text
    assert "Plain 16" not in home.text
    thief = visitor(service, "")
    thief.browser.cookies.set("iam-session", first_secret)
    assert not is_signed_in(thief)
    refused = requests.get(
        f"{service.issuer}/userinfo",
        headers={"Authorization": f"Bearer {tokens['access_token']}"},
        timeout=SECONDS,
    )
    assert refused.status_code == 401


def test_a46_wrong_password_of_another_person_leaves_the_session_as_it_was(service):
    person = visitor(service, "plain18")
    person.sign_in()
    page = person.open(person.request(prompt="login"))
    assert isinstance(page, Page)

    refused = submit(person, page, "username", username="plain19", password=WRONG)

    assert refused.has("password")
    assert is_signed_in(person)
    home = person.open(service.issuer + "/")
    assert isinstance(home, Page)
    assert "Plain 18" in home.text


def test_a46_half_signed_in_person_gives_nothing_to_the_next_one(service):
    person = visitor(service, "desk22")
    page = to_code(person)
    other = person.open(page.response.url + "?other=1")
    assert isinstance(other, Page)

    answer = person.submit(page, "code", username="plain20", password=PASSWORD, code=person.code())

    # The name and the password win: the code that came along was desk22's and is not looked at.
    assert isinstance(answer, dict), answer.text
    home = person.open(service.issuer + "/")
    assert isinstance(home, Page)
    assert "Plain 20" in home.text


def test_wrong_password_next_to_a_code_is_told_as_a_wrong_password(service):
    person = visitor(service, "plain21")
    page = to_password(person)

    refused = submit(person, page, "password", password=WRONG, code="123456")

    assert "The name or password is not right." in refused.text


# -- cookies, languages, where a form may lead --------------------------------------------------------------------


def test_cookies_of_an_http_issuer_have_the_right_names_and_flags(service):
    person, seen = visitor(service, "desk23"), []
    person.browser.hooks["response"].append(
        lambda response, **_: seen.extend(response.raw.headers.getlist("set-cookie"))
    )
    page = to_code(person)
    person.submit(page, "language", language="fr") if page.has("language") else person.browser.post(
        service.issuer + "/language",
        data={**csrf_of(page.forms[0]), "language": "fr", "next": "/"},
        timeout=SECONDS,
    )
    person.submit(page, "code", code=person.code())

    flags: dict[str, set[str]] = {}
    for line in seen:
        pair, *rest = line.split("; ")
        flags.setdefault(pair.partition("=")[0], set()).update(part.partition("=")[0] for part in rest)
        assert "Path=/" in rest
        assert "HttpOnly" in rest
        assert "SameSite=Lax" in rest
        assert not any(part.startswith(("Domain", "Secure")) for part in rest)
    assert set(flags) == {"iam-session", "iam-browser", "iam-csrf", "iam-lang"}
    assert "Max-Age" not in flags["iam-session"]  # until the browser is closed
    assert "expires" not in flags["iam-session"]
    assert "Max-Age" in flags["iam-lang"]


@pytest.mark.parametrize("path", ["/", "/sign-in", "/sign-out", "/signed-out"])
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.rules("core/3.1.2.3/clickjacking", "rfc9700/4.2.4/referrer", "rfc9700/4.16/clickjacking")
def test_every_page_has_its_language_and_headers(service, path, language):
    person = visitor(service, "", language=language)

    page = person.open(service.issuer + path)

    assert isinstance(page, Page)
    assert assert_is_page(page.response).attributes["lang"] == language


def test_language_of_a_flow_changes_at_every_step_and_the_flow_stays(service):
    person = visitor(service, "desk24")
    page = to_name(person)
    for step, language in (("username", "ar"), ("password", "fr"), ("code", "ar")):
        button = next(form for form in page.forms if "language" in form.action or form is page.forms[-1])
        answer = person._follow(send(person, button, {**button.fields, "language": language}))
        assert isinstance(answer, Page)
        assert answer.attributes["lang"] == language
        if not answer.has(step):  # the name may have to be given again, nothing more
            assert step == "password"
            answer = submit(person, answer, "username", username=person.login)
        value = {
            "username": person.login,
            "password": PASSWORD,
            "code": person.code() if step == "code" else "",
        }[step]
        after = person.submit(answer, step, **{step: value})
        if isinstance(after, dict):
            break
        page = after

    assert isinstance(after, dict), after.text
    assert "code" in after


@pytest.mark.parametrize("language", ["de", "", "../fr", "fr\0", "fr\r\nSet-Cookie: x=y", "x" * 5000])
def test_language_that_is_none_of_ours_is_no_choice(service, language):
    person = visitor(service, "")
    page = person.open(service.issuer + "/signed-out")
    assert isinstance(page, Page)

    response = send(person, page.form_with("next"), {**page.form_with("next").fields, "language": language})

    assert response.status_code == 303
    assert "iam-lang" not in response.headers.get("Set-Cookie", "")


@pytest.mark.parametrize(
    "back",
    [
        "https://evil.example/", "//evil.example/", "///evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
        "/\n/evil.example", "/%0d%0aX: y", "javascript:alert(1)", "data:text/html,x", " //evil.example", "http:evil.example",
        "/..//evil.example", "evil.example", "", "/x\r\nSet-Cookie: a=b", "/\0", "/" + "x" * 100_000, "/ /evil", "https:/evil",
        "http:///evil.example", "/@evil.example", "//user@localhost:1/", "?x", "#x",
    ],
)  # fmt: skip
@pytest.mark.rules("fapi/5.3.2.1/7", "rfc9700/2.1/open-redirector")
def test_a40_next_of_the_language_form_cannot_leave_the_site(service, back):
    person = visitor(service, "")
    page = person.open(service.issuer + "/signed-out")
    assert isinstance(page, Page)
    form = page.form_with("next")

    response = send(person, form, {**form.fields, "language": "fr", "next": back})

    assert response.status_code in {303, 400}
    if response.status_code == 303:
        where = response.headers["Location"]
        assert where.startswith("/")
        assert not where.startswith(("//", "/\\"))
        assert urljoin(service.issuer + "/language", where).startswith(service.issuer + "/")
        assert set(response.cookies.keys()) <= {"iam-lang", "iam-csrf"}


# -- signing out ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example/", "//evil.example", "aHR0cHM6Ly9ldmlsLmV4YW1wbGU", "x:y:z", ":", "", "\0", "x" * 50_000,
        "Imh0dHBzOi8vZXZpbC5leGFtcGxlLyI:1tAAAA:" + "A" * 43,
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["query", "form"])
def test_a40_address_to_return_to_after_signing_out_cannot_be_forged(service, to, where):
    person = visitor(service, "")
    address = f"{service.issuer}/sign-out"
    page = person.open(address)
    assert isinstance(page, Page)
    form = page.form_with("to")
    more = {"params": {"to": to}} if where == "query" else {}
    form.action = address

    response = send(person, form, {**form.fields, "to": to if where == "form" else ""}, **more)

    assert response.status_code in {303, 400}
    assert response.headers.get("Location", "/signed-out") == "/signed-out"


@pytest.mark.rules("rp-logout/2/yes-ends")
def test_a47_sign_out_by_link_only_asks_and_the_form_does_it(service):
    person = visitor(service, "plain22")
    person.sign_in()
    before = person.browser.cookies["iam-session"]

    asked = person.open(service.issuer + "/sign-out")
    assert isinstance(asked, Page)
    assert is_signed_in(person)
    done = submit(person, asked, "to")

    assert_is_page(done.response)
    assert "iam-session" not in person.browser.cookies
    person.browser.cookies.set("iam-session", before)
    assert not is_signed_in(person)


@pytest.mark.rules("rp-logout/4/idempotent")
def test_sign_out_twice_and_by_nobody_is_no_error(service):
    person = visitor(service, "plain23")
    person.sign_in()
    asked = person.open(service.issuer + "/sign-out")
    assert isinstance(asked, Page)

    for _ in range(2):
        assert "signed out" in submit(person, asked, "to").text


# -- whom the request is for (A40) --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost.evil.example", "evil.example:80", "localhost@evil.example", "localhost, evil.example", "",
        "localhost:80:80", "localhost/evil", "[::1", "127.0.0.2", "١٢٧.0.0.1", "localhost\\evil", "*", ".localhost",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/sign-in", "/sign-in/x", "/signed-out", "/nowhere", "/"])
def test_a40_foreign_host_is_refused_and_repeated_nowhere(service, host, path):
    response = ask_as(service, host, path)

    if response.headers.get("Content-Type"):  # else the server in front of the pages refused it
        page = assert_is_error_page(response, 400)
        assert "evil" not in page.response.text
    assert response.status_code == 400
    assert "Location" not in response.headers


def ask_as(service: Service, host: str, path: str) -> requests.Response:
    """Ask for a page by a name that a client library would not send."""
    port = int(service.issuer.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host.encode())
    connection.endheaders()
    raw = connection.getresponse()
    response = requests.Response()
    response.status_code, response.headers = raw.status, CaseInsensitiveDict(raw.headers)
    response._content, response.url, response.encoding = raw.read(), service.issuer + path, "utf-8"
    connection.close()
    return response


@pytest.mark.parametrize(
    "name",
    ["X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix"],
)
def test_a40_forwarded_names_change_no_link(service, name):
    value = "host=evil.example" if name == "Forwarded" else "evil.example"
    for path in ("/sign-in", "/signed-out", "/.well-known/openid-configuration"):
        response = requests.get(service.issuer + path, headers={name: value}, timeout=SECONDS)
        assert response.status_code == 200
        assert "evil" not in response.text + response.url


# -- typing a code (US-05) ------------------------------------------------------------------------------------------

ARABIC, PERSIAN = "٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹"


@pytest.mark.parametrize(
    ("n", "typed"),
    [
        (25, lambda code: code.translate(str.maketrans("0123456789", ARABIC))),
        (26, lambda code: code.translate(str.maketrans("0123456789", PERSIAN))),
        (27, lambda code: f" {code[:3]} {code[3:]} "),
        (28, lambda code: f"{code[:3]}-{code[3:]}"),
        (29, lambda code: "\u200f" + code[:3].translate(str.maketrans("0123456789", ARABIC)) + "\u00a0" + code[3:] + "\u200e"),
    ],
    ids=["arabic", "persian", "spaces", "hyphen", "mixed with marks"],
)  # fmt: skip
def test_us05_code_as_people_type_it_enters(service, n, typed):
    person = visitor(service, f"desk{n:02}", language="ar")
    page = to_code(person)

    answer = person.submit(page, "code", code=typed(person.code()))

    assert isinstance(answer, dict), answer.text
    assert "code" in answer


def test_us05_code_with_other_signs_in_it_is_refused_and_the_same_code_then_enters(service):
    person = visitor(service, "desk30")
    page, code = to_code(person), person.code()
    wrong = [
        f"{code[:3]}_{code[3:]}", f"+{code}", f"-{code}x", f"{code}\n1", f"0{code}", code[:5], f"{code}.0", f"{code}e0", f"0x{code}",
        code.translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")), code.translate(str.maketrans("0123456789", "①②③④⑤⑥⑦⑧⑨⑩")),
        f"{code},{code}", f"{code}\0", "x" * 10_000,
    ]  # fmt: skip
    for typed in wrong:
        page = submit(person, page, "code", code=typed)
        assert page.response.status_code == 200
        assert page.has("code")
        assert "There is a problem" in page.text

    service.manage("person", "unlock", "desk30")
    answer = person.submit(page, "code", code=code)

    assert isinstance(answer, dict), answer.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_us05_field_of_the_code_lets_every_keyboard_in(service, language):
    person = visitor(service, "desk22", language=language)

    page = to_code(person)

    field = re.search(r'<input id="code"[^>]*>', page.response.text)
    assert field is not None
    for wanted in ('inputmode="numeric"', 'autocomplete="one-time-code"', 'dir="ltr"', 'type="text"'):
        assert wanted in field[0]
    assert "maxlength" not in field[0]
    assert "pattern" not in field[0]
