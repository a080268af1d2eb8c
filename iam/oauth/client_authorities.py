"""The authorities whose client certificates count for `tls_client_auth`, and whether one of them issued a certificate.

The chain is verified here, and not left to the proxy: a proxy that serves self-signed certificates too has to let every
certificate pass, and would then vouch for any name that somebody wrote into one. Spec: RFC 8705 §2.1, §7.3; RFC 5280 §6.
"""

import base64
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)
from django.conf import settings

from .protocol.client_auth import CERTIFICATE_METHODS, METHODS

# An authority of the house and at most one below it in the file.
_DEPTH_MAX = 2


def is_trusted(certificate: str, now: datetime) -> bool:
    """Say whether a configured authority issued a certificate (DER in base64), for clients, and it is valid now."""
    store = _store(settings.IAM_CLIENT_CERTIFICATE_CA_FILE)
    if store is None:
        return False
    verifier = (
        PolicyBuilder()
        .store(store)
        .time(now)
        .max_chain_depth(_DEPTH_MAX)
        .extension_policies(ca_policy=_ca_policy(), ee_policy=_ee_policy())
        .build_client_verifier()
    )
    try:
        verifier.verify(x509.load_der_x509_certificate(base64.b64decode(certificate)), [])
    except (VerificationError, ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        return False
    return True


def switched_on_methods() -> tuple[str, ...]:
    """Return the methods of client authentication that can succeed as things are configured."""
    off: set[str] = set()
    if not settings.IAM_TRUSTED_PROXIES:
        off.update(CERTIFICATE_METHODS)
    if not settings.IAM_CLIENT_CERTIFICATE_CA_FILE:
        off.add("tls_client_auth")
    return tuple(method for method in METHODS if method not in off)


@lru_cache(4)
def _store(ca_file: str) -> Store | None:
    """Read the authorities; a change of the file is seen at the next start, as with every setting."""
    return Store(x509.load_pem_x509_certificates(Path(ca_file).read_bytes())) if ca_file else None


def _ee_policy() -> ExtensionPolicy:
    """Return what a client's certificate must be: the public web's rules, but for names that a machine may not have."""
    return (
        ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.AGNOSTIC, None)
    )


def _ca_policy() -> ExtensionPolicy:
    """Return what an authority must be: the public web's rules, but a root of a house may leave its usage unsaid."""
    return (
        ExtensionPolicy.webpki_defaults_ca()
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs_certificates)
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.AGNOSTIC, None)
        .may_be_present(x509.SubjectKeyIdentifier, Criticality.AGNOSTIC, None)
    )


def _signs_certificates(policy: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("the key is not for signing certificates")
