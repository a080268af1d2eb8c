"""Where a request came from, as far as the audit wants to know."""

from dataclasses import dataclass

from django.http import HttpRequest


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """One request: its number, which every page and log shows, and the address that it came from."""

    request_id: str
    address: str = ""
    user_agent: str = ""


NO_REQUEST = RequestFacts("")


def facts_of(request: HttpRequest) -> RequestFacts:
    """Return what the first middleware found out about a request."""
    facts = getattr(request, "facts", None)
    if not isinstance(facts, RequestFacts):
        raise TypeError("RequestFactsMiddleware must be the first middleware")
    return facts
