"""A02-A04: redirect addresses match exactly, and for loopback all but the port."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol.redirects import is_registered, problem_with

REGISTERED = (
    "https://app.example/callback",
    "http://127.0.0.1/callback",
    "http://[::1]/callback",
    "http://127.0.0.1:9900/fixed",
)


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/callback",
        "http://127.0.0.1/callback",
        "http://127.0.0.1:1/callback",
        "http://127.0.0.1:65535/callback",
        "http://[::1]:8080/callback",
        "http://127.0.0.1:9900/fixed",
    ],
)
@pytest.mark.spec("RFC 8252", "7.3", "any port of a loopback address")
def test_is_registered_same_address_or_loopback_port_matches(uri):
    assert is_registered(uri, REGISTERED)


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/callback/",
        "https://app.example/callback?x=1",
        "https://app.example/callback;p",
        "https://app.example/callback#",
        "https://app.example/callback%23",
        "https://app.example/%63allback",
        "https://app.example/a/../callback",
        "https://APP.example/callback",
        "HTTPS://app.example/callback",
        "https://app.example:443/callback",
        "https://app.example./callback",
        "https://user@app.example/callback",
        "https://app.example@evil.example/callback",
        "https://app.example.evil.example/callback",
        "https://appxexample/callback",
        "https://evil.example/?https://app.example/callback",
        "//app.example/callback",
        " https://app.example/callback",
        "https://app.example/callback\n",
        "https://app.example/callback\u0000",
        "https://xn--app-.example/callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "http://localhost:5000/callback",
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:65536/callback",
        "http://127.0.0.1:080/callback",
        "http://127.0.0.1:99999999/callback",
        "http://127.0.0.1:5000/callback?x",
        "http://127.0.0.1:5000/callback#",
        "http://127.0.0.1:5000/other",
        "http://127.0.0.1:5000@evil.example/callback",
        "http://127.1:5000/callback",
        "http://127.0.0.2:5000/callback",
        "http://[::1%25lo]:5000/callback",
        "http://[0:0:0:0:0:0:0:1]:5000/callback",
        "https://127.0.0.1:5000/callback",
        "http://127.0.0.1:٥٠٠٠/callback",
        "http://127.0.0.1:9901/fixed",
        "http://127.0.0.1/fixed",
        "",
    ],
)
@pytest.mark.spec("RFC 9700", "4.1.3", "redirect addresses match exactly")
def test_a02_is_registered_anything_else_is_refused(uri):
    assert not is_registered(uri, REGISTERED)


@given(st.text(max_size=60))
def test_is_registered_any_text_never_raises_and_only_matches_itself(uri):
    assert not is_registered(uri, ("https://app.example/callback",)) or uri == "https://app.example/callback"


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/cb",
        "http://127.0.0.1/cb",
        "http://[::1]:9000/cb",
        "http://localhost:5000/cb",
        "org.example.app:/cb",
    ],
)
def test_problem_with_good_address_is_empty(uri):
    assert problem_with(uri) == ""


@pytest.mark.parametrize(
    "uri",
    [
        "http://app.example/cb", "https://app.example/cb#x", "https://*.example/cb", "javascript:alert(1)", "data:,x",
        "https://user:pw@app.example/", "https:///cb", "HTTPS://app.example/", "/cb", "app.example/cb", "mailto:a",
        "https://app.example/\\evil", "https://app.example/ cb", "https://app.example/é", "https://[::1/cb",
        "https://app.example:99999/", "x" * 2001, "", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_a04_problem_with_unsafe_address_is_named(uri):
    assert problem_with(uri) != ""
