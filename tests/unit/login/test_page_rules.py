"""What the pages decide without a database: a language, an address to believe, a policy for the browser."""

import io
import ipaddress

import pytest
from django.http import HttpResponse, HttpResponseNotAllowed
from django.test import RequestFactory
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

from iam.audit.facts import facts_of, source_address
from iam.login.language import choose_language
from iam.portal.context import page
from iam.portal.middleware import (
    DRAINED_MAX,
    LanguageMiddleware,
    PageHeadersMiddleware,
    RequestFactsMiddleware,
    content_security_policy,
    form_source,
)
from iam.wsgi import Utf8Request

# -- the language ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("explicit", "profile", "asked", "accept", "chosen"),
    [
        ("fr", "en", ("ar",), "ar", "fr"),
        ("", "en", ("ar",), "fr", "en"),
        ("", "", ("fr", "en"), "ar", "fr"),
        ("", "", ("de", "en"), "ar", "en"),
        ("", "", (), "fr-CA,fr;q=0.9", "fr"),
        ("", "", (), "de,en;q=0.5,fr;q=0.7", "fr"),
        ("", "", (), "en;q=0,fr;q=0.1", "fr"),
        ("", "", (), "EN-GB", "en"),
        ("", "", (), "*", "ar"),
        ("", "", (), "de, zh", "ar"),
        ("", "", (), "", "ar"),
        ("de", "xx", ("", "zz"), "", "ar"),
        ("FR", "", (), "", "ar"),  # the cookie holds what we wrote, or nothing
        ("../../en", "en\0", ("<b>",), "en\0", "ar"),
        ("", "", (), "fr;q=abc", "ar"),
        ("", "", (), ",;=;q==,", "ar"),
        ("", "", (), "fr," + "x" * 100_000, "ar"),
        ("", "", (), "fr" + "," * 100_000, "ar"),
        ("", "", (), "x" * 100_000 + ",fr", "ar"),
    ],
)
def test_language_table(explicit, profile, asked, accept, chosen):
    assert choose_language(explicit, profile, asked, accept) == chosen


@given(explicit=st.text(), profile=st.text(), asked=st.lists(st.text(), max_size=3), accept=st.text())
def test_language_of_anything_is_one_of_ours(explicit, profile, asked, accept):
    assert choose_language(explicit, profile, asked, accept) in {"ar", "fr", "en"}


def test_language_middleware_leaves_no_language_behind_even_after_an_error():
    def fail(request):
        raise RuntimeError

    translation.activate("en")
    with pytest.raises(RuntimeError):
        LanguageMiddleware(fail)(RequestFactory().get("/", headers={"accept-language": "fr"}))

    assert translation.get_language() == "en"


@pytest.mark.parametrize("before", [None, "en"])
def test_language_middleware_puts_back_what_was_there(before):
    with translation.override(before, deactivate=True):
        if before is None:
            translation.deactivate_all()
        answer = LanguageMiddleware(lambda _: HttpResponse(translation.get_language()))(
            RequestFactory().get("/", headers={"accept-language": "fr"})
        )
        assert translation.get_language() == (before or "ar")

    assert (answer.content, answer["Content-Language"]) == (b"fr", "fr")


def test_language_middleware_says_nothing_of_what_is_no_page():
    answer = LanguageMiddleware(lambda _: HttpResponse("{}", content_type="application/json"))(
        RequestFactory().get("/")
    )

    assert "Content-Language" not in answer


# -- the source (A41) -----------------------------------------------------------------------------------------

PROXY, CLIENT, INNER = "10.0.0.1", "192.0.2.7", "10.0.0.2"
TRUSTED = tuple(ipaddress.ip_network(text) for text in ("10.0.0.0/8", "2001:db8:ffff::/48"))
MANY = ", ".join(["192.0.2.9"] * 1000)


@pytest.fixture(name="proxies")
def _proxies(settings):
    settings.IAM_TRUSTED_PROXIES = TRUSTED


