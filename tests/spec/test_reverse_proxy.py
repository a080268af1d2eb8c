"""The service behind a real nginx, as deploy/nginx/iam.conf configures it: certificates, addresses, and what must not get through."""

import base64
import contextlib
import hashlib
import json
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.servers import client_certificates, postgres, proxy
from tests.servers.client_certificates import Authority, Shown
from tests.servers.organisation import CLIENT_SECRET
from tests.servers.person import Person
from tests.servers.proxy import CALLS_FROM, Proxy
from tests.servers.service import Service, running

FORM = {"grant_type": "client_credentials"}


@dataclass
class House:
    """The service, nginx before it, and the certificates of two clients and of two who are none."""

    service: Service
    proxy: Proxy
    of_authority: Shown
    of_itself: Shown
    of_stranger: Shown
    of_nobody: Shown

    def token(self, client: str, shown: Shown | None = None, **more: Any) -> requests.Response:
        """Ask for a token through nginx, with a certificate or without."""
        return requests.post(
            f"{self.proxy.address}/token", data={**FORM, "client_id": client}, timeout=20, verify=str(self.proxy.ca_file),
            cert=shown.files if shown else None, **more,
        )  # fmt: skip

    def around(self, client: str, source: str, headers: dict[str, str]) -> requests.Response:
        """Ask the service itself, past nginx, from an address of this machine."""
        session = requests.Session()
        session.mount("http://", From(source))
        return session.post(
            f"http://localhost:{self.service.port}/token", data={**FORM, "client_id": client}, headers=headers, timeout=20
        )  # fmt: skip


class From(HTTPAdapter):
    """Calls from a certain address."""

    def __init__(self, source: str) -> None:
        self.source = source
        super().__init__()

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, source_address=(self.source, 0), **more)


@pytest.fixture(scope="module")
def house(pytestconfig: pytest.Config) -> Iterator[House]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="iam-proxy-")))
        folder.chmod(0o755)  # nginx's workers are another user where root runs the tests
        ours, strangers = Authority(folder, "authority"), Authority(folder, "stranger")
        port, plain_port = postgres.free_port(), postgres.free_port()
        service = stack.enter_context(
            running(
                pytestconfig.getoption("--database"),
                {
                    "IAM_ISSUER": f"https://localhost:{port}",
                    "IAM_TRUSTED_PROXIES": f"{CALLS_FROM}/32",
                    "IAM_CLIENT_CERTIFICATE_CA_FILE": str(ours.file),
                },
            )
        )
        before = stack.enter_context(proxy.running(folder / "nginx", port, plain_port, service.port))
        of_itself = client_certificates.self_signed(folder, "alone.example")
        house = House(
            service, before, ours.issue("machine.example"), of_itself, strangers.issue("machine.example"),
            client_certificates.self_signed(folder, "machine.example"),
        )  # fmt: skip
        common = {"grant_types": ["client_credentials"], "scope": "demo.read", "trusted": True}
        clients = [
            {
                **common, "client_id": "by-authority", "token_endpoint_auth_method": "tls_client_auth",
                "tls_client_auth_san_dns": "machine.example", "tls_client_certificate_bound_access_tokens": True,
            },
            {
                **common, "client_id": "by-itself", "token_endpoint_auth_method": "self_signed_tls_client_auth",
                "jwks": {"keys": [of_itself.jwk()]},
            },
        ]  # fmt: skip
        file = service.folder / "proxy.json"
        file.write_text(json.dumps(clients))
        service.manage("client", "apply", str(file))
        yield house


# -- who a client is ------------------------------------------------------------------------------------------------


@pytest.mark.spec(
    "RFC 8705", "2.1", "a client proves itself by a certificate of an authority, through a real proxy"
)
@pytest.mark.spec("RFC 8705", "3.1", "its token is bound to that certificate")
def test_client_with_a_certificate_of_the_authority_gets_a_token_bound_to_it(house: House) -> None:
    answer = house.token("by-authority", house.of_authority)

    assert answer.status_code == 200, answer.text
    token = answer.json()["access_token"]
    seen = requests.post(
        f"{house.proxy.address}/introspect", data={"token": token}, auth=("test-resource", CLIENT_SECRET), timeout=20,
        verify=str(house.proxy.ca_file),
    ).json()  # fmt: skip
    digest = base64.urlsafe_b64encode(hashlib.sha256(house.of_authority.der).digest()).rstrip(b"=").decode()
    assert (seen["active"], seen["cnf"]) == (True, {"x5t#S256": digest})


@pytest.mark.spec("RFC 8705", "2.2", "a client proves itself by the key of a certificate that nobody signed")
def test_client_with_its_own_certificate_gets_a_token(house: House) -> None:
    assert house.token("by-itself", house.of_itself).status_code == 200


@pytest.mark.parametrize("client", ["by-authority", "by-itself"])
@pytest.mark.parametrize("which", ["of_stranger", "of_nobody", "none", "of_the_other"])
def test_a11_client_with_another_certificate_or_none_is_refused(
    house: House, client: str, which: str
) -> None:
    shown = {
        "none": None, "of_stranger": house.of_stranger, "of_nobody": house.of_nobody,
        "of_the_other": house.of_itself if client == "by-authority" else house.of_authority,
    }[which]  # fmt: skip

    answer = house.token(client, shown)

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


