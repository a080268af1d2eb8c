"""Check an authorization request, in the order that keeps an error from travelling to a wrong address. Pure.

First the client and its redirect address: until both are known to belong together, nothing is redirected.
Spec: RFC 6749 §4.1.1, §4.1.2.1; OIDC Core §3.1.2.1, §3.1.2.2, §6; RFC 9700 §4.1.3.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from .claims import granted_scopes
from .errors import OAuthError, Unshowable
from .messages import AuthorizationRequest, ClientFacts, ResponseMode
from .metadata import LANGUAGES, PROMPTS
from .parameters import Parameters, words
from .pkce import check_challenge
from .redirects import is_registered
from .response_mode import check_mode, mode_of_errors

_MAX_AGE = re.compile(r"[0-9]{1,9}", re.ASCII)
_LOGIN_HINT_LENGTH_MAX = 256
_NONCE_LENGTH_MAX = 255  # the column's
_STATE_LENGTH_MAX = 4096
_UNSUPPORTED = {
    "request_uri": "request_uri_not_supported",
    "registration": "registration_not_supported",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where an answer, good or bad, may be sent."""

    client: ClientFacts
    redirect_uri: str
    state: str | None
    response_mode: ResponseMode = ResponseMode.QUERY

    @classmethod
    def of(cls, client: ClientFacts, request: AuthorizationRequest) -> "Target":
        """Return where the answer to a checked request goes."""
        return cls(client, request.redirect_uri, request.state, request.response_mode)


def check_target(parameters: Parameters, find: Callable[[str], ClientFacts | None]) -> Target:
    """Return where to answer.

    Raises: Unshowable when the request must end on a page of ours.
    """
    refuse_unclear(parameters, "client_id", "redirect_uri", "state")
    client = check_client(parameters, find)
    redirect_uri = parameters.get("redirect_uri")
    if redirect_uri is None:
        raise Unshowable(
            "invalid_request",
            "redirect_uri is missing.",
            client_id=client.client_id,
            reason="redirect_uri",
        )
    if not is_registered(redirect_uri, client.redirect_uris):
        raise Unshowable(
            "invalid_request",
            "redirect_uri is not registered for this client.",
            client_id=client.client_id,
            reason="redirect_uri",
        )
    state = parameters.get("state")
    if state is not None and len(state) > _STATE_LENGTH_MAX:
        raise Unshowable("invalid_request", "state is too long.", client_id=client.client_id)
    return Target(client, redirect_uri, state, mode_of_errors(parameters, client, redirect_uri))


def refuse_unclear(parameters: Parameters, *names: str) -> None:
    """Refuse a request in which one of the parameters that say where to answer is not one clear text.

    Raises: Unshowable.
    """
    for name in names:
        if name in parameters.doubled or name in parameters.unusable:
            raise Unshowable(
                "invalid_request",
                f"{name} was given twice, is too long or not valid text.",
                reason="doubled" if name in parameters.doubled else "unusable",
            )


def check_client(parameters: Parameters, find: Callable[[str], ClientFacts | None]) -> ClientFacts:
    """Return the client that is named. Raises: Unshowable: it is unknown, or switched off."""
    client_id = parameters.get("client_id")
    if client_id is None:
        raise Unshowable("invalid_request", "client_id is missing.", reason="no_client")
    client = find(client_id)
    if client is None:
        raise Unshowable("invalid_client", "This client is not registered here.", reason="unknown_client")
    if not client.enabled:
        raise Unshowable(
            "unauthorized_client",
            "This client is switched off.",
            client_id=client.client_id,
            reason="client_disabled",
        )
    return client


