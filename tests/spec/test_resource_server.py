"""The resource servers' helper against the running service: tokens of every kind that it makes, over HTTP."""

import base64
import json
import re
import secrets
import time
from typing import Any

import pytest
import requests

from deploy.resource_server import Challenge, Needs, Verifier
from tests.servers.organisation import CLIENT_SECRET
from tests.servers.person import Person
from tests.servers.service import Service
from tests.unit.resource_server.issuer import Holder

RESOURCE = "http://localhost:9999/api"
URL = RESOURCE + "/things"
WEB = ("test-web", CLIENT_SECRET)


@pytest.fixture(scope="module")
def verifier(service: Service) -> Verifier:
    return Verifier(service.issuer, "test-resource", RESOURCE)


@pytest.fixture(scope="module")
def tokens(service: Service) -> dict[str, Any]:
    person = Person(service.issuer, "crowd07")
    return person.tokens(person.sign_in(person.request(scope="openid profile roles demo.read")))


def token_for(
    service: Service, auth: tuple[str, str] = ("test-service", CLIENT_SECRET), **more: Any
) -> requests.Response:
    headers = more.pop("headers", {})
    return requests.post(f"{service.issuer}/token", data=more, auth=auth, headers=headers, timeout=20)


def machine(service: Service) -> str:
    return str(token_for(service, grant_type="client_credentials", scope="demo.read").json()["access_token"])


def refused(verifier: Verifier, token: str, scheme: str = "Bearer", **more: Any) -> Challenge:
    with pytest.raises(Challenge) as caught:
        verifier.verify(f"{scheme} {token}", "GET", URL, **more)
    return caught.value


def test_persons_token_says_who_where_how_and_when(verifier: Verifier, tokens: dict[str, Any]) -> None:
    token = verifier.verify(
        f"Bearer {tokens['access_token']}", "GET", URL,
        needs=Needs(scopes=("demo.read",), acr="aal2", max_age=300, role="staff", office="GVA", person=True),
    )  # fmt: skip

    assert (token.client_id, token.office, token.acr) == ("test-web", "GVA", "aal2")
    assert token.roles == {"staff"}
    assert token.has_role("staff", "GVA")
    assert not token.has_role("staff", "NIM", above=("GS",))


def test_machines_token_is_no_person(service: Service, verifier: Verifier) -> None:
    token = verifier.verify(f"Bearer {machine(service)}", "GET", URL, needs=Needs(scopes=("demo.read",)))

    assert (token.subject, token.is_person, token.access) == ("test-service", False, ())
    assert refused(verifier, machine(service), needs=Needs(person=True)).status == 403


@pytest.mark.spec("RFC 9470", "3", "a level that the sign-in did not have is asked for")
def test_level_that_nobody_has_is_a_challenge(verifier: Verifier, tokens: dict[str, Any]) -> None:
    refusal = refused(verifier, tokens["access_token"], needs=Needs(acr="phrh", max_age=600))

    [challenge] = [value for name, value in refusal.headers if name == "WWW-Authenticate"]
    assert refusal.error == "insufficient_user_authentication"
    assert 'acr_values="phrh"' in challenge
    assert 'max_age="600"' in challenge


@pytest.mark.spec(
    "RFC 9068", "4", "an ID token, a refresh token and a token for another audience are refused"
)
def test_a13_other_tokens_of_the_same_service_are_refused(
    service: Service, verifier: Verifier, tokens: dict[str, Any]
) -> None:
    for text in (tokens["id_token"], tokens["refresh_token"], "at_" + secrets.token_urlsafe(32)):
        assert refused(verifier, text).error == "invalid_token"
    person = Person(service.issuer, "crowd08")
    ours_only = person.tokens(person.sign_in())["access_token"]  # openid, profile, roles: for the issuer
    assert refused(verifier, ours_only).error == "invalid_token"
    elsewhere = Verifier(service.issuer, "test-web", RESOURCE)  # the client itself is no audience
    assert refused(elsewhere, tokens["access_token"]).error == "invalid_token"


def test_a13_token_of_another_issuer_is_refused(service: Service, tokens: dict[str, Any]) -> None:
    another = Verifier("https://signin.example", "test-resource", RESOURCE, jwks_uri=f"{service.issuer}/jwks")

    assert refused(another, tokens["access_token"]).error == "invalid_token"


def test_a11_no_change_of_a_real_token_is_accepted(verifier: Verifier, tokens: dict[str, Any]) -> None:
    head, body, tail = tokens["access_token"].split(".")
    decoded = json.loads(base64.urlsafe_b64decode(body + "=="))
    decoded["roles"] = ["finance.payer"]
    forged = base64.urlsafe_b64encode(json.dumps(decoded).encode()).rstrip(b"=").decode()
    for text in (
        f"{head}.{forged}.{tail}",
        f"{head}.{body}.{tail[::-1]}",
        f"{head}.{body}.",
        tokens["access_token"].upper(),
    ):
        assert refused(verifier, text).error == "invalid_token"


