"""A11, A12, A14: what our verifier takes for a token, against two other libraries' view of it."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt as other
from joserfc.jwk import ECKey, RSAKey

from iam.oauth.protocol.jose import (
    ALGORITHMS,
    BadToken,
    Key,
    SigningUnavailable,
    decode_segment,
    encode_segment,
    generate,
    load_private,
    private_bytes,
    verify,
)
from tests.proofs import signed

EC = load_private("ec", "ES256", private_bytes(generate("ES256")))
RSA = load_private("rsa", "RS256", private_bytes(generate("RS256")))
KEYS = {"ec": EC, "rsa": RSA}


def segment(value: object) -> str:
    return encode_segment(json.dumps(value).encode())


def forged(header: dict[str, object], claims: object = None, signature: bytes = b"x" * 64) -> str:
    return f"{segment(header)}.{segment({} if claims is None else claims)}.{encode_segment(signature)}"


@pytest.mark.parametrize("key", [EC, RSA], ids=["ES256", "RS256"])
def test_sign_then_verify_returns_the_claims(key: Key):
    verified = verify(key.sign("at+jwt", {"a": "ب", "n": 1}), KEYS)

    assert (verified.typ, verified.claims) == ("at+jwt", {"a": "ب", "n": 1})


@pytest.mark.parametrize(("key", "kind"), [(EC, ECKey), (RSA, RSAKey)], ids=["ES256", "RS256"])
@pytest.mark.spec("RFC 7515", "5.2", "another library accepts our signature with our published key")
def test_sign_another_library_agrees(key: Key, kind):
    token = other.decode(
        key.sign("JWT", {"sub": "x"}), kind.import_key(key.jwk()), algorithms=[key.algorithm]
    )

    assert token.claims == {"sub": "x"}


@pytest.mark.rules("disco/3/jwks-public")
def test_jwk_never_carries_a_private_part():
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & {*EC.jwk(), *RSA.jwk()}


def test_two_signatures_of_the_same_claims_differ_only_in_the_signature():
    assert EC.sign("JWT", {"a": 1}).rsplit(".", 1)[0] == EC.sign("JWT", {"a": 1}).rsplit(".", 1)[0]


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(forged({"alg": "none", "kid": "ec"}, signature=b""), id="alg none"),
        pytest.param(forged({"alg": "HS256", "kid": "ec"}), id="HMAC with a public key"),
        pytest.param(forged({"alg": "RS256", "kid": "ec"}), id="algorithm of another key"),
        pytest.param(forged({"alg": "ES256", "kid": "rsa"}), id="key of another algorithm"),
        pytest.param(forged({"alg": "ES256", "kid": "../../etc/passwd"}), id="kid as a path"),
        pytest.param(forged({"alg": "ES256", "kid": "x' OR '1'='1"}), id="kid as SQL"),
        pytest.param(forged({"alg": "ES256", "kid": ["ec"]}), id="kid is a list"),
        pytest.param(forged({"alg": "ES256"}), id="no kid"),
        pytest.param(forged({"alg": "ES256", "kid": "x", "jwk": EC.jwk()}), id="key in the header"),
        pytest.param(
            forged({"alg": "ES256", "kid": "x", "jku": "https://evil.example/jwks"}),
            id="address in the header",
        ),
        pytest.param(forged({"alg": "ES256", "kid": "ec"}, signature=b""), id="no signature"),
        pytest.param(forged({"alg": "ES256", "kid": "ec"}, signature=b"\0" * 64), id="zero signature"),
        pytest.param(forged({"alg": "ES256", "kid": "ec"}, signature=b"x" * 63), id="short signature"),
        pytest.param('{"payload":"e30","signatures":[]}', id="JSON serialisation"),
        pytest.param("..", id="empty parts"),
        pytest.param("a.b", id="two parts"),
        pytest.param("a.b.c.d.e", id="five parts"),
        pytest.param("", id="empty"),
        pytest.param("ه.ه.ه", id="not ASCII"),
        pytest.param("a" * 1_000_000, id="1 MB"),
        pytest.param(encode_segment(b"[" * 12_000) + ".e30.e30", id="deep JSON"),
        pytest.param(segment([1]) + ".e30.e30", id="header is a list"),
    ],
)
@pytest.mark.rules("fapi/5.4.1/1-1", "fapi/5.4.1/1-3", "core/2/no-none")
def test_a11_a12_a14_verify_forged_token_is_refused(token: str):
    with pytest.raises(BadToken):
        verify(token, KEYS)


@pytest.mark.parametrize("extension", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}])
@pytest.mark.spec("RFC 7515", "4.1.11", "an extension that is not understood is refused")
def test_a11_verify_critical_extension_is_refused_though_signed(extension):
    signing_input = f"{segment({'alg': 'ES256', 'kid': 'ec', **extension})}.{segment({})}"
    token = f"{signing_input}.{encode_segment(EC._signature(signing_input.encode()))}"

    with pytest.raises(BadToken, match="extension"):
        verify(token, KEYS)


@pytest.mark.rules("fapi/5.4.1/1-1")
@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "EdDSA", "Ed25519", "HS256", "none", "es256", ""])
def test_a11_verify_honest_signature_under_the_name_of_another_algorithm_is_refused(algorithm: str):
    """The key says how it signs; a header that says otherwise is not ours, though the signature is."""
    assert verify(signed(EC, {"alg": "ES256", "kid": "ec", "typ": "JWT"}, {"a": 1}), KEYS).claims == {"a": 1}

    with pytest.raises(BadToken):
        verify(signed(EC, {"alg": algorithm, "kid": "ec", "typ": "JWT"}, {"a": 1}), KEYS)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_verify_any_changed_part_is_refused(position: int):
    parts = EC.sign("JWT", {"sub": "a"}).split(".")
    parts[position] = parts[position][:-2] + ("AA" if parts[position][-2:] != "AA" else "BB")

    with pytest.raises(BadToken):
        verify(".".join(parts), KEYS)


@pytest.mark.parametrize("tail", ["=", "\n", " ", "+", "/", "!"])
def test_decode_segment_anything_but_base64url_is_refused(tail: str):
    with pytest.raises(BadToken):
        decode_segment("e30" + tail)


def test_decode_segment_second_spelling_of_the_same_bytes_is_refused():
    spelled = base64.urlsafe_b64encode(b"a").rstrip(b"=").decode()
    other_spelling = spelled[0] + chr(ord(spelled[1]) + 1)

    with pytest.raises(BadToken, match="canonical"):
        decode_segment(other_spelling)


@given(st.text(max_size=200))
def test_verify_any_text_is_refused_and_never_raises_anything_else(text: str):
    with pytest.raises(BadToken):
        verify(text, KEYS)


@given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=80))
def test_verify_any_three_parts_are_refused(a: bytes, b: bytes, c: bytes):
    with pytest.raises(BadToken):
        verify(f"{encode_segment(a)}.{encode_segment(b)}.{encode_segment(c)}", KEYS)


def test_load_private_wrong_algorithm_is_an_error():
    with pytest.raises(ValueError, match="not a key for"):
        load_private("x", "RS256", private_bytes(generate("ES256")))


def test_sign_with_a_public_key_is_an_error():
    with pytest.raises(SigningUnavailable, match="cannot sign"):
        Key("ec", "ES256", EC.public).sign("JWT", {})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a21_repr_of_a_key_shows_nothing_private(algorithm: str):
    private = generate(algorithm)
    key = load_private("k", algorithm, private_bytes(private))

    assert "signer" not in repr(key)
    assert "rivate" not in repr(key.signer)
    assert key.kid in repr(key)


def test_generate_unknown_algorithm_is_an_error():
    with pytest.raises(ValueError, match="unknown algorithm"):
        generate("HS256")
