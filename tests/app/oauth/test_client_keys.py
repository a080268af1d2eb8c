"""Keys that clients publish: read when needed, never in a storm, and from real addresses through the guarded client."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from iam.oauth import client_keys
from iam.oauth.client_keys import (
    ADDRESSES_MAX,
    COOL_DOWN_SECONDS,
    REFRESH_SECONDS,
    STALE_SECONDS,
    KeySets,
    KeysNeeded,
)
from iam.oauth.clients import apply_all
from iam.oauth.outbound import Refused
from iam.oauth.protocol.jose import Key

from .conftest import World
from .test_client_authentication import SIGNER, asserted, assertion, error_of, new_key

ADDRESS = "https://app.example/jwks"
A, B = new_key("a"), new_key("b")


class Publisher:
    """An address at which a client publishes keys: what it answers, how often it was asked, and what time it is."""

    def __init__(self, *keys: Key) -> None:
        self.answer: Any = {"keys": [key.jwk() for key in keys]}
        self.asked = 0
        self.now = 1000.0
        self.wait: threading.Event | None = None
        self.sets = KeySets(self.fetch, lambda: self.now)

    def fetch(self, address: str) -> Any:
        self.asked += 1
        if self.wait:
            self.wait.wait(5)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def publish(self, *keys: Key) -> None:
        self.answer = {"keys": [key.jwk() for key in keys]}

    def kids(self, kid: str = "") -> list[str]:
        return [str(key["kid"]) for key in self.sets.keys(ADDRESS, kid)]

    def settle(self) -> None:
        """Wait until what is read beside has been read."""
        with self.sets._entry(ADDRESS).lock:
            pass


def settled(publisher: Publisher, asked: int) -> None:
    deadline = time.monotonic() + 5
    while publisher.asked < asked and time.monotonic() < deadline:
        time.sleep(0.01)
    publisher.settle()


def test_keys_are_read_once_and_remembered():
    publisher = Publisher(A)

    assert [publisher.kids() for _ in range(100)] == [["a"]] * 100
    assert publisher.asked == 1


def test_keys_at_hand_are_never_waited_for():
    publisher = Publisher(A)

    with pytest.raises(KeysNeeded, match=ADDRESS):
        publisher.sets.at_hand(ADDRESS, "a")
    assert (publisher.sets.known(ADDRESS, "a"), publisher.asked) == ((), 0)

    publisher.kids()
    assert len(publisher.sets.at_hand(ADDRESS, "a")) == 1
    assert len(publisher.sets.at_hand(ADDRESS, "unknown")) == 1  # just read: nothing new can be expected
    publisher.now += COOL_DOWN_SECONDS
    with pytest.raises(KeysNeeded):
        publisher.sets.at_hand(ADDRESS, "unknown")
    assert len(publisher.sets.known(ADDRESS, "unknown")) == 1
    publisher.now += STALE_SECONDS
    assert publisher.sets.known(ADDRESS, "a") == ()
    assert publisher.asked == 1


def test_keys_that_are_being_read_are_not_at_hand():
    publisher = Publisher(A)
    publisher.wait = threading.Event()
    reading = threading.Thread(target=publisher.kids)
    reading.start()
    while not publisher.asked:
        time.sleep(0.01)

    with pytest.raises(KeysNeeded):
        publisher.sets.at_hand(ADDRESS, "a")

    publisher.wait.set()
    reading.join()
    assert len(publisher.sets.at_hand(ADDRESS, "a")) == 1


def test_keys_that_are_old_are_used_and_read_again_beside():
    publisher = Publisher(A)
    publisher.kids()
    publisher.publish(B)
    publisher.now += REFRESH_SECONDS

    assert publisher.kids() == ["a"]
    settled(publisher, 2)
    assert publisher.kids() == ["b"]
    assert publisher.asked == 2


@pytest.mark.spec("OIDC Core", "10.1.1", "a kid that is not known makes the set be read again")
def test_unknown_kid_is_looked_for_at_once_when_the_last_time_is_long_ago():
    publisher = Publisher(A)
    publisher.kids("a")
    publisher.publish(A, B)
    publisher.now += COOL_DOWN_SECONDS

    assert publisher.kids("b") == ["a", "b"]
    assert publisher.asked == 2


def test_a65_unknown_kids_make_no_storm():
    publisher = Publisher(A)
    publisher.kids("a")

    for number in range(1000):
        publisher.now += COOL_DOWN_SECONDS / 100
        assert publisher.kids(f"unknown-{number}") == ["a"]

    assert publisher.asked in {10, 11}


def test_a65_failures_make_no_storm():
    publisher = Publisher()
    publisher.answer = Refused("timeout", "Late.")

    for _ in range(1000):
        publisher.now += COOL_DOWN_SECONDS / 100
        assert publisher.kids("a") == []

    assert publisher.asked in {10, 11}


def test_a65_many_at_once_are_one_call():
    publisher = Publisher(A)
    publisher.wait = threading.Event()
    found: list[list[str]] = []
    crew = [threading.Thread(target=lambda: found.append(publisher.kids("a"))) for _ in range(30)]
    for thread in crew:
        thread.start()
    time.sleep(0.1)
    publisher.wait.set()
    for thread in crew:
        thread.join(5)

    assert found == [["a"]] * 30
    assert publisher.asked == 1


def test_known_key_does_not_wait_for_what_is_read_beside():
    publisher = Publisher(A)
    publisher.kids()
    publisher.now += REFRESH_SECONDS
    publisher.wait = threading.Event()
    begun = time.monotonic()

    assert publisher.kids("a") == ["a"]
    assert publisher.kids("a") == ["a"]

    assert time.monotonic() - begun < 1
    publisher.wait.set()
    settled(publisher, 2)
    assert publisher.asked == 2


@pytest.mark.parametrize(
    "answer",
    [
        Refused("timeout", "Late."), Refused("status", "500."), None, [], "keys", {"keys": []}, {"keys": "x"},
        {"keys": [{"kty": "oct", "k": "AAAA"}]}, {"keys": [{"kty": "EC"}] * 21}, {"keys": [{**A.jwk(), "d": "AAAA"}]},
    ],
    ids=range(10),
)  # fmt: skip
def test_keys_that_cannot_be_read_again_count_for_a_bounded_time(answer: Any):
    publisher = Publisher(A)
    publisher.kids()
    publisher.answer = answer

    publisher.now += STALE_SECONDS - 1
    assert publisher.kids("a") == ["a"]
    settled(publisher, 2)
    publisher.now += COOL_DOWN_SECONDS
    assert publisher.kids("a") == []
    publisher.publish(B)
    publisher.now += COOL_DOWN_SECONDS
    assert publisher.kids("b") == ["b"]


def test_key_without_a_name_is_found_under_any():
    publisher = Publisher()
    nameless = {name: value for name, value in A.jwk().items() if name != "kid"}
    publisher.answer = {"keys": [nameless]}

    assert publisher.sets.keys(ADDRESS, "whatever") == (nameless,)
    assert publisher.sets.keys(ADDRESS, "") == (nameless,)
    assert publisher.asked == 1


def test_addresses_are_bounded_and_the_oldest_is_forgotten():
    publisher = Publisher(A)
    for number in range(ADDRESSES_MAX + 10):
        publisher.now += 1
        publisher.sets.keys(f"https://app.example/{number}", "a")
    asked = publisher.asked

    publisher.sets.keys(f"https://app.example/{ADDRESSES_MAX + 9}", "a")
    assert publisher.asked == asked
    publisher.sets.keys("https://app.example/0", "a")
    assert publisher.asked == asked + 1
    publisher.sets.forget()
    publisher.sets.keys(f"https://app.example/{ADDRESSES_MAX + 9}", "a")
    assert publisher.asked == asked + 2


# -- through the whole engine, at a real address -----------------------------------------------------------------


@pytest.fixture
def published(world: World, settings: Any) -> Iterator[tuple[World, Publisher]]:
    """A client whose keys are at an address of this machine."""

    publisher = Publisher(A)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            publisher.asked += 1
            body = json.dumps(publisher.answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.IAM_OUTBOUND_ALLOW = (f"http://127.0.0.1:{server.server_port}", "127.0.0.0/8")
    client = {name: value for name, value in SIGNER.items() if name != "jwks"}
    apply_all(
        [{**client, "jwks_uri": f"http://127.0.0.1:{server.server_port}/jwks"}], world.now, "system:test"
    )
    client_keys.forget()
    yield world, publisher
    server.shutdown()
    server.server_close()
    client_keys.forget()


def test_assertion_with_a_published_key_gives_a_token_and_a_new_key_is_found(
    published: tuple[World, Publisher], monkeypatch: pytest.MonkeyPatch
):
    world, publisher = published
    monkeypatch.setattr(client_keys, "COOL_DOWN_SECONDS", 0.0)

    assert asserted(world, assertion(world, key=A)).status == 200
    assert asserted(world, assertion(world, key=A)).status == 200
    assert publisher.asked == 1
    assert error_of(asserted(world, assertion(world, key=B))) == "invalid_client"
    publisher.publish(A, B)
    assert asserted(world, assertion(world, key=B)).status == 200
    assert asserted(world, assertion(world, key=A)).status == 200


def test_a65_assertion_that_could_not_count_anyway_fetches_nothing(published: tuple[World, Publisher]):
    world, publisher = published
    good: dict[str, Any] = {"key": new_key("unknown")}
    for changes in ({"aud": "https://other.example"}, {"exp": 1}, {"jti": ""}, {"iss": "other"}):
        assert error_of(asserted(world, assertion(world, **good, **changes))) == "invalid_client"

    assert publisher.asked == 0


def test_assertion_whose_keys_cannot_be_had_is_refused_without_a_word_of_why(
    published: tuple[World, Publisher], settings: Any
):
    world, _ = published
    settings.IAM_OUTBOUND_ALLOW = ()

    response = asserted(world, assertion(world, key=A))

    assert error_of(response) == "invalid_client"
    assert b"wrong client authentication" in response.body
