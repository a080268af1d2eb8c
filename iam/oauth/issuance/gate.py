"""The one gate. No code, token, ID token, logout token, introspection or userinfo answer exists without a Clearance.

A Clearance can only be made here, and only after every check that any path makes: subject active,
session live, client enabled, access policy, audience, scope. A path cannot forget a check that it
does not make itself. Any error denies.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from iam.access.policy import EffectiveAccess, Level, Refused
from iam.oauth.ports import PersonFacts, Standing, State
from iam.oauth.protocol import opaque_tokens
from iam.oauth.protocol.asked import NOTHING, Asked
from iam.oauth.protocol.audience import audience_of, may_name
from iam.oauth.protocol.binding import Binding
from iam.oauth.protocol.claims import (
    ACCESS_TOKEN_LIFE,
    ACCESS_TOKEN_TYP,
    PERSON_SCOPES,
    granted_scopes,
    is_for,
)
from iam.oauth.protocol.delegation import ACTORS_MAX, Delegation, actors, build_act
from iam.oauth.protocol.dpop import InvalidProof
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.jose import BadToken, verify
from iam.oauth.protocol.messages import ClientFacts, SessionFacts
from iam.oauth.protocol.subjects import subject

_KEY = object()


@dataclass(frozen=True, slots=True)
class Clearance:
    """Proof that a client, and the person behind it if there is one, passed the gate at `at`."""

    key: object
    client: ClientFacts
    scopes: tuple[str, ...]
    at: datetime
    session: SessionFacts | None = None
    person: PersonFacts | None = None
    access: EffectiveAccess | None = None
    asked: Asked = NOTHING
    delegation: Delegation | None = None

    def __post_init__(self) -> None:
        if self.key is not _KEY:
            raise TypeError("a Clearance is made by the gate only")


@dataclass(frozen=True, slots=True)
class BearerToken:
    """An access token of ours that is still good, and the clearance of what may be said about it."""

    claims: Mapping[str, Any]  # Any: JSON
    clearance: Clearance
    binding: Binding  # whoever presents the token must prove this key
    # Answers made of this and nothing else, by who may read them; they are forgotten with it.
    answers: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a session, and the clearance to tell one of its clients. `sid` is that client's name for it."""

    sid: str
    clearance: Clearance


def clear_person(
    state: State,
    client: ClientFacts,
    session: SessionFacts | None,
    scopes: tuple[str, ...],
    now: datetime,
    asked: Asked = NOTHING,
) -> Clearance:
    """Let a person's request through, or refuse.

    In: `session` as read in this very request, None when it has ended or its person is not active; `asked` what
    was granted beyond scopes.
    Raises: OAuthError access_denied (the caller gives it its grant's code).
    """
    if not client.enabled:
        raise OAuthError("access_denied", "This client is switched off.", reason="client_disabled")
    if session is None or session.expires_at <= now:
        raise OAuthError("access_denied", "The sign-in session has ended.", reason="session_ended")
    standing = state.standing(client, session.user_id, now)
    refuse_unless_admitted(standing, session)
    if not set(scopes) <= client.scopes:
        raise OAuthError(
            "access_denied", "A scope is no longer registered for this client.", reason="scope_not_allowed"
        )
    refuse_unless_registered(state, client, asked)
    person = state.person(session.user_id)
    return Clearance(_KEY, client, granted_scopes(scopes), now, session, person, standing.access, asked)


def refuse_unless_registered(state: State, client: ClientFacts, asked: Asked) -> None:
    """Refuse what was granted beyond scopes and is no longer registered for the client (A24).

    Raises: OAuthError access_denied.
    """
    reached = reached_servers(state, client) if asked.resources else frozenset()
    for name in asked.resources:
        server = state.resource_server(name)
        if name != state.issuer and (server is None or not may_name(client, server, reached)):
            raise OAuthError(
                "access_denied",
                "A resource is no longer registered for this client.",
                reason="resource_not_allowed",
            )
    for detail in asked.authorization_details:
        name = detail["type"]
        if name not in client.options.authorization_details_types or state.detail_type(name) is None:
            raise OAuthError(
                "access_denied",
                "A type of authorization details is no longer registered for this client.",
                reason="detail_type_not_allowed",
            )


