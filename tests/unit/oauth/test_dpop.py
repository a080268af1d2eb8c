"""DPoP proofs: what is accepted, and every single thing that must be right (RFC 9449 §4.3, §8)."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey

from iam.oauth.protocol.binding import UNBOUND, Binding
from iam.oauth.protocol.dpop import (
    CLOCK_AHEAD,
    NONCE_WINDOW,
    PROOF_LIFE,
    InvalidProof,
    NonceNeeded,
    Proof,
    access_token_hash,
    check_named_key,
    check_proof,
    is_same_address,
    nonce_at,
    nonce_end,
)
from iam.oauth.protocol.errors import OAuthError
from tests.proofs import Prover, private_key, public_jwk, signed

NOW = datetime(2026, 11, 25, 9, 0, 30, tzinfo=UTC)
TOKEN_ADDRESS = "https://login.example/token"
KEY = b"n" * 32
PROVER = Prover()
RSA = private_key("RS256")
OTHER = private_key()


def check(text: str, now: datetime = NOW, **changes: object) -> Proof:
    given = {
        "method": "POST", "addresses": (TOKEN_ADDRESS,), "nonce_key": KEY, "nonce_required": False,
        "access_token": None, **changes,
    }  # fmt: skip
    return check_proof(text, now=now, **given)


def proof(header: dict | None = None, **changes: object) -> str:
    return PROVER.proof("POST", TOKEN_ADDRESS, NOW, header=header, **changes)


@pytest.mark.parametrize("algorithm", ["ES256", "PS256", "EdDSA"])
@pytest.mark.spec("RFC 9449", "4.3", "a proof with every member right names its key")
def test_check_proof_good_proof_names_its_key(algorithm: str):
    prover = Prover(private_key(algorithm))

    found = check(prover.proof("POST", TOKEN_ADDRESS, NOW, jti="j-1"))

    assert found == Proof(prover.jkt, "j-1", NOW + PROOF_LIFE)


@pytest.mark.spec("RFC 9449", "6.1", "jkt is the RFC 7638 thumbprint, as another library computes it")
def test_check_proof_thumbprint_is_the_one_of_another_library():
    assert check(proof()).jkt == ECKey.import_key(public_jwk(PROVER.key)).thumbprint()


def test_check_proof_of_another_library_is_accepted():
    key = ECKey.generate_key("P-256")
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False)}
    claims = {"jti": "j", "htm": "POST", "htu": TOKEN_ADDRESS, "iat": int(NOW.timestamp())}

    assert check(jws.serialize_compact(header, json.dumps(claims), key)).jkt == key.thumbprint()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "dpop_malformed", id="empty"),
        pytest.param("a.b.c", "dpop_malformed", id="no JSON"),
        pytest.param(proof() + ", " + proof(), "dpop_malformed", id="two headers joined"),
        pytest.param(proof() + "," + proof(), "dpop_malformed", id="two headers joined tightly"),
        pytest.param(proof(x="y" * 4000), "dpop_malformed", id="too long"),
        pytest.param("ه" * 20, "dpop_malformed", id="not ASCII"),
        pytest.param(proof({"crit": ["x"], "x": 1}), "dpop_malformed", id="critical extension"),
        pytest.param(proof({"typ": "JWT"}), "dpop_typ", id="typ of an ID token"),
        pytest.param(proof({"typ": "at+jwt"}), "dpop_typ", id="typ of an access token"),
        pytest.param(proof({"typ": None}), "dpop_typ", id="no typ"),
        pytest.param(proof({"typ": ["dpop+jwt"]}), "dpop_malformed", id="typ is a list"),
        pytest.param(proof({"alg": "none"}), "dpop_alg", id="alg none"),
        pytest.param(proof({"alg": "HS256"}), "dpop_alg", id="HMAC"),
        pytest.param(proof({"alg": None}), "dpop_alg", id="no alg"),
        pytest.param(proof({"alg": ["ES256"]}), "dpop_malformed", id="alg is a list"),
        pytest.param(proof({"alg": "PS256"}), "dpop_jwk", id="alg of another kind of key"),
        pytest.param(proof({"jwk": None}), "dpop_jwk", id="no key"),
        pytest.param(proof({"jwk": "k"}), "dpop_jwk", id="key is text"),
        pytest.param(proof({"jwk": {"kty": "oct", "k": "AAAA"}}), "dpop_jwk", id="symmetric key"),
        pytest.param(proof({"jwk": {**public_jwk(PROVER.key), "d": "AAAA"}}), "dpop_jwk", id="private key"),
        pytest.param(proof({"jwk": {**public_jwk(PROVER.key), "crv": "P-384"}}), "dpop_jwk", id="curve"),
        pytest.param(proof({"jwk": {**public_jwk(PROVER.key), "use": "enc"}}), "dpop_jwk", id="use"),
        pytest.param(proof({"jwk": public_jwk(OTHER)}), "dpop_signature", id="signed by another key"),
        pytest.param(proof()[:-4] + "AAAA", "dpop_signature", id="signature changed"),
        pytest.param(proof(jti=None), "dpop_jti", id="no jti"),
        pytest.param(proof(jti=""), "dpop_jti", id="empty jti"),
        pytest.param(proof(jti=5), "dpop_jti", id="jti a number"),
        pytest.param(proof(jti="j" * 257), "dpop_jti", id="jti too long"),
        pytest.param(proof(jti="\ud800"), "dpop_jti", id="jti that no encoding knows"),
        pytest.param(proof(jti="a\0b"), "dpop_jti", id="NUL in jti"),
        pytest.param(proof(htm="GET"), "dpop_htm", id="other method"),
        pytest.param(proof(htm="post"), "dpop_htm", id="method in lower case"),
        pytest.param(proof(htm=None), "dpop_htm", id="no method"),
        pytest.param(proof(htu="https://login.example/userinfo"), "dpop_htu", id="other address"),
        pytest.param(proof(htu="https://evil.example/token"), "dpop_htu", id="other host"),
        pytest.param(proof(htu=None), "dpop_htu", id="no address"),
        pytest.param(proof(htu=[TOKEN_ADDRESS]), "dpop_htu", id="address is a list"),
        pytest.param(proof(iat=None), "dpop_iat", id="no iat"),
        pytest.param(proof(iat=str(int(NOW.timestamp()))), "dpop_iat", id="iat is text"),
        pytest.param(proof(iat=True), "dpop_iat", id="iat is true"),
        pytest.param(proof(iat=float("inf")), "dpop_iat", id="iat is infinite"),
        pytest.param(proof(iat=float("nan")), "dpop_iat", id="iat is no number"),
        pytest.param(proof(iat=10**400), "dpop_iat", id="iat is huge"),
        pytest.param(proof(exp=int(NOW.timestamp())), "dpop_expired", id="expired"),
        pytest.param(proof(exp="never"), "dpop_expired", id="exp is text"),
    ],
)
@pytest.mark.spec("RFC 9449", "4.3", "a proof with anything wrong is refused")
def test_check_proof_with_one_thing_wrong_is_refused(text: str, reason: str):
    with pytest.raises(InvalidProof) as refusal:
        check(text)

    assert (refusal.value.error, refusal.value.reason) == ("invalid_dpop_proof", reason)


def test_check_proof_by_an_rs256_key_is_refused():
    prover = Prover(RSA)

    with pytest.raises(InvalidProof, match="alg must be one of"):
        check(prover.proof("POST", TOKEN_ADDRESS, NOW))


@pytest.mark.spec("RFC 9449", "4.3", "where a token is used, ath is its hash")
@pytest.mark.parametrize("ath", [None, "", "x", access_token_hash("other"), 5])
def test_check_proof_ath_must_be_the_tokens_hash(ath: object):
    with pytest.raises(InvalidProof, match="ath"):
        check(proof(ath=ath), access_token="token")


def test_check_proof_ath_of_the_token_is_accepted():
    assert check(proof(ath=access_token_hash("token")), access_token="token").jkt == PROVER.jkt


# -- time and nonces ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-60, -59, 0, 9, 10], ids=str)
@pytest.mark.spec("FAPI 2.0 Security Profile", "5.3.2.1", "a clock up to 10 s ahead is accepted")
def test_check_proof_made_within_the_window_is_accepted_until_a_minute_after(seconds: int):
    made = NOW + timedelta(seconds=seconds)

    assert check(proof(iat=int(made.timestamp()))).expires_at == made + PROOF_LIFE


@pytest.mark.parametrize("seconds", [-61, 11, -86_400, 86_400], ids=str)
@pytest.mark.spec("RFC 9449", "11.1", "a proof that is not of now is not accepted")
def test_check_proof_made_by_a_wrong_clock_is_given_a_nonce(seconds: int):
    with pytest.raises(NonceNeeded) as refusal:
        check(proof(iat=int((NOW + timedelta(seconds=seconds)).timestamp())))

    assert refusal.value.error == "use_dpop_nonce"


@pytest.mark.parametrize("seconds", [-86_400, 0, 86_400], ids=str)
@pytest.mark.spec("RFC 9449", "4.3", "a nonce of the server says when the proof was made")
def test_check_proof_with_our_nonce_is_accepted_whatever_the_clock_says(seconds: int):
    iat = int((NOW + timedelta(seconds=seconds)).timestamp())

    found = check(proof(iat=iat, nonce=nonce_at(KEY, NOW)), nonce_required=True)

    assert NOW + NONCE_WINDOW <= found.expires_at <= NOW + 2 * NONCE_WINDOW


@pytest.mark.parametrize(
    "nonce",
    [
        pytest.param("", id="empty"),
        pytest.param("x", id="wrong"),
        pytest.param(5, id="a number"),
        pytest.param(["x"], id="a list"),
        pytest.param("\ud800", id="a lone surrogate"),
        pytest.param(nonce_at(b"m" * 32, NOW), id="by another key"),
        pytest.param(nonce_at(KEY, NOW - 2 * NONCE_WINDOW), id="too old"),
        pytest.param(nonce_at(KEY, NOW + NONCE_WINDOW), id="of the next window"),
    ],
)
@pytest.mark.spec("RFC 9449", "8", "a nonce that is not ours is answered with use_dpop_nonce")
def test_check_proof_with_a_nonce_that_is_not_ours_is_given_one(nonce: object):
    with pytest.raises(NonceNeeded):
        check(proof(nonce=nonce))


def test_check_proof_without_a_nonce_where_one_is_required_is_given_one():
    with pytest.raises(NonceNeeded):
        check(proof(), nonce_required=True)


def test_nonce_is_good_for_the_window_it_was_given_in_and_the_next():
    given_at = datetime(2026, 11, 25, 9, 4, 59, tzinfo=UTC)
    nonce = nonce_at(KEY, given_at)

    assert nonce_end(KEY, nonce, given_at) == datetime(2026, 11, 25, 9, 10, tzinfo=UTC)
    assert nonce_end(KEY, nonce, given_at + timedelta(minutes=5)) is not None
    assert nonce_end(KEY, nonce, given_at + timedelta(minutes=5, seconds=1)) is None
    assert nonce_at(KEY, given_at + timedelta(seconds=1)) != nonce


def test_clock_ahead_is_shorter_than_the_life_of_a_proof():
    assert CLOCK_AHEAD < PROOF_LIFE


# -- addresses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "htu",
    [
        "https://login.example/token",
        "https://login.example/token?x=1",
        "https://login.example/token#x",
        "https://login.example/token?x=1#y",
        "HTTPS://LOGIN.example/token",
        "https://login.example:443/token",
        "https://login.example/%74oken",
    ],
)
@pytest.mark.spec("RFC 9449", "4.3", "htu is compared without query and fragment, in its normal form")
def test_is_same_address_other_spelling_is_the_same(htu: str):
    assert is_same_address(htu, [TOKEN_ADDRESS])


@pytest.mark.parametrize(
    "htu",
    [
        "", "/token", "token", "https://login.example", "https://login.example/", "https://login.example/token/",
        "https://login.example/TOKEN", "http://login.example/token", "https://login.example:8443/token",
        "https://login.example:80/token", "https://user@login.example/token", "https://login.example.evil/token",
        "https://login.example/x/../token", "https://login.example//token", "https://login.example/token%2F",
        "ftp://login.example/token", "https://login.example\\@evil.example/token", " https://login.example/token",
        "https://login.example/token\n", "https://lоgin.example/token",
    ],
)  # fmt: skip
def test_is_same_address_other_address_is_another(htu: str):
    assert not is_same_address(htu, [TOKEN_ADDRESS])


@given(st.text(max_size=60))
def test_is_same_address_any_text_never_raises(htu: str):
    is_same_address(htu, [TOKEN_ADDRESS])


# -- what names a key -------------------------------------------------------------------------------------------


def test_check_named_key_takes_a_thumbprint_and_nothing():
    assert check_named_key(PROVER.jkt) == PROVER.jkt
    assert check_named_key(None) == ""


@pytest.mark.parametrize("text", ["x", "a" * 42, "a" * 44, "=" * 43, "ه" * 43, "a" * 42 + "\n"])
@pytest.mark.spec("RFC 9449", "10", "dpop_jkt that is no thumbprint is refused")
def test_check_named_key_anything_else_is_refused(text: str):
    with pytest.raises(OAuthError, match="dpop_jkt"):
        check_named_key(text)


@pytest.mark.parametrize(
    ("asked", "proved", "met"),
    [
        (UNBOUND, UNBOUND, True),
        (UNBOUND, Binding("k", "c"), True),
        (Binding("k"), Binding("k"), True),
        (Binding("k"), Binding("k", "c"), True),
        (Binding("k"), UNBOUND, False),
        (Binding("k"), Binding("l"), False),
        (Binding(x5t="c"), Binding("c"), False),
        (Binding("k", "c"), Binding("k"), False),
        (Binding("k", "c"), Binding("k", "c"), True),
    ],
)
def test_binding_is_met_by_the_same_keys_and_no_fewer(asked: Binding, proved: Binding, met: bool):
    assert asked.is_met_by(proved) is met


@pytest.mark.parametrize("binding", [Binding("k"), Binding(x5t="c"), Binding("k", "c")])
def test_binding_survives_being_written_into_a_token(binding: Binding):
    assert Binding.of(binding.confirmation) == binding


@pytest.mark.parametrize("cnf", [{"jwk": {}}, {"jkt": "k", "kid": "x"}, "k", 5, ["jkt"]])
def test_binding_of_a_kind_that_is_not_understood_is_an_error(cnf: object):
    with pytest.raises(ValueError, match="unknown kind"):
        Binding.of(cnf)


# -- anything at all ----------------------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
members = st.sampled_from(
    ["jti", "htm", "htu", "iat", "exp", "nonce", "ath", "typ", "alg", "jwk", "crit", "x"]
)


@given(st.dictionaries(members, anything, max_size=4), st.dictionaries(members, anything, max_size=3))
def test_a14_fuzz_signed_proof_of_any_content_is_judged_and_never_fails(claims: dict, header: dict):
    text = signed(
        PROVER.key,
        {"typ": "dpop+jwt", "alg": "ES256", "jwk": public_jwk(PROVER.key), **header},
        {"jti": "j", "htm": "POST", "htu": TOKEN_ADDRESS, "iat": int(NOW.timestamp()), **claims},
    )

    try:
        found = check(text)
    except (InvalidProof, NonceNeeded):
        return
    assert found.jkt == PROVER.jkt


@given(st.binary(max_size=200), st.integers(0, 3))
def test_a14_fuzz_any_bytes_are_refused(data: bytes, cut: int):
    text = base64.urlsafe_b64encode(data).decode().rstrip("=")

    with pytest.raises(InvalidProof):
        check(".".join([text] * cut))


@given(st.data())
def test_a14_fuzz_mutated_proof_is_refused_or_the_same(data: st.DataObject):
    good = proof()
    at = data.draw(st.integers(0, len(good) - 1))
    text = good[:at] + data.draw(st.sampled_from("ABCxyz-_.=, ")) + good[at + 1 :]

    if text == good:
        return
    with pytest.raises((InvalidProof, NonceNeeded)):
        check(text)


@pytest.mark.spec(
    "RFC 9864", "2.2", "Ed25519 is another name of EdDSA with that curve, for the same kind of key only"
)
def test_check_proof_with_the_newer_name_of_eddsa_is_accepted():
    prover = Prover(private_key("EdDSA"))

    assert check(prover.proof("POST", TOKEN_ADDRESS, NOW, header={"alg": "Ed25519"})).jkt == prover.jkt
    with pytest.raises(InvalidProof):
        check(proof({"alg": "Ed25519"}))
