"""A certificate authority for one machine: `make run` and the tests give their directory a certificate with it.

Never for production: the authority's key is thrown away as soon as the server's certificate is signed, so that
nobody can sign another one with it.
"""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = dt.timedelta(days=820)  # under the 825 days that strict clients accept
RENEW_BEFORE_END = dt.timedelta(days=14)


class Flaw(StrEnum):
    """What is wrong with the server's certificate, for the tests that must be refused."""

    NONE = "none"
    WRONG_NAME = "wrong-name"
    EXPIRED = "expired"
    UNKNOWN_CA = "unknown-ca"  # ca.pem is not the authority that signed server.pem


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: what clients trust, and what the server shows."""

    ca_file: Path
    certificate_file: Path
    key_file: Path


def make(
    folder: Path,
    *,
    names: tuple[str, ...] = ("localhost",),
    addresses: tuple[str, ...] = ("127.0.0.1", "::1"),
    flaw: Flaw = Flaw.NONE,
) -> Certificates:
    """Write a new authority and a server certificate signed by it into `folder`, replacing older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    now = dt.datetime.now(dt.UTC)
    if flaw is Flaw.WRONG_NAME:
        names, addresses = ("directory.elsewhere.example",), ("192.0.2.1",)
    start, end = now - dt.timedelta(minutes=5), now + LIFE
    if flaw is Flaw.EXPIRED:
        start, end = now - dt.timedelta(days=3), now - dt.timedelta(days=1)

    ca_key, ca = _authority(now)
    trusted = _authority(now)[1] if flaw is Flaw.UNKNOWN_CA else ca
    key = ec.generate_private_key(ec.SECP256R1())
    alternative: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternative += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(names[0]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )

    made = _files(folder)
    made.ca_file.write_bytes(trusted.public_bytes(serialization.Encoding.PEM))
    made.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key_file.touch(mode=0o600)
    made.key_file.chmod(0o600)
    made.key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made


def load_or_make(folder: Path) -> Certificates:
    """Return the certificates of an earlier run while they are valid, else new ones."""
    found = _files(folder)
    try:
        certificate = x509.load_pem_x509_certificate(found.certificate_file.read_bytes())
        ca = x509.load_pem_x509_certificate(found.ca_file.read_bytes())
        certificate.verify_directly_issued_by(ca)
        key = serialization.load_pem_private_key(found.key_file.read_bytes(), password=None)
        is_usable = key.public_key() == certificate.public_key()
    except (OSError, ValueError, TypeError, InvalidSignature):
        return make(folder)
    ends = certificate.not_valid_after_utc
    return found if is_usable and dt.datetime.now(dt.UTC) + RENEW_BEFORE_END < ends else make(folder)


def _files(folder: Path) -> Certificates:
    return Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _authority(now: dt.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Test authority of this machine only")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=4))
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
