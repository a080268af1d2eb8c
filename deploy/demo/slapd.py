"""A real OpenLDAP server in a folder of its own: for `make run` and for the tests.

Standard library only, so that it runs before anything is installed. The server listens on loopback only, shows a
certificate, and never runs as root: started by root, it becomes the package's user, or nobody.
"""

import base64
import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SCHEMA_FOLDER = Path("/etc/ldap/schema")
MODULE_FOLDER = Path("/usr/lib/ldap")
OUR_SCHEMA = Path(__file__).with_name("secretariat.ldif")
# Ubuntu confines /usr/sbin/slapd, by its path, to /var/lib/ldap and /etc/ldap.
APPARMOR_PROFILE = Path("/etc/apparmor.d/usr.sbin.slapd")
APPARMOR_SWITCH = Path("/sys/module/apparmor/parameters/enabled")
USERS = ("openldap", "nobody")
PROGRAM_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin:/usr/libexec:/usr/lib/openldap"
START_SECONDS = 10.0
STOP_SECONDS = 5.0
# What the writing account may change beside passwords: the marks that go with them, and what the service owns.
WRITTEN = ("pwdReset", "pwdAccountLockedTime", "preferredLanguage", "telephoneNumber")
# slapd allocates by the limit of open files; containers set it to a thousand million, which costs gigabytes.
OPEN_FILES = 1024


class SlapdError(Exception):
    """Say in one sentence why the directory server cannot be prepared or started."""


