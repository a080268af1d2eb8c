"""What our verifier takes for a signed token, held against two other libraries (joserfc, PyJWT) on mutated tokens.

Two rules. Ours accepts nothing that another refuses, whatever the text. And whatever is well-formed (canonical
base64url, a JSON object each, no extension) is accepted by all three or by none, with the same claims. What is not
well-formed ours refuses, where the others differ: PyJWT reads past stray characters, for instance.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import example, given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import import_key

from iam.oauth.protocol.jose import TOKEN_LENGTH_MAX, BadToken, Key, encode_segment, verify
from iam.oauth.protocol.jwk import verify_with
from tests.proofs import private_key

pytestmark = [
    pytest.mark.filterwarnings("ignore:EdDSA is deprecated"),
    pytest.mark.spec(
        "RFC 7515", "5.2", "three libraries agree on which well-formed tokens are signed by a key"
    ),
]

ALGORITHMS = ("ES256", "RS256", "PS256", "EdDSA")
KEYS = {algorithm: private_key(algorithm, algorithm.lower()) for algorithm in ALGORITHMS}
OTHERS = {algorithm: private_key(algorithm, algorithm.lower()) for algorithm in ALGORITHMS}
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

Claims = dict[str, Any] | None


# -- three opinions -----------------------------------------------------------------------------------------------


def ours(token: str, key: Key) -> Claims:
    try:
        return verify(token, {key.kid: key}).claims
    except BadToken:
        return None


def ours_with_a_set(token: str, key: Key) -> Claims:
    try:
        return verify_with(token, [key.jwk()], [key.algorithm]).claims
    except BadToken:
        return None


def registry(algorithm: str) -> jws.JWSRegistry:
    """Let the other library ignore what it does not know, as RFC 7515 §4 asks, and read what is long."""
    found = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    found.max_header_length = found.max_payload_length = TOKEN_LENGTH_MAX
    return found


def joserfc(token: str, key: Key) -> Claims:
    try:
        found = jws.deserialize_compact(token, import_key(key.jwk()), registry=registry(key.algorithm))
        claims = json.loads(found.payload)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def pyjwt_says(token: str, key: Key) -> Claims:
    nothing_but_the_signature = dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub", "verify_jti"), False)  # fmt: skip
    try:
        return pyjwt.decode(
            token, pyjwt.PyJWK(key.jwk()), algorithms=[key.algorithm], options=nothing_but_the_signature
        )
    except (pyjwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def compare(token: str, key: Key) -> Claims:
    """Hold both rules; return what ours says."""
    mine, with_a_set = ours(token, key), ours_with_a_set(token, key)
    others = {"joserfc": joserfc(token, key), "PyJWT": pyjwt_says(token, key)}
    if mine is not None:
        assert all(other == mine for other in others.values()), (token, mine, others)
        assert with_a_set == mine, (token, with_a_set)
    if with_a_set is not None:
        assert all(other is not None for other in others.values()), (token, with_a_set, others)
    header = well_formed(token)
    if header is not None and header.get("kid") == key.kid:
        assert all((other is None) == (mine is None) for other in others.values()), (token, mine, others)
    return mine


def well_formed(token: str) -> dict[str, Any] | None:
    """Return the header of a token that is canonical in every part and uses no extension."""
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii() or len(token) > TOKEN_LENGTH_MAX:
        return None
    decoded = []
    for part in parts:
        try:
            data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        except ValueError:
            return None
        if encode_segment(data) != part:
            return None
        decoded.append(data)
    try:
        header, claims = strict_json(decoded[0]), strict_json(decoded[1])
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or not isinstance(claims, dict) or {"crit", "b64"} & header.keys():
        return None
    return (
        header
        if all(isinstance(header.get(name, ""), str) for name in ("alg", "kid", "typ", "cty"))
        else None
    )


def strict_json(data: bytes) -> Any:
    def constant(name: str) -> None:
        raise ValueError(name)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a name twice")
        return dict(pairs)

    return json.loads(data.decode("utf-8"), parse_constant=constant, object_pairs_hook=once)


# -- mutations ----------------------------------------------------------------------------------------------------


def token_of(
    key: Key, header: dict[str, Any] | None = None, claims: object = None, signer: Key | None = None
) -> str:
    head = {"alg": key.algorithm, "kid": key.kid, "typ": "JWT", **(header or {})}
    body = {"sub": "ش", "n": 1} if claims is None else claims
    signing_input = f"{encode_segment(json.dumps(head).encode())}.{encode_segment(json.dumps(body).encode())}"
    return f"{signing_input}.{encode_segment((signer or key)._signature(signing_input.encode()))}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_honest_token_is_accepted_by_all(algorithm: str):
    assert compare(token_of(KEYS[algorithm]), KEYS[algorithm]) == {"sub": "ش", "n": 1}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_by_another_key_is_refused_by_all(algorithm: str):
    assert compare(token_of(KEYS[algorithm], signer=OTHERS[algorithm]), KEYS[algorithm]) is None


def signature_of(token: str) -> bytes:
    tail = token.rsplit(".", 1)[1]
    return base64.urlsafe_b64decode(tail + "=" * (-len(tail) % 4))


def with_signature(token: str, signature: bytes) -> str:
    return f"{token.rsplit('.', 1)[0]}.{encode_segment(signature)}"


def mirrored(signature: bytes) -> bytes:
    """Return the other signature that is as valid: s and n - s are both right in ECDSA."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    return r.to_bytes(32, "big") + (P256_ORDER - s).to_bytes(32, "big")


