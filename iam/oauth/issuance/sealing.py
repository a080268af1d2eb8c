"""How an answer leaves: in the clear, signed, or signed and encrypted, as its reader is registered.

Spec: OIDC Core §5.3.2, §10.2; OIDC Back-Channel Logout §2.4; RFC 9701 §5.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from iam.oauth.ports import State
from iam.oauth.protocol.claims import seconds
from iam.oauth.protocol.encryption import DEFAULT_CONTENT_ENCRYPTION, NoEncryptionKey, encrypt
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ClientFacts, json_text

# Types of their own, so that none of them can be taken for an ID token or an access token (RFC 8725 §3.11, A13).
USERINFO_TYP = "userinfo+jwt"
INTROSPECTION_TYP = "token-introspection+jwt"
# RFC 9701 §6: what `introspection_signed_response_alg` is when a resource server says nothing.
INTROSPECTION_ALG = {"standard": "RS256", "high": "PS256"}  # FAPI 2.0 §5.4.1 has no RS256


def sealed_token(state: State, client: ClientFacts, token: str, issuer: str = "") -> str:
    """Return an ID or logout token, encrypted if its client asked for that. Raises: OAuthError invalid_request.

    In: `issuer` for the header of an encrypted one. Spec: OIDC Back-Channel Logout §2.4.
    """
    options = client.options
    if not options.id_token_encrypted_response_alg:
        return token
    algorithm, content = options.id_token_encrypted_response_alg, options.id_token_encrypted_response_enc
    return _encrypted(state, client, token, algorithm, content, nested=True, issuer=issuer)


def sealed_userinfo(
    state: State, client: ClientFacts, answer: Mapping[str, Any], now: datetime
) -> str | None:  # Any: JSON
    """Return the userinfo answer as the JWT that its client asked for; None when it did not.

    Raises: OAuthError invalid_request. Spec: OIDC Core §5.3.2 (`iss` and `aud` in a signed one).
    """
    options = client.options
    signing, algorithm = options.userinfo_signed_response_alg, options.userinfo_encrypted_response_alg
    if not signing and not algorithm:
        return None
    text = ""
    if signing:
        claims = {**answer, "iss": state.issuer, "aud": client.client_id, "iat": seconds(now)}
        text = state.signing_key(signing).sign(USERINFO_TYP, claims)
    if not algorithm:
        return text
    content = options.userinfo_encrypted_response_enc
    return _encrypted(state, client, text or json_text(answer), algorithm, content, nested=bool(signing))


def signed_introspection(
    state: State, asker: ClientFacts, answer: Mapping[str, Any], now: datetime
) -> str:  # Any: JSON
    """Return an introspection answer as a JWT for the resource server that asked.

    `sub` and `exp` stand only inside, so that it cannot be taken for an access token. Spec: RFC 9701 §5.
    """
    claims = {
        "iss": state.issuer,
        "aud": asker.client_id,
        "iat": seconds(now),
        "token_introspection": dict(answer),
    }
    algorithm = asker.options.introspection_signed_response_alg or INTROSPECTION_ALG[asker.options.profile]
    return state.signing_key(algorithm).sign(INTROSPECTION_TYP, claims)


def _encrypted(
    state: State,
    client: ClientFacts,
    text: str,
    algorithm: str,
    content: str,
    *,
    nested: bool,
    issuer: str = "",
) -> str:
    try:
        return encrypt(
            text,
            state.client_keys(client, ""),
            algorithm,
            content or DEFAULT_CONTENT_ENCRYPTION,
            nested=nested,
            issuer=issuer,
        )
    except NoEncryptionKey as problem:
        raise OAuthError(
            "invalid_request",
            f"This client's answers are encrypted, but it has no key with use enc for {algorithm}.",
            reason="no_encryption_key",
        ) from problem
