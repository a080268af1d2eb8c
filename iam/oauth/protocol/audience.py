"""For whom a token is: what `resource` may name, and which scopes belong to whom. Pure.

A resource server is named by its `resource_uri`, or by its client id where it has none; that name is its audience,
in `aud` and in `resource` alike, so that it compares one text. Our own resources are named by their addresses, and
have one audience, the issuer. Why so: docs/adr/0019. Spec: RFC 8707 §2, RFC 9068 §3.
"""

from collections.abc import Callable

from .claims import PERSON_SCOPES
from .errors import OAuthError
from .messages import ClientFacts
from .resource_uri import problem_with_resource
from .resources import RESOURCES

# More resource servers than this in one token is not least privilege, and every one of them could replay it.
RESOURCES_COUNT_MAX = 10

FindServer = Callable[[str], ClientFacts | None]
FindOwner = Callable[[str], ClientFacts | None]


def audience_of(server: ClientFacts) -> str:
    """Return the one name by which tokens are addressed to a resource server."""
    return server.options.resource_uri or server.client_id


def check_resources(
    values: tuple[str, ...], client: ClientFacts, find: FindServer, reached: frozenset[int], issuer: str
) -> tuple[str, ...]:
    """Return the audiences that `resource` names, each once, in order; () when it was not sent.

    In: `find` finds a resource server by its audience; `reached` as in `may_name`.
    Raises: OAuthError invalid_target. What does not exist and what this client may not name look the same.
    Spec: RFC 8707 §2.
    """
    if len(values) > RESOURCES_COUNT_MAX:
        raise OAuthError(
            "invalid_target", f"At most {RESOURCES_COUNT_MAX} resources.", reason="resource_count"
        )
    return tuple(dict.fromkeys(_audience(value, client, find, reached, issuer) for value in values))


def _audience(value: str, client: ClientFacts, find: FindServer, reached: frozenset[int], issuer: str) -> str:
    problem = problem_with_resource(value)
    if problem:
        raise OAuthError("invalid_target", f"resource {problem}.", reason="resource_malformed")
    if value in {issuer + path for path in RESOURCES}:
        return issuer
    server = find(value)
    if server is None or not may_name(client, server, reached):
        raise OAuthError(
            "invalid_target", "This client may not ask for a token for this resource.", reason="resource"
        )
    return value


def may_name(client: ClientFacts, server: ClientFacts, reached: frozenset[int]) -> bool:
    """Say whether a client may name a resource server: one on its list, or without a list one that it reaches.

    In: `reached` the servers (`pk`) that own a scope, or a type of authorization details, registered for the client.
    """
    if client.options.resources:
        return server.client_id in client.options.resources
    return server.pk in reached


def scopes_for(audience: str, scopes: tuple[str, ...], owner: FindOwner, issuer: str) -> tuple[str, ...]:
    """Return those scopes that belong to an audience: a resource server's own, ours are those of a person."""
    if audience == issuer:
        return tuple(scope for scope in scopes if scope in PERSON_SCOPES)
    return tuple(
        scope for scope in scopes if (found := owner(scope)) is not None and audience_of(found) == audience
    )
