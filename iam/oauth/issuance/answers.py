"""The answer to an authorization request, signed: an envelope, which gives nobody anything by itself.

A code in it passed the gate when it was stored; an error needs nobody's clearance.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from iam.oauth.ports import State
from iam.oauth.protocol.claims import seconds
from iam.oauth.protocol.messages import ClientFacts

SIGNED_RESPONSE_ALG = "ES256"
# A type of its own, so that an answer is never taken for an ID token, which has the same issuer and audience (A13).
SIGNED_RESPONSE_TYP = "oauth-authz-resp+jwt"
# JARM §2.1 recommends ten minutes at most; it answers what was asked a moment ago.
SIGNED_RESPONSE_LIFE = timedelta(minutes=5)


def signed_response(state: State, client: ClientFacts, answer: Mapping[str, str], now: datetime) -> str:
    """Return an answer as a JWT that we signed for the client.

    Raises: LookupError without a key, which denies. Spec: JARM §2.1, §2.2, RFC 8725 §3.11.
    """
    claims = {
        **answer,
        "iss": state.issuer,
        "aud": client.client_id,
        "iat": seconds(now),
        "exp": seconds(now + SIGNED_RESPONSE_LIFE),
    }
    algorithm = client.options.authorization_signed_response_alg or SIGNED_RESPONSE_ALG
    return state.signing_key(algorithm).sign(SIGNED_RESPONSE_TYP, claims)
