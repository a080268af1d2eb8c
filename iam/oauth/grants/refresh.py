"""The refresh token grant. Spec: RFC 6749 §6; RFC 9700 §4.14.2; why a lost answer may be asked for again: docs/adr/0005."""

from datetime import datetime, timedelta

from iam.oauth import issuance
from iam.oauth.ports import FamilyFacts, State
from iam.oauth.protocol import refresh_tokens
from iam.oauth.protocol.binding import Binding
from iam.oauth.protocol.claims import granted_scopes
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ClientFacts, Request, Response
from iam.oauth.protocol.parameters import Parameters, words

from .tokens import Draft, token_answer

# An answer lost on a satellite link is asked for again within this; longer would help a thief.
RETRY_WINDOW = timedelta(seconds=30)
KNOWN_BY_KEY = frozenset({"private_key_jwt", "tls_client_auth", "self_signed_tls_client_auth"})


def exchange(
    request: Request, state: State, client: ClientFacts, form: Parameters, sender: Binding, now: datetime
) -> Response:
    """Rotate a refresh token, or give the same successor again to a client that lost the answer.

    A token that nobody but its client's key can use stays as it is (docs/adr/0026).

    Raises: OAuthError invalid_request, invalid_grant, invalid_scope. Any other replay ends the family.
    """
    text = form.get("refresh_token")
    if text is None:
        raise OAuthError("invalid_request", "refresh_token is missing.")
    position = refresh_tokens.parse(text)
    presented = state.store.presented_family(position.family_id, client, now) if position else None
    family, joined = presented or (None, None)
    if (
        position is None
        or family is None
        or not refresh_tokens.is_genuine(position, state.refresh_key, family.seed)
    ):
        raise OAuthError("invalid_grant", "The refresh token is unknown.", reason="refresh_unknown")
    if family.client_pk != client.pk:
        raise OAuthError("invalid_grant", "The refresh token is unknown.", reason="refresh_of_other_client")
    if family.revoked or family.expires_at <= now:
        raise OAuthError("invalid_grant", "The refresh token has ended.", reason="refresh_ended")

    bound_to = Binding.of(family.asked.cnf or None)
    _require_key(client, bound_to, sender)

    # Everything that can refuse an honest client refuses before the token is rotated, so that nothing is lost.
    try:
        clearance = issuance.clear_person(
            state, client, joined.session if joined else None, family.scopes, now, family.asked
        )
    except OAuthError as problem:
        raise OAuthError("invalid_grant", problem.description, reason=problem.reason) from problem
    if "scope" in form:
        clearance = issuance.narrowed(clearance, granted_scopes(words(form["scope"])))
    clearance = issuance.restricted(state, clearance, form)

    if joined is None:
        raise ValueError("tokens of a person need a person")

    def draft(number: int) -> Draft:
        token = refresh_tokens.build(state.refresh_key, family.seed, family.id, number)
        return token_answer(
            request, state, clearance, family.context, family.id, joined, sender, grant="refresh_token",
            refresh_token=token,
        )  # fmt: skip

    stays, following = _stays(client, bound_to, sender), position.number + 1
    answer = draft(position.number if stays else following)
    step = state.store.hold_family if stays else state.store.rotate_family
    if step(family.id, client, joined, position.number, answer.event, now):
        return answer.response
    _allow_retry(request, state, client, family, position.number, now)
    if stays:
        answer = draft(following)
    if not state.store.issue_again(client, joined, answer.event, now):
        raise OAuthError("invalid_grant", "The sign-in has ended.", reason="session_ended")
    return answer.response


def _require_key(client: ClientFacts, bound_to: Binding, sender: Binding) -> None:
    """Refuse a sender that does not prove the key of a bound family.

    A public client has nothing else to show, so it must be the same key. A confidential one is known by its own
    credentials and may have a new key, but what began bound goes on bound.
    Raises: OAuthError invalid_grant. Spec: RFC 9449 §5, RFC 8705 §4.
    """
    if client.auth_method == "none":
        proved = bound_to.is_met_by(sender)
    else:
        proved = bool(sender.jkt) >= bool(bound_to.jkt) and bool(sender.x5t) >= bool(bound_to.x5t)
    if not proved:
        raise OAuthError(
            "invalid_grant", "The refresh token is bound to a key: prove it.", reason="binding_mismatch"
        )


def _stays(client: ClientFacts, bound_to: Binding, sender: Binding) -> bool:
    """Say whether the token need not rotate, because nobody else could use it.

    With a secret a thief may have both, so only the family's own key counts; a client that is known by a key may
    change the other one. Spec: FAPI 2.0 §5.3.2.1 (no rotation), RFC 9700 §4.14.2.
    """
    if client.auth_method == "none" or not sender:
        return False
    return client.auth_method in KNOWN_BY_KEY or (bool(bound_to) and bound_to.is_met_by(sender))


def _allow_retry(
    request: Request, state: State, client: ClientFacts, before: FamilyFacts, number: int, now: datetime
) -> None:
    """Return if the token is the immediately preceding one, lately rotated, and its successor unused.

    The successor is unused exactly when the family still stands at it. Raises: OAuthError, after ending the family.
    """
    family = state.store.family(before.id)
    if family is None or family.revoked or family.expires_at <= now:
        raise OAuthError("invalid_grant", "The refresh token has ended.", reason="refresh_ended")
    preceding = number + 1 == family.position
    if preceding and family.rotated_at is not None and now - family.rotated_at <= RETRY_WINDOW:
        return
    if number >= family.position:
        # Genuine, never rotated, and still not rotatable: session, person or client ended in that statement.
        raise OAuthError("invalid_grant", "The sign-in has ended.", reason="session_ended")
    with state.together():
        state.store.revoke_family(family.id, "refresh_replayed", now)
        state.record(
            "client:refresh:replay",
            "refused",
            actor=f"client:{client.client_id}",
            now=now,
            request_id=request.request_id,
            source=request.source,
            object=f"person:{family.sub}",
            reason="refresh_replayed",
            application=client.application or "",
            session=str(family.session_id),
        )
    raise OAuthError("invalid_grant", "The refresh token was used before.", reason="refresh_replayed")