def reached_servers(state: State, client: ClientFacts) -> frozenset[int]:
    """Return the resource servers that own a scope or a type of authorization details registered for a client."""
    owners = [state.scope_owner(scope) for scope in client.scopes]
    types = [state.detail_type(name) for name in client.options.authorization_details_types]
    return frozenset(owner.pk for owner in owners if owner) | {found.owner.pk for found in types if found}


def refuse_unless_admitted(standing: Standing, session: SessionFacts) -> None:
    """Refuse a person whom the application does not admit, or whose sign-in is below the level asked for.

    The age of a factor is judged where a person can do something about it, at the authorization endpoint.
    """
    if isinstance(standing.admission, Refused):
        raise OAuthError(
            "access_denied", "The person may not use this application.", reason=standing.admission.reason
        )
    if standing.requirement.level is Level.AAL2 and session.factor_at is None:
        raise OAuthError("access_denied", "A second factor is required.", reason="level")


def clear_machine(
    client: ClientFacts, scopes: tuple[str, ...], now: datetime, asked: Asked = NOTHING
) -> Clearance:
    """Let a client act for itself, or refuse.

    Raises: OAuthError invalid_scope for a scope that describes a person (A57).
    """
    if not client.enabled:
        raise OAuthError("unauthorized_client", "This client is switched off.", reason="client_disabled")
    if any(scope in PERSON_SCOPES for scope in scopes):
        raise OAuthError(
            "invalid_scope", "Nobody is signed in here: no scope of a person.", reason="scope_of_person"
        )
    if not set(scopes) <= client.scopes:
        raise OAuthError(
            "invalid_scope", "A scope is not registered for this client.", reason="scope_not_allowed"
        )
    return Clearance(_KEY, client, scopes, now, asked=asked)


def clear_exchange(
    state: State,
    actor: ClientFacts,
    subject: BearerToken,
    session: SessionFacts | None,
    targets: tuple[ClientFacts, ...],
    scopes: tuple[str, ...],
    now: datetime,
) -> Clearance:
    """Let a client act at other resource servers for the person of a token that it was given, or refuse.

    In: `subject` as `clear_bearer` read it in this very request, `session` held since. Nothing becomes more than the
    subject token has: not who it is for, not its scopes, roles, audience or life.
    Raises: OAuthError invalid_request for the subject, invalid_target, invalid_scope.
    """
    whole = subject.clearance
    delegation = _delegation(actor, subject)
    if actor.auth_method == "none" or not actor.enabled:
        raise OAuthError(
            "unauthorized_client", "This client cannot act for people.", reason="client_disabled"
        )
    for target in targets:
        if not is_exchange_pair(actor, target) or not is_for(subject.claims, audience_of(target)):
            raise OAuthError(
                "invalid_target",
                "This client may not exchange this token for that target.",
                reason="exchange_pair",
            )
    if whole.session is None or session is None or session.generation != whole.session.generation:
        raise OAuthError("invalid_request", "The sign-in session has ended.", reason="session_ended")
    for client in (whole.client, actor, *targets):
        try:
            refuse_unless_admitted(state.standing(client, session.user_id, now), session)
        except OAuthError as problem:
            raise OAuthError("invalid_request", problem.description, reason=problem.reason) from problem
    of_targets = frozenset(scope for target in targets for scope in target.owned_scopes)
    if not set(scopes) <= set(whole.scopes) & of_targets & actor.scopes:
        raise OAuthError(
            "invalid_scope",
            "Only scopes of the target that the subject token has, and this client too.",
            reason="scope_widened",
        )
    if not targets or any(not target.owned_scopes & set(scopes) for target in targets):
        raise OAuthError("invalid_scope", "There is nothing to do at a target.", reason="scope_missing")
    return Clearance(
        _KEY, actor, scopes, now, session, whole.person, _held_since(state, session, delegation, whole.access),
        Asked(resources=tuple(audience_of(target) for target in targets)), delegation,
    )  # fmt: skip


def is_exchange_pair(actor: ClientFacts, target: ClientFacts) -> bool:
    """Say whether a client is registered to act at a resource server; at itself, no client is."""
    return (
        target.enabled
        and target.is_resource_server
        and target.pk != actor.pk
        and target.client_id in actor.options.token_exchange_targets
    )


