"""The one gate. No code, token, ID token, introspection or userinfo answer exists without a Clearance.

A Clearance can only be made here, and only after every check that any path makes: subject active,
session live, client enabled, access policy, audience, scope. A path cannot forget a check that it
does not make itself. Any error denies.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from iam.access.policy import EffectiveAccess, Level, Refused

from .ports import Context, PersonFacts, Standing, State
from .protocol.claims import (
    ACCESS_TOKEN_LIFE,
    ACCESS_TOKEN_TYP,
    CODE_LIFE,
    ID_TOKEN_LIFE,
    ID_TOKEN_TYP,
    PERSON_SCOPES,
    access_claims,
    bounded_end,
    generation_claim,
    granted_scopes,
    is_for,
    person_claims,
    seconds,
    token_hash,
)
from .protocol.errors import OAuthError
from .protocol.jose import BadToken, Verified, verify
from .protocol.messages import AuthorizationRequest, ClientFacts, SessionFacts

ACCESS_TOKEN_ALG = "ES256"  # noqa: S105 -- an algorithm's name
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

    def __post_init__(self) -> None:
        if self.key is not _KEY:
            raise TypeError("a Clearance is made by the gate only")


@dataclass(frozen=True, slots=True)
class BearerToken:
    """An access token of ours that is still good, and the clearance of what may be said about it."""

    claims: Mapping[str, Any]  # Any: JSON
    clearance: Clearance


# -- the gate ---------------------------------------------------------------------------------------------


def clear_person(
    state: State, client: ClientFacts, session: SessionFacts | None, scopes: tuple[str, ...], now: datetime
) -> Clearance:
    """Let a person's request through, or refuse.

    In: `session` as read in this very request, None when it has ended or its person is not active.
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
    person = state.person(session.user_id)
    return Clearance(_KEY, client, granted_scopes(scopes), now, session, person, standing.access)


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


def clear_machine(client: ClientFacts, scopes: tuple[str, ...], now: datetime) -> Clearance:
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
    return Clearance(_KEY, client, scopes, now)


def clear_bearer(state: State, token: str, now: datetime) -> BearerToken | None:
    """Return what an access token stands for, or None when it is not, or no longer, one of ours.

    Spec: RFC 9068 §4, RFC 7662 §2.2.
    """
    try:
        verified = verify(token, state.keys())
    except BadToken:
        return None
    claims = verified.claims
    if not _is_access_token(state, verified, now):
        return None
    client = state.client(str(claims.get("client_id")))
    if client is None or not client.enabled:
        return None
    bearer = state.store.bearer(claims, client, now)
    if bearer is None:
        return None
    access = state.access(bearer.person.user_id, now) if bearer.person else None
    scopes = tuple(str(claims.get("scope", "")).split())
    clearance = Clearance(_KEY, client, scopes, now, bearer.session, bearer.person, access)
    return BearerToken(claims, clearance)


def _is_access_token(state: State, verified: Verified, now: datetime) -> bool:
    """Say whether a signed token is an access token in force: its type, issuer and times (A13)."""
    exp, iat = verified.claims.get("exp"), verified.claims.get("iat")
    return (
        verified.typ == ACCESS_TOKEN_TYP
        and verified.claims.get("iss") == state.issuer
        and isinstance(exp, int)
        and isinstance(iat, int)
        and exp > now.timestamp() >= iat - 10
    )


# -- what leaves ------------------------------------------------------------------------------------------


def new_code() -> str:
    """Return 256 random bits as a code."""
    return "ac_" + secrets.token_urlsafe(32)


def store_code(
    state: State,
    clearance: Clearance,
    request: AuthorizationRequest,
    context: Context,
    digest: str,
    family_id: UUID,
) -> None:
    """Store a code's digest.

    Raises: OAuthError access_denied when session, person or client ended in the meantime: the statement says so.
    """
    session = clearance.session
    if session is None or not state.store.insert_code(
        digest,
        clearance.client,
        session,
        request,
        context,
        family_id,
        clearance.at + CODE_LIFE,
        clearance.at,
    ):
        raise OAuthError("access_denied", "The sign-in session has ended.", reason="session_ended")


