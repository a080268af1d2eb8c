"""Certificates that clients show: of an authority, of somebody who calls themselves so, and of nobody but themselves."""

import base64
import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=2))
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate with its key in two files, as `requests` takes them, and how headers spell it."""

    files: tuple[str, str]
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def spellings(self) -> tuple[str, str]:
        """As nginx escapes it, and as RFC 9440 §2.2 writes it."""
        pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        return quote(pem, safe=""), f":{base64.b64encode(self.der).decode()}:"

    def jwk(self) -> dict[str, str]:
        numbers = self.certificate.public_key().public_numbers()  # type: ignore[union-attr]

        def text(number: int) -> str:
            return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()

        return {"kty": "EC", "crv": "P-256", "x": text(numbers.x), "y": text(numbers.y)}  # type: ignore[union-attr]


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Shown:
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return Shown((str(files[0]), str(files[1])), certificate)


@dataclass(frozen=True, slots=True)
class Authority:
    """Somebody who issues certificates for clients; `file` is what the service trusts, if it does."""

    folder: Path
    name: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def file(self) -> Path:
        path = self.folder / f"{self.name}-ca.pem"
        if not path.exists():
            certificate = (
                _builder(self.name, self.name, self.key.public_key())
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(
                    x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False
                )
                .add_extension(_usage(signs_certificates=True), critical=True)
                .sign(self.key, SHA256())
            )
            path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def issue(self, common_name: str) -> Shown:
        """Issue a certificate for a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(common_name, self.name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, SHA256())
        )
        return _write(self.folder, f"{self.name}-{common_name}", certificate, key)


def self_signed(folder: Path, common_name: str) -> Shown:
    """Make a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _write(
        folder, common_name, _builder(common_name, common_name, key.public_key()).sign(key, SHA256()), key
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