NAMES = [
    "Client-Cert",
    "client-cert",
    "CLIENT-CERT",
    "Client_Cert",
    "client_cert",
    "Client-Cert-Chain",
    "X-Client-Cert",
    "X-SSL-Client-Cert",
]


@pytest.mark.parametrize("name", NAMES)
def test_a63_certificate_in_a_header_from_outside_is_taken_away(house: House, name: str) -> None:
    for client, shown in (("by-authority", house.of_authority), ("by-itself", house.of_itself)):
        for spelled in shown.spellings:
            assert house.token(client, headers={name: spelled}).status_code == 401
            assert house.token(client, house.of_nobody, headers={name: spelled}).status_code == 401


def test_a63_certificate_in_a_header_counts_from_the_proxys_address_alone(house: House) -> None:
    for client, shown in (("by-authority", house.of_authority), ("by-itself", house.of_itself)):
        for spelled in shown.spellings:
            assert house.around(client, "127.0.0.1", {"Client-Cert": spelled}).status_code == 401
            assert house.around(client, "127.0.0.8", {"Client-Cert": spelled}).status_code == 401
            # So that the refusals above say something: from where nginx calls, the same header is the certificate.
            assert house.around(client, CALLS_FROM, {"Client-Cert": spelled}).status_code == 200


def test_discovery_says_that_certificates_are_taken(house: House) -> None:
    said = requests.get(
        f"{house.proxy.address}/.well-known/openid-configuration", verify=str(house.proxy.ca_file), timeout=20
    ).json()

    assert {"tls_client_auth", "self_signed_tls_client_auth"} <= set(
        said["token_endpoint_auth_methods_supported"]
    )
    assert said["tls_client_certificate_bound_access_tokens"] is True
    assert said["issuer"] == house.proxy.address


# -- where a request comes from -----------------------------------------------------------------------------------


def addresses(house: House) -> list[str]:
    """Return the addresses that the audit has of what was refused to a client, the newest last."""
    lines = house.service.manage("audit", "list", "--client", "test-service", "--json").stdout.splitlines()
    return [details["address"] for line in lines if (details := json.loads(line)["details"]).get("address")]


FORWARDED = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-IP": "203.0.113.9"}


@pytest.mark.parametrize(
    "more", [{}, FORWARDED, {"X-Forwarded-For": "203.0.113.9, 127.0.0.9"}], ids=["none", "all", "chain"]
)
def test_a41_address_is_that_of_the_connection_to_the_proxy_whatever_was_sent(
    house: House, more: dict[str, str]
) -> None:
    session = requests.Session()
    session.mount("https://", From("127.0.0.5"))

    refused = session.post(
        f"{house.proxy.address}/token", data={**FORM, "scope": "nothing"}, auth=("test-service", CLIENT_SECRET),
        headers=more, verify=str(house.proxy.ca_file), timeout=20,
    )  # fmt: skip

    assert refused.json()["error"] == "invalid_scope"
    assert addresses(house)[-1] == "127.0.0.5"


def test_a41_address_that_somebody_writes_who_is_no_proxy_is_not_believed(house: House) -> None:
    session = requests.Session()
    session.mount("http://", From("127.0.0.7"))

    session.post(
        f"http://localhost:{house.service.port}/token", data={**FORM, "scope": "nothing"}, headers=FORWARDED,
        auth=("test-service", CLIENT_SECRET), timeout=20,
    )  # fmt: skip

    assert addresses(house)[-1] == "127.0.0.7"


def test_a40_names_and_schemes_of_headers_change_no_address_of_ours(house: House) -> None:
    lies = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Port": "1",
        "Forwarded": "host=evil.example",
    }
    for path in ("/.well-known/openid-configuration", "/", "/authorize?client_id=x"):
        answer = requests.get(
            house.proxy.address + path,
            headers=lies,
            verify=str(house.proxy.ca_file),
            timeout=20,
            allow_redirects=False,
        )
        assert "evil.example" not in answer.text + str(answer.headers)
        assert answer.headers.get("Location", "/").startswith(("/", house.proxy.address))


def test_plain_http_leads_to_https_and_answers_nothing_else(house: House) -> None:
    answer = requests.get(
        f"http://localhost:{house.proxy.plain_port}/authorize?x=1", timeout=20, allow_redirects=False
    )

    assert (answer.status_code, answer.headers["Location"]) == (301, f"{house.proxy.address}/authorize?x=1")


