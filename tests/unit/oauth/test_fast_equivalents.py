"""What was made fast says the same as what is plain."""

import json
import uuid
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from iam.audit.facts import new_request_id
from iam.oauth.protocol import jose
from iam.oauth.protocol.parameters import _pairs

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
NUMBERS = st.one_of(
    st.integers(1, P256_ORDER - 1), st.integers(0, 255).map(lambda bits: (1 << bits) % P256_ORDER or 1)
)


@given(st.text(alphabet="ab&=;+% \u00e9\x00", max_size=40))
def test_form_is_read_as_the_standard_library_reads_it(text):
    assert _pairs(text) == parse_qsl(text, keep_blank_values=True, errors="replace")


@given(NUMBERS, NUMBERS)
def test_signature_is_taken_out_of_der_whatever_its_numbers(r, s):
    assert jose._raw_of_der(encode_dss_signature(r, s)) == r.to_bytes(32, "big") + s.to_bytes(32, "big")


def test_signature_of_openssl_is_read():
    key = ec.generate_private_key(ec.SECP256R1())
    for _ in range(300):
        der = key.sign(b"x", jose._ES256)
        r, s = decode_dss_signature(der)
        assert jose._raw_of_der(der) == r.to_bytes(32, "big") + s.to_bytes(32, "big")


def test_request_id_is_a_random_uuid():
    seen = {new_request_id() for _ in range(1_000)}

    assert len(seen) == 1_000
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant, str(uuid.UUID(one)) == one) for one in seen} == {
        (4, uuid.RFC_4122, True)
    }


def test_header_of_a_token_is_that_of_its_key():
    made = {
        (a, k, t): jose._head(a, k, t)
        for a in ("ES256", "RS256")
        for k in ("k1", "k2")
        for t in ("at+jwt", "JWT")
    }

    for (algorithm, kid, typ), text in made.items():
        assert json.loads(jose.decode_segment(text)) == {"alg": algorithm, "kid": kid, "typ": typ}
