"""Opaque access tokens: 256 random bits under a digest, for clients whose tokens must say nothing by themselves. Pure."""

import hashlib
import re
import secrets

PREFIX = "at_"
_FORM = re.compile(r"at_[A-Za-z0-9_-]{43}", re.ASCII)


def new_token() -> str:
    """Return a fresh token."""
    return PREFIX + secrets.token_urlsafe(32)


def is_opaque(text: str) -> bool:
    """Say whether a text has the form of one; a JWT never has."""
    return _FORM.fullmatch(text) is not None


def digest(text: str) -> str:
    """Return the digest under which it is stored; there is nothing to guess, so a plain hash is enough."""
    return hashlib.sha256(text.encode()).hexdigest()
