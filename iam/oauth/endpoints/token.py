"""The token endpoint. Spec: RFC 6749 §3.2, §5; OIDC Core §3.1.3."""

from collections.abc import Callable
from datetime import datetime

from iam.oauth.grants import client_credentials, code, device, jwt_bearer, refresh, token_exchange
from iam.oauth.ports import State
from iam.oauth.protocol.binding import Binding
from iam.oauth.protocol.delegation import GRANT_TYPE as TOKEN_EXCHANGE
from iam.oauth.protocol.device import GRANT_TYPE as DEVICE_CODE
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ClientFacts, Request, Response
from iam.oauth.protocol.parameters import Parameters
from iam.oauth.protocol.trusted_issuers import GRANT_TYPE as JWT_BEARER

from .clients import authenticated_client, refusals_recorded
from .senders import proved_sender

# The binding is what the sender proved in this very request, checked here, once, before any grant runs.
Exchange = Callable[[Request, State, ClientFacts, Parameters, Binding, datetime], Response]
GRANTS: dict[str, Exchange] = {
    "authorization_code": code.exchange,
    "refresh_token": refresh.exchange,
    "client_credentials": client_credentials.exchange,
    DEVICE_CODE: device.exchange,
    TOKEN_EXCHANGE: token_exchange.exchange,
    JWT_BEARER: jwt_bearer.exchange,
}
# What is asked of the others is named by scopes alone; details that nobody looks at would be a promise (RFC 9396 §5).
WITHOUT_DETAILS = frozenset({TOKEN_EXCHANGE, JWT_BEARER})


def token(request: Request, state: State, now: datetime) -> Response:
    """Exchange a grant for tokens.

    Raises: OAuthError. Spec: RFC 6749 §5.2.
    """
    client, form = authenticated_client(request, state, now)
    with refusals_recorded(request, state, client, "client:token:issue", now):
        form.require_clean()
        grant_type = form.get("grant_type")
        if grant_type is None:
            raise OAuthError("invalid_request", "grant_type is missing.")
        exchange = GRANTS.get(grant_type)
        if exchange is None:
            raise OAuthError("unsupported_grant_type", "This grant type is not offered.")
        if grant_type not in client.grant_types:
            raise OAuthError("unauthorized_client", "This client may not use this grant type.")
        if grant_type in WITHOUT_DETAILS and "authorization_details" in form:
            raise OAuthError(
                "invalid_authorization_details",
                "This grant gives no authorization details.",
                reason="details_of_grant",
            )
        sender = proved_sender(request, state, client, now)
        return exchange(request, state, client, form, sender, now)
