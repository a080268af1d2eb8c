"""The demonstration applications' side of back-channel logout: a logout token is believed, and nothing like one."""

import time

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from deploy.demo.apps.backchannel import EVENT, EndedSessions, NotALogoutToken

KEY, OTHER = (ECKey.generate_key("P-256", parameters={"kid": name, "alg": "ES256"}) for name in ("k1", "k2"))
BACK_CHANNEL = "OIDC Back-Channel Logout"


def token(key: ECKey = KEY, typ: str | None = "logout+jwt", **changes: object) -> str:
    now = int(time.time())
    claims = {
        "iss": "https://op.example", "aud": "app", "iat": now, "exp": now + 120, "jti": "j1", "sid": "s1", "sub": "u",
        "events": {EVENT: {}}, **changes,
    }  # fmt: skip
    header = {"alg": "ES256", "kid": key.kid, **({"typ": typ} if typ else {})}
    return jwt.encode(header, {n: v for n, v in claims.items() if v is not ...}, key)


@pytest.fixture
def ended() -> EndedSessions:
    keys = KeySet([KEY]).as_dict(private=False)
    return EndedSessions("https://op.example", "app", lambda anew: keys)


@pytest.mark.spec(BACK_CHANNEL, "2.7", "the session named by sid is ended, no other one")
def test_logout_token_ends_the_session_it_names(ended: EndedSessions) -> None:
    since = time.time()

    ended.take(token())

    assert ended.includes("s1", since)
    assert not ended.includes("s2", since)


def test_session_from_before_the_start_counts_as_over(ended: EndedSessions) -> None:
    assert ended.includes("s9", time.time() - 3600)


@pytest.mark.spec(BACK_CHANNEL, "2.6", "each claim is checked")
@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"}, {"iss": ...}, {"aud": "other"}, {"aud": ["app", "other"]}, {"aud": ...},
        {"exp": 1}, {"exp": ...}, {"exp": "9999999999"}, {"iat": 9_999_999_999, "exp": 9_999_999_999}, {"iat": ...},
        {"events": ...}, {"events": {}}, {"events": [EVENT]}, {"events": {EVENT: 1}}, {"nonce": "n"}, {"sid": ...},
        {"sid": 5}, {"jti": ...}, {"typ": "JWT"}, {"typ": "at+jwt"}, {"typ": None}, {"key": OTHER},
    ],
    ids=lambda changes: " ".join(changes),
)  # fmt: skip
def test_a13_what_is_no_logout_token_ends_nothing(ended: EndedSessions, changes: dict) -> None:
    since = time.time()

    with pytest.raises(NotALogoutToken):
        ended.take(token(**changes))

    assert not ended.includes("s1", since)


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é", "." * 10_000])
def test_what_is_no_token_ends_nothing(ended: EndedSessions, text: str) -> None:
    with pytest.raises(NotALogoutToken):
        ended.take(text)


@pytest.mark.spec(BACK_CHANNEL, "2.6", "a jti is taken once")
def test_a13_logout_token_replayed_is_refused(ended: EndedSessions) -> None:
    once = token()
    ended.take(once)

    with pytest.raises(NotALogoutToken):
        ended.take(once)


def test_key_that_the_service_began_to_use_is_read_once() -> None:
    asked: list[bool] = []

    def keys(anew: bool) -> dict:
        asked.append(anew)
        return KeySet([OTHER if anew else KEY]).as_dict(private=False)

    ended = EndedSessions("https://op.example", "app", keys)
    ended.take(token(OTHER))
    with pytest.raises(NotALogoutToken):
        ended.take("nonsense")

    assert asked == [False, True, False]
