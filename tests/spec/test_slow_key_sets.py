"""A client whose keys come slowly makes nobody wait but itself: they are read while no transaction is open."""

import json
import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.servers.key_sets import SlowKeySet, publishing_slowly
from tests.servers.organisation import CLIENT_SECRET
from tests.servers.person import Page, Person
from tests.servers.service import Service

CALLBACK = "http://127.0.0.1:9971/callback"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def registered(service: Service, key_set: SlowKeySet, **more: Any) -> str:
    """Register a client with these keys and return its name."""
    name = f"slow-{secrets.token_hex(4)}"
    item = {
        "client_id": name, "redirect_uris": [CALLBACK], "scope": "openid", "trusted": True,
        "jwks_uri": key_set.url, "grant_types": ["authorization_code"], **more,
    }  # fmt: skip
    file = service.folder / f"{name}.json"
    file.write_text(json.dumps([item]))
    service.manage("client", "apply", str(file))
    return name


def while_keys_are_read(key_set: SlowKeySet, waiting: "Future[Any]", act: Any) -> Any:
    """Do something while the service waits for the keys, let them come, and fail if it was done only afterwards."""
    assert key_set.asked.wait(10), waiting.result(timeout=5).text
    done = act()
    key_set.released.set()
    waiting.result(timeout=20)
    assert key_set.was_released, "what was done meanwhile had to wait until the keys had come"
    return done


def test_f15_request_that_waits_for_keys_holds_up_no_other_that_writes(service: Service) -> None:
    key = ECKey.generate_key("P-256", {"kid": "k1", "alg": "ES256", "use": "sig"})
    with publishing_slowly(key.as_dict(private=False)) as key_set, ThreadPoolExecutor(1) as pool:
        client = registered(service, key_set, token_endpoint_auth_method="private_key_jwt")
        now = int(time.time())
        claims = {
            "iss": client, "sub": client, "aud": service.issuer, "iat": now, "exp": now + 60,
            "jti": secrets.token_hex(8),
        }  # fmt: skip
        form = {
            "token": "nothing", "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": jwt.encode({"alg": "ES256", "kid": "k1"}, claims, key),
        }  # fmt: skip
        waiting = pool.submit(requests.post, f"{service.issuer}/revoke", data=form, timeout=30)

        answer = while_keys_are_read(
            key_set,
            waiting,
            lambda: requests.post(
                f"{service.issuer}/token", auth=("test-web", CLIENT_SECRET), timeout=30,
                data={"grant_type": "authorization_code", "code": "unknown", "code_verifier": "v" * 43,
                      "redirect_uri": CALLBACK},
            ),
        )  # fmt: skip

    assert answer.json()["error"] == "invalid_grant"
    assert waiting.result().status_code == 200, waiting.result().text


@pytest.mark.parametrize(("login", "signs_out"), [("plain25", True), ("plain26", False)])
def test_f17_session_can_end_while_the_key_for_its_id_token_is_read(
    service: Service, login: str, *, signs_out: bool
) -> None:
    key = ECKey.generate_key("P-256", {"kid": "e1", "alg": "ECDH-ES", "use": "enc"})
    person = Person(service.issuer, login)
    with publishing_slowly(key.as_dict(private=False)) as key_set, ThreadPoolExecutor(1) as pool:
        client = registered(
            service, key_set, client_secret=CLIENT_SECRET, id_token_encrypted_response_alg="ECDH-ES"
        )
        code = person.sign_in(person.request(client, CALLBACK, scope="openid"))["code"]
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": person.verifier,
        }  # fmt: skip
        waiting = pool.submit(
            requests.post, f"{service.issuer}/token", auth=(client, CLIENT_SECRET), data=form, timeout=30
        )

        while_keys_are_read(key_set, waiting, lambda: sign_out(person) if signs_out else None)

    answer = waiting.result()
    if signs_out:  # the exchange ran anew, and found that the session had ended
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    else:  # what was undone had not used the code up
        assert answer.status_code == 200, answer.text
        assert answer.json()["id_token"].count(".") == 4


def sign_out(person: Person) -> None:
    asked = person.open(person.issuer + "/sign-out")
    assert isinstance(asked, Page)
    person.submit(asked, "to")


def test_document_of_a_sector_is_read_before_anything_is_locked(service: Service) -> None:
    with publishing_slowly() as document, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_refused_registration, service, document)

        assert document.asked.wait(30)
        answer = requests.post(
            f"{service.issuer}/token", auth=("test-web", CLIENT_SECRET), timeout=30,
            data={"grant_type": "authorization_code", "code": "unknown", "code_verifier": "v" * 43,
                  "redirect_uri": CALLBACK},
        )  # fmt: skip
        document.released.set()
        said = waiting.result(timeout=60)

    assert document.was_released, "a request had to wait until the document had come"
    assert answer.json()["error"] == "invalid_grant"
    assert "sector_identifier_uri" in said


def _refused_registration(service: Service, document: SlowKeySet) -> str:
    item = {
        "client_id": "in-sector", "client_secret": CLIENT_SECRET, "redirect_uris": ["https://sector.example/cb"],
        "scope": "openid", "subject_type": "pairwise", "sector_identifier_uri": document.url,
    }  # fmt: skip
    file = service.folder / "sector.json"
    file.write_text(json.dumps([item]))
    return service.manage("client", "apply", str(file), check=False).stderr
