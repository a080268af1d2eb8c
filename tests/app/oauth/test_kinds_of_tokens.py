"""Every kind of text that we give out, at every place that takes one: nothing works where it does not belong (A13)."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping

import pytest

from iam.accounts import cookies
from iam.oauth import issuance, state
from iam.oauth.clients import apply_all
from iam.oauth.protocol.delegation import ACCESS_TOKEN_KIND, GRANT_TYPE
from iam.oauth.protocol.jose import encode_segment
from iam.oauth.protocol.logout_token import LOGOUT_TOKEN_TYP, build_logout_claims
from iam.oauth.protocol.messages import Interaction, Request, Response
from tests.proofs import Prover

from .conftest import ISSUER, SECRET, SERVER_SECRET, World, answer_of

pytestmark = pytest.mark.django_db

WEB = {
    "client_id": "web", "client_secret": SECRET, "redirect_uris": ["https://web.example/cb"], "trusted": True,
    "grant_types": ["authorization_code", "refresh_token", GRANT_TYPE], "application": "mail",
    "scope": "openid profile email roles demo.read gate.use", "resource_server": ["gate.use"],
    "token_exchange_targets": ["resource"], "post_logout_redirect_uris": ["https://web.example/bye"],
}  # fmt: skip
SCOPE = "openid roles demo.read gate.use"
JWT = "application/token-introspection+jwt"


def basic(client: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()


def jwt_of(answer: object) -> str:
    assert isinstance(answer, Response)
    return answer.body.decode()


@pytest.fixture
def kinds(world: World) -> Mapping[str, str]:
    """One fresh text of each kind, all of the same client and session."""
    apply_all([{**WEB, "access_token_format": "opaque"}], world.now, "system:test")
    world.sign_in()
    opaque = world.tokens(scope=SCOPE)["access_token"]
    apply_all([{**WEB, "userinfo_signed_response_alg": "ES256"}], world.now, "system:test")
    userinfo = jwt_of(world.userinfo(world.tokens(scope=SCOPE)["access_token"]))
    apply_all([WEB], world.now, "system:test")
    tokens = world.tokens(scope=SCOPE)
    introspection = world.ask(
        Request(
            "POST", "/introspect", body=f"token={tokens['access_token']}".encode(), accept=JWT,
            content_type="application/x-www-form-urlencoded", authorization=basic("resource", SERVER_SECRET),
        )
    )  # fmt: skip
    signing = state.DatabaseState().signing_key("ES256")
    told = build_logout_claims(
        issuer=ISSUER,
        client_id="web",
        sub=world.person.sub,
        sid="s",
        jti=secrets.token_urlsafe(9),
        now=world.now,
    )
    return {
        "access token": tokens["access_token"],
        "opaque access token": opaque,
        "refresh token": tokens["refresh_token"],
        "ID token": tokens["id_token"],
        "logout token": signing.sign(LOGOUT_TOKEN_TYP, told),
        "userinfo answer": userinfo,
        "introspection answer": jwt_of(introspection),
        "authorization answer": answer_of(world.authorize(response_mode="jwt"))["response"],
        "pushed request": world.pushed(),
        "DPoP proof": Prover().proof("GET", f"{ISSUER}/userinfo", world.now),
        "client secret": SECRET,
        "session secret": world.cookie,
        "code": world.code(scope=SCOPE),
    }


# -- places: each says whether it took a text for what it asks for ---------------------------------------------------


def userinfo(world: World, text: str) -> bool:
    return world.userinfo(text).status == 200


def introspection(world: World, text: str) -> bool:
    return world.introspect(text, "web", SECRET)["active"]


def introspection_by_the_audience(world: World, text: str) -> bool:
    return world.introspect(text)["active"]


def hint(world: World, text: str) -> bool:
    return "code" in answer_of(world.authorize(id_token_hint=text))


def exchange(world: World, text: str) -> bool:
    form = {
        "grant_type": GRANT_TYPE,
        "subject_token": text,
        "subject_token_type": ACCESS_TOKEN_KIND,
        "audience": "resource",
    }
    return world.post("/token", "web", SECRET, **form).status == 200


def registration(world: World, text: str) -> bool:
    answer = world.ask(
        Request(
            "POST", "/register", body=b"{}", content_type="application/json", authorization=f"Bearer {text}"
        )
    )
    assert isinstance(answer, Response)
    return answer.status != 401


def refresh(world: World, text: str) -> bool:
    return world.refresh(text).status == 200


def code(world: World, text: str) -> bool:
    return world.exchange(text).status == 200


def logout(world: World, text: str) -> bool:
    cookie = {cookies.SESSION: world.cookie}
    answer = world.ask(Request("GET", "/logout", query=f"id_token_hint={text}", cookies=cookie))
    return not (isinstance(answer, Interaction) and answer.need == "confirm_logout")


PLACES: dict[Callable[[World, str], bool], set[str]] = {
    userinfo: {"access token", "opaque access token"},
    introspection: {"access token", "opaque access token", "refresh token"},
    introspection_by_the_audience: {"access token", "opaque access token"},
    hint: {"ID token"},
    exchange: {"access token", "opaque access token"},
    registration: set(),
    refresh: {"refresh token"},
    code: {"code"},
    logout: {"ID token"},
}


@pytest.mark.spec("RFC 8725", "3.11", "a token of one kind is never taken for one of another")
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.rules("fapi/5.4.1/1-1", "rfc9068/2.1/typ")
def test_a13_each_place_takes_what_belongs_there_and_nothing_else(
    place: Callable[[World, str], bool], kinds: Mapping[str, str], world: World
) -> None:
    # What belongs there comes last, since using it may end the session.
    order = sorted(kinds, key=lambda kind: kind in PLACES[place])

    taken = {kind for kind in order if place(world, kinds[kind])}

    assert taken == PLACES[place]


@pytest.mark.spec("OIDC Core", "3.1.2.1", "a hint made with a secret instead of a key is refused")
@pytest.mark.rules("rp-logout/4/failed-unused", "core/3.1.2.2/hint-issuer")
def test_a19_id_token_signed_with_a_secret_is_no_hint(kinds: Mapping[str, str], world: World) -> None:
    """As if the provider had HMAC: with the client's secret, its digest, nothing, or the public key as text."""
    head, body, _ = kinds["ID token"].split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    public = json.dumps(state.DatabaseState().signing_key("ES256").jwk())
    digest = state.DatabaseState().client("web").secret_digest
    for secret in (SECRET, digest, "", public):
        made = encode_segment(json.dumps({**header, "alg": "HS256"}).encode()) + "." + body
        tag = hmac.new(secret.encode(), made.encode(), hashlib.sha256).digest()
        assert not hint(world, f"{made}.{encode_segment(tag)}")