def as_der(signature: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


SIGNATURES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda s: b"",
    "zero": lambda s: bytes(len(s)),
    "ones": lambda s: b"\xff" * len(s),
    "cut": lambda s: s[:-1],
    "longer": lambda s: s + b"\0",
    "leading zero": lambda s: b"\0" + s,
    "halves exchanged": lambda s: s[len(s) // 2 :] + s[: len(s) // 2],
    "doubled": lambda s: s + s,
}


@pytest.mark.parametrize("change", SIGNATURES.values(), ids=SIGNATURES.keys())
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_signature_of_another_shape_is_refused_by_all(algorithm: str, change: Callable[[bytes], bytes]):
    token = token_of(KEYS[algorithm])

    assert compare(with_signature(token, change(signature_of(token))), KEYS[algorithm]) is None


def test_mirrored_signature_is_judged_alike_and_der_is_refused():
    token = token_of(KEYS["ES256"])
    signature = signature_of(token)

    assert compare(with_signature(token, mirrored(signature)), KEYS["ES256"]) is not None
    assert compare(with_signature(token, as_der(signature)), KEYS["ES256"]) is None
    assert decode_dss_signature(as_der(signature))[0] == int.from_bytes(signature[:32], "big")


HEADERS: dict[str, dict[str, Any]] = {
    "alg none": {"alg": "none"},
    "alg None": {"alg": "None"},
    "alg empty": {"alg": ""},
    "alg in lower case": {"alg": "es256"},
    "alg HS256": {"alg": "HS256"},
    "alg of another hash": {"alg": "ES512"},
    "alg a list": {"alg": ["ES256"]},
    "alg null": {"alg": None},
    "alg a number": {"alg": 256},
    "typ of another kind": {"typ": "at+jwt"},
    "typ a list": {"typ": ["JWT"]},
    "typ null": {"typ": None},
    "kid a number": {"kid": 1},
    "kid null": {"kid": None},
    "kid a list": {"kid": ["x"]},
    "kid of nobody": {"kid": "nobody"},
    "crit": {"crit": ["exp"], "exp": 1},
    "crit empty": {"crit": []},
    "crit b64": {"crit": ["b64"], "b64": True},
    "b64 false": {"b64": False},
    "zip": {"zip": "DEF"},
    "cty": {"cty": "JWT"},
    "jku": {"jku": "https://evil.example/jwks"},
    "jwk": {"jwk": OTHERS["ES256"].jwk()},
    "x5c": {"x5c": ["AAAA"]},
    "unknown": {"x": {"y": [1, 2, {"z": None}]}},
    "long": {"x": "y" * 20_000},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.rules("fapi/5.4.1/1-1")
def test_header_is_judged_alike(algorithm: str, header: dict[str, Any]):
    compare(token_of(KEYS[algorithm], header), KEYS[algorithm])


@pytest.mark.parametrize(
    "claims",
    [[], [1], "text", 5, True, [{}], {}, {"exp": "x"}, {"iss": 5}, {"aud": None}, {"a": {"b": ["c"]}}],
    ids=str,
)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_payload_is_judged_alike(algorithm: str, claims: object):
    compare(token_of(KEYS[algorithm], claims=claims), KEYS[algorithm])


@pytest.mark.parametrize(
    "write",
    [
        lambda t: t + "=",
        lambda t: t.replace(".", "=.", 1),
        lambda t: t + "\n",
        lambda t: " " + t,
        lambda t: t.replace(".", ". ", 1),
        lambda t: t + ".",
        lambda t: "." + t,
        lambda t: t.replace(".", "..", 1),
        lambda t: t.rsplit(".", 1)[0],
        lambda t: t.rsplit(".", 1)[0] + ".",
        lambda t: t + "A",
        lambda t: t[:-1],
        lambda t: t.upper(),
        lambda t: t.replace("e", "é", 1),
        lambda t: '{"payload":"e30","signatures":[]}',
        lambda t: "",
        lambda t: "..",
    ],
    ids=[
        "padding", "padding inside", "newline", "space before", "space inside", "dot after", "dot before", "dot twice",
        "no signature", "empty signature", "one more", "one less", "upper case", "not ASCII", "JSON", "empty", "dots",
    ],
)  # fmt: skip
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_other_spelling_is_never_accepted(algorithm: str, write: Callable[[str], str]):
    token = write(token_of(KEYS[algorithm]))

    assert compare(token, KEYS[algorithm]) is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("key", ALGORITHMS)
def test_a11_token_of_one_algorithm_is_nothing_to_a_key_of_another(algorithm: str, key: str):
    token = token_of(KEYS[algorithm], {"alg": key, "kid": KEYS[key].kid})

    assert (compare(token, KEYS[key]) is not None) == (algorithm == key)


algorithms = st.sampled_from(ALGORITHMS)
alphabet = st.sampled_from("ABCDEFabcdef0189-_.=+/ \n")


@settings(max_examples=300)
@given(algorithm=algorithms, data=st.data())
def test_fuzz_any_change_of_a_character_is_judged_alike(algorithm: str, data: st.DataObject):
    token = token_of(KEYS[algorithm])
    at = data.draw(st.integers(0, len(token)))
    how = data.draw(st.sampled_from(["replace", "insert", "delete", "cut"]))
    drawn = data.draw(alphabet)
    changed = {
        "replace": token[:at] + drawn + token[at + 1 :],
        "insert": token[:at] + drawn + token[at:],
        "delete": token[:at] + token[at + 1 :],
        "cut": token[:at],
    }[how]

    found = compare(changed, KEYS[algorithm])

    assert found is None or changed == token


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
# Not jku, x5u and their like: ours never looks at them, joserfc judges what they hold.
members = st.sampled_from(["alg", "kid", "typ", "cty", "x", "zip", "iss"])
# PyJWT judges the types of these registered claims even when it is asked not to judge their values.
free_claims = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name not in {"sub", "jti", "iss", "aud"}), json_values, max_size=4
)


