"""A real slapd with a small Secretariat, and servers that lie, stay silent or talk nonsense."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deploy.demo import slapd, testca
from directory.config import Source

BASE = "dc=secretariat,dc=example"
ADMIN, ADMIN_PASSWORD = f"cn=admin,{BASE}", "admin-of-the-tests"
SERVICE, SERVICE_PASSWORD = f"cn=sign-in,ou=services,{BASE}", "service-of-the-tests"
CABINET = f"ou=Cabinet,ou=Headquarters,{BASE}"
LONDON = f"ou=London \\#2,ou=Offices,{BASE}"
GENEVA = f"ou=Geneva,ou=Offices,{BASE}"
GROUPS = f"ou=groups,{BASE}"
CHAIN = 30  # groups, each in the next


def password_of(login: str) -> str:
    """Return the password that the LDIF below gives a person."""
    return PASSWORDS.get(login, f"right-{login}")


PASSWORDS = {
    "fatima": "كلمة السر ١٢٣ é",
    "spacey": "  two spaces before, one behind ",
    "longpass": "L" * 1024,
    "odd": 'a,b=c+d"e\\f*(g)#;<>',
}


def _person(dn: str, login: str, *lines: str, name: str = "") -> str:
    written = slapd.hash_password(password_of(login))
    return (
        f"dn: {dn}\nobjectClass: inetOrgPerson\nobjectClass: orgPerson\nuid: {login}\ncn: {name or login.title()}\n"
        f"sn: {login.title()}\nuserPassword: {written}\n" + "".join(f"{line}\n" for line in lines)
    )


def _group(name: str, *members: str) -> str:
    listed = "".join(f"member: {member}\n" for member in members)
    return f"dn: cn={name},{GROUPS}\nobjectClass: groupOfNames\ncn: {name.replace(chr(92), '')}\n{listed}"


def _unit(dn: str, name: str) -> str:
    return f"dn: {dn}\nobjectClass: organizationalUnit\nou: {name}\n"


def _secretariat() -> str:
    alice, fatima = f"uid=alice,{CABINET}", f"uid=fatima,{GENEVA}"
    karim = f"cn=Haddad\\, Karim,{LONDON}"
    parts = [
        _unit(f"ou=Headquarters,{BASE}", "Headquarters"),
        _unit(CABINET, "Cabinet"),
        _unit(f"ou=Offices,{BASE}", "Offices"),
        _unit(LONDON, "London #2"),
        _unit(GENEVA, "Geneva"),
        _unit(GROUPS, "groups"),
        _person(alice, "alice", "displayName: Alice Dupont", "mail: alice@secretariat.example",
                "preferredLanguage: fr-CH, fr;q=0.9, en;q=0.5", "orgAccountStatus: active", "orgOfficeCode: GS"),
        _person(fatima, "fatima", "cn;lang-ar: فاطمة الزهراء", "displayName;lang-ar: فاطمة الزهراء بن علي",
                "displayName: Fatima Zahra Ben Ali", "preferredLanguage: ar"),
        _person(f"uid=محمد,{GENEVA}", "محمد", name="محمد الأمين"),
        _person(karim, "karim", name="Haddad, Karim"),
        _person(f"uid=omar,{GENEVA}", "omar", "orgAccountStatus: disabled"),
        _person(f"uid=sara,{GENEVA}", "sara", "orgAccountStatus: suspended"),
        _person(f"uid=twin,{GENEVA}", "twin"),
        _person(f"uid=twin,{CABINET}", "twin"),
        _person(f"uid=st\\2Ar,{GENEVA}", "st*r"),
        _person(f"uid=par(en)s,{GENEVA}", "par(en)s"),
        _person(f"uid=back\\5Cslash,{GENEVA}", "back\\slash"),
        _person(f"uid=\\#tag,{GENEVA}", "#tag"),
        _person(f"uid=spacey,{GENEVA}", "spacey"),
        _person(f"uid=longpass,{GENEVA}", "longpass"),
        _person(f"uid=odd,{GENEVA}", "odd"),
        f"dn: uid=nopass,{GENEVA}\nobjectClass: inetOrgPerson\nuid: nopass\ncn: No Password\nsn: Password\n",
        # A referral and an alias: neither may ever be followed.
        f"dn: cn=elsewhere,{BASE}\nobjectClass: referral\nobjectClass: extensibleObject\ncn: elsewhere\n"
        "ref: ldap://192.0.2.1:389/dc=elsewhere,dc=example??sub\n",
        f"dn: cn=other-alice,{BASE}\nobjectClass: alias\nobjectClass: extensibleObject\ncn: other-alice\nuid: alice\n"
        f"aliasedObjectName: {alice}\n",
        # staff > correspondents > Legal, London > karim; a circle of three; a chain of many; the same twice over.
        _group("Legal\\, London", karim),
        _group("correspondents", alice, f"cn=Legal\\, London,{GROUPS}"),
        _group("staff", alice, fatima, f"cn=correspondents,{GROUPS}"),
        _group("circle-1", alice, f"cn=circle-3,{GROUPS}"),
        _group("circle-2", f"cn=circle-1,{GROUPS}"),
        _group("circle-3", f"cn=circle-2,{GROUPS}"),
        _group("strangers", f"uid=twin,{GENEVA}"),
        _group("chain-000", fatima),
    ]  # fmt: skip
    parts += [
        _group(f"chain-{number:03}", f"cn=chain-{number - 1:03},{GROUPS}") for number in range(1, CHAIN)
    ]
    return "\n".join(parts)


@contextlib.contextmanager
def secretariat(
    flaw: testca.Flaw = testca.Flaw.NONE, more_ldif: tuple[Path, ...] = (), **options
) -> Iterator[slapd.Server]:
    """Start a server of the small Secretariat, and of what the files hold, in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="iam-slapd-"))
    certificates = testca.make(folder / "ca", flaw=flaw)
    ldif = folder / "secretariat.ldif"
    ldif.write_text(_secretariat(), encoding="utf-8")
    server = slapd.Server(
        folder=folder / "slapd", port=slapd.free_port(), starttls_port=slapd.free_port(), base_dn=BASE,
        admin_dn=ADMIN, admin_password=ADMIN_PASSWORD, service_dn=SERVICE, service_password=SERVICE_PASSWORD,
        ldif_files=(ldif, *more_ldif), certificate_file=certificates.certificate_file, key_file=certificates.key_file,
        ca_file=certificates.ca_file, **options,
    )  # fmt: skip
    try:
        server.prepare()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def source_of(server: slapd.Server, **changes) -> Source:
    """Describe a server as a source; StartTLS when `urls` say ldap."""
    values = {
        "name": "hq", "urls": (server.url,), "ca_file": str(server.ca_file), "bind_dn": SERVICE,
        "bind_password": SERVICE_PASSWORD, "base_dn": BASE, "starttls": True,
    }  # fmt: skip
    return Source(**(values | changes))


