"""Token exchange: a resource server acts at others for the person whose token it was given. Spec: RFC 8693.

Delegation only. Whoever uses the new token is named in it (`act`), so that nobody can pass for the person; what is
registered for the pair decides, and the gate lets nothing become more than it was (docs/adr/0023).
"""

from datetime import datetime

from iam.oauth import issuance
from iam.oauth.ports import Context, State
from iam.oauth.protocol.audience import RESOURCES_COUNT_MAX
from iam.oauth.protocol.binding import Binding
from iam.oauth.protocol.delegation import ACCESS_TOKEN_KIND
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ClientFacts, Request, Response, json_response
from iam.oauth.protocol.parameters import Parameters, words
from iam.oauth.protocol.resource_uri import problem_with_resource

from .tokens import refuse_details


def exchange(
    request: Request, state: State, client: ClientFacts, form: Parameters, sender: Binding, now: datetime
) -> Response:
    """Return an access token for the targets named, in which the client acts for the person of the subject token.

    Raises: OAuthError invalid_request, invalid_target, invalid_scope. Spec: RFC 8693 §2.1, §2.2.
    """
    refuse_details(form)
    token = _subject_token(form)
    targets = _targets(state, form)
    subject = issuance.clear_bearer(state, token, now)
    if subject is None:
        raise OAuthError(
            "invalid_request", "The subject token is not, or no longer, valid here.", reason="subject_invalid"
        )
    whole = subject.clearance
    if whole.session is None or whole.person is None:
        raise OAuthError(
            "invalid_request",
            "The subject token is of a machine, which has credentials of its own.",
            reason="subject_machine",
        )
    session = state.store.hold_session(whole.session.id, now)
    scopes = words(form["scope"]) if "scope" in form else _shared(whole.scopes, client, targets)
    clearance = issuance.clear_exchange(state, client, subject, session, targets, scopes, now)
    claims = subject.claims
    context = Context(
        claims["acr"], tuple(claims["amr"]), datetime.fromtimestamp(claims["auth_time"], now.tzinfo)
    )
    sid = state.store.sid(whole.session.id, client, now)
    # The family of the subject token: when that ends, what was made of it ends.
    family = str(claims["jti"]).partition(".")[0]
    issued, life = issuance.access_token(state, clearance, family, sender, sid, context)
    state.record(
        "client:token:issue",
        "success",
        actor=f"client:{client.client_id}",
        now=now,
        request_id=request.request_id,
        source=request.source,
        object=f"person:{whole.person.sub}",
        method="token_exchange",
        application=client.application or "",
        session=str(whole.session.id),
        details={"at": " ".join(target.client_id for target in targets), "from": whole.client.client_id},
    )
    return json_response(
        200,
        {
            "access_token": issued,
            "issued_token_type": ACCESS_TOKEN_KIND,
            "token_type": sender.token_type,
            "expires_in": life,
            "scope": " ".join(clearance.scopes),
        },
    )


def _subject_token(form: Parameters) -> str:
    """Return the token to exchange. Spec: RFC 8693 §2.1, §3."""
    for name in ("subject_token_type", "requested_token_type"):
        if form.get(name, ACCESS_TOKEN_KIND) != ACCESS_TOKEN_KIND:
            raise OAuthError("invalid_request", f"{name} must be {ACCESS_TOKEN_KIND}.", reason="token_kind")
    if "subject_token" not in form or "subject_token_type" not in form:
        raise OAuthError("invalid_request", "subject_token and subject_token_type are needed.")
    if "actor_token" in form or "actor_token_type" in form:
        raise OAuthError(
            "invalid_request", "Who acts is the client itself: send no actor_token.", reason="actor_token"
        )
    return form["subject_token"]


def _targets(state: State, form: Parameters) -> tuple[ClientFacts, ...]:
    """Return the resource servers that `audience` (client ids) and `resource` (URIs) name, each once.

    What does not exist and what is not registered for this client look the same. Spec: RFC 8693 §2.1, §2.2.2.
    """
    addresses = form.every("resource")
    named = [*form.every("audience"), *addresses]
    if not named:
        raise OAuthError("invalid_request", "audience, or resource, is needed.", reason="target_missing")
    found: dict[int, ClientFacts] = {}
    for name in named:
        server = _server(state, name)
        no_address = name in addresses and problem_with_resource(name)
        if server is None or no_address or len(named) > RESOURCES_COUNT_MAX:
            raise OAuthError(
                "invalid_target", "This client may not exchange this token for that target.", reason="target"
            )
        found[server.pk] = server
    return tuple(found.values())


def _server(state: State, name: str) -> ClientFacts | None:
    server = state.resource_server(name)
    if server is None:
        client = state.client(name)
        server = client if client is not None and client.is_resource_server else None
    return server


def _shared(
    scopes: tuple[str, ...], client: ClientFacts, targets: tuple[ClientFacts, ...]
) -> tuple[str, ...]:
    """Return everything that may be asked for: what the token, the targets and this client have in common."""
    of_targets = frozenset(scope for target in targets for scope in target.owned_scopes)
    return tuple(scope for scope in scopes if scope in of_targets and scope in client.scopes)
