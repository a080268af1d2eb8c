"""What is measured: one function an operation. It prepares what must not be counted and returns one step.

A step sends its requests over one persistent connection and looks at every answer: a fast refusal is no success.
"""

import base64
import hashlib
import itertools
import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pyotp

from iam.oauth.protocol.client_auth import ASSERTION_TYPE
from tests.bench.connection import Answer, Connection, Refused
from tests.bench.world import PASSWORD, REDIRECT, SCOPE, SECRET, BenchPerson, World, client_key
from tests.proofs import Prover

Step = Callable[[], None]

_VERIFIER = "v" * 43
_CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(_VERIFIER.encode()).digest()).rstrip(b"=").decode()
_AUTHORIZE = "/authorize?" + urlencode(
    {
        "client_id": "bench-web", "redirect_uri": REDIRECT, "response_type": "code", "scope": SCOPE, "state": "st",
        "nonce": "no", "code_challenge": _CHALLENGE, "code_challenge_method": "S256",
    }
)  # fmt: skip
_PAGES_MAX = 12  # of one sign-in; it takes about half


class Exhausted(Exception):
    """What can be used once was used: the run ends here, and is not wrong."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the connections of one run share; `repeat` is the number of this run among `repeats`."""

    world: World
    connections: int
    repeat: int
    repeats: int
    seconds: float
    codes: deque[str] = field(default_factory=deque)

    def share(self, people: tuple[BenchPerson, ...], connection: Connection) -> tuple[BenchPerson, ...]:
        """Return one connection's share of some people."""
        return people[connection.number :: self.connections]


# -- what answers from memory ---------------------------------------------------------------------------------


def discovery(setting: Setting, connection: Connection) -> Step:
    """Read the metadata."""

    def step() -> None:
        answer = connection.get("/.well-known/openid-configuration").expect(200)
        _require(_json(answer)["issuer"] == setting.world.issuer, answer, "another issuer")

    return step


def jwks(setting: Setting, connection: Connection) -> Step:
    """Read the public keys."""

    def step() -> None:
        answer = connection.get("/jwks").expect(200)
        _require(len(_json(answer)["keys"]) >= 2, answer, "fewer than two keys")

    return step


# -- machines -------------------------------------------------------------------------------------------------


def client_credentials(setting: Setting, connection: Connection) -> Step:
    """Get a token for a client itself."""
    form, headers = {"grant_type": "client_credentials", "scope": "demo.read"}, _basic("bench-service")

    def step() -> None:
        answer = connection.post("/token", form, headers).expect(200)
        _require(_json(answer)["access_token"].count(".") == 2, answer, "no signed access token")

    return step


def assertion_credentials(setting: Setting, connection: Connection) -> Step:
    """Get a token for a client that proves itself with an assertion, a new one each time."""
    key, address = client_key(), f"{setting.world.issuer}/token"
    form = {"grant_type": "client_credentials", "scope": "demo.read", "client_assertion_type": ASSERTION_TYPE}

    def step() -> None:
        now = int(time.time())
        claims = {
            "iss": "bench-signer", "sub": "bench-signer", "aud": address, "iat": now, "exp": now + 60, "jti": secrets.token_urlsafe(16),
        }  # fmt: skip
        answer = connection.post("/token", {**form, "client_assertion": key.sign("JWT", claims)}).expect(200)
        _require(_json(answer)["access_token"].count(".") == 2, answer, "no signed access token")

    return step


def proved_credentials(setting: Setting, connection: Connection) -> Step:
    """Get a token that is bound to a key, with a new DPoP proof each time."""
    prover, address = Prover(client_key()), f"{setting.world.issuer}/token"
    form, headers = {"grant_type": "client_credentials", "scope": "demo.read"}, _basic("bench-service")

    def step() -> None:
        proof = prover.proof("POST", address, datetime.now(UTC))
        answer = connection.post("/token", form, f"{headers}DPoP: {proof}\r\n").expect(200)
        _require(_json(answer)["token_type"] == "DPoP", answer, "an unbound token")

    return step


def introspection_unseen(setting: Setting, connection: Connection) -> Step:
    """Ask, as a resource server, what tokens are worth that were made before, each once."""
    form, service, headers = (
        {"grant_type": "client_credentials", "scope": "demo.read"},
        _basic("bench-service"),
        _basic("bench-resource"),
    )
    ends, made = time.monotonic() + setting.seconds, []
    while time.monotonic() < ends:
        made.append(_json(connection.post("/token", form, service).expect(200))["access_token"])

    def step() -> None:
        if not made:
            raise Exhausted
        answer = connection.post("/introspect", {"token": made.pop()}, headers).expect(200)
        _require(_json(answer)["active"] is True, answer, "an inactive token")

    return step


def introspection(setting: Setting, connection: Connection) -> Step:
    """Ask, as a resource server, what a person's token is worth, again and again the same one."""
    person = setting.share(setting.world.signed_in, connection)[0]
    form, headers = {"token": _tokens(setting, connection, person)["access_token"]}, _basic("bench-resource")

    def step() -> None:
        answer = connection.post("/introspect", form, headers).expect(200)
        said = _json(answer)
        _require(
            said["active"] is True and "staff" in said["roles"], answer, "an inactive token, or no roles"
        )

    return step


def pushed_request(setting: Setting, connection: Connection) -> Step:
    """Push an authorization request."""
    form, headers = dict(parse_qsl(urlsplit(_AUTHORIZE).query)), _basic("bench-web")

    def step() -> None:
        answer = connection.post("/par", form, headers).expect(201)
        _require(_json(answer)["request_uri"].startswith("urn:ietf:"), answer, "no request_uri")

    return step


# -- a person's tokens ------------------------------------------------------------------------------------------