BOMBS = {
    "a megabyte": lambda: "a" * 1_000_000,
    "a megabyte of dots": lambda: "." * 1_000_000,
    "an encrypted token": lambda: ".".join(
        [encode_segment(b'{"alg":"RSA-OAEP-256","enc":"A256GCM","zip":"DEF"}'), *["AAAA"] * 4]
    ),
    "passwords for a year": lambda: ".".join(
        [
            encode_segment(b'{"alg":"PBES2-HS256+A128KW","enc":"A256GCM","p2c":2147483647,"p2s":"AAAA"}'),
            *["AAAA"] * 4,
        ]
    ),
    "deep": lambda: f"{encode_segment(b'[' * 11_000)}.e30.e30",
    "many names": lambda: encode_segment(json.dumps({f"n{i}": i for i in range(900)}).encode()) + ".e30.e30",
    "a long number": lambda: encode_segment(b'{"alg":' + b"9" * 11_000 + b"}") + ".e30.e30",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a14_token_that_is_made_to_cost_costs_nothing(bomb: Callable[[], str], world: World) -> None:
    """Below the doors and the database, where the work would be done."""
    text, known = bomb(), state.DatabaseState()
    issuance.read_access_token(known, "warm.up.now")

    begun = time.process_time()
    found = issuance.read_access_token(known, text)
    spent = time.process_time() - begun

    assert found is None
    assert spent < 0.05
    assert world.userinfo(text).status == 401
