"""Decide how the answer to an authorization request travels. Pure.

Spec: OAuth 2.0 Multiple Response Types §2.1, Form Post Response Mode §2, JARM §2.3, FAPI 2.0 Message Signing §5.4.
"""

from .errors import OAuthError
from .messages import ClientFacts, ResponseMode
from .parameters import Parameters


def check_mode(parameters: Parameters, client: ClientFacts, redirect_uri: str) -> ResponseMode:
    """Return the response mode that is asked for, query when none is.

    Raises: OAuthError invalid_request: unknown, not allowed to this client, or no browser could do it.
    """
    parameters.require_clean("response_mode")
    try:
        mode = ResponseMode(parameters.get("response_mode", ResponseMode.QUERY))
    except ValueError as problem:
        raise _refusal(f"response_mode must be one of {', '.join(ResponseMode)}.") from problem
    if client.options.profile == "high" and not mode.is_signed:
        raise _refusal("This client's profile asks for a signed answer: use response_mode=jwt.")
    if mode.is_form and not redirect_uri.startswith(("https://", "http://")):
        raise _refusal("A form cannot be posted to a private scheme.")
    if mode is ResponseMode.FORM_POST and not parameters.get("state", "").isprintable():
        # HTML rewrites line ends in a form: the client would not get back what it sent.
        raise _refusal("state has characters that cannot be printed: a form could change them.")
    return mode


def _refusal(description: str) -> OAuthError:
    return OAuthError("invalid_request", description, reason="response_mode")


def mode_of_errors(parameters: Parameters, client: ClientFacts, redirect_uri: str) -> ResponseMode:
    """Return the mode that is asked for once it is known to be right, else query: errors travel by it."""
    try:
        return check_mode(parameters, client, redirect_uri)
    except OAuthError:
        return ResponseMode.QUERY
