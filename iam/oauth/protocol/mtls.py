"""Client certificates: read from a trusted proxy's header, and compared with what a client registered. Pure.

TLS ends at a reverse proxy, so a certificate reaches us as text in a header, which anybody could send who
reaches us directly: it counts only from an address that is configured as a proxy of ours. What the proxy
vouches for is that the client holds the certificate's key, and nothing else.
Spec: RFC 8705 §2, §3, §6.5; RFC 9440 §2.2, §4.
"""

import base64
import binascii
import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from .jose import encode_segment
from .jwk import BadKey, read_key

# A certificate with an RSA 8192 key and many names is below 6 KB; escaped PEM is a little more than its base64.
HEADER_LENGTH_MAX = 16_384
_PEM_BEGIN = "-----BEGIN CERTIFICATE-----"
_PEM_END = "-----END CERTIFICATE-----"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def certificate_from_proxy(remote: str, header: str, proxies: Iterable[Network]) -> str:
    """Return the client's certificate, DER in base64, as it stands in `Request.certificate`; "" when there is none.

    In: `remote` the address at the other end of the connection, `header` what the header held. A header that
    comes from anybody but a proxy, and one that is no single certificate, is as good as none: whatever needs a
    certificate is then refused. Spec: RFC 9440 §2.2 (`:base64:`); nginx's escaped PEM.
    """
    if not header or not _is_proxy(remote, proxies) or len(header) > HEADER_LENGTH_MAX:
        return ""
    text = header.strip(" \t")
    encoded = text[1:-1] if text.startswith(":") and text.endswith(":") else _pem_body(text)
    try:
        der = base64.b64decode(encoded, validate=True)
        x509.load_der_x509_certificate(der)
    except (binascii.Error, ValueError):
        return ""
    return base64.b64encode(der).decode("ascii")


def certificate_thumbprint(certificate: str) -> str:
    """Return the SHA-256 of a certificate (`Request.certificate`), base64url. Spec: RFC 8705 §3.1 (`x5t#S256`)."""
    return encode_segment(hashlib.sha256(base64.b64decode(certificate)).digest())


def _pem_body(text: str) -> str:
    """Return the base64 of one PEM certificate, escaped or with spaces for its line ends; "" for anything else."""
    plain = unquote(text, errors="replace").strip()
    if not plain.startswith(_PEM_BEGIN) or not plain.endswith(_PEM_END):
        return ""
    return "".join(plain[len(_PEM_BEGIN) : -len(_PEM_END)].split())


def _is_proxy(remote: str, proxies: Iterable[Network]) -> bool:
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            return False
        address = address.ipv4_mapped or address
    return any(address.version == network.version and address in network for network in proxies)


# -- who a certificate says its holder is ------------------------------------------------------------------------

# The five ways in which a client registers which certificate is its own. Spec: RFC 8705 §2.1.2.
SUBJECT_FIELDS = (
    "tls_client_auth_subject_dn",
    "tls_client_auth_san_dns",
    "tls_client_auth_san_uri",
    "tls_client_auth_san_ip",
    "tls_client_auth_san_email",
)


def problem_with_subject(field: str, expected: str) -> str:
    """Return why a registered subject could match no certificate, or "" when it could."""
    try:
        match field:
            case "tls_client_auth_subject_dn":
                return "" if x509.Name.from_rfc4514_string(expected).rdns else "must not be empty"
            case "tls_client_auth_san_ip":
                ipaddress.ip_address(expected)
            case "tls_client_auth_san_uri":
                return "" if ":" in expected else "must be an absolute URI"
            case "tls_client_auth_san_email":
                return "" if "@" in expected.strip("@") else "must be an e-mail address"
            case _:
                return "must be one name, without a wildcard" if set(expected) & set("*/: ") else ""
    except ValueError:
        return "cannot be read: give an RFC 4514 name such as CN=app,O=Secretariat, or an IP address"
    return ""


def has_subject(certificate: str, field: str, expected: str) -> bool:
    """Say whether a certificate names its holder as the client registered it, exactly.

    A distinguished name is compared as parsed values in their order, not as text: there are many ways to write one.
    Values are compared as they are, upper and lower case included: two names that only some comparison holds equal
    may be two holders. Spec: RFC 8705 §2.1, §2.1.2; RFC 4514 §3; RFC 5280 §7.
    """
    try:
        known = _loaded(certificate)
        if field == "tls_client_auth_subject_dn":
            return known.subject == x509.Name.from_rfc4514_string(expected)
        names = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        match field:
            case "tls_client_auth_san_dns":
                given = names.get_values_for_type(x509.DNSName)
                return expected.lower() in [name.lower() for name in given]
            case "tls_client_auth_san_uri":
                return expected in names.get_values_for_type(x509.UniformResourceIdentifier)
            case "tls_client_auth_san_ip":
                return ipaddress.ip_address(expected) in names.get_values_for_type(x509.IPAddress)
            case "tls_client_auth_san_email":
                return expected in names.get_values_for_type(x509.RFC822Name)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        pass  # what cannot be read names nobody
    return False


def has_key(certificate: str, jwks: Iterable[Mapping[str, Any]]) -> bool:  # Any: public JWKs
    """Say whether a certificate's key is one that the client registered.

    The certificate is only what carries the key: neither its names nor its dates were promised by anybody.
    Spec: RFC 8705 §2.2.2.
    """
    try:
        shown = _loaded(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    for jwk in jwks:
        try:
            if read_key(jwk).public == shown:
                return True
        except BadKey:
            continue
    return False


def _loaded(certificate: str) -> x509.Certificate:
    return x509.load_der_x509_certificate(base64.b64decode(certificate))
