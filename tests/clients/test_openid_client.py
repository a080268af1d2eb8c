"""`openid-client` for Node, which nobody here wrote, through every flow."""

import json
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iam.oauth.protocol import jose
from tests.clients.conftest import Provider
from tests.servers.organisation import CLIENT_SECRET
from tests.servers.person import Person
from tests.servers.postgres import free_port
from tests.servers.service import ROOT

NODE = ROOT / ".venv" / "node"
REDIRECT = "https://node.example/cb"
BYE = "https://node.example/bye"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
SECONDS = 60


class Flow:
    """The Node program at work: it is told things, and says what it needs a person for."""

    def __init__(self, order: dict[str, Any]) -> None:
        # The program lies where its libraries are: that is how Node finds them.
        program = NODE / "flows.mjs"
        program.write_bytes(Path(__file__).with_name("node").joinpath("flows.mjs").read_bytes())
        self.process = subprocess.Popen(
            [str(NODE / "bin" / "node"), str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.say(order)

    def say(self, value: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate(timeout=5)[1])
        heard: dict[str, Any] = json.loads(line)
        assert "failed" not in heard, heard["failed"]
        return heard

    def result(self, person: Person) -> dict[str, Any]:
        """Play the person until the flow is done."""
        while True:
            heard = self.hear()
            if "done" in heard:
                done: dict[str, Any] = heard["done"]
                return done
            if "visit" in heard:
                answer = person.go_on(person.open(heard["visit"]))
                self.say({"query": answer if isinstance(answer, dict) else {}})
            else:
                person.let_in(heard["address"], heard["device"])
                self.say({})


@pytest.fixture
def flow(provider: Provider, tmp_path: Path) -> Iterator[Callable[..., Flow]]:
    """Register a client and begin a flow as it."""
    begun: list[Flow] = []

    def begin(name: str, metadata: dict[str, Any], **more: Any) -> Flow:
        client = {
            "client_id": f"node-{name}-{secrets.token_hex(4)}",
            "trusted": True,
            "application": "correspondence",
            **metadata,
        }
        file = tmp_path / "client.json"
        file.write_text(json.dumps([client]))
        provider.manage("client", "apply", str(file))
        order = {
            "flow": name,
            "issuer": provider.issuer,
            "client": client["client_id"],
            "secret": CLIENT_SECRET,
        }
        begun.append(Flow({**order, "redirect": REDIRECT, **more}))
        return begun[-1]

    yield begin
    for one in begun:
        one.process.kill()
        one.process.communicate()


WEB = {
    "client_secret": CLIENT_SECRET, "redirect_uris": [REDIRECT], "grant_types": ["authorization_code", "refresh_token"],
    "scope": "openid profile roles",
}  # fmt: skip


def test_code_userinfo_refresh_introspection_and_revocation(
    provider: Provider, flow: Callable[..., Flow]
) -> None:
    done = flow("standard", WEB).result(provider.person("caller07"))

    assert done["sub"] == done["userinfo"]
    assert (done["type"], done["rotated"], done["active"]) == ("bearer", True, True)
    assert (done["revoked"], done["refused"]) == (False, "invalid_grant")


def test_high_profile_with_par_signed_requests_jarm_dpop_nonces_and_private_key_jwt(
    provider: Provider, flow: Callable[..., Flow]
) -> None:
    private = jose.generate("ES256")
    assert not isinstance(private, str)
    numbers = private.private_numbers()  # type: ignore[union-attr]
    public = jose.Key("node-1", "ES256", private.public_key()).jwk()
    secret = {
        **{n: public[n] for n in ("kty", "crv", "x", "y")},
        "d": jose.encode_segment(numbers.private_value.to_bytes(32, "big")),
    }
    metadata = {
        "redirect_uris": [REDIRECT], "grant_types": ["authorization_code", "refresh_token"], "scope": "openid profile roles",
        "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [public]}, "dpop_bound_access_tokens": True,
        "require_pushed_authorization_requests": True, "authorization_signed_response_alg": "ES256", "profile": "high",
        "require_signed_request_object": True,
    }  # fmt: skip

    done = flow("high", metadata, key={**secret, "kid": "node-1"}).result(provider.person("caller08"))

    assert done["sub"] == done["userinfo"]
    assert (done["type"], done["bound"]) == ("dpop", True)
    assert done["asBearer"]


def test_client_credentials(provider: Provider, flow: Callable[..., Flow]) -> None:
    metadata = {
        "client_secret": CLIENT_SECRET, "grant_types": ["client_credentials"], "scope": "demo.read",
        "token_endpoint_auth_method": "client_secret_post",
    }  # fmt: skip

    done = flow("machine", metadata).result(provider.person("caller07"))

    assert done == {"type": "bearer", "scope": "demo.read", "refused": "invalid_scope"}


def test_device_grant(provider: Provider, flow: Callable[..., Flow]) -> None:
    metadata = {
        "token_endpoint_auth_method": "none", "grant_types": [DEVICE_CODE, "refresh_token"], "scope": "openid profile",
    }  # fmt: skip

    done = flow("device", metadata).result(provider.person("caller09"))

    assert done["sub"]
    assert done["type"] == "bearer"


def test_rp_initiated_and_back_channel_logout(provider: Provider, flow: Callable[..., Flow]) -> None:
    port = free_port()
    metadata = {
        **WEB, "post_logout_redirect_uris": [BYE], "backchannel_logout_uri": f"http://127.0.0.1:{port}/told",
        "backchannel_logout_session_required": True,
    }  # fmt: skip

    done = flow("logout", metadata, port=port, bye=BYE).result(provider.person("caller10"))

    assert (done["typ"], done["sid"], done["sub"], done["nonce"]) == ("logout+jwt", True, True, False)
    assert done["event"] == ["http://schemas.openid.net/event/backchannel-logout"]
    assert (done["times"], done["refused"]) == (1, "invalid_grant")
