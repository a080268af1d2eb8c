"""Read what an authorization request asks beyond scopes. Spec: RFC 8707 §2.1, OIDC Core §5.5, RFC 9396 §5, RFC 9449 §10."""

from iam.oauth import issuance
from iam.oauth.ports import State
from iam.oauth.protocol.asked import Asked
from iam.oauth.protocol.dpop import check_named_key
from iam.oauth.protocol.messages import ClientFacts
from iam.oauth.protocol.parameters import Parameters
from iam.oauth.protocol.requested_claims import check_claims


def asked_in(parameters: Parameters, client: ClientFacts, scopes: tuple[str, ...], state: State) -> Asked:
    """Return it, all of it checked.

    Raises: OAuthError invalid_request, invalid_target, invalid_authorization_details, which may be redirected.
    """
    details = issuance.details_asked(state, client, parameters)
    return Asked(
        resources=issuance.resources_asked(state, client, parameters, scopes, details),
        claims=check_claims(parameters.get("claims"), client),
        authorization_details=details,
        dpop_jkt=check_named_key(parameters.get("dpop_jkt")),
    )
