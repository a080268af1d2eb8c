"""What stands around an answer, through both doors: who may read it from a page, and that http is over."""

import os
import subprocess
import sys
from urllib.parse import urlencode

import jwt
import pytest

from iam.accounts import cookies
from iam.oauth.protocol.messages import Request

from . import doors
from .conftest import World, answer_of

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
@pytest.mark.rules("fapi/5.2.3/3", "disco/3/no-cors-authorize", "rfc9700/2.6/cors")
def test_authorization_endpoint_is_readable_by_no_other_page(method: str, world: World) -> None:
    world.sign_in()
    request = Request(
        method, "/authorize", query=urlencode(world.wanted()), cookies={cookies.SESSION: world.cookie}
    )

    for _, headers, _ in doors.both(request, world.now, HTTP_ORIGIN="https://page.example"):
        assert [name for name, _ in headers if name.lower().startswith("access-control")] == []


@pytest.mark.parametrize("path", ["/jwks", "/.well-known/openid-configuration"])
@pytest.mark.rules("disco/4/cors")
def test_what_is_public_is_readable_by_every_page(path: str, world: World) -> None:
    for _, headers, _ in doors.both(Request("GET", path), world.now, HTTP_ORIGIN="https://page.example"):
        assert dict(headers)["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("path", ["/authorize", "/jwks", "/token", "/logout"])
@pytest.mark.rules("fapi/5.2.3/1")
def test_every_answer_of_an_https_issuer_ends_http_for_years(path: str, world: World, settings) -> None:
    settings.IAM_HTTPS = settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = True
    settings.SECURE_HSTS_SECONDS = 63072000
    secure = {"wsgi.url_scheme": "https"}

    for _, headers, _ in doors.both(Request("GET", path), world.now, **secure):
        assert dict(headers)["Strict-Transport-Security"] == "max-age=63072000; includeSubDomains; preload"


@pytest.mark.rules("fapi/5.2.3/1")
def test_https_issuer_is_all_that_it_takes() -> None:
    asked = "from django.conf import settings as s; print(s.SECURE_HSTS_SECONDS, s.SECURE_HSTS_PRELOAD, s.IAM_HTTPS)"
    environment = {
        **os.environ,
        "IAM_ISSUER": "https://login.example",
        "DJANGO_SETTINGS_MODULE": "iam.settings",
    }

    told = subprocess.run(
        [sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True
    )

    assert told.stdout.split() == ["63072000", "True", "True"]


@pytest.mark.rules("fapi/5.4.2/2", "core/2/no-key-headers")
def test_headers_of_our_tokens_lead_nowhere(world: World) -> None:
    """A verifier that follows an address in a header asks whoever wrote it: ours have none to follow."""
    world.sign_in()
    tokens = world.tokens()
    answer = answer_of(world.authorize(response_mode="jwt"))["response"]

    for token in (tokens["access_token"], tokens["id_token"], answer):
        assert set(jwt.get_unverified_header(token)) == {"alg", "kid", "typ"}
