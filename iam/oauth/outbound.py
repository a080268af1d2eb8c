"""The one way in which the service itself calls others: guarded, bounded, and only where it is configured.

    get_json(url)           a key set, a sector identifier document
    post_form(url, fields)  a logout token to an application; the answer's status
    require_allowed(url)    may this address be registered at all?

Each raises Refused with a word and a sentence. What is held here (A62, A65):
the place must be in `IAM_OUTBOUND_ALLOW`; its name is looked up once, every address is judged, and the connection goes to
that very address while TLS verifies the name, so that a second look-up cannot say something else; no redirect is followed,
no proxy of the environment is asked, no cookie or credential is sent; the whole call, look-up included, ends after
TOTAL_SECONDS, however slowly it drips; an answer is read up to BYTES_MAX, uncompressed, and must say that it is JSON.
"""

import contextlib
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, SSLError
from urllib3.exceptions import TimeoutError as LibraryTimeoutError

from .protocol.outbound_rules import Address, Forbidden, Place, Rules, check_place, is_reachable, read_rules

# A request of ours may wait for this. An honest key set comes in a tenth of it from the other side of the world.
TOTAL_SECONDS = 3.0
# Twenty keys with their certificate chains are below 100 KB.
BYTES_MAX = 262_144
# A name may have many addresses; each that is tried takes a part of the time.
ADDRESSES_MAX = 3
# Look-ups that hang cannot be stopped, only not waited for; beyond so many of them no more are begun.
LOOKUPS_MAX = 16
_AGENT = "secretariat-signin"
_JSON_TYPES = ("application/json", "application/jwk-set+json")

Resolver = Callable[[str, int], list[str]]


class Refused(Exception):
    """A call that was not made, or whose answer cannot be used: `reason` is a stable word, the text one sentence."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def get_json(url: str) -> Any:  # Any: JSON from outside, to be judged by the caller
    """Read a JSON document. Raises: Refused."""
    return _guard().get_json(url)


def post_form(url: str, fields: Mapping[str, str], seconds: float = TOTAL_SECONDS) -> int:
    """Send a form and return the status of the answer, whatever it is; its body is not read. Raises: Refused.

    In: `seconds` for the whole call; more than the usual only where nobody waits for it.
    """
    return _guard().post_form(url, fields, seconds)


def require_allowed(url: str) -> None:
    """Let an address pass that could be called as things are configured. Looks nothing up. Raises: Refused."""
    _guard().place(url)


@lru_cache(8)
def _guard_of(allowed: tuple[str, ...], ca_file: str) -> "Guard":
    return Guard(read_rules(allowed), ca_file)


def _guard() -> "Guard":
    return _guard_of(settings.IAM_OUTBOUND_ALLOW, settings.IAM_OUTBOUND_CA_FILE)


def _system_addresses(host: str, port: int) -> list[str]:
    """Ask the system's resolver. Raises: OSError, UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


_lookups = threading.BoundedSemaphore(LOOKUPS_MAX)


