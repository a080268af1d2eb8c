"""Nonces, the memory of used proofs, and certificates as proxies hand them on."""

import base64
import threading
import time
from urllib.parse import quote

import pytest

from deploy.resource_server import Challenge, MemoryReplayStore, Nonces, read_certificate
from deploy.resource_server.proofs import normal_address

from .issuer import NOW, URL, Holder, Issuer

KEY = b"n" * 32


def test_nonce_is_asked_for_and_then_taken() -> None:
    issuer, holder = Issuer(), Holder()
    verifier = issuer.verifier(nonces=Nonces(KEY))
    token = issuer.token(cnf={"jkt": holder.jkt})
    with pytest.raises(Challenge) as caught:
        verifier.verify(f"DPoP {token}", "GET", URL, holder.proof(token))

    refusal = caught.value
    assert (refusal.status, refusal.error) == (401, "use_dpop_nonce")
    nonce = dict(refusal.headers)["DPoP-Nonce"]
    assert verifier.verify(f"DPoP {token}", "GET", URL, holder.proof(token, nonce=nonce))


@pytest.mark.parametrize(
    "nonce",
    [
        "",
        "x",
        "A" * 32,
        "é",
        Nonces(b"o" * 32).issue(NOW),
        Nonces(KEY).issue(NOW - 301),
        Nonces(KEY).issue(NOW + 5),
    ],
)
def test_nonce_that_is_not_ours_or_too_old_is_refused(nonce: str) -> None:
    assert not Nonces(KEY).accepts(nonce, NOW)


def test_nonce_is_good_in_every_process_that_shares_the_key() -> None:
    assert Nonces(KEY).accepts(Nonces(KEY).issue(NOW), NOW + 300)


def test_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        Nonces(b"short")


def test_identifier_is_used_once_by_fifty_threads() -> None:
    store, won = MemoryReplayStore(), []
    barrier = threading.Barrier(50)

    def use() -> None:
        barrier.wait()
        won.append(store.use("jti", 60))

    crew = [threading.Thread(target=use) for _ in range(50)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()

    assert sorted(won) == [False] * 49 + [True]


def test_identifier_is_free_again_after_its_time() -> None:
    store = MemoryReplayStore()
    assert store.use("jti", 0.05)
    assert not store.use("jti", 60)
    time.sleep(0.06)
    assert store.use("jti", 60)


def test_full_memory_takes_no_more_and_forgets_nothing() -> None:
    store = MemoryReplayStore(3)
    assert [store.use(name, 60) for name in ("a", "b", "c", "d", "a")] == [True, True, True, False, False]
    short = MemoryReplayStore(2)
    assert [short.use(name, 0.02) for name in ("a", "b")] == [True, True]
    time.sleep(0.03)
    assert short.use("c", 60)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example/x", "https://A.EXAMPLE:443/x?q#f", True),
        ("https://a.example", "https://a.example/", True),
        ("https://a.example/%7ex", "https://a.example/~x", True),
        ("https://a.example/%c3", "https://a.example/%C3", True),
        ("https://a.example/%2F", "https://a.example//", False),
        ("https://a.example/x", "https://a.example:444/x", False),
        ("https://a.example/x", "http://a.example/x", False),
        ("https://a.example/x", "https://a.example/X", False),
        ("http://[::1]:80/x", "http://[::1]/x", True),
    ],
)
def test_addresses_are_compared_in_normal_form(one: str, other: str, same: bool) -> None:
    assert (normal_address(one) == normal_address(other)) is same


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/x",
        "a.example/x",
        "ftp://a.example/",
        "https://",
        "https://u@a.example/",
        "https://a:99999/",
        "https://[x/",
        "https://a/" + "x" * 5_000,
    ],
)
def test_what_is_no_address_is_nothing(url: str) -> None:
    assert normal_address(url) == ""


PEM = (
    "-----BEGIN CERTIFICATE-----\n" + base64.b64encode(b"der" * 30).decode() + "\n-----END CERTIFICATE-----\n"
)


@pytest.mark.parametrize(
    "text", [f":{base64.b64encode(b'der' * 30).decode()}:", quote(PEM), PEM, PEM.replace("\n", " ").strip()]
)
def test_certificate_is_read_as_proxies_write_it(text: str) -> None:
    assert read_certificate(text) == b"der" * 30


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", ":", ":!:", ":é:", "-----BEGIN CERTIFICATE-----", PEM + PEM, ":" + "A" * 20_000 + ":"],
)
def test_what_is_no_certificate_is_none(text: str) -> None:
    assert read_certificate(text) == b""
