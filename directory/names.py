r"""Names of entries as keys: two spellings of one name have one key. Pure.

A DN is a chain of RDNs, and only the entry's own RDN and its parent are stored: so an OU that is renamed is one row.
Most names are plain ASCII without escapes and take the fast way; the others are parsed as RFC 4514 says.
"""

import re
from functools import lru_cache
from hashlib import blake2b

from directory.entries import dn_key

KEY_BYTES = 16
ROOT = b""
_PLAIN_RDN = re.compile(rb"[A-Za-z]+=[A-Za-z0-9._@/-]+(?: [A-Za-z0-9._@/-]+)*")
_SHORT_TYPES = {
    "organizationalunitname": "ou", "2.5.4.11": "ou", "commonname": "cn", "2.5.4.3": "cn", "userid": "uid",
    "0.9.2342.19200300.100.1.1": "uid", "domaincomponent": "dc", "0.9.2342.19200300.100.1.25": "dc",
    "organizationname": "o", "2.5.4.10": "o",
}  # fmt: skip


def split(dn: bytes) -> tuple[bytes, bytes]:
    """Return an entry's own RDN and the DN of its parent, as they were written."""
    if b"\\" not in dn and b'"' not in dn:
        own, _, parent = dn.partition(b",")
        return own.strip(), parent.lstrip()
    position, is_quoted = 0, False
    while position < len(dn):
        byte = dn[position : position + 1]
        if byte == b"\\":
            position += 2
            continue
        if byte == b'"':
            is_quoted = not is_quoted
        elif byte == b"," and not is_quoted:
            return dn[:position].lstrip(), dn[position + 1 :].lstrip()
        position += 1
    return dn.lstrip(), b""


def rdn_key(rdn: bytes) -> str:
    """Return the key of an RDN, 32 hex digits; raises ValueError when it is none."""
    return blake2b(_canonical(rdn), digest_size=KEY_BYTES).hexdigest()


def key(dn: bytes) -> bytes:
    """Return the key of a whole DN; raises ValueError when it is none."""
    if not dn:
        return ROOT
    own, parent = split(dn)
    above = _parent_key(parent) if parent else ROOT
    return blake2b(_canonical(own), key=above, digest_size=KEY_BYTES).digest()


def given(member: bytes) -> int:
    """Return a number for a member's name as it was written, to know it again without resolving it."""
    return int.from_bytes(blake2b(member, digest_size=8).digest(), "big", signed=True)


@lru_cache(maxsize=8192)
def _parent_key(dn: bytes) -> bytes:
    return key(dn)


def _canonical(rdn: bytes) -> bytes:
    if _PLAIN_RDN.fullmatch(rdn):
        kind, _, value = rdn.lower().partition(b"=")
        short = _SHORT_TYPES.get(kind.decode("ascii"))
        return (short.encode() if short else kind) + b"=" + value
    (parts,) = dn_key(rdn.decode("utf-8"))  # UnicodeDecodeError is a ValueError
    texts = (f"{_SHORT_TYPES.get(kind, kind)}={_escape(value)}" for kind, value in parts)
    return "+".join(sorted(texts)).encode("utf-8", "surrogatepass")


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("+", "\\+").replace("=", "\\=")
