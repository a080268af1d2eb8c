"""Where a request came from, as far as the audit wants to know."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """One request: its number, which every page and log shows, and the address that it came from."""

    request_id: str
    address: str = ""
    user_agent: str = ""


NO_REQUEST = RequestFacts("")
