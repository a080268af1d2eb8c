"""The client credentials grant. Spec: RFC 6749 §4.4. No row is written: the token carries what revokes it."""

from datetime import datetime

from iam.oauth import issuance
from iam.oauth.ports import State
from iam.oauth.protocol.asked import Asked
from iam.oauth.protocol.authorization import check_scopes
from iam.oauth.protocol.binding import Binding
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ClientFacts, Request, Response, json_response
from iam.oauth.protocol.parameters import Parameters

from .tokens import carried


def exchange(
    request: Request, state: State, client: ClientFacts, form: Parameters, sender: Binding, now: datetime
) -> Response:
    """Return an access token for the client itself.

    Without `scope` it is for every scope registered for the client, or with `authorization_details` for none.
    Raises: OAuthError unauthorized_client, invalid_scope, invalid_target, invalid_authorization_details.
    """
    if client.auth_method == "none":
        raise OAuthError(
            "unauthorized_client", "A public client cannot act for itself.", reason="public_client"
        )
    details = issuance.details_asked(state, client, form)
    if "scope" in form:
        scopes = check_scopes(form["scope"], client, lambda scope: issuance.is_known_scope(state, scope))
    elif details:
        scopes = ()
    else:
        scopes = tuple(sorted(scope for scope in client.scopes if state.scope_owner(scope)))
        if not scopes:
            raise OAuthError(
                "invalid_scope", "No scope is registered for this client.", reason="scope_missing"
            )
    resources = issuance.resources_asked(state, client, form, scopes, details)
    asked = Asked(resources, authorization_details=details)
    clearance = issuance.clear_machine(client, scopes, now, asked)
    token, life = issuance.access_token(state, clearance, "m", sender)
    return json_response(
        200,
        {
            "access_token": token,
            "token_type": sender.token_type,
            "expires_in": life,
            **carried(issuance.address(state, clearance)),
        },
    )
