"""The roads that an authorization request can take to us, and which of them a client must use. Pure.

Spec: RFC 9126 §4, §5; RFC 9101 §5, §10.5; FAPI 2.0 Security Profile §5.3.2.2.
"""

from dataclasses import dataclass

from .errors import OAuthError
from .messages import ClientFacts
from .parameters import Parameters
from .profiles import check_fitness


@dataclass(frozen=True, slots=True)
class Arrival:
    """The parameters that count, and how they came: pushed by the client itself, inside an object that it signed."""

    parameters: Parameters
    pushed: bool = False
    signed: bool = False


def check_road(client: ClientFacts, arrival: Arrival) -> None:
    """Refuse a road that the client's registration closes.

    Raises: OAuthError invalid_request, unauthorized_client, which may be redirected. Spec: RFC 9126 §5, RFC 9101 §10.5.
    """
    check_fitness(client)
    high = client.options.profile == "high"
    if (high or client.options.require_pushed_authorization_requests) and not arrival.pushed:
        raise OAuthError(
            "invalid_request",
            "This client must push its authorization requests to the PAR endpoint.",
            reason="not_pushed",
        )
    if (high or client.options.require_signed_request_object) and not arrival.signed:
        raise OAuthError(
            "invalid_request", "This client must send a signed request object.", reason="not_signed"
        )
