"""Fifty requests at once over HTTP, into several worker processes: what counts once counts once (A07, A08, A15, A48).

Each of the fifty has a connection of its own, open before the first of them asks. A pushed request:
test_authorization_requests.py. The same inside the engine, with what the database holds after it: app/oauth/test_races.py.
"""

import base64
import http.client
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.proofs import Prover
from tests.servers.organisation import CLIENT_SECRET, DEVICE_CODE
from tests.servers.person import Page, Person
from tests.servers.service import Service

from .test_device_pages import begin, to_question

AT_ONCE = 50
BASIC = "Basic " + base64.b64encode(f"test-web:{CLIENT_SECRET}".encode()).decode()
MACHINE = "Basic " + base64.b64encode(f"test-service:{CLIENT_SECRET}".encode()).decode()
CALLBACK = "http://127.0.0.1:9900/callback"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
Outcome = Callable[[dict[str, Any]], str]


def granted(answer: dict[str, Any]) -> str:
    """Say what came of one request: the error, or that tokens came."""
    return str(answer.get("error") or "tokens")


class Crowd:
    """Fifty connections that send one and the same form at the same moment. `processes`: the workers that took them."""

    def __init__(self, service: Service) -> None:
        self.place = urlsplit(service.issuer).netloc
        self.port = urlsplit(service.issuer).port
        self.processes = 0
        self._barrier = threading.Barrier(AT_ONCE, action=self._count_processes)

    def post(self, form: dict[str, str], **headers: str) -> list[dict[str, Any]]:
        body = urlencode(form)
        headers = {"Content-Type": "application/x-www-form-urlencoded", **headers}

        def ask(_: int) -> dict[str, Any]:
            connection = http.client.HTTPConnection(self.place, timeout=60)
            connection.connect()
            self._barrier.wait(timeout=30)
            try:
                connection.request("POST", "/token", body, headers)
                return dict(json.loads(connection.getresponse().read()))
            finally:
                connection.close()

        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(ask, range(AT_ONCE)))
        assert self.processes > 1, "all connections came to one process: nothing was raced between processes"
        return answers

    def _count_processes(self) -> None:
        """Count the processes that hold our connections, as the kernel lists them."""
        deadline = time.monotonic() + 5
        while self.processes < 2 and time.monotonic() < deadline:
            self.processes = len(holders(connections_to(self.port or 0)))
            time.sleep(0.05)