def change(server: slapd.Server, ldif: str) -> None:
    """Change entries as the administrator, as an operator would."""
    subprocess.run(
        ["ldapmodify", "-x", "-H", server.url, "-D", ADMIN, "-w", ADMIN_PASSWORD],
        input=ldif.encode(), capture_output=True, check=True, env={**os.environ, "LDAPTLS_CACERT": str(server.ca_file)},
    )  # fmt: skip


@contextlib.contextmanager
def frozen(server: slapd.Server) -> Iterator[None]:
    """Stop the process without ending it: the system still takes connections for it."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@dataclass
class Impostor:
    """A server of our own that answers each message with what `answer` returns; None ends the connection.

    `greeting` is sent before anything is heard. With `certificates` it speaks TLS from the first byte.
    `heard` holds all bytes that clients sent (inside TLS).
    """

    answer: Callable[[bytes], bytes | None] = lambda data: b""
    greeting: bytes = b""
    certificates: testca.Certificates | None = None
    versions_max: str = ""  # the newest TLS version it speaks
    talk: Callable[[socket.socket], None] | None = None  # instead of answering
    heard: bytearray = field(default_factory=bytearray)
    connections: int = 0

    def __enter__(self) -> "Impostor":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._context = self._tls() if self.certificates else None
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # close() alone does not wake a thread in accept()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    def _tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.certificate_file, self.certificates.key_file)
        if self.versions_max:
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            with warnings.catch_warnings():  # that this version is old is the point
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
                context.maximum_version = ssl.TLSVersion[self.versions_max]
        return context

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            connection.sendall(self.greeting)
            if self.talk:
                self.talk(connection)
            while data := connection.recv(65536):
                self.heard += data
                reply = self.answer(data)
                if reply is None:
                    connection.close()
                    return
                connection.sendall(reply)


def ber(tag: int, *parts: bytes) -> bytes:
    """Write one BER element."""
    body = b"".join(parts)
    length = bytes([len(body)]) if len(body) < 128 else b"\x82" + len(body).to_bytes(2, "big")
    return bytes([tag]) + length + body


def message_id(request: bytes) -> bytes:
    """Cut the message id, as written, out of a request."""
    at = 2 if request[1] < 128 else 2 + request[1] - 128
    return request[at : at + 2 + request[at + 1]]


def result(request: bytes, tag: int, code: int = 0) -> bytes:
    """Answer a request with a result of the given kind (0x61 bind, 0x65 search done, 0x78 extended)."""
    return ber(0x30, message_id(request), ber(tag, ber(0x0A, bytes([code])), ber(0x04), ber(0x04)))


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail when the block takes longer."""
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    assert took < seconds, f"took {took:.2f} s"