def audiences(state: State, scopes: tuple[str, ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return a token's `aud` and the applications whose roles it may express.

    The resource servers whose scopes it carries, and ourselves when it opens userinfo. A token that
    opens nothing at all is addressed to us, so that nobody else can take it for theirs.
    Spec: RFC 9068 §3.
    """
    owners = [owner for scope in scopes if (owner := state.scope_owner(scope))]
    names = sorted({owner.client_id for owner in owners})
    if "openid" in scopes or not names:
        names.append(state.issuer)
    return tuple(names), frozenset(owner.application for owner in owners if owner.application)


def access_token(
    state: State, clearance: Clearance, family: str, sid: str = "", context: Context | None = None
) -> tuple[str, int]:
    """Return a signed access token and the seconds that it lives.

    `jti` begins with the family, so that a denylist entry can end one token or all of a family. Spec: RFC 9068 §2.2.
    """
    client, session, now = clearance.client, clearance.session, clearance.at
    aud, applications = audiences(state, clearance.scopes)
    end = bounded_end(ACCESS_TOKEN_LIFE, clearance.access, applications, now)
    claims: dict[str, Any] = {
        "iss": state.issuer,
        "sub": clearance.person.sub if clearance.person else client.client_id,
        "aud": list(aud),
        "client_id": client.client_id,
        "scope": " ".join(clearance.scopes),
        "iat": seconds(now),
        "exp": seconds(end),
        "jti": f"{family}.{secrets.token_urlsafe(12)}",
        "gen": generation_claim(
            state.generation,
            session.user_generation if session else 0,
            client.generation,
            session.generation if session else 0,
        ),
        **access_claims(clearance.access, applications),
    }
    if context is not None:
        claims |= {
            "sid": sid,
            "auth_time": seconds(context.auth_time),
            "acr": context.acr,
            "amr": list(context.amr),
        }
    token = state.signing_key(ACCESS_TOKEN_ALG).sign(ACCESS_TOKEN_TYP, claims)
    return token, max(0, seconds(end) - seconds(now))


def id_token(
    state: State, clearance: Clearance, context: Context, sid: str, nonce: str, with_token: str
) -> str:
    """Return a signed ID token for the client. Spec: OIDC Core §2, §3.1.3.6, §12.2."""
    client, person, now = clearance.client, _person(clearance), clearance.at
    applications = _own_application(client)
    scopes = frozenset(clearance.scopes)
    claims: dict[str, Any] = {
        "iss": state.issuer,
        "sub": person.sub,
        "aud": client.client_id,
        "iat": seconds(now),
        "exp": seconds(
            bounded_end(ID_TOKEN_LIFE, clearance.access if "roles" in scopes else None, applications, now)
        ),
        "auth_time": seconds(context.auth_time),
        "acr": context.acr,
        "amr": list(context.amr),
        "sid": sid,
        "at_hash": token_hash(with_token),
        **_describe(clearance, applications),
    }
    if nonce:
        claims["nonce"] = nonce
    return state.signing_key(client.id_token_alg).sign(ID_TOKEN_TYP, claims)


def userinfo(bearer: BearerToken) -> dict[str, Any]:  # Any: JSON
    """Return the userinfo answer. Spec: OIDC Core §5.3.2."""
    clearance = bearer.clearance
    return {"sub": _person(clearance).sub, **_describe(clearance, _own_application(clearance.client))}


def introspection(
    state: State, bearer: BearerToken, asker: ClientFacts
) -> dict[str, Any] | None:  # Any: JSON
    """Return what `asker` may learn of a token, or None when it is neither its audience nor its owner.

    Spec: RFC 7662 §2.2, §4; RFC 9068 §2.2 for the names.
    """
    claims, clearance = bearer.claims, bearer.clearance
    if asker.client_id != clearance.client.client_id and not is_for(claims, asker.client_id):
        return None
    kept = ("iss", "sub", "aud", "client_id", "scope", "iat", "exp", "jti", "auth_time", "acr", "amr")
    answer = {name: claims[name] for name in kept if name in claims}
    return {
        "active": True,
        "token_type": "Bearer",
        **answer,
        **access_claims(clearance.access, _own_application(asker)),
    }


def _describe(clearance: Clearance, applications: frozenset[str]) -> dict[str, Any]:  # Any: JSON
    person = _person(clearance)
    scopes = frozenset(clearance.scopes)
    described: dict[str, Any] = dict(
        person_claims(
            scopes,
            name_latin=person.name_latin,
            name_arabic=person.name_arabic,
            email=person.email,
            language=person.language,
            login=person.login,
        )
    )
    if "roles" in scopes:
        described |= access_claims(clearance.access, applications)
    return described


def _own_application(client: ClientFacts) -> frozenset[str]:
    return frozenset({client.application}) if client.application else frozenset()


def _person(clearance: Clearance) -> PersonFacts:
    if clearance.person is None:
        raise OAuthError("access_denied", "Nobody is signed in.", reason="no_person")
    return clearance.person


def narrowed(clearance: Clearance, scopes: tuple[str, ...]) -> Clearance:
    """Return the clearance for fewer scopes. Raises: OAuthError invalid_scope for more, or none. Spec: RFC 6749 §6."""
    if not scopes:
        raise OAuthError("invalid_scope", "No scope that can be granted was named.", reason="scope_missing")
    if not set(scopes) <= set(clearance.scopes):
        raise OAuthError(
            "invalid_scope", "A refresh cannot ask for more than was granted.", reason="scope_widened"
        )
    return replace(clearance, scopes=scopes)
