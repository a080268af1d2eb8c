"""Client certificates: which header is believed, and what a certificate is called."""

import base64
import hashlib
import ipaddress
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from iam.oauth.protocol.mtls import HEADER_LENGTH_MAX, certificate_from_proxy, certificate_thumbprint

PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8:ffff::/48"))
PROXY = "10.0.0.1"


def _certificate() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )


CERTIFICATE = _certificate()
DER = CERTIFICATE.public_bytes(serialization.Encoding.DER)
PEM = CERTIFICATE.public_bytes(serialization.Encoding.PEM).decode()
BASE64 = base64.b64encode(DER).decode()


@pytest.mark.spec("RFC 9440", "2.2", "Client-Cert is a byte sequence of the DER certificate")
def test_certificate_from_proxy_byte_sequence_is_read():
    assert certificate_from_proxy(PROXY, f":{BASE64}:", PROXIES) == BASE64


@pytest.mark.parametrize(
    "header", [quote(PEM, safe=""), quote(PEM), PEM.replace("\n", " "), PEM.replace("\n", "\t")]
)
def test_certificate_from_proxy_escaped_pem_is_read(header):
    assert certificate_from_proxy(PROXY, header, PROXIES) == BASE64


@pytest.mark.spec("RFC 9440", "4", "the header of anybody but the proxy is not believed")
@pytest.mark.parametrize(
    "remote",
    ["192.0.2.1", "", "unix:", "garbage", "fe80::1%eth0", "2001:db8:fffe::1", "0x0a.1", "10.0.0.1:443"],
)
def test_certificate_from_anybody_but_a_proxy_is_none(remote):
    assert certificate_from_proxy(remote, f":{BASE64}:", PROXIES) == ""


@pytest.mark.parametrize("remote", ["10.255.0.9", "::ffff:10.0.0.1", "2001:db8:ffff::5"])
def test_certificate_from_each_proxy_is_read(remote):
    assert certificate_from_proxy(remote, f":{BASE64}:", PROXIES) == BASE64


def test_certificate_without_configured_proxies_is_none():
    assert certificate_from_proxy("127.0.0.1", f":{BASE64}:", ()) == ""


@pytest.mark.parametrize(
    "header",
    [
        "", ":", "::", ":::", BASE64, f":{BASE64}", f"{BASE64}:", f":{BASE64}:,:{BASE64}:", f":{BASE64}:, :{BASE64}:",
        f":{BASE64}:;a=1", f":{BASE64[:-8]}:", f":{base64.b64encode(DER + b'x').decode()}:", ":####:", ":\0:", "é",
        quote(PEM + PEM), quote(PEM[:-30]), quote("x" + PEM), quote(PEM.replace("CERTIFICATE", "PUBLIC KEY")),
        "%", "%00", "(null)", "undefined", ":" + "A" * HEADER_LENGTH_MAX + ":", quote(PEM) + " " * HEADER_LENGTH_MAX,
    ],
)  # fmt: skip
def test_certificate_that_cannot_be_read_or_is_not_one_is_none(header):
    assert certificate_from_proxy(PROXY, header, PROXIES) == ""


@pytest.mark.spec("RFC 8705", "3.1", "x5t#S256 is base64url of the SHA-256 of the DER certificate")
def test_certificate_thumbprint_is_the_digest_of_its_der():
    digest = hashlib.sha256(DER).digest()

    assert certificate_thumbprint(BASE64) == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