@pytest.mark.spec("RFC 9449", "7.1", "a token that the service bound to a key is used with its proof")
def test_bound_token_of_the_service_needs_its_proof(service: Service, verifier: Verifier) -> None:
    holder = Holder()
    address = f"{service.issuer}/token"

    now = time.time()
    answer = token_for(
        service, grant_type="client_credentials", scope="demo.read",
        headers={"DPoP": holder.proof("", now, "POST", address, ath=...)},
    )  # fmt: skip
    assert answer.json()["token_type"] == "DPoP", answer.text
    token = answer.json()["access_token"]

    proof = holder.proof(token, now, url=URL)
    assert verifier.verify(f"DPoP {token}", "GET", URL, proof).bound == ("dpop",)
    assert refused(verifier, token, "DPoP", dpop=proof).error == "invalid_dpop_proof"
    assert refused(verifier, token, dpop=holder.proof(token, now, url=URL)).error == "invalid_token"
    assert refused(verifier, token, "DPoP", dpop=Holder().proof(token, now, url=URL)).error == "invalid_token"
    stolen = holder.proof(token, now, url="http://localhost:9999/other")
    assert refused(verifier, token, "DPoP", dpop=stolen).error == "invalid_dpop_proof"


def test_keys_are_found_by_the_services_own_metadata_and_by_address(service: Service) -> None:
    token = machine(service)

    for more in ({}, {"jwks_uri": f"{service.issuer}/jwks"}):
        assert Verifier(service.issuer, "test-resource", RESOURCE, **more).verify(
            f"Bearer {token}", "GET", URL
        )


@pytest.mark.spec("RFC 9728", "5.1", "userinfo leads to its metadata over HTTP")
def test_userinfo_describes_itself(service: Service) -> None:
    answer = requests.get(f"{service.issuer}/userinfo", timeout=20)

    found = re.search(r'resource_metadata="([^"]+)"', answer.headers["WWW-Authenticate"])
    assert found
    described = requests.get(found[1], timeout=20)
    assert described.json()["resource"] == f"{service.issuer}/userinfo"
    assert described.json()["authorization_servers"] == [service.issuer]
    assert described.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.spec("RFC 7591", "3", "registration over HTTP, by invitation only")
def test_registered_client_signs_in_changes_itself_and_ends(service: Service) -> None:
    metadata = {
        "redirect_uris": ["http://127.0.0.1:9911/callback"],
        "client_name": "Wiki",
        "scope": "openid roles",
    }
    endpoint = requests.get(f"{service.issuer}/.well-known/openid-configuration", timeout=20).json()[
        "registration_endpoint"
    ]
    assert requests.post(endpoint, json=metadata, timeout=20).status_code == 401
    said = service.manage(
        "client", "invite", "wiki", "--application", "correspondence", "--scope", "openid roles"
    ).stdout
    invitation = re.findall(r"iat_[A-Za-z0-9_-]+", said)[0]

    made = requests.post(
        endpoint, json=metadata, headers={"Authorization": f"Bearer {invitation}"}, timeout=20
    )
    assert made.status_code == 201, made.text
    client = made.json()
    address = client["registration_client_uri"]
    assert address == f"{endpoint}/{client['client_id']}"
    own = {"Authorization": f"Bearer {client['registration_access_token']}"}
    assert requests.get(address, headers=own, timeout=20).json()["client_name"] == "Wiki"
    person = Person(service.issuer, "crowd09")
    page = person.go_on(
        person.open(person.request(client["client_id"], metadata["redirect_uris"][0], scope="openid roles")),
        "decision",
    )
    assert not isinstance(page, dict)
    # Nobody trusts it, so the person is asked; and it cannot choose what it is called there.
    assert "Correspondence asks for your" in page.text

    changed = requests.put(
        address,
        json={**metadata, "client_id": client["client_id"], "client_name": "Wiki 2"},
        headers=own,
        timeout=20,
    )
    assert changed.status_code == 200, changed.text
    assert requests.get(address, headers=own, timeout=20).status_code == 401
    renewed = {"Authorization": f"Bearer {changed.json()['registration_access_token']}"}
    assert requests.delete(address, headers=renewed, timeout=20).status_code == 204
    assert requests.get(address, headers=renewed, timeout=20).status_code == 401
    assert requests.post(address, headers=renewed, timeout=20).status_code == 405
    for path in ("/register/", "/register/a/b", "/register/%2e%2e/jwks"):
        assert requests.get(service.issuer + path, headers=renewed, timeout=20).status_code in {401, 404}