def userinfo(setting: Setting, connection: Connection) -> Step:
    """Ask who a person is, again and again with the same token."""
    person = setting.share(setting.world.signed_in, connection)[0]
    headers = f"Authorization: Bearer {_tokens(setting, connection, person)['access_token']}\r\n"

    def step() -> None:
        answer = connection.get("/userinfo", headers).expect(200)
        _require(_json(answer)["preferred_username"] == person.login, answer, "another person")

    return step


def refresh(setting: Setting, connection: Connection) -> Step:
    """Rotate a refresh token, each time the one that was got before."""
    person = setting.share(setting.world.signed_in, connection)[0]
    token, headers = _tokens(setting, connection, person)["refresh_token"], _basic("bench-web")

    def step() -> None:
        nonlocal token
        form = {"grant_type": "refresh_token", "refresh_token": token}
        answer = connection.post("/token", form, headers).expect(200)
        said = _json(answer)
        _require(said["refresh_token"] != token and "id_token" in said, answer, "no new tokens")
        token = said["refresh_token"]

    return step


def code_exchange(setting: Setting, connection: Connection) -> Step:
    """Exchange codes that were made before, each once."""
    people = itertools.cycle(setting.share(setting.world.signed_in, connection))
    ends = time.monotonic() + setting.seconds
    while time.monotonic() < ends:
        setting.codes.append(_code(setting, connection, next(people)))

    def step() -> None:
        try:
            code = setting.codes.popleft()
        except IndexError:
            raise Exhausted from None
        _exchange(connection, code)

    return step


def whole_round(setting: Setting, connection: Connection) -> Step:
    """Open an application while signed in: authorize, code, tokens."""
    people = itertools.cycle(setting.share(setting.world.signed_in, connection))

    def step() -> None:
        _tokens(setting, connection, next(people))

    return step


def sign_in(setting: Setting, connection: Connection) -> Step:
    """Sign in through the pages: name, password by a bind at the directory, a TOTP code; then code and tokens.

    Each person once in all runs, because a step of a TOTP counts once.
    """
    people = iter(setting.share(setting.world.signed_out[setting.repeat :: setting.repeats], connection))

    def step() -> None:
        person = next(people, None)
        if person is None:
            raise Exhausted
        connection.cookies.clear()
        values = {"username": person.login, "password": PASSWORD}
        answer = connection.get(_AUTHORIZE)
        for _ in range(_PAGES_MAX):
            if answer.status == 303:
                location = answer.header("location")
                if location.startswith(REDIRECT):
                    connection.cookies.clear()  # the application is not the browser
                    _exchange(connection, _code_of(answer))
                    return
                answer = connection.get(location.removeprefix(setting.world.issuer))
                continue
            page = Page(answer.expect(200))
            code = pyotp.TOTP(person.totp_secret).now()
            action, fields = page.filled({**values, "code": code})
            headers = f"Origin: {setting.world.issuer}\r\n"
            answer = connection.post(action or page.path, fields, headers)
        raise Refused(f"The sign-in did not end within {_PAGES_MAX} pages; the last was {answer.request}.")

    return step


OPERATIONS: Mapping[str, Callable[[Setting, Connection], Step]] = MappingProxyType(
    {
        "discovery": discovery,
        "jwks": jwks,
        "client-credentials": client_credentials,
        "assertion-credentials": assertion_credentials,
        "proved-credentials": proved_credentials,
        "introspection": introspection,
        "introspection-unseen": introspection_unseen,
        "pushed-request": pushed_request,
        "userinfo": userinfo,
        "refresh": refresh,
        "code-exchange": code_exchange,
        "whole-round": whole_round,
        "sign-in": sign_in,
    }
)


# -- requests that several operations send ------------------------------------------------------------------------


def _basic(client: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{client}:{SECRET}".encode()).decode() + "\r\n"


def _code(setting: Setting, connection: Connection, person: BenchPerson) -> str:
    return _code_of(connection.get(_AUTHORIZE, f"Cookie: {setting.world.cookie}={person.session}\r\n"))


def _code_of(answer: Answer) -> str:
    location = answer.expect(303).header("location")
    parameters = dict(parse_qsl(urlsplit(location).query))
    _require(location.startswith(REDIRECT) and "code" in parameters, answer, f"no code but {location[:120]}")
    return parameters["code"]


def _exchange(connection: Connection, code: str) -> dict[str, Any]:
    form = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": _VERIFIER,
    }  # fmt: skip
    answer = connection.post("/token", form, _basic("bench-web")).expect(200)
    said = _json(answer)
    _require({"access_token", "id_token", "refresh_token"} <= said.keys(), answer, "not all three tokens")
    return said


def _tokens(setting: Setting, connection: Connection, person: BenchPerson) -> dict[str, Any]:
    return _exchange(connection, _code(setting, connection, person))


def _json(answer: Answer) -> dict[str, Any]:
    return dict(json.loads(answer.body))


def _require(holds: bool, answer: Answer, otherwise: str) -> None:
    if not holds:
        raise Refused(f"{answer.request} answered {answer.status}, but with {otherwise}.")


class Page(HTMLParser):
    """The forms of a page, by the names of their fields."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.path = answer.request.partition(" ")[2]
        self._forms: list[tuple[str, dict[str, str]]] = []
        self.feed(answer.body.decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._forms.append((given.get("action", ""), {}))
        elif tag == "input" and self._forms and given.get("name"):
            self._forms[-1][1][given["name"]] = given.get("value", "")

    def filled(self, values: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Return address and fields of the form that asks for one of the values, with them filled in."""
        for action, fields in self._forms:
            asked = values.keys() & fields.keys()
            if asked:
                return action, {**fields, **{name: values[name] for name in asked}}
        raise Refused(f"{self.path}: no form of the page asks for name, password or code.")