def _delegation(actor: ClientFacts, subject: BearerToken) -> Delegation:
    """Put the actor in front of those who acted before; the first client of all is remembered (A56)."""
    claims, client = subject.claims, subject.clearance.client
    if not is_for(claims, audience_of(actor)):
        raise OAuthError(
            "invalid_request", "The subject token was not meant for this client.", reason="subject_foreign"
        )
    before = actors(claims)
    if len(before) + 1 > min(actor.options.token_exchange_depth, ACTORS_MAX) or actor.client_id in before:
        raise OAuthError(
            "invalid_request", "The subject token was exchanged before; no further.", reason="exchange_chain"
        )
    origin = claims.get("origin") or {"client_id": client.client_id, "generation": client.generation}
    origin = {"iat": claims["iat"], **origin}
    ends_at = datetime.fromtimestamp(claims["exp"], UTC)
    return Delegation(build_act(actor.client_id, claims.get("act")), ends_at, origin)


def _held_since(
    state: State, session: SessionFacts, delegation: Delegation, access: EffectiveAccess | None
) -> EffectiveAccess | None:
    """Return what a person holds now, of that what they held when the first token of a chain was made.

    Asked of the database, not of the token: that one says nothing of what is not for all its readers (docs/adr/0034).
    """
    if access is None:
        return None
    then = state.access(session.user_id, datetime.fromtimestamp(delegation.origin["iat"], UTC))
    held = {(grant.role, grant.office, grant.subtree) for grant in then.grants}
    kept = tuple(grant for grant in access.grants if (grant.role, grant.office, grant.subtree) in held)
    return replace(access, grants=kept)


def _is_still_delegated(state: State, client: ClientFacts, claims: Mapping[str, Any]) -> bool:  # Any: JSON
    """Say whether those who act still may: every pair is registered, and the first client is as it was."""
    if "act" not in claims:
        return True
    hands = [state.client(name) for name in actors(claims)]
    if client not in hands:
        return False
    origin = claims["origin"]
    first = state.client(str(origin["client_id"]))
    if first is None or not first.enabled or first.generation != origin["generation"]:
        return False
    targets = [state.resource_server(name) for name in claims["aud"]]
    return all(
        hand is not None and hand.enabled and target is not None and is_exchange_pair(hand, target)
        for hand in hands
        for target in targets
    )


def clear_logout(state: State, client: ClientFacts, session_id: UUID, now: datetime) -> Ending:
    """Let a client be told that a session is over, or refuse.

    The one clearance that asks for the opposite of all others: the session must have ended, whatever its person
    may still do. It carries no scope, no session and no rights, so nothing but a logout token can come of it.
    Raises: OAuthError access_denied.
    """
    if not client.enabled:
        raise OAuthError("access_denied", "This client is switched off.", reason="client_disabled")
    ended = state.store.ended_session(session_id, client)
    if ended is None:
        raise OAuthError("access_denied", "The session did not end.", reason="session_lives")
    return Ending(ended.sid, Clearance(_KEY, client, (), now, person=state.person(ended.user_id)))


def require_binding(client: ClientFacts, binding: Binding) -> None:
    """Refuse a token without the key that its client's registration or profile asks for.

    Raises: InvalidProof, OAuthError invalid_request. Spec: RFC 9449 §5.2, RFC 8705 §3.4, FAPI 2.0 §5.3.2.1.
    """
    options = client.options
    if options.dpop_bound_access_tokens and not binding.jkt:
        raise InvalidProof(
            "This client's tokens are bound to a key: send a DPoP proof.", reason="dpop_missing"
        )
    if options.tls_client_certificate_bound_access_tokens and not binding.x5t:
        raise OAuthError(
            "invalid_request",
            "This client's tokens are bound to its certificate, and the connection had none.",
            reason="certificate_missing",
        )
    if options.profile == "high" and not binding:
        raise OAuthError(
            "invalid_request",
            "This client's profile binds tokens to a key: send a DPoP proof or use a certificate.",
            reason="binding_missing",
        )


def known_bearer(state: State, token: str, now: datetime) -> BearerToken | None:
    """Return what an access token stands for, from memory if every change since is heard (memory.py).

    For answers about a token, never for issuing: that asks the database (`clear_bearer`).
    """
    known = state.recall(token, now)
    if isinstance(known, BearerToken):
        return known
    bearer = clear_bearer(state, token, now)
    if bearer is not None:
        _remember(state, token, bearer, now)
    return bearer


