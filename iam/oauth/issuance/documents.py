"""What leaves through the gate: codes, access tokens, ID tokens, logout tokens, userinfo and introspection answers.

Every function here takes a Clearance, which only the gate makes.
"""

import secrets
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from iam.oauth.ports import Context, Event, PersonFacts, State
from iam.oauth.protocol import opaque_tokens
from iam.oauth.protocol.audience import audience_of, scopes_for
from iam.oauth.protocol.authorization_details import Detail
from iam.oauth.protocol.binding import Binding
from iam.oauth.protocol.claims import (
    ACCESS_TOKEN_LIFE,
    ACCESS_TOKEN_TYP,
    CLAIM_SCOPES,
    CODE_LIFE,
    ID_TOKEN_LIFE,
    ID_TOKEN_TYP,
    access_claims,
    bounded_end,
    generation_claim,
    is_for,
    person_claims,
    released_claims,
    seconds,
    token_hash,
)
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.logout_token import LOGOUT_TOKEN_TYP, build_logout_claims
from iam.oauth.protocol.messages import AuthorizationRequest, ClientFacts

from .address import address, detail_audience
from .gate import BearerToken, Clearance, Ending, require_binding, subject_for
from .sealing import sealed_token

# In an access token that opens userinfo: the claims that were asked for by name, to be told there.
USERINFO_CLAIM = "userinfo"
ACCESS_TOKEN_ALG = "ES256"  # noqa: S105 -- an algorithm's name


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
    event: Event,
) -> None:
    """Store a code's digest, with the event that says so.

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
        event,
        clearance.at,
    ):
        raise OAuthError("access_denied", "The sign-in session has ended.", reason="session_ended")


def access_token(
    state: State,
    clearance: Clearance,
    family: str,
    binding: Binding,
    sid: str = "",
    context: Context | None = None,
) -> tuple[str, int]:
    """Return an access token, signed or opaque as its client is set, and the seconds that it lives.

    In: `binding` the key that the sender proved in this request.
    `jti` begins with the family, so that a denylist entry can end one token or all of a family. Spec: RFC 9068 §2.2.
    """
    client, session, now = clearance.client, clearance.session, clearance.at
    require_binding(client, binding)
    to = address(state, clearance)
    end = bounded_end(ACCESS_TOKEN_LIFE, clearance.access, to.applications, now)
    if session is not None:
        end = min(end, session.expires_at)
    if clearance.delegation is not None:
        end = min(end, clearance.delegation.ends_at)
    claims: dict[str, Any] = {
        "iss": state.issuer,
        "sub": subject_for(state, client, clearance.person.sub) if clearance.person else client.client_id,
        "aud": list(to.aud),
        "client_id": client.client_id,
        **({"scope": " ".join(to.scopes)} if to.scopes else {}),
        **({"authorization_details": list(to.details)} if to.details else {}),
        "iat": seconds(now),
        "exp": seconds(end),
        "jti": f"{family}.{secrets.token_urlsafe(12)}",
        "gen": generation_claim(
            state.generation,
            session.user_generation if session else 0,
            client.generation,
            session.generation if session else 0,
        ),
        **access_claims(clearance.access, to.applications),
    }
    if clearance.delegation is not None:
        claims |= clearance.delegation.as_claims()
    if binding:
        claims["cnf"] = binding.confirmation
    if context is not None:
        claims |= {
            "sid": sid,
            "auth_time": seconds(context.auth_time),
            "acr": context.acr,
            "amr": list(context.amr),
        }
        asked = [name for name in clearance.asked.claims.userinfo if name in CLAIM_SCOPES]
        if asked and state.issuer in to.aud:
            claims[USERINFO_CLAIM] = asked
    if client.options.access_token_format == "opaque":  # noqa: S105 -- a format's name
        token = opaque_tokens.new_token()
        person_id = clearance.person.user_id if clearance.person else None
        state.store.insert_opaque(opaque_tokens.digest(token), client, person_id, claims, end, now)
    else:
        token = state.signing_key(ACCESS_TOKEN_ALG).sign(ACCESS_TOKEN_TYP, claims)
    return token, max(0, seconds(end) - seconds(now))


def id_token(
    state: State, clearance: Clearance, context: Context, sid: str, nonce: str, with_token: str
) -> str:
    """Return a signed ID token for the client, encrypted if it asked for that. Spec: OIDC Core §2, §3.1.3.6, §10.2, §12.2."""
    client, person, now = clearance.client, _person(clearance), clearance.at
    applications = _own_application(client)
    told = _describe(clearance, applications, clearance.asked.claims.id_token)
    expressed = clearance.access if {"access", "roles"} & told.keys() else None
    claims: dict[str, Any] = {
        "iss": state.issuer,
        "sub": subject_for(state, client, person.sub),
        "aud": client.client_id,
        "iat": seconds(now),
        "exp": seconds(bounded_end(ID_TOKEN_LIFE, expressed, applications, now)),
        "auth_time": seconds(context.auth_time),
        "acr": context.acr,
        "amr": list(context.amr),
        "sid": sid,
        "at_hash": token_hash(with_token, client.id_token_alg),
        **told,
    }
    if nonce:
        claims["nonce"] = nonce
    return sealed_token(state, client, state.signing_key(client.id_token_alg).sign(ID_TOKEN_TYP, claims))


def logout_token(state: State, ending: Ending) -> str:
    """Return the signed statement that a session is over, for one client; another one at every call.

    A repeated attempt carries another `jti`: a receiver whose answer was lost must not take it for a replay.
    Spec: OIDC Back-Channel Logout §2.4 (the same algorithms and keys as ID tokens, those of encryption too).
    """
    clearance = ending.clearance
    claims = build_logout_claims(
        issuer=state.issuer,
        client_id=clearance.client.client_id,
        sub=subject_for(state, clearance.client, _person(clearance).sub),
        sid=ending.sid,
        jti=secrets.token_urlsafe(16),
        now=clearance.at,
    )
    signed = state.signing_key(clearance.client.id_token_alg).sign(LOGOUT_TOKEN_TYP, claims)
    return sealed_token(state, clearance.client, signed, state.issuer)


def userinfo(state: State, bearer: BearerToken) -> dict[str, Any]:  # Any: JSON
    """Return the userinfo answer. Spec: OIDC Core §5.3.2."""
    clearance = bearer.clearance
    sub = subject_for(state, clearance.client, _person(clearance).sub)
    asked = bearer.claims.get(USERINFO_CLAIM, ())
    return {"sub": sub, **_describe(clearance, _own_application(clearance.client), asked)}


def introspection(
    state: State, bearer: BearerToken, asker: ClientFacts
) -> dict[str, Any] | None:  # Any: JSON
    """Return what `asker` may learn of a token, or None when it is neither its audience nor its owner.

    Spec: RFC 7662 §2.2, §4; RFC 9068 §2.2 for the names.
    """
    claims, clearance = bearer.claims, bearer.clearance
    if asker.client_id != clearance.client.client_id and not is_for(claims, audience_of(asker)):
        return None
    kept = (
        "iss",
        "sub",
        "aud",
        "client_id",
        "scope",
        "iat",
        "exp",
        "jti",
        "cnf",
        "auth_time",
        "acr",
        "amr",
        "act",
    )
    answer = {name: claims[name] for name in kept if name in claims}
    if asker.pk != clearance.client.pk:
        answer |= _part_of(state, answer.pop("scope", ""), asker)
    details = _details_for(state, bearer, asker)
    if details:
        answer["authorization_details"] = details
    if clearance.person is not None:
        answer["sub"] = subject_for(state, asker, clearance.person.sub)  # as the asker knows the person
    return {
        "active": True,
        "token_type": bearer.binding.token_type,
        **answer,
        **access_claims(clearance.access, _own_application(asker)),
    }


def _part_of(state: State, scope: str, asker: ClientFacts) -> dict[str, Any]:  # Any: JSON
    """Return `aud` and `scope` as they concern one resource server: which others a token opens is not its business.

    Spec: RFC 7662 §2.2 (an answer may differ from one protected resource to another), §5.
    """
    audience = audience_of(asker)
    scopes = scopes_for(audience, tuple(scope.split()), state.scope_owner, state.issuer)
    return {"aud": [audience], **({"scope": " ".join(scopes)} if scopes else {})}


def _details_for(state: State, bearer: BearerToken, asker: ClientFacts) -> list[Detail]:
    """Return the details of a token that are the asker's: the client's own all, a resource server's its types'.

    Spec: RFC 9396 §9.2.
    """
    details: list[Detail] = bearer.claims.get("authorization_details", [])
    if asker.pk == bearer.clearance.client.pk:
        return details
    return [detail for detail in details if detail_audience(state, detail) == audience_of(asker)]


def _describe(
    clearance: Clearance, applications: frozenset[str], asked: Iterable[str]
) -> dict[str, Any]:  # Any: JSON
    """Return what is told of a person: what the scopes stand for, and what was asked for by name."""
    person = _person(clearance)
    names = released_claims(clearance.scopes, asked, clearance.client.scopes)
    described: dict[str, Any] = dict(
        person_claims(
            names,
            name_latin=person.name_latin,
            name_arabic=person.name_arabic,
            email=person.email,
            language=person.language,
            login=person.login,
        )
    )
    rights = access_claims(clearance.access, applications)
    return described | {name: value for name, value in rights.items() if name in names}


def _own_application(client: ClientFacts) -> frozenset[str]:
    return frozenset({client.application}) if client.application else frozenset()


def _person(clearance: Clearance) -> PersonFacts:
    if clearance.person is None:
        raise OAuthError("access_denied", "Nobody is signed in.", reason="no_person")
    return clearance.person
