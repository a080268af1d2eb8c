"""Authlib for Python, which nobody here wrote, through every flow that it knows."""

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography.hazmat.primitives import serialization
from joserfc import jwt
from joserfc.jwk import KeySet

from iam.oauth.protocol import jose
from tests.clients.conftest import Provider
from tests.servers.organisation import CLIENT_SECRET, DEVICE_CODE
from tests.servers.person import Person

REDIRECT = "https://authlib.example/cb"
SCOPE = "openid profile roles"
WEB = {
    "redirect_uris": [REDIRECT], "grant_types": ["authorization_code", "refresh_token"], "scope": SCOPE,
    "application": "correspondence", "trusted": True,
}  # fmt: skip

Register = Callable[..., str]


@pytest.fixture
def register(provider: Provider, tmp_path: Path) -> Register:
    def _register(**metadata: Any) -> str:
        client_id = f"authlib-{secrets.token_hex(4)}"
        file = tmp_path / "client.json"
        file.write_text(json.dumps([{"client_id": client_id, **metadata}]))
        provider.manage("client", "apply", str(file))
        return client_id

    return _register


@pytest.fixture
def metadata(provider: Provider) -> dict[str, Any]:
    described: dict[str, Any] = (
        OAuth2Session().get(f"{provider.issuer}/.well-known/openid-configuration", withhold_token=True).json()
    )
    return described


def sign_in(session: OAuth2Session, metadata: dict[str, Any], person: Person) -> dict[str, Any]:
    verifier, nonce = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    address, state = session.create_authorization_url(
        metadata["authorization_endpoint"], code_verifier=verifier, nonce=nonce
    )
    answer = person.sign_in(address)
    assert (answer["state"], answer["iss"]) == (state, metadata["issuer"])
    token: dict[str, Any] = session.fetch_token(
        metadata["token_endpoint"],
        code=answer["code"],
        code_verifier=verifier,
        grant_type="authorization_code",
    )
    keys = KeySet.import_key_set(session.get(metadata["jwks_uri"], withhold_token=True).json())
    claims = jwt.decode(token["id_token"], keys, algorithms=["ES256", "RS256", "PS256", "EdDSA"]).claims
    assert (claims["iss"], claims["aud"], claims["nonce"]) == (metadata["issuer"], session.client_id, nonce)
    return {**token, "claims": claims}


@pytest.mark.parametrize(
    ("method", "who"), [("client_secret_basic", "caller15"), ("client_secret_post", "caller16")]
)
def test_code_userinfo_refresh_introspection_and_revocation(
    provider: Provider, register: Register, metadata: dict[str, Any], method: str, who: str
) -> None:
    client_id = register(**WEB, client_secret=CLIENT_SECRET, token_endpoint_auth_method=method)
    session = OAuth2Session(
        client_id, CLIENT_SECRET, scope=SCOPE, redirect_uri=REDIRECT, code_challenge_method="S256",
        token_endpoint_auth_method=method, revocation_endpoint_auth_method=method,
    )  # fmt: skip
    token = sign_in(session, metadata, provider.person(who))

    assert session.get(metadata["userinfo_endpoint"]).json()["sub"] == token["claims"]["sub"]
    refreshed = session.refresh_token(metadata["token_endpoint"])
    assert refreshed["refresh_token"] != token["refresh_token"]
    active = session.introspect_token(
        metadata["introspection_endpoint"], token=refreshed["access_token"]
    ).json()
    assert (active["active"], active["client_id"]) == (True, client_id)
    revoked = session.revoke_token(metadata["revocation_endpoint"], token=refreshed["refresh_token"])
    assert revoked.status_code == 200
    ended = session.introspect_token(
        metadata["introspection_endpoint"], token=refreshed["access_token"]
    ).json()
    assert ended == {"active": False}


