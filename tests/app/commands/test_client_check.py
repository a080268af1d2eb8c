"""`client check`: what a client lacks for its own profile and for `high`, as a stranger reads it."""

import json

import pytest

from iam.oauth.clients import apply_all
from iam.oauth.models import Client
from tests.organisation import NOW

pytestmark = pytest.mark.django_db

WEB = {
    "client_id": "web", "client_name": "Correspondence", "client_secret": "s" * 40, "scope": "openid profile",
    "redirect_uris": ["https://web.example/cb", "http://localhost/cb"], "id_token_signed_response_alg": "RS256",
    "post_logout_redirect_uris": ["https://web.example/bye"], "contacts": ["it@example.org"], "trusted": True,
}  # fmt: skip


@pytest.fixture
def web() -> Client:
    apply_all([WEB], NOW, "system:test")
    return Client.objects.get(client_id="web")


def test_check_standard_client_holds_its_profile_and_learns_what_high_asks(run, web: Client) -> None:
    ran = run("client", "check", "web")

    assert ran.failure == ""
    lines = ran.out.splitlines()
    assert lines[0] == "web (Correspondence): its profile is standard."
    assert "standard (RFC 9700, what every application needs): nothing is missing." in lines
    assert any(line.startswith("high (FAPI 2.0") and line.endswith("7 things are missing.") for line in lines)
    numbered = [line for line in lines if line.startswith("  ")]
    assert len(numbered) == 7
    assert any("http://localhost/cb, which is not https" in line for line in numbered)
    assert any("id_token_signed_response_alg is RS256" in line for line in numbered)


def test_check_client_that_breaks_its_own_profile_fails(run, web: Client) -> None:
    Client.objects.update(options={"profile": "high"})

    ran = run("client", "check", "web")

    assert ran.failure == "web does not hold its own profile, high: see what is missing."
    assert "7 things are missing" in ran.out


def test_check_one_thing_is_counted_as_one(run, web: Client) -> None:
    Client.objects.update(options={"require_signed_request_object": True})

    ran = run("client", "check", "web")

    assert "standard (RFC 9700, what every application needs): 1 thing is missing." in ran.out
    assert ran.failure


def test_check_as_json_is_for_programs(run, web: Client) -> None:
    shown = json.loads(run("client", "check", "web", "--json").out)

    assert (shown["client_id"], shown["profile"], shown["missing"]["standard"]) == ("web", "standard", [])
    assert len(shown["missing"]["high"]) == 7


def test_check_registration_that_cannot_be_read_is_said_in_words(run, web: Client) -> None:
    Client.objects.update(redirect_uri_list=["javascript:alert(1)"])

    ran = run("client", "check", "web")

    assert "not right in itself: redirect_uris" in ran.out
    assert ran.failure


def test_check_unknown_client_is_said(run, db) -> None:
    assert run("client", "check", "nobody").failure.startswith("There is no client 'nobody'")


def test_apply_refuses_a_state_that_the_profile_forbids_and_changes_nothing(
    run, web: Client, tmp_path
) -> None:
    file = tmp_path / "clients.json"
    file.write_text(json.dumps([{**WEB, "profile": "high"}]))

    ran = run("client", "apply", str(file))

    assert "Nothing was changed" in ran.failure
    assert "dpop_bound_access_tokens" in ran.failure
    assert Client.objects.get(client_id="web").options == {}
