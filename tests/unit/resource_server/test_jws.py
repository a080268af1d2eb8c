"""Keys and signatures that a careless reader would take."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.resource_server import jws
from deploy.resource_server.jws import BadToken, check_signature, read_key, read_object, split
from iam.oauth.protocol.jose import encode_segment

from .issuer import new_key, raw, signed


def rsa_jwk(bits: int) -> dict[str, Any]:
    numbers = rsa.generate_private_key(65537, bits).public_key().public_numbers()
    return {"kty": "RSA", "kid": "r", "n": encode_segment(numbers.n.to_bytes(bits // 8, "big")), "e": "AQAB"}


@pytest.mark.parametrize(
    "jwk",
    [
        rsa_jwk(1024), {**rsa_jwk(2048), "e": encode_segment(b"\x01" * 5)}, {**new_key().jwk(), "crv": "P-384"},
        {**new_key().jwk(), "y": encode_segment(b"\0" * 33)}, {**new_key("EdDSA").jwk(), "crv": "X25519"},
        {"kty": "oct", "k": "eA"}, {"kty": "oct"}, {"kty": "AKP"}, {"kty": None}, {}, [], None, "x",
        {**new_key().jwk(), "alg": "RS256"}, {**new_key().jwk(), "use": "enc"}, {**new_key().jwk(), "kid": 1},
    ],

)  # fmt: skip
def test_a11_key_that_is_weak_or_of_another_kind_is_refused(jwk: Any) -> None:
    with pytest.raises(BadToken):
        read_key(jwk)


def test_a14_key_that_would_only_burn_time_is_refused() -> None:
    huge = {"kty": "RSA", "n": encode_segment(b"\xff" * 2_000), "e": "AQAB"}
    with pytest.raises(BadToken, match="bits"):
        read_key(huge)


def test_a11_signature_with_a_zero_in_between_is_another_text_and_refused() -> None:
    key = new_key()
    parts = split(signed(key, {"alg": "ES256", "kid": "k1"}, {"a": 1}))
    public = read_key(key.jwk())
    assert check_signature(parts, public, ("ES256",)) == {"a": 1}
    for signature in (
        parts.signature[:32] + b"\0" + parts.signature[32:],
        parts.signature + b"\0",
        b"",
        parts.signature[:63],
    ):
        longer = jws.Signed(parts.header, parts.unverified_payload, parts.signing_input, signature)
        with pytest.raises(BadToken):
            check_signature(longer, public, ("ES256",))


@pytest.mark.parametrize(
    "text", [b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":1,"a":1}', b"[]", b"", b"\xff", b"{" * 100_000]
)
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(BadToken):
        read_object(text)


@pytest.mark.parametrize(
    "token", ["", "a", "a.b", "a.b.c.d", "a.b.c", "..", raw({}, {})[:-1] + "=", "é.é.é", "e30.e30.e3"]
)
def test_what_is_no_compact_jws_is_refused(token: str) -> None:
    with pytest.raises(BadToken):
        split(token)