@settings(max_examples=300)
@given(algorithm=algorithms, header=st.dictionaries(members, json_values, max_size=2), claims=free_claims)
@example(algorithm="ES256", header={"kid": None}, claims={})
@example(algorithm="ES256", header={"typ": 5}, claims={"a": 1})
def test_fuzz_signed_token_of_any_content_is_judged_alike(algorithm: str, header: dict, claims: dict):
    compare(token_of(KEYS[algorithm], header, claims), KEYS[algorithm])


@settings(max_examples=200)
@given(algorithm=algorithms, head=st.binary(max_size=60), body=st.binary(max_size=60))
def test_fuzz_signed_bytes_are_judged_alike(algorithm: str, head: bytes, body: bytes):
    """What is signed need not be JSON at all."""
    key = KEYS[algorithm]
    for first in (head, json.dumps({"alg": algorithm, "kid": key.kid}).encode()):
        signing_input = f"{encode_segment(first)}.{encode_segment(body)}"
        compare(f"{signing_input}.{encode_segment(key._signature(signing_input.encode()))}", key)


def test_the_curve_of_the_mirror_is_the_one_that_is_used():
    assert isinstance(KEYS["ES256"].public, ec.EllipticCurvePublicKey)
    assert KEYS["ES256"].public.curve.name == "secp256r1"
