"""Where a request came from, as far as the audit wants to know: from its environment, whichever door it came through."""

import ipaddress
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# No honest chain of proxies is longer; a header beyond this is an attack on whoever parses it (A41).
FORWARDED_LENGTH_MAX = 2048
FORWARDED_HOPS_MAX = 20
# A door that hands a request on to the other one leaves its facts here; no header can have such a name.
HANDED_ON = "iam.facts"


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


def facts_from(environment: Mapping[str, Any]) -> RequestFacts:  # Any: a WSGI environment
    """Number a request and find out where it came from. The number is ours: a client's could collide or mislead."""
    handed_on = environment.get(HANDED_ON)
    if isinstance(handed_on, RequestFacts):
        return handed_on
    return RequestFacts(
        request_id=str(uuid.uuid4()),
        address=source_address(
            environment.get("REMOTE_ADDR", ""), environment.get("HTTP_X_FORWARDED_FOR", "")
        ),
        user_agent=environment.get("HTTP_USER_AGENT", "")[:200],
    )


def source_address(remote: str, forwarded: str) -> str:
    """Return the address of who asks, "" when there is none.

    `forwarded` is believed only from a trusted proxy, and only up to the first hop that is none. A header with
    anything in it that is no address is not believed at all: the proxy itself is then the source, so that
    garbage shares one throttle instead of escaping all of them.
    """
    peer = _parsed(remote)
    if peer is None:
        return ""
    if not forwarded or not _is_trusted(peer):
        return str(peer)
    hops = forwarded.split(",") if len(forwarded) <= FORWARDED_LENGTH_MAX else []
    if not 0 < len(hops) <= FORWARDED_HOPS_MAX:
        return str(peer)
    source = peer
    for hop in reversed(hops):
        address = _parsed(hop.strip())
        if address is None:
            return str(peer)
        source = address
        if not _is_trusted(address):
            break
    return str(source)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Address | None:
    """Read an address; with a zone it is none that means anything here."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return None if address.scope_id else address.ipv4_mapped or address
    return address


def _is_trusted(address: Address) -> bool:
    return any(
        address.version == network.version and address in network for network in settings.IAM_TRUSTED_PROXIES
    )
