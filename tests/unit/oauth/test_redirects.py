"""A02-A04: redirect addresses match exactly, and for loopback all but the port."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
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
@pytest.mark.rules("rfc8252/7.3/any-port")
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


def matches(uri: str) -> bool:
    """Say the same as `is_registered` by taking the address apart instead of by a pattern."""
    if uri in REGISTERED:
        return True
    for known in ("http://127.0.0.1", "http://[::1]"):
        if uri.startswith(known + ":") and uri.endswith("/callback"):
            port = uri.removeprefix(known + ":").removesuffix("/callback")
            return port.isascii() and port.isdigit() and str(int(port)) == port and 1 <= int(port) <= 65535
    return False


PIECES = [
    "/",
    ":",
    "@",
    "#",
    "?",
    "%2f",
    "..",
    "\\",
    ".",
    "[",
    "]",
    "127.0.0.1",
    "::1",
    "evil.example",
    "0",
    "65535",
    "\n",
]
changed = st.builds(
    lambda uri, at, cut, put: uri[: at % (len(uri) + 1)] + put + uri[at % (len(uri) + 1) + cut :],
    st.sampled_from([*REGISTERED, "http://127.0.0.1:5000/callback", "http://[::1]:1/callback"]),
    st.integers(0, 60), st.integers(0, 6), st.sampled_from(["", *PIECES]) | st.text(max_size=3),
)  # fmt: skip


@settings(max_examples=2000, deadline=None, database=None)
@given(changed | st.builds("http://127.0.0.1:{}/callback".format, st.integers(-5, 70_000)))
def test_fuzz_is_registered_changed_address_matches_only_as_another_reading_says(uri):
    assert is_registered(uri, REGISTERED) == matches(uri)


@settings(max_examples=1000, deadline=None, database=None)
@given(changed | st.text(max_size=40))
def test_fuzz_problem_with_never_raises_and_lets_only_safe_addresses_pass(uri):
    if problem_with(uri) == "":
        parts = urlsplit(uri)
        assert (
            (parts.scheme == "https" and parts.hostname)
            or (parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"})
            or "." in parts.scheme
        )
        assert parts.fragment == ""
        assert "@" not in parts.netloc


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
@pytest.mark.rules("rp-logout/3.1/registration-https", "core/3.1.2.1/redirect-https")
def test_a04_problem_with_unsafe_address_is_named(uri):
    assert problem_with(uri) != ""