@pytest.mark.parametrize(
    ("remote", "forwarded", "source"),
    [
        (CLIENT, "", CLIENT),
        (CLIENT, "198.51.100.1", CLIENT),  # not a proxy of ours: not believed
        (CLIENT, MANY, CLIENT),
        (PROXY, "", PROXY),
        (PROXY, CLIENT, CLIENT),
        (PROXY, f"  {CLIENT}  ", CLIENT),
        (
            PROXY,
            f"198.51.100.1, {CLIENT}",
            CLIENT,
        ),  # what the client itself wrote stands left of what we know
        (PROXY, f"198.51.100.1, {CLIENT}, {INNER}", CLIENT),
        (PROXY, f"garbage, {CLIENT}", CLIENT),
        (PROXY, INNER, INNER),
        (PROXY, f"{INNER}, {INNER}", INNER),
        (PROXY, "garbage", PROXY),
        (PROXY, f"{CLIENT}, garbage", PROXY),
        (PROXY, f"{CLIENT},", PROXY),
        (PROXY, ",", PROXY),
        (PROXY, f"{CLIENT}:443", PROXY),
        (PROXY, f"{CLIENT}/32", PROXY),
        (PROXY, "unknown", PROXY),
        (PROXY, "_hidden", PROXY),
        (PROXY, "192.0.2.007", PROXY),
        (PROXY, "0x7f.1", PROXY),
        (PROXY, "3221225991", PROXY),
        (PROXY, "[2001:db8::1]", PROXY),
        (PROXY, "fe80::1%eth0", PROXY),
        (PROXY, "2001:db8::1%25eth0", PROXY),
        (PROXY, "2001:db8::1%' OR 1=1", PROXY),
        (PROXY, "2001:0DB8::0001", "2001:db8::1"),
        (PROXY, f"::ffff:{CLIENT}", CLIENT),
        (PROXY, "٢٠٣.0.113.1", PROXY),
        (PROXY, "\0", PROXY),
        (PROXY, MANY, PROXY),
        (PROXY, ",".join([CLIENT] * 20), CLIENT),
        (PROXY, ",".join([CLIENT] * 21), PROXY),
        (PROXY, CLIENT + " " * 3000, PROXY),
        (f"::ffff:{PROXY}", CLIENT, CLIENT),
        ("2001:db8:ffff::5", CLIENT, CLIENT),
        ("2001:db8:fffe::5", CLIENT, "2001:db8:fffe::5"),
        ("fe80::1%eth0", CLIENT, ""),
        ("", CLIENT, ""),
        ("unix:", CLIENT, ""),
        ("garbage", CLIENT, ""),
    ],
)
@pytest.mark.usefixtures("proxies")
def test_source_address_table(remote, forwarded, source):
    assert source_address(remote, forwarded) == source


@given(remote=st.text() | st.ip_addresses().map(str), forwarded=st.text())
def test_source_address_without_proxies_never_believes_the_header(remote, forwarded):
    assert source_address(remote, forwarded) == source_address(remote, "")


@pytest.mark.usefixtures("proxies")
def test_source_address_of_a_forged_chain_is_never_further_than_the_first_stranger():
    for forged in ("127.0.0.1", "10.9.9.9", "::1", "garbage", "", "10.0.0.3, 10.0.0.4"):
        assert source_address(PROXY, f"{forged}, {CLIENT}, {INNER}") == CLIENT


def test_facts_number_is_ours_and_the_browser_is_cut():
    request = RequestFactory().get(
        "/", headers={"x-request-id": "mine", "user-agent": "b" * 5000}, REMOTE_ADDR=CLIENT
    )
    answer = RequestFactsMiddleware(lambda _: HttpResponse())(request)

    facts = facts_of(request)
    assert (facts.address, facts.user_agent) == (CLIENT, "b" * 200)
    assert answer["X-Request-Id"] == facts.request_id != "mine"


def test_facts_of_a_request_that_no_middleware_saw_is_an_error():
    with pytest.raises(TypeError):
        facts_of(RequestFactory().get("/"))


def test_context_of_a_request_that_no_middleware_saw_has_no_reference():
    with translation.override(None):
        shown = page(RequestFactory().post("/x?y=1"))

    assert (shown["reference"], shown["lang"], shown["dir"], shown["back"]) == ("", "ar", "rtl", "/x")


# -- the policy for the browser -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("https://app.example/cb", "https://app.example"),
        ("https://app.example:8443/cb?x=1", "https://app.example:8443"),
        ("http://127.0.0.1:9900/callback", "http://127.0.0.1:9900"),
        ("http://[::1]:5000/cb", "http:"),
        ("com.example.app:/cb", "com.example.app:"),
        ("com.example.app://host/cb", "com.example.app:"),
        ("https://user:secret@app.example/cb", "https://app.example"),
        ("https://app.example;script-src */cb", "https:"),
        ("https://app.example *:/cb", "https:"),
        ("https://a.example,b.example/cb", "https:"),
        ("https://*.example/cb", "https:"),
        ("https:///cb", "https:"),
    ],
)
def test_form_source_of_an_address(uri, source):
    assert form_source(uri) == source


