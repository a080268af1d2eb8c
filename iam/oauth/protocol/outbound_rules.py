"""Which addresses the service itself may call. Pure; `iam/oauth/outbound.py` does the calling.

Applications register addresses that we then call: without rules, whoever registers one can make us read what only
we can reach, or knock on doors of our own network (A62). So nothing is called that is not configured, and a name
that is configured may still not lead to a private address unless that network is configured too.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

URL_LENGTH_MAX = 2000
_PORTS = {"https": 443, "http": 80}
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_-]{1,63})*", re.ASCII)
# The translator of an IPv6-only network: the last four bytes are an IPv4 address that is judged like any other.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
ANY_PORT = 0
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Carries an IPv4 address (6to4); documentation of 2024, which the interpreter may not know yet.
_NOT_GLOBAL = (ipaddress.IPv6Network("2002::/16"), ipaddress.IPv6Network("3fff::/20"))


class Forbidden(Exception):
    """An address that may not be called; the text says why and what would have to be configured."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is called. `target` is path and query, as they are sent."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def host_header(self) -> str:
        """Return the Host header. Spec: RFC 9110 §7.2."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What is configured: places as (scheme, host, port), where ANY_PORT means each one, and private networks."""

    places: frozenset[tuple[str, str, int]] = frozenset()
    networks: tuple[Network, ...] = ()


def read_rules(entries: Iterable[str]) -> Rules:
    """Read `IAM_OUTBOUND_ALLOW`: `HOST`, `HOST:PORT`, `http://HOST:PORT` (without TLS), or `NETWORK/BITS`.

    `:*` instead of a port, for this machine only: applications under development choose theirs themselves.
    Raises: ValueError that names the entry.
    """
    places: set[tuple[str, str, int]] = set()
    networks: list[Network] = []
    for entry in entries:
        try:
            if "/" in entry and "://" not in entry:
                networks.append(ipaddress.ip_network(entry))
                continue
            text = entry.removesuffix(":*")
            place = _place(text if "://" in text else f"https://{text}")
            if text != entry and place.host not in _LOOPBACK:
                raise ValueError("any port is for a loopback host only")
            if place.target != "/" or entry.endswith("/"):
                raise ValueError("has a path")
        except (ValueError, Forbidden) as problem:
            raise ValueError(
                f"{entry[:100]!r} is no HOST, HOST:PORT, http://HOST:PORT or NETWORK ({problem})"
            ) from None
        places.add((place.scheme, place.host, place.port if text == entry else ANY_PORT))
    return Rules(frozenset(places), tuple(networks))


def check_place(url: str, rules: Rules) -> Place:
    """Return where `url` is, if it may be called. Raises: Forbidden."""
    place = _place(url)
    if rules.places.isdisjoint((place.scheme, place.host, port) for port in (place.port, ANY_PORT)):
        plain = "http://" if place.scheme == "http" else ""
        raise Forbidden(
            f"{place.host[:100]} is not a host that this service may call"
            f" (IAM_OUTBOUND_ALLOW has no {plain}{place.host_header[:100]})"
        )
    return place


def _place(url: str) -> Place:
    """Take an absolute URL apart; one that two readers could read differently is refused."""
    if len(url) > URL_LENGTH_MAX or not re.fullmatch(r"[\x21-\x7e]+", url) or "\\" in url or "#" in url:
        raise Forbidden("the address has characters that no address has, or is too long")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise Forbidden("the address cannot be read") from problem
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in _PORTS or "@" in parts.netloc or port == 0:
        raise Forbidden("the address must be https://HOST and carry no user name")
    literal = _literal(host)
    if literal is None and (not _HOST.fullmatch(host) or len(host) > 253 or _looks_like_number(host)):
        raise Forbidden("the address has no host name that could be looked up")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(
        parts.scheme, host if literal is None else str(literal), port or _PORTS[parts.scheme], target
    )


def _literal(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise Forbidden("an address with a zone means something else on each machine")
    return address


def _looks_like_number(host: str) -> bool:
    """Say whether a resolver might read a "name" as an IPv4 address: 0x7f.1, 2130706433, 127.1. Spec: WHATWG URL §3.5."""
    last = host.rpartition(".")[2]
    return last.isdigit() or bool(re.fullmatch(r"0x[0-9a-f]*", last))


def is_reachable(address: Address, rules: Rules) -> bool:
    """Say whether a connection may go to `address`: a public one, or one of a configured network.

    What only carries an IPv4 address inside is judged by that. Multicast and "any" are nobody's address, ever.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_reachable(inner, rules)
        if address.scope_id:
            return False
    if address.is_multicast or address.is_unspecified:
        return False
    if any(address.version == network.version and address in network for network in rules.networks):
        return True
    if isinstance(address, ipaddress.IPv6Address) and (
        address not in _GLOBAL_UNICAST or any(address in network for network in _NOT_GLOBAL)
    ):
        return False
    return address.is_global and not address.is_reserved