@dataclass(slots=True)
class Server:
    """One server: `prepare()` once, then `start()` and `stop()` as often as wanted.

    `port` answers ldaps, `starttls_port` (0 = not at all) ldap with StartTLS; simple binds need TLS on both.
    `ldif_files` hold what stands under the base; the base entry and the service account are made here.
    `admin_dn` (under the base) may do everything and needs no entry.
    `size_limit` is for everybody but the service account, which has `service_size_limit` (0 = none).
    It tells its changes (the overlay syncprov) unless `session_log` is negative; 0 = without a session log, so
    that deletions are told by listing everything that is still there.
    With `provider` it is a replica: it holds nothing of its own and copies that server.
    `more_configuration` is LDIF added below the database, for overlays; `modules` names what that needs.
    """

    folder: Path
    port: int
    base_dn: str
    admin_dn: str
    admin_password: str
    service_dn: str
    service_password: str
    ldif_files: tuple[Path, ...]
    certificate_file: Path
    key_file: Path
    ca_file: Path
    starttls_port: int = 0
    size_limit: int = 500
    service_size_limit: int = 0
    session_log: int = 10_000
    provider: "Server | None" = None
    modules: tuple[str, ...] = ()
    data_bytes_max: int = (
        256 * 1024 * 1024
    )  # address space of the database, not disk: the file grows as it is filled
    more_configuration: str = ""
    # The account that may set passwords and write what the service owns; with it comes a policy of passwords.
    writer_dn: str = ""
    writer_password: str = ""
    host: str = "127.0.0.1"
    log: str = (
        "0"  # slapd's -d: "stats" writes every operation, with names but without passwords, to the log file
    )
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Return the ldaps address. An address, not localhost: libldap takes that for the machine's own name."""
        return f"ldaps://{self.host}:{self.port}"

    @property
    def starttls_url(self) -> str:
        """Return the ldap address, on which StartTLS comes first."""
        return f"ldap://{self.host}:{self.starttls_port}"

    @property
    def log_file(self) -> Path:
        """Return where the server's own words go."""
        return self.folder / "slapd.log"

    @property
    def pid(self) -> int | None:
        """Return the process id of the server that this object started, while it lives."""
        return self._process.pid if self._process is not None and self.running() else None

    def prepare(self) -> bool:
        """Write the configuration, and the data unless an earlier run left it whole; say whether data is new."""
        self._make_folders()
        self._take_certificates()
        self._rebuild("config", ["-n", "0"], self._configuration())
        whole = self.folder / "data-is-whole"
        if whole.exists():
            return False
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self._own_folder(self.folder / "data")
        if self.provider is None:
            self._load(["-q", "-w", "-b", self.base_dn], [self._first_entries(), *self._texts()])
        whole.touch()
        return True

    def start(self) -> None:
        """Start the server as a child in the foreground and return when it answers."""
        if self.running():
            return
        self._refuse_busy_ports()
        listeners = f"{self.url}/"
        if self.starttls_port:
            listeners += f" {self.starttls_url}/"
        # The folder belongs to the unprivileged user: root must not be led elsewhere by a link in it.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with os.fdopen(os.open(self.log_file, flags, 0o644), "ab") as log:
            self._process = subprocess.Popen(
                self._command("-F", "config", "-d", self.log, "-h", listeners),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Control-C in a terminal reaches the whole group; who supervises decides the order of stopping.
                start_new_session=True,
                **_ordinary_user(),  # type: ignore[call-overload]
            )
        try:
            self._wait_until_it_answers()
        except SlapdError:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask the server to end; kill it when it does not within a few seconds."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGCONT)  # a frozen process hears nothing but this
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def running(self) -> bool:
        """Say whether the server that this object started lives."""
        return self._process is not None and self._process.poll() is None

    # -- files -------------------------------------------------------------------------------------------

    def _make_folders(self) -> None:
        if not _program():
            raise SlapdError(
                "slapd is not installed: install the package slapd (it need not run as a service)."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._own_folder(self.folder)
            self._own_folder(self.folder / "data")
        except OSError as error:
            raise SlapdError(f"The folder {self.folder} cannot be written: {error.strerror}.") from error
        if _is_confined():
            # A copy under another path is not confined, and may keep its data where we are.
            shutil.copy2(_program(), self.folder / "slapd")
            (self.folder / "slapd").chmod(0o755)

    def _own_folder(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)
        user = _ordinary_user()
        if user:
            for path in [folder, *folder.iterdir()]:
                os.chown(path, int(str(user["user"])), int(str(user["group"])), follow_symlinks=False)

    def _take_certificates(self) -> None:
        """Copy the certificate where the unprivileged server can read it and nobody else."""
        for source, name in ((self.certificate_file, "server.pem"), (self.key_file, "server.key")):
            self._write(name, source.read_text(encoding="ascii"))
        if self.provider is not None:
            self._write("provider-ca.pem", self.provider.ca_file.read_text(encoding="ascii"))

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        user = _ordinary_user()
        if user:
            os.chown(path, int(str(user["user"])), int(str(user["group"])))
        return path

    def _texts(self) -> Iterator[str]:
        for path in self.ldif_files:
            yield path.read_text(encoding="utf-8")

    def _rebuild(self, name: str, options: Sequence[str], text: str) -> None:
        shutil.rmtree(self.folder / name, ignore_errors=True)
        self._own_folder(self.folder / name)
        self._load(options, [text])

    def _load(self, options: Sequence[str], texts: Sequence[str]) -> None:
        """Run slapadd over the texts; it works on the files themselves, no server needed."""
        path = self._write("load.ldif", "\n\n".join(texts))
        try:
            done = subprocess.run(
                self._command("-Tadd", "-F", "config", *options, "-l", "load.ldif"),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=120,
                **_ordinary_user(),  # type: ignore[call-overload]
            )
        finally:
            path.unlink(missing_ok=True)  # it holds passwords
        if done.returncode:
            words = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise SlapdError("slapadd refused the directory's data: " + " / ".join(words[-4:]))

    def _command(self, *arguments: str) -> list[str]:
        """Build a command line whose paths are relative to the folder.

        The child enters the folder before it gives up root, so it works even where the unprivileged user
        could not walk down to it (a checkout under /root).
        """
        program = "./slapd" if _is_confined() else _program()
        return ["/bin/sh", "-c", f'ulimit -n {OPEN_FILES}; exec "$0" "$@"', program, *arguments]

    # -- the running server ---------------------------------------------------------------------------------

    def _refuse_busy_ports(self) -> None:
        for port in (self.port, self.starttls_port):
            if not port:
                continue
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.host, port))
                except OSError as error:
                    raise SlapdError(f"Port {port} is in use; the directory needs it.") from error

    def _wait_until_it_answers(self) -> None:
        ends = time.monotonic() + START_SECONDS
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.check_hostname = False
        context.verify_mode = (
            ssl.CERT_NONE
        )  # only to hear it answer: flawed certificates are tested on purpose
        while time.monotonic() < ends:
            if not self.running():
                raise SlapdError(f"slapd ended at once: {self._last_words()}")
            with (
                contextlib.suppress(OSError),
                socket.create_connection((self.host, self.port), 1) as plain,
                context.wrap_socket(plain),
            ):
                return
            time.sleep(0.02)
        raise SlapdError(f"slapd did not answer within {START_SECONDS:.0f} seconds: {self._last_words()}")

    def _last_words(self) -> str:
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "it said nothing"

    # -- what is loaded ---------------------------------------------------------------------------------------

    def _configuration(self) -> str:
        limit = self.service_size_limit or "unlimited"
        modules = "".join(
            f"olcModuleLoad: {name}\n"
            for name in (
                "back_mdb",
                *(["syncprov"] if self.session_log >= 0 else []),
                *(["ppolicy"] if self.writer_dn else []),
                *self.modules,
            )
        )
        return f"""\
dn: cn=config
objectClass: olcGlobal
cn: config
olcPidFile: slapd.pid
olcArgsFile: slapd.args
olcLogLevel: none
olcThreads: 8
olcSizeLimit: {self.size_limit}
olcTimeLimit: 10
olcDisallows: bind_anon
olcRequires: authc
olcSecurity: simple_bind=128 update_tls=128
olcTLSCertificateFile: server.pem
olcTLSCertificateKeyFile: server.key
olcTLSVerifyClient: never

dn: cn=module{{0}},cn=config
objectClass: olcModuleList
cn: module{{0}}
olcModulePath: {MODULE_FOLDER}
{modules}
dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file://{SCHEMA_FOLDER}/core.ldif
include: file://{SCHEMA_FOLDER}/cosine.ldif
include: file://{SCHEMA_FOLDER}/inetorgperson.ldif

{OUR_SCHEMA.read_text(encoding="utf-8")}

dn: olcDatabase={{-1}}frontend,cn=config
objectClass: olcDatabaseConfig
objectClass: olcFrontendConfig
olcDatabase: {{-1}}frontend
olcAccess: {{0}}to * by * none

dn: olcDatabase={{0}}config,cn=config
objectClass: olcDatabaseConfig
olcDatabase: {{0}}config
olcAccess: {{0}}to * by * none

dn: olcDatabase={{1}}mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: {{1}}mdb
olcSuffix: {self.base_dn}
olcRootDN: {self.admin_dn}
olcRootPW: {hash_password(self.admin_password)}
olcDbDirectory: data
olcDbMaxSize: {self.data_bytes_max}
olcDbIndex: objectClass,uid,mail,member,entryUUID,entryCSN eq
{self._access()}
olcLimits: {{0}}dn.exact="{self.service_dn}" size={limit} time=unlimited
{self._copying()}
{self._telling()}
{self._password_policy()}
{self.more_configuration}
"""

    def _copying(self) -> str:
        """Return what makes the database a copy of the provider's."""
        if self.provider is None:
            return ""
        return (
            f"olcSyncrepl: rid=001 provider={self.provider.url} bindmethod=simple binddn={self.provider.admin_dn!s}"
            f" credentials={self.provider.admin_password} searchbase={self.base_dn!s} type=refreshAndPersist"
            ' retry="1 +" tls_cacert=provider-ca.pem tls_reqcert=demand\n'
            f"olcUpdateRef: {self.provider.url}\n"
        )

    def _telling(self) -> str:
        """Return the overlay that tells changes (RFC 4533)."""
        if self.session_log < 0:
            return ""
        return (
            "dn: olcOverlay={0}syncprov,olcDatabase={1}mdb,cn=config\nobjectClass: olcOverlayConfig\n"
            "objectClass: olcSyncProvConfig\nolcOverlay: {0}syncprov\n"
            + (f"olcSpSessionlog: {self.session_log}\n" if self.session_log else "")
        )

    def _access(self) -> str:
        """Return who may do what: everybody may try a password, the service account reads, the writer sets."""
        service, writer = f'dn.exact="{self.service_dn}"', f'dn.exact="{self.writer_dn}"'
        if not self.writer_dn:
            return (
                "olcAccess: {0}to attrs=userPassword by anonymous auth by * none\n"
                f"olcAccess: {{1}}to * by {service} read by * none"
            )
        return (
            f"olcAccess: {{0}}to attrs=userPassword by {writer} write by self =xw by anonymous auth by * none\n"
            f"olcAccess: {{1}}to attrs={','.join(WRITTEN)} by {writer} write by {service} read by * none\n"
            # A modification needs to find its entry; nothing else of it is the writer's business.
            f"olcAccess: {{2}}to attrs=entry by {writer} read by {service} read by self read by * none\n"
            f"olcAccess: {{3}}to * by {service} read by * none"
        )

    def _password_policy(self) -> str:
        """Return the overlay that judges new passwords, ages them, and remembers resets."""
        if not self.writer_dn:
            return ""
        return (
            "dn: olcOverlay=ppolicy,olcDatabase={1}mdb,cn=config\nobjectClass: olcOverlayConfig\n"
            f"objectClass: olcPPolicyConfig\nolcOverlay: ppolicy\nolcPPolicyDefault: cn=default,{self.base_dn}\n"
            "olcPPolicyHashCleartext: TRUE\n"
        )

    def _first_entries(self) -> str:
        """Return the base entry, the service account and the units between them."""
        kind, _, value = self.base_dn.split(",")[0].partition("=")
        match kind.strip().lower():
            case "dc":
                text = f"dn: {self.base_dn}\nobjectClass: dcObject\nobjectClass: organization\no: {value}\ndc: {value}\n"
            case "o":
                text = f"dn: {self.base_dn}\nobjectClass: organization\no: {value}\n"
            case "ou":
                text = f"dn: {self.base_dn}\nobjectClass: organizationalUnit\nou: {value}\n"
            case other:
                raise SlapdError(f"The base entry must be dc=, o= or ou=, not {other}=.")
        parents = self.service_dn.removesuffix("," + self.base_dn).split(",")
        name, units = parents[0], parents[1:]
        for number in range(len(units) - 1, -1, -1):
            unit = units[number].partition("=")[2]
            path = ",".join([*units[number:], self.base_dn])
            text += f"\ndn: {path}\nobjectClass: organizationalUnit\nou: {unit}\n"
        text += (
            f"\ndn: {self.service_dn}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
            f"cn: {name.partition('=')[2]}\nuserPassword: {hash_password(self.service_password)}\n"
        )
        if self.writer_dn:
            text += (
                f"\ndn: {self.writer_dn}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
                f"cn: {self.writer_dn.partition(',')[0].partition('=')[2]}\n"
                f"userPassword: {hash_password(self.writer_password)}\n"
                f"\ndn: cn=default,{self.base_dn}\nobjectClass: organizationalRole\nobjectClass: pwdPolicy\n"
                "cn: default\npwdAttribute: userPassword\npwdMustChange: TRUE\npwdCheckQuality: 1\npwdMinLength: 12\n"
                "pwdInHistory: 3\npwdAllowUserChange: TRUE\npwdSafeModify: FALSE\n"
            )
        return text


def hash_password(password: str) -> str:
    """Return a password as `{SSHA}`, the one salted kind that every slapd reads without a module."""
    salt = secrets.token_bytes(8)
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode("ascii")


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program() -> str:
    return shutil.which("slapd", path=PROGRAM_PATH) or ""


def _is_confined() -> bool:
    with contextlib.suppress(OSError):
        return APPARMOR_PROFILE.exists() and APPARMOR_SWITCH.read_text(encoding="ascii").strip() == "Y"
    return False


def _ordinary_user() -> dict[str, object]:
    """Return what makes a child of root an ordinary user; nothing when we are one already."""
    if os.geteuid() != 0:
        return {}
    for name in USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise SlapdError("The directory server must not run as root, and there is no user openldap or nobody.")
