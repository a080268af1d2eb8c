"""The device grant. Spec: RFC 8628 §3.4, §3.5.

The session of the person who confirmed is the session of the tokens: when it ends, they end.
"""

from datetime import datetime

from iam.oauth.ports import DeviceAnswer, Joined, State
from iam.oauth.protocol.binding import Binding
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ClientFacts, Request, Response
from iam.oauth.protocol.parameters import Parameters

from .code import code_digest
from .tokens import first_tokens


def exchange(
    request: Request, state: State, client: ClientFacts, form: Parameters, sender: Binding, now: datetime
) -> Response:
    """Exchange a device code that a person confirmed, once.

    Raises: OAuthError: invalid_request, invalid_grant; authorization_pending and slow_down while the person has not
    answered, access_denied after a no, expired_token after ten minutes. A replay also ends what was issued.
    """
    code = form.get("device_code")
    if code is None:
        raise OAuthError("invalid_request", "device_code is missing.")
    digest = code_digest(code)
    facts = state.devices.consume(digest, client, now)
    if facts is None:
        raise _unanswered(state, client, digest, now) or _refusal(request, state, client, digest, now)
    draft, family = first_tokens(
        request, state, client, facts,
        lambda session: Joined(session, state.store.sid(session.id, client, now), noted=True),
        state.store.hold_session(facts.session_id, now), form, sender, now, grant="device_code",
    )  # fmt: skip
    written = (
        state.store.open_family(client, draft.joined, family, draft.event, now)
        if family
        else state.store.issue_again(client, draft.joined, draft.event, now)
    )
    if not written:
        raise OAuthError("invalid_grant", "The sign-in has ended.", reason="session_ended")
    return draft.response


def _unanswered(state: State, client: ClientFacts, digest: str, now: datetime) -> OAuthError | None:
    """Return what a device hears that asks too early, or too often; None when it does not wait any more."""
    poll = state.devices.poll(digest, client, now)
    if poll is None:
        return None
    if poll.too_fast:
        return OAuthError("slow_down", f"Ask every {poll.interval} seconds, not more often.")
    return OAuthError("authorization_pending", "The person has not answered yet.")


def _refusal(request: Request, state: State, client: ClientFacts, digest: str, now: datetime) -> OAuthError:
    """Say why a device code cannot be consumed; on a replay revoke its family. To another client it is unknown."""
    known = state.devices.answer(digest, now)
    if known is not None and known.used:
        return _replay(request, state, client, known, now)
    if known is None:
        return OAuthError("invalid_grant", "The device code is unknown.", reason="device_unknown")
    if known.client_pk != client.pk:
        return OAuthError("invalid_grant", "The device code is unknown.", reason="device_of_other_client")
    if known.denied:
        return OAuthError("access_denied", "The person did not let this device in.", reason="device_denied")
    if known.expired:
        return OAuthError(
            "expired_token", "The device code has expired; begin again.", reason="device_expired"
        )
    return OAuthError("invalid_grant", "The sign-in has ended.", reason="session_ended")


def _replay(
    request: Request, state: State, client: ClientFacts, known: DeviceAnswer, now: datetime
) -> OAuthError:
    """End what a used device code was exchanged for: whoever presents it again proves that it leaked."""
    state.store.revoke_family(known.family_id, "device_replayed", now)
    state.record(
        "client:device:replay",
        "refused",
        actor=f"client:{client.client_id}",
        now=now,
        request_id=request.request_id,
        source=request.source,
        object=f"person:{known.sub}",
        reason="device_replayed",
        application=client.application or "",
    )
    return OAuthError("invalid_grant", "The device code was used before.", reason="device_replayed")
