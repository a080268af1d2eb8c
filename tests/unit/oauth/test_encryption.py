"""Encryption for a client: read by another library, only with a key that is meant for it and strong enough."""

import json

import pytest
from jwcrypto import jwe as other
from jwcrypto.jwk import JWK

from iam.oauth.protocol.encryption import NoEncryptionKey, can_encrypt, encrypt
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.protocol.messages import accepts
from iam.oauth.protocol.options import CONTENT_ENCRYPTIONS, ENCRYPTION_ALGORITHMS
from iam.oauth.protocol.registration import check_metadata

EC = JWK.generate(kty="EC", crv="P-256", use="enc", kid="ec")
EC384 = JWK.generate(kty="EC", crv="P-384", use="enc", kid="ec384")
RSA = JWK.generate(kty="RSA", size=2048, use="enc", kid="rsa")
WEAK = JWK.generate(kty="RSA", size=1024, use="enc", kid="weak")
SIGNING = JWK.generate(kty="EC", crv="P-256", use="sig", kid="sig")
UNSAID = JWK.generate(kty="EC", crv="P-256", kid="unsaid")
GOOD = {"client_id": "app-1", "redirect_uris": ["https://app.example/cb"], "scope": "openid"}


def public(*keys: JWK) -> list[dict]:
    return [json.loads(key.export_public()) for key in keys]


@pytest.mark.parametrize("content", CONTENT_ENCRYPTIONS)
@pytest.mark.parametrize("algorithm", ENCRYPTION_ALGORITHMS)
@pytest.mark.spec("RFC 7516", "5.1", "another library reads what is encrypted with its public key")
@pytest.mark.rules("core/10.2/kid")
def test_encrypt_is_read_by_another_library(algorithm: str, content: str):
    key = RSA if algorithm.startswith("RSA") else EC

    text = encrypt("ب payload", public(SIGNING, EC, RSA), algorithm, content, nested=True)

    read = other.JWE(algs=[algorithm, content])
    read.deserialize(text, key)
    assert read.payload.decode() == "ب payload"
    header = json.loads(read.objects["protected"])
    assert (header["alg"], header["enc"], header["cty"]) == (algorithm, content, "JWT")
    assert header["kid"] == key["kid"]


def test_encrypt_plain_text_says_no_content_type():
    text = encrypt("{}", public(EC), "ECDH-ES", "A256GCM", nested=False)

    read = other.JWE(algs=["ECDH-ES", "A256GCM"])
    read.deserialize(text, EC)
    assert "cty" not in json.loads(read.objects["protected"])


def test_encrypt_same_text_twice_is_never_the_same():
    assert encrypt("x", public(EC), "ECDH-ES", "A256GCM", nested=False) != encrypt(
        "x", public(EC), "ECDH-ES", "A256GCM", nested=False
    )


@pytest.mark.parametrize(
    ("keys", "algorithm"),
    [
        ([], "ECDH-ES"),
        (public(SIGNING), "ECDH-ES"),
        (public(UNSAID), "ECDH-ES"),
        (public(RSA), "ECDH-ES"),
        (public(EC), "RSA-OAEP-256"),
        (public(WEAK), "RSA-OAEP-256"),
        ([{**public(EC)[0], "alg": "ECDH-ES+A256KW"}], "ECDH-ES"),
        ([{**public(EC)[0], "x": "AAAA"}], "ECDH-ES"),
        ([{**public(EC)[0], "x": None}], "ECDH-ES"),
        ([{**public(EC)[0], "crv": "secp256k1"}], "ECDH-ES"),
        ([{"kty": "RSA", "use": "enc"}], "RSA-OAEP-256"),
    ],
)
@pytest.mark.rules("core/10.2/recipient-key")
def test_encrypt_without_a_key_that_is_meant_and_strong_enough_is_refused(keys: list[dict], algorithm: str):
    assert not can_encrypt(keys, algorithm)
    with pytest.raises(NoEncryptionKey):
        encrypt("x", keys, algorithm, "A256GCM", nested=False)


@pytest.mark.rules("core/10.2/recipient-key")
def test_encrypt_takes_the_first_key_that_fits():
    text = encrypt("x", public(RSA, SIGNING, EC384, EC), "ECDH-ES+A256KW", "A256GCM", nested=False)

    read = other.JWE(algs=["ECDH-ES+A256KW", "A256GCM"])
    read.deserialize(text, EC384)
    assert read.payload == b"x"


@pytest.mark.parametrize("name", ["id_token", "userinfo"])
@pytest.mark.parametrize(
    "changes",
    [
        {"{}_encrypted_response_enc": "A256GCM"},
        {"{}_encrypted_response_alg": "ECDH-ES"},
        {"{}_encrypted_response_alg": "ECDH-ES", "jwks": {"keys": public(SIGNING)}},
        {"{}_encrypted_response_alg": "RSA-OAEP-256", "jwks": {"keys": public(EC)}},
        {"{}_encrypted_response_alg": "RSA1_5", "jwks": {"keys": public(RSA)}},
        {"{}_encrypted_response_alg": "dir", "jwks": {"keys": public(RSA)}},
    ],
    ids=["enc alone", "no keys", "key for signing", "other kind of key", "RSA1_5", "dir"],
)
@pytest.mark.spec(
    "OIDC Registration", "2", "an encryption that could not be done is refused when the client is saved"
)
def test_check_metadata_encryption_that_cannot_be_done_is_refused(name: str, changes: dict):
    named = {key.format(name): value for key, value in changes.items()}

    with pytest.raises(MetadataError, match=f"{name}_encrypted_response"):
        check_metadata({**GOOD, **named})


@pytest.mark.parametrize("keys", [{"jwks": {"keys": public(EC)}}, {"jwks_uri": "https://app.example/jwks"}])
def test_check_metadata_encryption_that_can_be_done_is_taken(keys: dict):
    options = check_metadata({**GOOD, "id_token_encrypted_response_alg": "ECDH-ES", **keys}).options

    assert options.id_token_encrypted_response_alg == "ECDH-ES"


JWT = "application/token-introspection+jwt"


@pytest.mark.parametrize(
    ("accept", "accepted"),
    [
        (JWT, True),
        (JWT.upper(), True),
        (f"application/json, {JWT};q=0.5", True),
        (f"{JWT} ; q=1", True),
        ("", False),
        ("*/*", False),
        ("application/*", False),
        ("application/json", False),
        (f"{JWT};q=0", False),
        (f"{JWT};q=0.000", False),
        (f"x{JWT}", False),
        (", ,;,;;", False),
    ],
)
def test_accepts_a_type_that_is_named(accept: str, accepted: bool):
    assert accepts(accept, JWT) is accepted
