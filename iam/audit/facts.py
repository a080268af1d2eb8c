"""Where a request came from, as far as the audit wants to know: from its environment, whichever door it came through."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

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
        request_id=new_request_id(),
        address=source_address(
            environment.get("REMOTE_ADDR", ""), environment.get("HTTP_X_FORWARDED_FOR", "")
        ),
        user_agent=environment.get("HTTP_USER_AGENT", "")[:200],
    )


def new_request_id() -> str:
    """Return a random UUID as text; `str(uuid.uuid4())` says the same in four times the time. Spec: RFC 9562 §5.4."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


# The two highest bits of the seventeenth digit are 10.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def source_address(remote: str, forwarded: str) -> str:
    """Return the address of who asks, "" when there is none.

    `forwarded` is believed only from a trusted proxy, and only up to the first hop that is none. A header with
    anything in it that is no address is not believed at all: the proxy itself is then the source, so that
    garbage shares one throttle instead of escaping all of them.
    """
    if not forwarded:
        return _plain(remote)
    return _source(remote, forwarded, tuple(settings.IAM_TRUSTED_PROXIES))


@lru_cache(maxsize=4096)
def _plain(remote: str) -> str:
    peer = _parsed(remote)
    return "" if peer is None else str(peer)


@lru_cache(maxsize=1024)
def _source(remote: str, forwarded: str, proxies: tuple[Network, ...]) -> str:
    peer = _parsed(remote)
    if peer is None:
        return ""
    if not _is_trusted(peer, proxies):
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
        if not _is_trusted(address, proxies):
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


def _is_trusted(address: Address, proxies: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in proxies)
