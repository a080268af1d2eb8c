"""For whom a token is, and what of a grant it may carry there. Spec: RFC 8707 §2.2, RFC 9068 §3, §5, RFC 9396 §7, §9."""

from dataclasses import dataclass, replace

from iam.oauth.ports import State
from iam.oauth.protocol.audience import audience_of, check_resources, scopes_for
from iam.oauth.protocol.authorization_details import Detail, check_details, narrowed_details
from iam.oauth.protocol.claims import PERSON_SCOPES
from iam.oauth.protocol.errors import OAuthError
from iam.oauth.protocol.messages import ClientFacts
from iam.oauth.protocol.parameters import Parameters

from .gate import Clearance, reached_servers


@dataclass(frozen=True, slots=True)
class Address:
    """A token's `aud`, what it carries there, and the applications whose roles it may express."""

    aud: tuple[str, ...]
    scopes: tuple[str, ...]
    details: tuple[Detail, ...]
    applications: frozenset[str]


def address(state: State, clearance: Clearance) -> Address:
    """Return where the token of a clearance goes.

    To the resources that were named, and then with nothing but what belongs to them. If none was named: to the
    resource servers whose scopes and details it carries, and to ourselves when it opens userinfo. A token that opens
    nothing at all is addressed to us, so that nobody else can take it for theirs.
    Raises: OAuthError invalid_target for a signed token that would show one resource server another's details.
    """
    named, scopes, details = (
        clearance.asked.resources,
        clearance.scopes,
        clearance.asked.authorization_details,
    )
    if not named:
        aud = _audiences(state, scopes, details)
        return Address(aud, scopes, details, _expressed(state, clearance.client, aud, details))
    carried = frozenset(
        scope for name in named for scope in scopes_for(name, scopes, state.scope_owner, state.issuer)
    )
    theirs = tuple(detail for detail in details if detail_audience(state, detail) in named)
    return Address(
        named,
        tuple(scope for scope in scopes if scope in carried),
        theirs,
        _expressed(state, clearance.client, named, theirs),
    )


def detail_audience(state: State, detail: Detail) -> str:
    """Return for which resource server a detail is, "" when its type is gone."""
    found = state.detail_type(detail["type"])
    return audience_of(found.owner) if found else ""


def _audiences(state: State, scopes: tuple[str, ...], details: tuple[Detail, ...]) -> tuple[str, ...]:
    owners = (state.scope_owner(scope) for scope in scopes)
    names = {audience_of(owner) for owner in owners if owner}
    names |= {name for detail in details if (name := detail_audience(state, detail))}
    if "openid" in scopes or not names:
        return (*sorted(names), state.issuer)
    return tuple(sorted(names))


def _expressed(
    state: State, client: ClientFacts, audiences: tuple[str, ...], details: tuple[Detail, ...]
) -> frozenset[str]:
    """Return the applications whose roles a token may express.

    A signed token is a letter that everybody reads to whom it is addressed: it says nothing that is for one of
    several resource servers alone. Of an opaque one each learns its own part, by introspection. Why so: docs/adr/0034.
    Raises: OAuthError invalid_target. Spec: RFC 8707 §3, RFC 9068 §3, RFC 9396 §9.1.
    """
    servers = [name for name in audiences if name != state.issuer]
    found = [state.resource_server(name) for name in servers]
    applications = {server.application if server else None for server in found}
    if len(servers) > 1 and client.options.access_token_format == "jwt":  # noqa: S105 -- a format's name
        if details:
            raise OAuthError(
                "invalid_target",
                "These authorization_details are not for all the resource servers of this token: name one with resource.",
                reason="details_of_several",
            )
        if len(applications) > 1:
            return frozenset()
    return frozenset(application for application in applications if application)


def is_known_scope(state: State, scope: str) -> bool:
    """Say whether a scope exists: one that describes a person, or that an enabled resource server owns."""
    return scope in PERSON_SCOPES or state.scope_owner(scope) is not None


def resources_asked(
    state: State,
    client: ClientFacts,
    parameters: Parameters,
    scopes: tuple[str, ...],
    details: tuple[Detail, ...] = (),
) -> tuple[str, ...]:
    """Return the audiences that a request names, for each of which it asks something.

    Raises: OAuthError invalid_target. Spec: RFC 8707 §2.1.
    """
    values = parameters.every("resource")
    if not values:
        return ()
    names = check_resources(
        values, client, state.resource_server, reached_servers(state, client), state.issuer
    )
    for name in names:
        _require_use(state, name, scopes, details)
    return names


def _require_use(state: State, name: str, scopes: tuple[str, ...], details: tuple[Detail, ...]) -> None:
    """Whoever reads a token learns who the person is: nobody may for whom nothing else was asked."""
    if scopes_for(name, scopes, state.scope_owner, state.issuer):
        return
    if not any(detail_audience(state, detail) == name for detail in details):
        raise OAuthError(
            "invalid_target", "Nothing of this resource was asked for.", reason="resource_without_scope"
        )


def details_asked(state: State, client: ClientFacts, parameters: Parameters) -> tuple[Detail, ...]:
    """Return the authorization details that a request asks for.

    Raises: OAuthError invalid_authorization_details. Spec: RFC 9396 §5.
    """
    return check_details(parameters.get("authorization_details"), client, state.detail_type)


def restricted(state: State, clearance: Clearance, form: Parameters) -> Clearance:
    """Return the clearance for what a token request names alone: resources and details, of those granted.

    Whoever gets it can have a token of it: what `address` refuses is refused here, before anything is used up.
    Raises: OAuthError invalid_target, invalid_authorization_details. Spec: RFC 8707 §2.2, RFC 9396 §6.
    """
    less = _restricted(state, clearance, form)
    address(state, less)
    return less


def _restricted(state: State, clearance: Clearance, form: Parameters) -> Clearance:
    if "resource" not in form and "authorization_details" not in form:
        return clearance
    granted = clearance.asked
    details = granted.authorization_details
    if "authorization_details" in form:
        details = narrowed_details(details, form["authorization_details"])
    resources = resources_asked(state, clearance.client, form, clearance.scopes, details)
    may_be = granted.resources or _audiences(state, clearance.scopes, granted.authorization_details)
    if not set(resources) <= set(may_be):
        raise OAuthError("invalid_target", "This resource was not granted.", reason="resource_widened")
    asked = replace(granted, resources=resources or granted.resources, authorization_details=details)
    return replace(clearance, asked=asked)
