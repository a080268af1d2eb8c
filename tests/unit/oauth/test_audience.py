"""What `resource` may name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.oauth.protocol.resource_uri import problem_with_resource


@pytest.mark.parametrize(
    "uri",
    [
        "https://registry.example", "https://registry.example/", "https://registry.example:8443/api/v1?tenant=1",
        "urn:secretariat:registry", "http://127.0.0.1:8000/api", "tag:secretariat.example,2026:registry",
        "https://[2001:db8::1]/api",
    ],
)  # fmt: skip
@pytest.mark.spec("RFC 8707", "2", "resource is an absolute URI")
def test_resource_absolute_uri_may_be_named(uri):
    assert problem_with_resource(uri) == ""


@pytest.mark.parametrize(
    "uri",
    [
        "", "registry", "/api", "//registry.example/api", "https:", "https://", "https:///api", "https://user@host/",
        "https://registry.example/#part", "https://registry.example/#", "https://registry.example/ a",
        "https://registry.example/\u0627", "https://registry.example/\n", "1https://registry.example", "https://[::1",
        "https://registry.example/" + "a" * 600, "https://registry.example/\\a", "https://registry.example/<b>",
    ],
)  # fmt: skip
@pytest.mark.spec("RFC 8707", "2", "resource without fragment, absolute")
def test_resource_anything_else_is_refused(uri):
    assert problem_with_resource(uri) != ""


@given(st.text(max_size=40))
def test_resource_whatever_is_sent_never_raises_and_never_takes_a_fragment(text):
    assert problem_with_resource(text) != "" or ("#" not in text and text.isascii() and text.isprintable())