@dataclass(frozen=True, slots=True)
class Guard:
    """What is held at every call. The defaults are the service's; tests have their own."""

    rules: Rules
    ca_file: str = ""
    resolve: Resolver = _system_addresses
    total_seconds: float = TOTAL_SECONDS
    bytes_max: int = BYTES_MAX
    tls: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        """Build the TLS settings once: reading the system's authorities takes tens of milliseconds."""
        context = ssl.create_default_context(cafile=self.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        object.__setattr__(self, "tls", context)

    def place(self, url: str) -> Place:
        """Return where `url` is. Raises: Refused not_allowed."""
        try:
            return check_place(url, self.rules)
        except Forbidden as problem:
            raise Refused("not_allowed", f"{problem}.") from problem

    def get_json(self, url: str) -> Any:  # Any: JSON
        """Read a JSON document. Raises: Refused."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        with self._answer("GET", self.place(url), headers, None) as answer:
            if answer.status != 200:
                raise Refused("status", f"The answer has status {answer.status} instead of 200.")
            kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if kind not in _JSON_TYPES and not (kind.startswith("application/") and kind.endswith("+json")):
                raise Refused("content_type", "The answer's Content-Type is not JSON.")
            body = self._body(answer)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as problem:
            raise Refused("not_json", "The answer is not JSON.") from problem

    def post_form(self, url: str, fields: Mapping[str, str], seconds: float = 0.0) -> int:
        """Send a form and return the answer's status. In: `seconds` for the whole call, 0 the usual. Raises: Refused."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept-Encoding": "identity"}
        body = urlencode(fields).encode("ascii")
        with self._answer("POST", self.place(url), headers, body, seconds) as answer:
            return answer.status

    def _body(self, answer: BaseHTTPResponse) -> bytes:
        if answer.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
            raise Refused("content_encoding", "The answer is compressed, which was not asked for.")
        body = b""
        # Until nothing more comes: only then is it known that an announced length was kept.
        while piece := answer.read(self.bytes_max + 1 - len(body), decode_content=False):
            body += piece
            if len(body) > self.bytes_max:
                raise Refused("too_large", f"The answer is larger than {self.bytes_max // 1024} KB.")
        return body

    @contextlib.contextmanager
    def _answer(
        self, method: str, place: Place, headers: Mapping[str, str], body: bytes | None, seconds: float = 0.0
    ) -> Iterator[BaseHTTPResponse]:
        """Make one call and hand over its answer, which is no redirect. Raises: Refused, also from within."""
        deadline = time.monotonic() + (seconds or self.total_seconds)
        connection = self._connect(place, self._addresses(place, deadline), deadline)
        sent = {"Host": place.host_header, "User-Agent": _AGENT, "Connection": "close", **headers}
        with contextlib.closing(connection), _ended_at(connection, deadline) as ended:
            try:
                connection.request(method, place.target, body=body, headers=sent, preload_content=False)
                with contextlib.closing(connection.getresponse()) as answer:
                    if 300 <= answer.status < 400:
                        raise Refused("redirect", "The answer is a redirect, and none is followed.")
                    yield answer
            except (Refused, HTTPError, HTTPException, OSError, ValueError) as problem:
                # What was cut off may also look like a whole answer without this or that.
                if ended.is_set() or isinstance(problem, TimeoutError | LibraryTimeoutError):
                    raise _late(place) from problem
                if isinstance(problem, Refused):
                    raise
                raise Refused("broken", f"{place.host} did not answer in HTTP.") from problem
        if ended.is_set():
            raise _late(place)

    def _addresses(self, place: Place, deadline: float) -> list[Address]:
        """Look the name up, once, and return the addresses that may be called. Raises: Refused."""
        found = _looked_up(place, self.resolve, deadline)
        allowed = [address for address in found if is_reachable(address, self.rules)]
        if not allowed:
            raise Refused(
                "private_address",
                f"{place.host} leads to an address that is not public (IAM_OUTBOUND_ALLOW has no such network)."
                if found
                else f"{place.host} has no address.",
            )
        return allowed[:ADDRESSES_MAX]

    def _connect(self, place: Place, addresses: list[Address], deadline: float) -> HTTPConnection:
        """Connect to the first address that takes us, as the host that it must prove to be. Raises: Refused."""
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            # Half for the connection, half for the greeting; and something for the addresses that follow.
            seconds = (deadline - time.monotonic()) / left / 2
            if seconds <= 0:
                raise _late(place)
            connection = self._connection(place, str(address), seconds)
            try:
                connection.connect()
            except (SSLError, ssl.SSLError) as problem:
                connection.close()
                raise Refused(
                    "tls", f"{place.host} could not prove that it is {place.host} (TLS)."
                ) from problem
            except (HTTPError, OSError):
                connection.close()
                continue
            return connection
        if time.monotonic() >= deadline - 0.05:
            raise _late(place)
        raise Refused("unreachable", f"{place.host} does not take connections on port {place.port}.")

    def _connection(self, place: Place, address: str, seconds: float) -> HTTPConnection:
        if place.scheme == "http":
            return HTTPConnection(address, place.port, timeout=seconds)
        return HTTPSConnection(
            address, place.port, timeout=seconds, ssl_context=self.tls, server_hostname=place.host
        )


def _late(place: Place) -> Refused:
    return Refused("timeout", f"{place.host} did not answer in time.")


def _looked_up(place: Place, resolve: Resolver, deadline: float) -> list[Address]:
    """Look a name up in a thread of its own, because the system's look-up knows no time limit. Raises: Refused."""
    with contextlib.suppress(ValueError):
        return [ipaddress.ip_address(place.host)]
    slots = _lookups
    if not slots.acquire(blocking=False):
        raise Refused("busy", "Too many look-ups hang; try again later.")
    found: list[list[str]] = []

    def look_up() -> None:
        try:
            found.append(resolve(place.host, place.port))
        except (OSError, UnicodeError):
            found.append([])
        finally:
            slots.release()

    thread = threading.Thread(target=look_up, name="outbound-lookup", daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if not found:
        raise _late(place)
    if not found[0]:
        raise Refused("unresolved", f"{place.host} is no name that can be looked up.")
    return list(dict.fromkeys(ipaddress.ip_address(text) for text in found[0]))


@contextlib.contextmanager
def _ended_at(connection: HTTPConnection, deadline: float) -> Iterator[threading.Event]:
    """Cut the connection at the deadline: a time-out of a socket begins anew with every byte that drips."""
    ended = threading.Event()
    sock = connection.sock

    def cut() -> None:
        ended.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS, which would want to say goodbye

    # The library sets it on the socket before it sends and before it reads: what was left of the connecting is less.
    connection.timeout = max(0.05, deadline - time.monotonic())
    sock.settimeout(connection.timeout)
    watch = threading.Timer(max(0.0, deadline - time.monotonic()), cut)
    watch.daemon = True
    watch.start()
    try:
        yield ended
    finally:
        watch.cancel()
