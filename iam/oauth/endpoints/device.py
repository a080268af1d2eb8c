"""The device authorization endpoint. Spec: RFC 8628 §3.1, §3.2. Off unless the client is registered for the grant."""

import secrets
from datetime import datetime
from urllib.parse import urlencode
from uuid import uuid4

from iam.oauth import issuance
from iam.oauth.grants.code import code_digest
from iam.oauth.ports import DeviceRequest, State
from iam.oauth.protocol.asked import Asked
from iam.oauth.protocol.authorization import check_scopes
from iam.oauth.protocol.device import (
    DEVICE_CODE_LIFE,
    GRANT_TYPE,
    INTERVAL_SECONDS,
    VERIFICATION_PATH,
    new_user_code,
    shown,
)
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ClientFacts, Request, Response, json_response

from .asked import asked_in
from .clients import authenticated_client, refusals_recorded

# Two of 2^34 codes alike is a rare day; three times in a row is none.
_TRIES = 3


def device_authorization(request: Request, state: State, now: datetime) -> Response:
    """Give a device two codes: one to show to a person, one to ask with whether the person agreed.

    Raises: OAuthError. Spec: RFC 8628 §3.1 (client authentication as at the token endpoint), §3.2.
    """
    client, form = authenticated_client(request, state, now)
    with refusals_recorded(request, state, client, "client:device:begin", now):
        form.require_clean()
        if GRANT_TYPE not in client.grant_types:
            raise OAuthError("unauthorized_client", "This client may not use the device grant.")
        scopes = check_scopes(
            form.get("scope"),
            client,
            lambda scope: issuance.is_known_scope(state, scope),
            optional="authorization_details" in form,
        )
        asked = asked_in(form, client, scopes, state)
        if (
            asked.dpop_jkt
        ):  # RFC 9449 §10 is about codes; to take it and not to hold it would be a promise broken
            raise OAuthError(
                "invalid_request", "dpop_jkt is not taken here; prove the key at the token endpoint."
            )
        device_code, user_code = _store(request, state, client, scopes, asked, now)
    address = state.issuer + VERIFICATION_PATH
    return json_response(
        200,
        {
            "device_code": device_code,
            "user_code": shown(user_code),
            "verification_uri": address,
            "verification_uri_complete": f"{address}?{urlencode({'user_code': shown(user_code)})}",
            "expires_in": int(DEVICE_CODE_LIFE.total_seconds()),
            "interval": INTERVAL_SECONDS,
        },
    )


def _store(
    request: Request,
    state: State,
    client: ClientFacts,
    scopes: tuple[str, ...],
    asked: Asked,
    now: datetime,
) -> tuple[str, str]:
    for _ in range(_TRIES):
        device_code, user_code = "dc_" + secrets.token_urlsafe(32), new_user_code()
        wanted = DeviceRequest(
            code_digest(device_code), state.user_code_digest(user_code), scopes, asked, request.source
        )
        if state.devices.insert(wanted, client, uuid4(), now):
            return device_code, user_code
    raise OAuthError(
        "temporarily_unavailable",
        "Too many devices of this client wait for a person already.",
        status=429,
        reason="too_many_waiting",
    )
