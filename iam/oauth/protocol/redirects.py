"""Compare redirect URIs: exactly, and for loopback addresses all but the port. Pure.

Spec: RFC 9700 §2.1 and §4.1.3 (exact string matching), RFC 8252 §7.3 (loopback port), RFC 3986.
"""

import re
from urllib.parse import urlsplit

# Only the two loopback literals and only without a registered port: a name like "localhost" may be
# answered by something else than this machine (RFC 8252 §8.3), and a registered port is meant.
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\])(?::([1-9][0-9]{0,4}))?(/[^?#]*)?(\?[^#]*)?", re.ASCII)
_FORBIDDEN_SCHEMES = frozenset(
    {"javascript", "data", "vbscript", "file", "blob", "about", "ftp", "ws", "wss"}
)


def is_registered(uri: str, registered: tuple[str, ...]) -> bool:
    """Say whether `uri` is one of `registered`.

    Spec: RFC 9700 §4.1.3, RFC 8252 §7.3.
    """
    return uri in registered or any(_same_but_port(uri, known) for known in registered)


def _same_but_port(uri: str, known: str) -> bool:
    asked = _LOOPBACK.fullmatch(uri)
    base = _LOOPBACK.fullmatch(known)
    if asked is None or base is None or base.group(2) is not None or asked.group(2) is None:
        return False
    if int(asked.group(2)) > 65535:
        return False
    return (asked.group(1), asked.group(3), asked.group(4)) == (base.group(1), base.group(3), base.group(4))


def origin(uri: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a registered address, the default port spelled out. Spec: RFC 6454 §4."""
    parts = urlsplit(uri)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def problem_with(uri: str) -> str:
    """Return why `uri` may not be registered as a redirect, or "" when it may.

    Spec: RFC 6749 §3.1.2 (absolute, no fragment), RFC 9700 §2.1 (https but for loopback), RFC 8252 §7.1.
    """
    if len(uri) > 2000 or not uri.isascii() or any(ord(c) <= 0x20 or ord(c) == 0x7F for c in uri):
        return "must be at most 2000 printable ASCII characters"
    if "#" in uri:
        return "must not have a fragment"
    if "*" in uri:
        return "must not have a wildcard"
    if "\\" in uri:
        return "must not have a backslash"
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return "is not a valid address"
    if parts.username is not None or parts.password is not None:
        return "must not carry a user name"
    scheme = parts.scheme.lower()
    if uri.split(":", 1)[0] != scheme:
        return "must have a lower-case scheme"
    if scheme == "https":
        return "" if parts.hostname else "needs a host"
    if scheme == "http":
        loopback = parts.hostname in {"127.0.0.1", "::1"} or parts.hostname == "localhost"
        return "" if loopback and port != 0 else "must use https (http only on a loopback address)"
    if scheme in _FORBIDDEN_SCHEMES:
        return "has a scheme that a browser runs or reads by itself"
    if "." not in scheme:
        return "must use https, or a private scheme in reverse domain form such as org.example.app:/callback"
    return ""
