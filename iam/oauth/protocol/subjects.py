"""The name by which one client knows a person. Pure.

A pairwise client gets a name that no other sector gets, so that two of them cannot put together what they know
of one person. It is computed, never stored, and leads back to nobody without the salt. Why: docs/adr/0027.
Spec: OIDC Core §8, §8.1.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from .jose import encode_segment
from .messages import ClientFacts
from .options import ClientOptions


def is_pairwise(client: ClientFacts) -> bool:
    """Say whether a client knows people by a name of its own."""
    return client.options.subject_type == "pairwise"


def sector_of(options: ClientOptions, redirect_uris: Iterable[str]) -> str:
    """Return the host that a client's sector is named by; "" when nothing names one.

    Without `sector_identifier_uri` it is the one https host of the redirect addresses: a loopback or private
    scheme belongs to every native application at once and names nobody. Spec: OIDC Core §8.1.
    """
    if options.sector_identifier_uri:
        return urlsplit(options.sector_identifier_uri).hostname or ""
    parts = [urlsplit(uri) for uri in redirect_uris]
    hosts = {part.hostname or "" if part.scheme == "https" else "" for part in parts}
    return hosts.pop() if len(hosts) == 1 else ""


def problem_with_sector(listed: Any, redirect_uris: Iterable[str]) -> str:  # Any: JSON from outside
    """Return why a sector's document does not speak for a client, "" when it does. Spec: OIDC Registration §5."""
    if not isinstance(listed, list) or not all(isinstance(uri, str) for uri in listed):
        return "the document must be a JSON array of redirect addresses"
    for uri in redirect_uris:
        if uri not in listed:
            return f"the document does not list {uri[:200]}"
    return ""


def pairwise(salt: bytes, sector: str, sub: str) -> str:
    """Return a person's name in a sector: always the same, different in every other, not to be turned back.

    Raises: ValueError without a sector, which would be a name that all such clients share.
    """
    if not sector:
        raise ValueError("a pairwise subject needs a sector")
    return encode_segment(hmac.new(salt, f"{sector}\0{sub}".encode(), hashlib.sha256).digest())


def subject(client: ClientFacts, salt: bytes, sub: str) -> str:
    """Return the `sub` that this client is told. Raises: ValueError, which denies."""
    if not is_pairwise(client):
        return sub
    return pairwise(salt, sector_of(client.options, client.redirect_uris), sub)