def connections_to(port: int) -> set[str]:
    """Return the socket numbers of every established connection at the service's side."""
    found = set()
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[3] == "01" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def holders(sockets: set[str]) -> set[str]:
    """Return the processes that hold any of these sockets."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) in sockets:
                found.add(link.parts[2])
        except OSError:  # gone in the meantime, or not ours to look at
            continue
    return found


def post(service: Service, form: dict[str, str], **headers: str) -> dict[str, Any]:
    return dict(requests.post(f"{service.issuer}/token", data=form, headers=headers, timeout=20).json())


def refreshed(service: Service, token: str) -> dict[str, Any]:
    return post(service, {"grant_type": "refresh_token", "refresh_token": token}, Authorization=BASIC)


def one_won(answers: list[dict[str, Any]], refusal: str) -> dict[str, Any]:
    """Return the one answer that gave tokens; all others were refused so."""
    assert Counter(map(granted, answers)) == {"tokens": 1, refusal: AT_ONCE - 1}
    return next(answer for answer in answers if "error" not in answer)


@pytest.mark.spec("RFC 6749", "4.1.2", "a code sent fifty times at once over HTTP is used once, and revokes")
def test_a07_code_sent_fifty_times_at_once_gives_tokens_once_and_ends_them(service: Service) -> None:
    person = Person(service.issuer, "crowd27")
    code = person.sign_in()["code"]
    form = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": person.verifier
    }  # fmt: skip

    won = one_won(Crowd(service).post(form, Authorization=BASIC), "invalid_grant")

    assert granted(post(service, form, Authorization=BASIC)) == "invalid_grant"
    assert granted(refreshed(service, won["refresh_token"])) == "invalid_grant"
    bearer = {"Authorization": f"Bearer {won['access_token']}"}
    assert requests.get(f"{service.issuer}/userinfo", headers=bearer, timeout=20).status_code == 401


def test_a07_code_replayed_after_the_race_ends_the_family(service: Service) -> None:
    """One honest exchange, then fifty thieves: none gets anything, and what the honest one got is over."""
    person = Person(service.issuer, "crowd28")
    answer = person.sign_in()
    honest = person.tokens(answer)
    form = {
        "grant_type": "authorization_code", "code": answer["code"], "redirect_uri": CALLBACK,
        "code_verifier": person.verifier
    }  # fmt: skip

    answers = Crowd(service).post(form, Authorization=BASIC)

    assert Counter(map(granted, answers)) == {"invalid_grant": AT_ONCE}
    assert granted(refreshed(service, honest["refresh_token"])) == "invalid_grant"


@pytest.mark.spec(
    "RFC 8628", "3.4", "a device code sent fifty times at once over HTTP is used once, and revokes"
)
def test_a48_device_code_sent_fifty_times_at_once_gives_tokens_once_and_ends_them(service: Service) -> None:
    begun, person = begin(service), Person(service.issuer, "crowd29")
    page = person.submit(to_question(person, begun), "consent", decision="let_in")
    assert isinstance(page, Page)
    form = {"grant_type": DEVICE_CODE, "device_code": begun["device_code"], "client_id": "test-device"}

    won = one_won(Crowd(service).post(form), "invalid_grant")

    assert granted(post(service, form)) == "invalid_grant"
    refresh = {
        "grant_type": "refresh_token",
        "refresh_token": won["refresh_token"],
        "client_id": "test-device",
    }
    assert granted(post(service, refresh)) == "invalid_grant"


@pytest.mark.spec("RFC 7523", "3", "an assertion sent fifty times at once over HTTP proves its client once")
def test_a11_client_assertion_sent_fifty_times_at_once_counts_once(service: Service) -> None:
    key, name = ECKey.generate_key("P-256", {"kid": "race"}, private=True), f"race-{secrets.token_hex(4)}"
    item = {
        "client_id": name, "token_endpoint_auth_method": "private_key_jwt", "grant_types": ["client_credentials"],
        "jwks": {"keys": [key.as_dict(private=False)]}, "scope": "demo.read", "trusted": True,
    }  # fmt: skip
    file = service.folder / f"{name}.json"
    file.write_text(json.dumps([item]))
    service.manage("client", "apply", str(file))
    now = int(time.time())
    claims = {"iss": name, "sub": name, "aud": service.issuer, "iat": now, "exp": now + 60, "jti": "once"}
    assertion = jwt.encode({"alg": "ES256", "kid": "race"}, claims, key)
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }

    one_won(Crowd(service).post(form), "invalid_client")

    assert granted(post(service, form)) == "invalid_client"


@pytest.mark.spec("RFC 9449", "11.1", "a proof sent fifty times at once over HTTP is accepted once")
def test_a15_dpop_proof_sent_fifty_times_at_once_counts_once(service: Service) -> None:
    proof = Prover().proof("POST", f"{service.issuer}/token", datetime.now(UTC))
    form = {"grant_type": "client_credentials"}

    won = one_won(Crowd(service).post(form, Authorization=MACHINE, DPoP=proof), "invalid_dpop_proof")

    assert won["token_type"] == "DPoP"
    again = requests.post(
        f"{service.issuer}/token", data=form, headers={"Authorization": MACHINE, "DPoP": proof}, timeout=20
    )
    assert granted(again.json()) == "invalid_dpop_proof"


@pytest.mark.spec("RFC 9700", "4.14.2", "fifty refreshes at once over HTTP all get the one successor")
def test_a15_refresh_token_sent_fifty_times_at_once_has_one_successor_and_the_family_lives(
    service: Service,
) -> None:
    person = Person(service.issuer, "crowd30")
    first = person.tokens(person.sign_in())["refresh_token"]
    form = {
        "grant_type": "refresh_token", "refresh_token": first
    }  # fmt: skip

    answers = Crowd(service).post(form, Authorization=BASIC)

    assert Counter(map(granted, answers)) == {"tokens": AT_ONCE}
    (successor,) = {answer["refresh_token"] for answer in answers}
    following = refreshed(service, successor)
    assert granted(following) == "tokens"
    assert granted(refreshed(service, first)) == "invalid_grant"
    assert granted(refreshed(service, following["refresh_token"])) == "invalid_grant"
