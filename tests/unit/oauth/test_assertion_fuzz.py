"""Any assertion is refused in the two ways that there are, or is one that others would take too.

Hypothesis makes assertions that are right but for a few changes in header, claims, signature and text. Whatever ours
takes must be taken by PyJWT and by joserfc with the same keys, and must say what an assertion has to say.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jwt as pyjwt
from hypothesis import example, given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import import_key
from joserfc.registry import HeaderParameter

from iam.oauth.protocol.client_auth import authenticate, read_credentials
from iam.oauth.protocol.errors import InvalidClient, OAuthError
from iam.oauth.protocol.jose import ALGORITHMS, Key, encode_segment, generate
from iam.oauth.protocol.parameters import parse

from .test_client_auth import (
    EPOCH,
    HIGH,
    ISSUER,
    JWKS,
    KEYS,
    NOW,
    SIGNER,
    STRANGER,
    TOKEN,
    Known,
    claims,
    form,
    key_of,
)

# A client whose one key has signed nothing here.
_OTHER = replace(SIGNER, jwks=(key_of("k-ES256", "ES256", generate("ES256")).jwk(),))
bounded = settings(max_examples=400, deadline=None, database=None)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([EPOCH, EPOCH + 60, -1, 10**300]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
audiences = st.sampled_from(
    [ISSUER, [ISSUER], f"{ISSUER}/token", [ISSUER, ISSUER], [ISSUER, "x"], [], ISSUER + "/", ISSUER.upper()]
)
times = st.integers(EPOCH - 700, EPOCH + 700) | st.floats(EPOCH - 700, EPOCH + 700)
claim_changes = st.fixed_dictionaries(
    {},
    optional={
        "aud": audiences | values, "iss": st.sampled_from(["app", "App", "other", ["app"]]) | values,
        "sub": st.sampled_from(["app", "other", ["app"]]) | values, "exp": times | values, "iat": times | values,
        "nbf": times | values, "jti": st.text(max_size=300) | values, "x": values,
    },
)  # fmt: skip
header_changes = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from([*ALGORITHMS, "none", "HS256", "ES384", "es256"]) | values,
        "typ": st.sampled_from(["JWT", "jwt", "client-authentication+jwt", "at+jwt", ""]) | values,
        "kid": st.sampled_from([*(key.kid for key in KEYS.values()), "", "x"]) | values,
        "jwk": st.just(STRANGER.jwk()), "jku": st.text(max_size=9), "crit": st.just(["x"]) | values, "b64": st.booleans(),
        "x5c": values, "zip": st.just("DEF"), "cty": values,
    },
)  # fmt: skip
signers = st.sampled_from([*KEYS.values(), *KEYS.values(), STRANGER])
dropped = st.lists(st.sampled_from(["iss", "sub", "aud", "exp", "iat", "jti", "alg", "kid"]), max_size=1)


@st.composite
def assertions(draw: st.DrawFn) -> str:
    """An assertion that is right but for a few changes, in any of its parts."""
    key: Key = draw(signers)
    header = {"alg": key.algorithm, "kid": key.kid, **(draw(header_changes) if draw(st.booleans()) else {})}
    said = claims(**(draw(claim_changes) if draw(st.booleans()) else {}))
    for name in draw(dropped):
        header.pop(name, None) if name in {"alg", "kid"} else said.pop(name, None)
    head, body = (
        encode_segment(json.dumps(part).encode("utf-8", "surrogatepass")) for part in (header, said)
    )
    tail = encode_segment(key._signature(f"{head}.{body}".encode()))
    text = f"{head}.{body}.{tail}"
    match draw(st.integers(0, 9)):
        case 0:
            at = draw(st.integers(0, len(text) - 1))
            return text[:at] + draw(st.characters(codec="utf-8")) + text[at + 1 :]
        case 1:
            at = draw(st.integers(0, len(text)))
            return text[:at] + draw(st.text(alphabet=".=\n A-_", max_size=3)) + text[at:]
        case 2:
            return text[: draw(st.integers(0, len(text)))]
        case _:
            return text


# What stands in these members is never read here; the library checks its form all the same.
_IGNORED = {
    name: HeaderParameter("never read", lambda _: None) for name in ("jku", "jwk", "x5c", "x5u", "cty", "zip")
}
_REGISTRY = jws.JWSRegistry(header_registry=_IGNORED, algorithms=list(ALGORITHMS), strict_check_header=False)
_REGISTRY.max_header_length = 16_384


def others_take(text: str) -> Mapping[str, Any]:
    """Return the claims if two other libraries verify the signature with the client's key for that algorithm."""
    algorithm = pyjwt.get_unverified_header(text)["alg"]
    jwk = next(dict(key) for key in JWKS if key["alg"] == algorithm)
    unjudged = dict.fromkeys(
        ("verify_aud", "verify_exp", "verify_nbf", "verify_iat", "verify_sub", "verify_jti"), False
    )
    said = pyjwt.decode(text, pyjwt.PyJWK(jwk, algorithm=algorithm), algorithms=[algorithm], options=unjudged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # it prefers another name for EdDSA (RFC 9864)
        again = jws.deserialize_compact(text, import_key(jwk), registry=_REGISTRY)
    assert repr(json.loads(again.payload)) == repr(said)  # as text, where a NaN equals itself
    return said


@bounded
@given(
    assertions() | st.text(max_size=60),
    st.sampled_from([SIGNER, SIGNER, HIGH, None, _OTHER]),
)
@example("\ud800.\ud800.\ud800", SIGNER)
@example("e30.e30.", None)
def test_fuzz_assertion_is_refused_or_what_others_take_too(text: str, client: Any) -> None:
    try:
        credentials = read_credentials("", parse(form(text.encode("utf-8", "replace").decode())))
        authenticate(credentials, client, TOKEN, Known(), NOW)
    except OAuthError as problem:
        assert problem.error in {"invalid_client", "invalid_request"}
        assert isinstance(problem, InvalidClient) == (problem.status == 401)
        return
    assert client is SIGNER or client is HIGH
    said = others_take(text)
    assert (said["iss"], said["sub"]) == ("app", "app")
    assert said["aud"] in (
        [ISSUER] if client is HIGH else [ISSUER, [ISSUER], f"{ISSUER}/token", [f"{ISSUER}/token"]]
    )
    assert EPOCH - 10 < said["exp"] <= EPOCH + 3610
    assert isinstance(said["jti"], str)


def test_fuzz_finds_assertions_of_both_kinds() -> None:
    """A fuzzer whose every case is refused would hold nothing."""
    taken = []

    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(assertions())
    def run(text: str) -> None:
        try:
            authenticate(read_credentials("", parse(form(text))), SIGNER, TOKEN, Known(), NOW)
            taken.append(text)
        except OAuthError:
            pass

    run()
    assert 10 < len(taken) < 190