def _remember(state: State, token: str, bearer: BearerToken, now: datetime) -> None:
    """Remember until the token's end, or the next change of its person's rights by date, whichever is first."""
    claims, clearance = bearer.claims, bearer.clearance
    jti = str(claims["jti"])
    depends_on = [f"t{jti[:64]}", f"t{jti.partition('.')[0]}"]
    until = datetime.fromtimestamp(claims["exp"], UTC)
    if clearance.session is not None and clearance.person is not None:
        depends_on += [f"s{clearance.session.id.hex}", f"u{clearance.person.user_id.hex}"]
        change = state.next_change(clearance.person.user_id, now)
        until = min(until, clearance.session.expires_at, change or until)
    state.remember(token, bearer, until, tuple(depends_on))


def clear_bearer(state: State, token: str, now: datetime) -> BearerToken | None:
    """Return what an access token stands for, or None when it is not, or no longer, one of ours.

    Spec: RFC 9068 §4, RFC 7662 §2.2.
    """
    claims = read_access_token(state, token)
    if claims is None or not _is_in_force(claims, now):
        return None
    client = state.client(str(claims.get("client_id")))
    if client is None or not client.enabled or not _is_still_delegated(state, client, claims):
        return None
    bearer = state.store.bearer(claims, client, now)
    if bearer is None or claims.get("sub") != _told_subject(state, client, bearer.person):
        return None
    access = None
    if bearer.session is not None:
        standing = state.standing(client, bearer.session.user_id, now)
        try:
            refuse_unless_admitted(standing, bearer.session)
        except OAuthError:
            return None
        access = standing.access
    scopes = tuple(str(claims.get("scope", "")).split())
    clearance = Clearance(_KEY, client, scopes, now, bearer.session, bearer.person, access)
    return BearerToken(claims, clearance, Binding.of(claims.get("cnf")))


def client_named_by(state: State, token: str) -> str:
    """Return the client of an access token of ours, however old or ended it is; "" for anything else."""
    claims = read_access_token(state, token)
    client = state.client(str(claims.get("client_id"))) if claims else None
    return client.client_id if client else ""


def subject_for(state: State, client: ClientFacts, sub: str) -> str:
    """Return the `sub` by which a client is told of a person: in every token, answer and hint.

    Raises: ValueError, which denies, when a pairwise client has lost its sector. Spec: OIDC Core §8.
    """
    return subject(client, state.pairwise_salt, sub)


def _told_subject(state: State, client: ClientFacts, person: PersonFacts | None) -> str:
    return subject_for(state, client, person.sub) if person else client.client_id


def read_access_token(state: State, text: str) -> Mapping[str, Any] | None:  # Any: JSON
    """Return what an access token of ours says, whatever became of it since; None when the text is none.

    The one place that knows what kinds of text an access token can be. An ID token, a logout token and whatever
    else we sign has another type (A13). Spec: RFC 9068 §4.
    """
    claims: Mapping[str, Any] | None
    if opaque_tokens.is_opaque(text):
        claims = state.store.opaque_claims(opaque_tokens.digest(text))
    else:
        try:
            verified = verify(text, state.keys())
        except BadToken:
            return None
        claims = verified.claims if verified.typ == ACCESS_TOKEN_TYP else None
    return claims if claims is not None and claims.get("iss") == state.issuer else None


def _is_in_force(claims: Mapping[str, Any], now: datetime) -> bool:  # Any: JSON
    """Say whether now is within a token's times, and these within what we give: whoever stole a key gets no more."""
    exp, iat = claims.get("exp"), claims.get("iat")
    if not isinstance(exp, int) or not isinstance(iat, int) or exp - iat > ACCESS_TOKEN_LIFE.total_seconds():
        return False
    return exp > now.timestamp() >= iat - 10


def narrowed(clearance: Clearance, scopes: tuple[str, ...]) -> Clearance:
    """Return the clearance for fewer scopes. Raises: OAuthError invalid_scope for more, or none. Spec: RFC 6749 §6."""
    if not scopes:
        raise OAuthError("invalid_scope", "No scope that can be granted was named.", reason="scope_missing")
    if not set(scopes) <= set(clearance.scopes):
        raise OAuthError(
            "invalid_scope", "A refresh cannot ask for more than was granted.", reason="scope_widened"
        )
    return replace(clearance, scopes=scopes)
