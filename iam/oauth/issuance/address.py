"""For whom a token is, and what of a grant it may carry there. Spec: RFC 8707 §2.2, RFC 9068 §3, §5."""

from dataclasses import dataclass, replace

from iam.oauth.ports import State
from iam.oauth.protocol.audience import audience_of, check_resources, scopes_for
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ClientFacts
from iam.oauth.protocol.parameters import Parameters

from .gate import Clearance


@dataclass(frozen=True, slots=True)
class Address:
    """A token's `aud`, what it carries there, and the applications whose roles it may express."""

    aud: tuple[str, ...]
    scopes: tuple[str, ...]
    applications: frozenset[str]


def address(state: State, clearance: Clearance) -> Address:
    """Return where the token of a clearance goes.

    To the resources that were named, and then with nothing but what belongs to them. If none was named: to the
    resource servers whose scopes it carries, and to ourselves when it opens userinfo. A token that opens nothing at
    all is addressed to us, so that nobody else can take it for theirs.
    """
    named, scopes = clearance.asked.resources, clearance.scopes
    if not named:
        aud = _audiences(state, scopes)
        return Address(aud, scopes, _applications(state, aud))
    carried = frozenset(
        scope for name in named for scope in scopes_for(name, scopes, state.scope_owner, state.issuer)
    )
    return Address(named, tuple(s for s in scopes if s in carried), _applications(state, named))


def _audiences(state: State, scopes: tuple[str, ...]) -> tuple[str, ...]:
    names = sorted({audience_of(owner) for scope in scopes if (owner := state.scope_owner(scope))})
    if "openid" in scopes or not names:
        names.append(state.issuer)
    return tuple(names)


def _applications(state: State, audiences: tuple[str, ...]) -> frozenset[str]:
    servers = (state.resource_server(name) for name in audiences)
    return frozenset(server.application for server in servers if server and server.application)


def resources_asked(
    state: State, client: ClientFacts, parameters: Parameters, scopes: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the audiences that a request names, for each of which it asks something.

    Raises: OAuthError invalid_target. Spec: RFC 8707 §2.1.
    """
    names = check_resources(
        parameters.every("resource"), client, state.resource_server, state.scope_owner, state.issuer
    )
    for name in names:
        _require_use(state, name, scopes)
    return names


def _require_use(state: State, name: str, scopes: tuple[str, ...]) -> None:
    """Whoever reads a token learns who the person is: nobody may for whom nothing else was asked."""
    if not scopes_for(name, scopes, state.scope_owner, state.issuer):
        raise OAuthError(
            "invalid_target", "No scope of this resource was asked for.", reason="resource_without_scope"
        )


def restricted(state: State, clearance: Clearance, form: Parameters) -> Clearance:
    """Return the clearance for the resources alone that a token request names, of those granted.

    Raises: OAuthError invalid_target. Spec: RFC 8707 §2.2.
    """
    names = resources_asked(state, clearance.client, form, clearance.scopes)
    if not names:
        return clearance
    granted = clearance.asked.resources or _audiences(state, clearance.scopes)
    if not set(names) <= set(granted):
        raise OAuthError("invalid_target", "This resource was not granted.", reason="resource_widened")
    return replace(clearance, asked=replace(clearance.asked, resources=names))
