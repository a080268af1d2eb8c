"""Public keys that others give us: which are strong enough, and which one of several is meant."""

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey
from jwcrypto.jwk import JWK

from iam.oauth.protocol.jose import BadToken, Key, MemorySigner, generate
from iam.oauth.protocol.jwk import BadKey, check_key_set, read_key, verify_with


def signer(algorithm: str, kid: str) -> Key:
    private = generate(algorithm)
    return Key(kid, algorithm, private.public_key(), MemorySigner(algorithm, private))


@pytest.mark.parametrize(
    "jwk",
    [
        JWK.generate(kty="RSA", size=1024).export_public(as_dict=True),
        {**RSAKey.generate_key(2048).as_dict(private=False), "n": "AQAB"},
        ECKey.generate_key("secp256k1").as_dict(private=False),
        ECKey.generate_key("P-521").as_dict(private=False),
        {"kty": "EC", "crv": "P-192", "x": "A" * 32, "y": "A" * 32},
        OctKey.generate_key(256).as_dict(),
    ],
    ids=["RSA 1024", "RSA 17", "secp256k1", "P-521", "P-192", "symmetric"],
)
@pytest.mark.rules("fapi/5.4.1/2", "fapi/5.4.1/3")
def test_a11_key_that_is_weak_or_of_another_kind_is_refused(jwk: dict) -> None:
    with pytest.raises(BadKey):
        read_key(jwk)
    with pytest.raises(BadKey):
        check_key_set({"keys": [jwk]})


@pytest.mark.parametrize("size", [2048, 3072])
def test_key_of_2048_bits_and_more_is_taken(size: int) -> None:
    assert read_key(RSAKey.generate_key(size).as_dict(private=False)).algorithm in {"RS256", "PS256"}


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.rules("fapi/5.4.3/same-kid")
def test_of_two_keys_with_one_name_the_one_that_fits_verifies(swapped: bool) -> None:
    curve, number = signer("ES256", "same"), signer("PS256", "same")
    keys = [curve.jwk(), number.jwk()]

    for key in (curve, number):
        token = key.sign("JWT", {"sub": key.algorithm})
        verified = verify_with(token, keys[::-1] if swapped else keys, ["ES256", "PS256"])
        assert verified.claims == {"sub": key.algorithm}


def test_key_of_another_name_does_not_verify() -> None:
    key = signer("ES256", "mine")

    with pytest.raises(BadToken):
        verify_with(key.sign("JWT", {}), [{**key.jwk(), "kid": "other"}], ["ES256"])
