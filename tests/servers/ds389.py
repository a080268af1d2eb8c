"""A real 389 Directory Server in a folder of its own, where the package 389-ds-base is installed.

Its own set-up tool calls the machine's service manager, so the configuration is made of the package's template here.
Started by root it becomes another user. It listens on loopback only.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from deploy.demo import testca
from deploy.demo.slapd import free_port, hash_password

TEMPLATES = Path("/usr/share/dirsrv/data")
SCHEMA = Path("/usr/share/dirsrv/schema")
PROGRAMS = ("/usr/sbin/ns-slapd", "/usr/bin/certutil", "/usr/bin/pk12util", "/usr/bin/openssl")
START_SECONDS = 30.0
FOLDERS = ("config/schema", "db", "log", "run", "lock", "tmp", "cert", "ldif", "bak")
ROOT_DN, ROOT_PASSWORD = "cn=Directory Manager", "root-of-the-tests"


def is_installed() -> bool:
    """Say whether everything is there that it takes."""
    return TEMPLATES.exists() and all(Path(program).exists() for program in PROGRAMS)


@dataclass(slots=True)
class Server389:
    """One server: `prepare()`, `start()`, `add()` the base and the entries, `stop()`."""

    folder: Path
    base_dn: str
    certificates: testca.Certificates
    schema_ldif: str = ""
    tells_changes: bool = True
    port: int = field(default_factory=free_port)
    plain_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"ldaps://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def prepare(self) -> None:
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copy2("/etc/dirsrv/config/certmap.conf", self.folder / "config")
        shutil.copy2("/etc/dirsrv/config/slapd-collations.conf", self.folder / "config")
        (self.folder / "config/schema/99user.ldif").write_text(
            self.schema_ldif
            or "dn: cn=schema\nobjectClass: top\nobjectClass: ldapSubentry\nobjectClass: subschema\ncn: schema\n"
        )
        (self.folder / "config/dse.ldif").write_text(self._configuration(), encoding="utf-8")
        self._make_key_store()
        if user := _user():
            for path in [self.folder, *self.folder.rglob("*")]:
                os.chown(path, user.pw_uid, user.pw_gid)
            # Whoever the server becomes must be able to walk down to it.
            for parent in self.folder.parents:
                if str(parent).startswith("/tmp/"):
                    parent.chmod(0o755)

    def start(self) -> None:
        user = _user()
        options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        self._process = subprocess.Popen(
            ["/usr/sbin/ns-slapd", "-D", str(self.folder / "config"), "-i", str(self.folder / "run/pid"), "-d", "0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder,
            start_new_session=True, **options,
        )  # fmt: skip
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                raise RuntimeError("389 ended at once: " + self._last_words())
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError("389 did not answer: " + self._last_words())

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGCONT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def change(self, ldif: str) -> None:
        """Change entries as the administrator."""
        done = subprocess.run(
            ["ldapmodify", "-x", "-H", self.url, "-D", ROOT_DN, "-w", ROOT_PASSWORD, "-c"],
            input=ldif.encode(), capture_output=True, check=False,
            env={**os.environ, "LDAPTLS_CACERT": str(self.certificates.ca_file)},
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stderr.decode("utf-8", "replace")[-600:])

    def add(self, ldif: str) -> None:
        """Add entries, written as plain LDIF."""
        entries = [entry for entry in ldif.split("\n\n") if entry.strip()]
        self.change("\n\n".join(entry.replace("\n", "\nchangetype: add\n", 1) for entry in entries) + "\n")

    # -- files ----------------------------------------------------------------------------------------------

    def _configuration(self) -> str:
        text = (TEMPLATES / "template-dse.ldif").read_text(encoding="utf-8")
        values = {
            "schema_dir": SCHEMA, "lock_dir": self.folder / "lock", "tmp_dir": self.folder / "tmp",
            "cert_dir": self.folder / "cert", "ldif_dir": self.folder / "ldif", "bak_dir": self.folder / "bak",
            "run_dir": self.folder / "run", "inst_dir": self.folder, "log_dir": self.folder / "log",
            "config_dir": self.folder / "config", "db_dir": self.folder / "db", "db_home_dir": self.folder / "db",
            "fqdn": "127.0.0.1", "ds_port": self.plain_port, "ds_user": user.pw_name if (user := _user()) else pwd.getpwuid(os.getuid()).pw_name,
            "rootdn": ROOT_DN, "ds_passwd": hash_password(ROOT_PASSWORD), "ldapi_enabled": "off",
            "ldapi": self.folder / "run/socket", "ldapi_autobind": "off", "ds_suffix": self.base_dn, "db_lib": "bdb",
        }  # fmt: skip
        for name, value in values.items():
            text = text.replace(f"%{name}%", str(value))
        text = text.replace(
            "nsslapd-localhost:",
            f"nsslapd-security: on\nnsslapd-securePort: {self.port}\nnsslapd-listenhost: 127.0.0.1\n"
            "nsslapd-securelistenhost: 127.0.0.1\nnsslapd-require-secure-binds: on\n"
            "nsslapd-allow-anonymous-access: off\nnsslapd-allow-hashed-passwords: on\nnsslapd-localhost:",
            1,
        )
        if self.tells_changes:
            for plugin in ("Retro Changelog Plugin", "Content Synchronization"):
                at = text.index(f"dn: cn={plugin},cn=plugins,cn=config")
                text = text[:at] + text[at:].replace(
                    "nsslapd-pluginenabled: off", "nsslapd-pluginenabled: on", 1
                )
            at = text.index("nsslapd-pluginpath: libretrocl-plugin")
            text = text[:at] + "nsslapd-attribute: nsuniqueid:targetUniqueId\n" + text[at:]
        suffix = (TEMPLATES / "template-suffix-db.ldif").read_text(encoding="utf-8")
        for name, value in {
            "ds_bename": "userRoot",
            "ds_suffix": self.base_dn,
            "db_dir": self.folder / "db",
        }.items():
            suffix = suffix.replace(f"%{name}%", str(value))
        return (
            text.rstrip()
            + "\n\n"
            + "".join(line + "\n" for line in suffix.splitlines() if not line.startswith("#"))
        )

    def _make_key_store(self) -> None:
        store, words = self.folder / "cert", self.folder / "cert/words"
        words.write_text("password-of-the-key-store\n")
        (store / "pin.txt").write_text("Internal (Software) Token:password-of-the-key-store\n")
        bundle = store / "server.p12"

        def run(*arguments: str) -> None:
            done = subprocess.run(arguments, capture_output=True, check=False, timeout=30)
            if done.returncode:
                raise RuntimeError(f"{arguments[0]}: {done.stderr.decode()} {done.stdout.decode()}")

        run("certutil", "-N", "-d", str(store), "-f", str(words))
        run("openssl", "pkcs12", "-export", "-inkey", str(self.certificates.key_file),
            "-in", str(self.certificates.certificate_file), "-certfile", str(self.certificates.ca_file),
            "-name", "Server-Cert", "-out", str(bundle), "-passout", f"file:{words}")  # fmt: skip
        run("pk12util", "-i", str(bundle), "-d", str(store), "-k", str(words), "-w", str(words))
        bundle.unlink()

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return " / ".join((self.folder / "log/errors").read_text(errors="replace").splitlines()[-8:])
        return "it said nothing"


def _user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    for name in ("dirsrv", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("389 must not run as root, and there is no user dirsrv or nobody.")
