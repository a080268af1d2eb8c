"""Who is asking: the client authentication that token, introspection and revocation share. Spec: RFC 6749 §3.2.1."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from iam.oauth.ports import State
from iam.oauth.protocol.assertions import Assertion, use_until
from iam.oauth.protocol.client_auth import (
    PARAMETERS,
    Credentials,
    authenticate,
    is_old_secret,
    read_credentials,
)
from iam.oauth.protocol.errors import InvalidClient, OAuthError
from iam.oauth.protocol.messages import ClientFacts, Request
from iam.oauth.protocol.parameters import Parameters, parse_form

_PROOFS_IN_FORM = frozenset(PARAMETERS) - {"client_id"}
# Reasons of refusals whose grant writes an event itself, with the family that it ends.
REPLAYS = frozenset({"code_replayed", "refresh_replayed", "device_replayed"})


def authenticated_client(request: Request, state: State, now: datetime) -> tuple[ClientFacts, Parameters]:
    """Return the client that sent a form, and the form, of which only what names the client was judged.

    Raises: OAuthError, after the refusal was counted: the caller is nobody we know.
    """
    claimed = ""
    try:
        form = parse_form(request)
        form.require_clean(*PARAMETERS)
        if request.authorization and not form.keys() & _PROOFS_IN_FORM:
            proved = state.recall_client(request.authorization)
            if proved is not None and form.get("client_id", proved.client_id) == proved.client_id:
                return proved, form
        try:
            credentials = read_credentials(request.authorization, form)
            client = state.client(credentials.client_id)
            claimed = client.client_id if client else ""
            known = authenticate(credentials, client, request, state, now)
            _note_old_secret(credentials, known, state, now)
            if credentials.assertion is not None:
                _use_up(credentials.assertion, known, state)
            elif credentials.method == "client_secret_basic" and not known.old_secret_digest:
                state.remember_client(
                    request.authorization, known
                )  # an old secret ends by itself, unannounced
            return known, form
        except InvalidClient:
            form.require_clean()  # to a stranger a broken form is a broken form
            raise
    except OAuthError as problem:
        state.tally(request.source, claimed, problem.reason, now, request.request_id)
        raise


def _note_old_secret(credentials: Credentials, client: ClientFacts, state: State, now: datetime) -> None:
    """Let the operator see who still uses a secret that was replaced."""
    if client.old_secret_digest and credentials.unverified_secret is not None:
        digest = state.secret_digest(credentials.unverified_secret)
        if is_old_secret(digest, client, now):
            state.note_old_secret(client, now)


def _use_up(assertion: Assertion, client: ClientFacts, state: State) -> None:
    """Let an assertion count once, whatever becomes of the request. Spec: RFC 7523 §3 (7); OIDC Core §9."""
    claims = assertion.unverified_claims  # which `authenticate` verified
    identifier = f"{client.client_id}\0{claims['jti']}"
    if not state.store.use_once("client_assertion", identifier, use_until(claims)):
        raise InvalidClient(
            "This assertion was used before; make one with a new jti for each request.",
            reason="assertion_replayed",
        )


@contextmanager
def refusals_recorded(
    request: Request, state: State, client: ClientFacts, action: str, now: datetime
) -> Iterator[None]:
    """Record a refusal of an authenticated client as one audit event, and let it pass on.

    Anybody can call themselves by a public client's name: such refusals are counted, not recorded, or a
    stranger could fill the audit, of which nothing is ever deleted.
    """
    try:
        yield
    except OAuthError as problem:
        if problem.reason in REPLAYS:
            pass  # it has its own event, written with what it revoked
        elif problem.error == "authorization_pending":
            pass  # an answer to a device that asks every five seconds, and no refusal
        elif client.auth_method == "none" or problem.error == "slow_down":
            state.tally(request.source, client.client_id, problem.reason, now, request.request_id)
        else:
            state.record(
                action,
                "refused",
                actor=f"client:{client.client_id}",
                now=now,
                request_id=request.request_id,
                source=request.source,
                reason=problem.reason,
                application=client.application or "",
            )
        raise