@given(st.text(alphabet="ahttps:/.;,* '\"\r\n@[]%0-_é", max_size=30))
def test_form_source_never_opens_another_directive(text):
    try:
        source = form_source("https://" + text)
    except ValueError:
        return

    assert not set(source) & set(" ;,*'\"\r\n")


def test_policy_names_each_target_once_and_nothing_runs():
    policy = content_security_policy(["https://a.example/x", "https://a.example/y", "https://b.example/"])

    assert policy == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "form-action 'self' https://a.example https://b.example; frame-ancestors 'none'; base-uri 'none'"
    )
    assert "unsafe" not in content_security_policy([])
    assert "frame-src" not in policy


def test_policy_of_a_page_with_frames_names_their_origins_and_no_others():
    policy = content_security_policy([], ["https://a.example/out?sid=1", "https://b.example:8443/out"])

    assert "frame-src https://a.example https://b.example:8443; " in policy
    assert "form-action 'self'; " in policy


def headers_of(response: HttpResponse) -> HttpResponse:
    return PageHeadersMiddleware(lambda _: response)(RequestFactory().get("/"))


def test_headers_of_a_page():
    answer = headers_of(HttpResponse("x"))

    assert answer["Content-Security-Policy"] == content_security_policy([])
    assert answer["Cache-Control"] == "no-store"
    assert "camera=()" in answer["Permissions-Policy"]


def test_headers_of_an_answer_of_the_protocol_stay():
    own = HttpResponse("{}", content_type="application/json", headers={"Cache-Control": "max-age=60"})

    answer = headers_of(own)

    assert answer["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer["Cache-Control"] == "max-age=60"
    assert "Permissions-Policy" not in answer


# -- answers to what was not read -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "left"), [(10, 10), (65_536, 65_536), (65_537, 0), (1_000_000, 0), (DRAINED_MAX + 1, DRAINED_MAX + 1)]
)  # fmt: skip
def test_facts_a_large_body_that_nobody_wanted_is_read_within_bounds(length, left):
    request = RequestFactory().post("/", b"x" * length, content_type="text/plain")

    RequestFactsMiddleware(lambda _: HttpResponse(status=400))(request)

    assert len(request.read()) == left


@pytest.mark.parametrize("length", ["", "-1", "1e9", "٩٩٩٩٩٩", "x", "9" * 5000])
def test_facts_a_length_that_is_no_number_is_not_waited_for(length):
    request = RequestFactory().post("/", b"x", content_type="text/plain", CONTENT_LENGTH=length)

    assert RequestFactsMiddleware(lambda _: HttpResponse())(request).status_code == 200


def test_facts_a_connection_that_broke_while_draining_is_not_an_error():
    class Broken(io.RawIOBase):
        def read(self, size=-1):
            raise OSError

    request = RequestFactory().post("/", b"x" * 100_000, content_type="text/plain")
    request._stream = Broken()

    assert RequestFactsMiddleware(lambda _: HttpResponse(status=400))(request).status_code == 400


def test_headers_empty_answer_to_a_wrong_method_becomes_a_page():
    answer = headers_of(HttpResponseNotAllowed(["GET"]))

    assert (answer.status_code, answer["Allow"]) == (405, "GET")
    assert b"<html lang=" in answer.content


def test_headers_answer_to_a_wrong_method_that_says_something_stays():
    own = HttpResponseNotAllowed(["POST"], '{"error":"invalid_request"}', content_type="application/json")

    assert headers_of(own).content == b'{"error":"invalid_request"}'


@pytest.mark.parametrize(
    "content_type", ["text/plain; charset=hex", "a; charset*=no-such''x", "text/plain; charset=utf-16"]
)
def test_request_is_utf_8_whatever_it_claims(content_type):
    request = Utf8Request(environ(content_type))

    assert request.GET["a"] == "ب"


def environ(content_type: str) -> dict:
    made = RequestFactory().get("/?a=%D8%A8").environ
    return {**made, "CONTENT_TYPE": content_type}
