"""The authorization code grant. Spec: RFC 6749 §4.1.3, §4.1.4; RFC 7636 §4.6; RFC 9700 §4.5, §4.8."""

import hashlib
from datetime import datetime

from iam.oauth.ports import Presentation, State, UsedCode
from iam.oauth.protocol.binding import Binding
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ClientFacts, Request, Response
from iam.oauth.protocol.parameters import Parameters
from iam.oauth.protocol.pkce import challenge_of

from .tokens import first_tokens


def code_digest(code: str) -> str:
    """Return the digest under which a code is stored; a code is 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(code.encode()).hexdigest()


def exchange(
    request: Request, state: State, client: ClientFacts, form: Parameters, sender: Binding, now: datetime
) -> Response:
    """Exchange a code, once.

    Raises: OAuthError invalid_request, invalid_grant. A replay also ends what the first exchange got.
    """
    code, redirect_uri = form.get("code"), form.get("redirect_uri")
    if code is None:
        raise OAuthError("invalid_request", "code is missing.")
    digest = code_digest(code)
    try:
        if redirect_uri is None:
            raise OAuthError("invalid_request", "redirect_uri is missing.")
        challenge = challenge_of(form.get("code_verifier"))
    except OAuthError as problem:
        # Whoever found a code in a log has no verifier: theirs is still a replay.
        raise _replay(request, state, client, state.store.used_code(digest, now), now) or problem from None
    presentation = Presentation(digest, client, redirect_uri, challenge, sender.jkt)
    presented = state.store.presented_code(presentation, now)
    if presented is None:
        raise _refusal(request, state, client, digest, now)
    facts, joined = presented
    try:
        draft, family = first_tokens(
            request, state, client, facts, lambda _: joined, joined.session, form, sender, now,
            grant="authorization_code",
        )  # fmt: skip
    except OAuthError:
        state.store.discard_code(presentation, now)
        raise
    if not state.store.redeem_code(presentation, joined, family, draft.event, now):
        raise _refusal(request, state, client, digest, now)
    return draft.response


def _refusal(request: Request, state: State, client: ClientFacts, digest: str, now: datetime) -> OAuthError:
    """Say why a code could not be consumed; on a replay revoke its family.

    The developer reads the reason only for a code of the own client: to another one every code is unknown.
    """
    known = state.store.used_code(digest, now)
    replay = _replay(request, state, client, known, now)
    if replay is not None:
        return replay
    if known is None:
        return OAuthError("invalid_grant", "The code is unknown or expired.", reason="code_unknown")
    if known.client_pk != client.pk:
        return OAuthError("invalid_grant", "The code is unknown or expired.", reason="code_of_other_client")
    if known.expired:
        return OAuthError("invalid_grant", "The code is unknown or expired.", reason="code_expired")
    return OAuthError(
        "invalid_grant",
        "redirect_uri, code_verifier or DPoP key do not belong to this code, or the sign-in has ended.",
        reason="code_mismatch",
    )


def _replay(
    request: Request, state: State, client: ClientFacts, known: UsedCode | None, now: datetime
) -> OAuthError | None:
    """End what a used code was exchanged for, and say so; None when the code was not used.

    Whoever presents a used code proves that it leaked. Spec: RFC 6749 §4.1.2, RFC 9700 §4.5 (A07).
    """
    if known is None or not known.used:
        return None
    with state.together():
        state.store.revoke_family(known.family_id, "code_replayed", now)
        state.record(
            "client:code:replay",
            "refused",
            actor=f"client:{client.client_id}",
            now=now,
            request_id=request.request_id,
            source=request.source,
            object=f"person:{known.sub}",
            reason="code_replayed",
            application=client.application or "",
        )
    return OAuthError("invalid_grant", "The code was used before.", reason="code_replayed")