def check_request(
    parameters: Parameters,
    target: Target,
    known_scope: Callable[[str], bool],
    hinted_sub: Callable[[str, ClientFacts], str],
    now: datetime,
) -> AuthorizationRequest:
    """Return the request if everything that needs no person is right.

    In: `known_scope` says whether a scope exists, `hinted_sub` reads an id_token_hint.
    Raises: OAuthError, which may be redirected to the target.
    """
    parameters.require_clean()
    client = target.client
    for name, error in _UNSUPPORTED.items():
        if name in parameters:
            raise OAuthError(error, f"The parameter {name} is not supported.")
    response_type = parameters.get("response_type")
    if response_type is None:
        raise OAuthError("invalid_request", "response_type is missing.")
    if response_type != "code":
        raise OAuthError("unsupported_response_type", "response_type must be code.")
    if "authorization_code" not in client.grant_types:
        raise OAuthError("unauthorized_client", "This client may not use the authorization code grant.")
    hint = parameters.get("id_token_hint")
    return AuthorizationRequest(
        client_id=client.client_id,
        redirect_uri=target.redirect_uri,
        scopes=check_scopes(
            parameters.get("scope"), client, known_scope, optional="authorization_details" in parameters
        ),
        started_at=now,
        code_challenge=check_challenge(
            parameters.get("code_challenge"), parameters.get("code_challenge_method")
        ),
        state=target.state,
        nonce=_nonce(parameters.get("nonce")),
        prompt=_prompt(parameters.get("prompt")),
        max_age=_max_age(parameters.get("max_age"), client),
        acr_values=words(parameters.get("acr_values", "")) or client.default_acr_values,
        login_hint=_login_hint(parameters.get("login_hint", "")),
        ui_locales=_locales(parameters.get("ui_locales", "")),
        hinted_sub=hinted_sub(hint, client) if hint else "",
        response_mode=check_mode(parameters, client, target.redirect_uri),
    )


def check_scopes(
    text: str | None, client: ClientFacts, known_scope: Callable[[str], bool], *, optional: bool = False
) -> tuple[str, ...]:
    """Return the scopes asked for, all of which exist and are registered for the client.

    In: `optional` says that something else is asked for, so that no scope need be.
    Raises: OAuthError invalid_scope. Spec: RFC 6749 §3.3, RFC 9396 §3.
    """
    scopes = words(text or "")
    if not optional and not granted_scopes(
        scopes
    ):  # a token for nothing would still say who the person is, unasked
        raise OAuthError("invalid_scope", "scope is missing.", reason="scope_missing")
    for scope in scopes:
        if not known_scope(scope):
            raise OAuthError("invalid_scope", "An unknown scope was asked for.", reason="scope_unknown")
        if scope not in client.scopes:
            raise OAuthError(
                "invalid_scope", f"This client may not ask for {scope}.", reason="scope_not_allowed"
            )
    return scopes


def _nonce(nonce: str | None) -> str | None:
    if nonce is not None and len(nonce) > _NONCE_LENGTH_MAX:
        raise OAuthError("invalid_request", f"nonce is longer than {_NONCE_LENGTH_MAX} characters.")
    return nonce


def _prompt(text: str | None) -> frozenset[str]:
    """Spec: OIDC Core §3.1.2.1 ("none" must stand alone)."""
    values = frozenset(words(text or ""))
    if values - set(PROMPTS):
        raise OAuthError("invalid_request", f"prompt knows {', '.join(PROMPTS)} only.", reason="prompt")
    if "none" in values and len(values) > 1:
        raise OAuthError("invalid_request", "prompt=none must stand alone.", reason="prompt")
    return values


def _max_age(text: str | None, client: ClientFacts) -> int | None:
    if text is None:
        return client.default_max_age
    if not _MAX_AGE.fullmatch(text):
        raise OAuthError("invalid_request", "max_age must be a number of seconds.", reason="max_age")
    return int(text)


def _login_hint(text: str) -> str:
    """Return a hint, "" for one that is too long: cut, it could be somebody else's name. Spec: OIDC Core §3.1.2.1."""
    return text if len(text) <= _LOGIN_HINT_LENGTH_MAX else ""


def _locales(text: str) -> tuple[str, ...]:
    """Return those of our languages that are asked for, in order. Spec: OIDC Core §3.1.2.1 (never an error)."""
    asked = (word.split("-", 1)[0].lower() for word in words(text)[:20])
    return tuple(dict.fromkeys(word for word in asked if word in LANGUAGES))