@pytest.mark.filterwarnings(
    "ignore:EdDSA is deprecated"
)  # RFC 9864 gives it another name; clients do not know it yet
@pytest.mark.parametrize(
    ("algorithm", "who"),  # each person once: a code of their phone counts once
    [("ES256", "caller11"), ("RS256", "caller12"), ("PS256", "caller13"), ("EdDSA", "caller14")],
)
def test_private_key_jwt_and_an_id_token_of_each_algorithm(
    provider: Provider, register: Register, metadata: dict[str, Any], algorithm: str, who: str
) -> None:
    private = jose.generate("RS256")  # Authlib signs its assertions with RSA keys
    public = jose.Key("authlib-1", "RS256", private.public_key()).jwk()
    client_id = register(
        **WEB, token_endpoint_auth_method="private_key_jwt", jwks={"keys": [public]},
        id_token_signed_response_alg=algorithm,
    )  # fmt: skip
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    session = OAuth2Session(
        client_id, pem, scope=SCOPE, redirect_uri=REDIRECT, code_challenge_method="S256",
        token_endpoint_auth_method="private_key_jwt",
    )  # fmt: skip
    session.register_client_auth_method(
        PrivateKeyJWT(metadata["token_endpoint"], headers={"kid": "authlib-1"})
    )

    token = sign_in(session, metadata, provider.person(who))

    assert session.get(metadata["userinfo_endpoint"]).json()["sub"] == token["claims"]["sub"]
    assert session.refresh_token(metadata["token_endpoint"])["access_token"] != token["access_token"]


def test_client_credentials(provider: Provider, register: Register, metadata: dict[str, Any]) -> None:
    client_id = register(
        client_secret=CLIENT_SECRET,
        grant_types=["client_credentials"],
        scope="demo.read",
        application="correspondence",
    )
    session = OAuth2Session(client_id, CLIENT_SECRET, scope="demo.read")

    token = session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")

    assert (token["token_type"], token["scope"], token["expires_in"]) == ("Bearer", "demo.read", 300)


def test_device_grant(provider: Provider, register: Register, metadata: dict[str, Any]) -> None:
    client_id = register(
        token_endpoint_auth_method="none", grant_types=[DEVICE_CODE, "refresh_token"], scope="openid profile",
        application="correspondence", trusted=True,
    )  # fmt: skip
    session = OAuth2Session(client_id, scope="openid profile", token_endpoint_auth_method="none")
    begun = session.post(
        metadata["device_authorization_endpoint"], data={"client_id": client_id, "scope": "openid profile"},
        withhold_token=True,
    ).json()  # fmt: skip

    def ask() -> dict[str, Any]:
        return session.fetch_token(
            metadata["token_endpoint"], grant_type=DEVICE_CODE, device_code=begun["device_code"]
        )

    with pytest.raises(OAuthError, match="authorization_pending"):
        ask()
    provider.person("caller05").let_in(begun["verification_uri"], begun["user_code"])
    time.sleep(begun["interval"])
    token = ask()

    assert session.get(metadata["userinfo_endpoint"]).json()["sub"]
    refreshed = session.refresh_token(metadata["token_endpoint"])
    assert refreshed["refresh_token"] != token["refresh_token"]


def test_request_that_was_pushed(provider: Provider, register: Register, metadata: dict[str, Any]) -> None:
    """Authlib has no word for it, but the parts: its session authenticates the push as it does the token request."""
    client_id = register(
        **WEB, client_secret=CLIENT_SECRET, require_pushed_authorization_requests=True,
        token_endpoint_auth_method="client_secret_basic",
    )  # fmt: skip
    session = OAuth2Session(
        client_id, CLIENT_SECRET, scope=SCOPE, redirect_uri=REDIRECT, code_challenge_method="S256"
    )
    verifier = secrets.token_urlsafe(48)
    address, state = session.create_authorization_url(metadata["authorization_endpoint"], code_verifier=verifier)  # fmt: skip
    pushed = session.post(
        metadata["pushed_authorization_request_endpoint"], data=dict(parse_qsl(urlsplit(address).query)),
        auth=session.client_auth(session.token_endpoint_auth_method),
    )  # fmt: skip
    assert pushed.status_code == 201, pushed.text

    query = urlencode({"client_id": client_id, "request_uri": pushed.json()["request_uri"]})
    answer = provider.person("caller06").sign_in(f"{metadata['authorization_endpoint']}?{query}")
    assert answer["state"] == state
    token = session.fetch_token(metadata["token_endpoint"], code=answer["code"], code_verifier=verifier)

    assert token["refresh_token"]
