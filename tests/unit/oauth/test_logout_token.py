"""Logout tokens and front-channel addresses, rule by rule, and the metadata of clients that want them."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.logout_token import (
    LOGOUT_EVENT,
    LOGOUT_TOKEN_TYP,
    build_logout_claims,
    front_channel_address,
)
from iam.oauth.protocol.metadata import build_metadata
from iam.oauth.protocol.registration import check_metadata

NOW = datetime(2026, 11, 25, 10, 0, 0, 250_000, tzinfo=UTC)
GOOD = {"client_id": "app-1", "redirect_uris": ["https://app.example/cb"], "scope": "openid roles"}
BACK_CHANNEL, FRONT_CHANNEL = "OIDC Back-Channel Logout", "OIDC Front-Channel Logout"


@pytest.fixture
def claims():
    return build_logout_claims(
        issuer="https://op.example", client_id="app-1", sub="ab" * 20, sid="the-sid", jti="once", now=NOW
    )


@pytest.mark.spec(BACK_CHANNEL, "2.4", "iss, aud, iat, exp, jti and events are there, and nothing unknown")
@pytest.mark.rules(
    "back-logout/2.4/iss",
    "back-logout/2.4/aud",
    "back-logout/2.4/iat",
    "back-logout/2.4/exp",
    "back-logout/2.4/jti",
)
def test_logout_token_has_exactly_the_claims_of_the_specification(claims):
    assert set(claims) == {"iss", "sub", "aud", "iat", "exp", "jti", "sid", "events"}
    assert (claims["iss"], claims["aud"], claims["jti"]) == ("https://op.example", "app-1", "once")
    assert claims["iat"] == int(NOW.timestamp())


@pytest.mark.spec(BACK_CHANNEL, "2.4", "events has the member backchannel-logout, an empty object")
@pytest.mark.rules("back-logout/2.4/events")
def test_logout_token_says_what_happened_by_its_event(claims):
    assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
    assert LOGOUT_EVENT in claims["events"]


@pytest.mark.spec(BACK_CHANNEL, "2.4", "sub or sid, here both")
@pytest.mark.rules("back-logout/2.2/session-required", "back-logout/2.4/sub-or-sid")
def test_logout_token_names_person_and_session(claims):
    assert (claims["sub"], claims["sid"]) == ("ab" * 20, "the-sid")


@pytest.mark.spec(BACK_CHANNEL, "2.4", "nonce is prohibited")
@pytest.mark.rules("back-logout/2.4/no-nonce")
def test_logout_token_has_no_nonce(claims):
    assert "nonce" not in claims


@pytest.mark.spec(BACK_CHANNEL, "4", "exp is at most two minutes in the future")
@pytest.mark.rules("back-logout/2.4/exp", "back-logout/4/short-life")
def test_logout_token_lives_two_minutes_at_most(claims):
    assert 0 < claims["exp"] - claims["iat"] <= timedelta(minutes=2).total_seconds()


@pytest.mark.spec(BACK_CHANNEL, "2.4", "typ is logout+jwt")
def test_logout_token_has_a_type_of_its_own():
    assert LOGOUT_TOKEN_TYP == "logout+jwt"


@pytest.mark.spec(FRONT_CHANNEL, "2", "iss and sid are added, a query is kept")
@pytest.mark.parametrize(
    ("registered", "start"),
    [
        ("https://app.example/out", "https://app.example/out?iss="),
        ("https://app.example/out?", "https://app.example/out?iss="),
        ("https://app.example/out?a=1&b=%C3%A9", "https://app.example/out?a=1&b=%C3%A9&iss="),
        ("https://app.example", "https://app.example?iss="),
    ],
)
@pytest.mark.rules("front-logout/2/query-kept", "front-logout/2/iss-and-sid")
def test_front_channel_address_keeps_what_is_registered_and_adds_both(registered, start):
    address = front_channel_address(registered, "https://op.example", "s&i=d")

    assert address.startswith(start)
    query = parse_qs(urlsplit(address).query)
    assert (query["iss"], query["sid"]) == (["https://op.example"], ["s&i=d"])


@pytest.mark.spec(BACK_CHANNEL, "2.1", "backchannel_logout_supported and _session_supported")
@pytest.mark.spec(FRONT_CHANNEL, "3", "frontchannel_logout_supported and _session_supported")
@pytest.mark.rules(
    "back-logout/2.1/supported",
    "back-logout/2.1/session-supported",
    "front-logout/3/supported",
    "front-logout/3/session-supported",
)
def test_metadata_says_what_logout_is_supported():
    metadata = build_metadata("https://op.example", frozenset())

    for channel in ("backchannel", "frontchannel"):
        assert metadata[f"{channel}_logout_supported"] is True
        assert metadata[f"{channel}_logout_session_supported"] is True


@pytest.mark.spec(BACK_CHANNEL, "2.2", "a client registers its address")
@pytest.mark.rules("back-logout/2.2/session-required", "front-logout/2/session-required")
def test_client_with_both_channels_is_taken():
    options = check_metadata(
        {
            **GOOD,
            "backchannel_logout_uri": "https://back.example:8443/logout?x=1",
            "backchannel_logout_session_required": True,
            "frontchannel_logout_uri": "https://app.example:443/out",
            "frontchannel_logout_session_required": True,
        }
    ).options

    assert options.backchannel_logout_uri == "https://back.example:8443/logout?x=1"
    assert options.frontchannel_logout_session_required is True


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"backchannel_logout_uri": "http://app.example/out"}, "backchannel_logout_uri"),
        ({"backchannel_logout_uri": "https://app.example/out#part"}, "backchannel_logout_uri"),
        ({"backchannel_logout_uri": "https://user:pw@app.example/out"}, "backchannel_logout_uri"),
        ({"backchannel_logout_uri": "org.example.app:/out"}, "backchannel_logout_uri"),
        ({"backchannel_logout_uri": "file:///etc/passwd"}, "backchannel_logout_uri"),
        ({"backchannel_logout_uri": ["https://app.example/out"]}, "backchannel_logout_uri"),
        ({"backchannel_logout_uri": "https://app.example/" + "x" * 2000}, "backchannel_logout_uri"),
        ({"backchannel_logout_uri": "/out"}, "backchannel_logout_uri"),
        ({"backchannel_logout_uri": "//app.example/out"}, "backchannel_logout_uri"),
        ({"frontchannel_logout_uri": "/out"}, "frontchannel_logout_uri"),
        ({"frontchannel_logout_uri": "https://app.example/out#part"}, "frontchannel_logout_uri"),
        ({"frontchannel_logout_uri": "http://app.example/out"}, "frontchannel_logout_uri"),
        ({"backchannel_logout_session_required": True}, "needs backchannel_logout_uri"),
        ({"backchannel_logout_session_required": "yes"}, "true or false"),
        ({"frontchannel_logout_session_required": True}, "needs frontchannel_logout_uri"),
        ({"frontchannel_logout_uri": "https://app.example:8443/out"}, "redirect_uri"),
        ({"frontchannel_logout_uri": "http://localhost/out"}, "redirect_uri"),
        ({"frontchannel_logout_uri": "https://evil.example/out"}, "redirect_uri"),
    ],
)
@pytest.mark.spec(FRONT_CHANNEL, "2", "scheme, host and port are those of a redirect_uri")
@pytest.mark.rules(
    "back-logout/2.2/absolute",
    "back-logout/2.2/no-fragment",
    "back-logout/2.2/https",
    "front-logout/2/same-origin",
    "front-logout/2/absolute",
    "front-logout/2/no-fragment",
    "front-logout/2/https",
)
def test_client_with_a_wrong_logout_address_is_refused(changes, word):
    with pytest.raises(MetadataError, match=word):
        check_metadata({**GOOD, **changes})