def test_other_name_gets_no_certificate_and_no_answer(house: House) -> None:
    with pytest.raises(ssl.SSLError):
        raw(house, b"GET /jwks HTTP/1.1\r\nHost: evil.example\r\n\r\n", name="evil.example")

    assert b'"keys"' not in raw(
        house, b"GET /jwks HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    )


def test_person_signs_in_through_the_proxy(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(house.proxy.ca_file))
    person = Person(house.proxy.address, "amina")

    tokens = person.tokens(person.sign_in())

    assert "id_token" in tokens
    assert {cookie.name for cookie in person.browser.cookies} >= {"__Host-iam-session", "__Host-iam-browser"}
    assert all(cookie.secure for cookie in person.browser.cookies)


# -- two requests that look like one ------------------------------------------------------------------------------

HIDDEN = b"GET /jwks HTTP/1.1\r\nHost: localhost\r\nX-Hidden: 1\r\n\r\n"
HEAD = b"POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
LENGTH = b"Content-Length: %d\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


SMUGGLED = {
    "length and chunks": HEAD + LENGTH % (5 + len(HIDDEN)) + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunks and length": HEAD + b"Transfer-Encoding: chunked\r\n" + LENGTH % 4 + b"\r\n" + chunk(HIDDEN) + b"0\r\n\r\n",
    "two lengths": HEAD + LENGTH % 0 + LENGTH % len(HIDDEN) + b"\r\n" + HIDDEN,
    "two lengths in one": HEAD + b"Content-Length: 0, %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "length with a sign": HEAD + b"Content-Length: +0\r\n\r\n" + HIDDEN,
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n" + HIDDEN,
    "length in words": HEAD + b"Content-Length: zero\r\n\r\n" + HIDDEN,
    "space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n" + LENGTH % len(HIDDEN) + b"\r\n" + HIDDEN,
    "tab before the value": HEAD + b"Transfer-Encoding:\tchunked\r\n" + LENGTH % 4 + b"\r\n0\r\n\r\n" + HIDDEN,
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n" + LENGTH % len(HIDDEN) + b"\r\n" + HIDDEN,
    "two codings": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "coding twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n" + HIDDEN,
    "folded line": HEAD + b"Transfer-Encoding:\r\n chunked\r\n" + LENGTH % len(HIDDEN) + b"\r\n" + HIDDEN,
    "underscore": HEAD + b"Content_Length: 0\r\nTransfer_Encoding: chunked\r\n" + LENGTH % len(HIDDEN) + b"\r\n" + HIDDEN,
    "size of a chunk that overflows": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff0\r\n" + HIDDEN,
    "size of a chunk with a sign": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + HIDDEN,
    "length in a GET": b"GET /userinfo HTTP/1.1\r\nHost: localhost\r\n" + LENGTH % len(HIDDEN) + b"\r\n" + HIDDEN,
    "line ends in the target": b"GET /x%0d%0aHost:%20localhost%0d%0a%0d%0aGET%20/jwks HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "null in a header": HEAD + b"X-A: a\0b\r\n" + LENGTH % len(HIDDEN) + b"\r\n" + HIDDEN,
    "two hosts": b"GET /userinfo HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n" + LENGTH % len(HIDDEN) + b"\r\n" + HIDDEN,
}  # fmt: skip


def raw(house: House, data: bytes, name: str = "localhost") -> bytes:
    """Send bytes over TLS and return everything that comes until nothing more does."""
    context = ssl.create_default_context(cafile=str(house.proxy.ca_file))
    context.check_hostname = name == "localhost"
    with (
        socket.create_connection(("127.0.0.1", house.proxy.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        secured.sendall(data)
        secured.settimeout(2)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while piece := secured.recv(65536):
                answer += piece
        return answer


@pytest.mark.parametrize("sample", SMUGGLED.values(), ids=SMUGGLED)
def test_a44_request_hidden_in_another_is_never_answered(house: House, sample: bytes) -> None:
    """A request that nginx takes for the body of another must be the body for the service too."""
    answer = raw(house, sample)

    hidden_is_its_own = sample.endswith(b"0\r\n\r\n" + HIDDEN) and answer.count(b"HTTP/1.1 ") == 2
    if not hidden_is_its_own:  # nginx itself saw two requests, one after the other, and so did the service
        assert b'"keys"' not in answer
        assert answer.count(b"HTTP/1.1 ") <= 2
    honest = requests.get(f"{house.proxy.address}/jwks", verify=str(house.proxy.ca_file), timeout=20)
    assert len(honest.json()["keys"]) >= 4  # nothing waits in the connection for the next one


def test_request_that_is_hidden_would_be_seen(house: House) -> None:
    """So that the tests above can fail: sent openly behind another, the same request is answered."""
    first = HEAD + LENGTH % 3 + b"\r\na=b"

    assert b'"keys"' in raw(house, first + HIDDEN)


def test_a14_request_that_is_too_large_ends_at_the_proxy_or_with_a_word_of_ours(house: House) -> None:
    for size, statuses in ((100_000, {400, 413}), (300_000, {413})):
        answer = requests.post(
            f"{house.proxy.address}/token",
            data={**FORM, "x": "y" * size},
            verify=str(house.proxy.ca_file),
            timeout=20,
        )
        assert answer.status_code in statuses
    long = requests.get(
        f"{house.proxy.address}/jwks",
        headers={"X-Long": "y" * 40_000},
        verify=str(house.proxy.ca_file),
        timeout=20,
    )
    assert long.status_code == 400
