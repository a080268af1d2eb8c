"""The pages of signing in under bad input, over HTTP: delays, forms that are not ours, steps out of order, two people.

The service spares 127.0.0.1 the delays; who is to feel them comes from another address of the loopback network.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote, urlencode, urljoin

import pytest
import requests
from requests.adapters import HTTPAdapter

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
