"""Proof Key for Code Exchange, S256 only. Pure. Spec: RFC 7636."""

import base64
import hashlib
import re

from .errors import OAuthError

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)


def check_challenge(challenge: str | None, method: str | None) -> str:
    """Return the challenge of an authorization request.

    Raises: OAuthError invalid_request when it is missing, malformed, or `plain`. Spec: RFC 7636 §4.3, §4.4.1;
    RFC 9700 §2.1.1.
    """
    if challenge is None:
        raise OAuthError("invalid_request", "code_challenge is required (PKCE, S256).", reason="pkce_missing")
    if method != "S256":
        raise OAuthError("invalid_request", "code_challenge_method must be S256.", reason="pkce_method")
    if not _CHALLENGE.fullmatch(challenge):
        raise OAuthError(
            "invalid_request", "code_challenge must be 43 characters of base64url.", reason="pkce_malformed"
        )
    return challenge


def challenge_of(verifier: str | None) -> str:
    """Return the S256 challenge that belongs to a verifier.

    Raises: OAuthError invalid_request when it is missing, invalid_grant when malformed. Spec: RFC 7636 §4.5, §4.6.
    """
    if verifier is None:
        raise OAuthError("invalid_request", "code_verifier is required (PKCE).", reason="pkce_missing")
    if not _VERIFIER.fullmatch(verifier):
        raise OAuthError("invalid_grant", "code_verifier is malformed.", reason="pkce_malformed")
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
