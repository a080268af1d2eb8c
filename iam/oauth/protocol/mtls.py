"""Client certificates: read from a trusted proxy's header, named by their thumbprint. Pure.

TLS ends at a reverse proxy, so a certificate reaches us as text in a header, which anybody could send who
reaches us directly: it counts only from an address that is configured as a proxy of ours. What the proxy
vouches for is that the client holds the certificate's key, and nothing else.
Spec: RFC 8705 §2, §3, §6.5; RFC 9440 §2.2, §4.
"""

import base64
import binascii
import hashlib
import ipaddress
from collections.abc import Iterable
from urllib.parse import unquote

from cryptography import x509

from .jose import encode_segment

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
