"""A real Active Directory domain controller (Samba) in a folder of its own; root only, because Samba is.

LDAP's ports are fixed there, so every controller gets an address of its own in 127/8. Processes rename themselves:
they are found by their working folder, and stopped by their group.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.demo import testca
from directory.config import Source
from directory.sources import read_sources

REALM, BASE = "FIELD.EXAMPLE", "DC=field,DC=example"
ADMIN, ADMIN_PASSWORD = f"CN=Administrator,CN=Users,{BASE}", "Adm1n-of-the-tests"
PEOPLE, GROUPS = f"OU=Niamey,OU=People,{BASE}", f"OU=Groups,{BASE}"
SERVICE, SERVICE_PASSWORD = f"CN=svc-sync,CN=Users,{BASE}", "S3rvice-of-the-tests"
PASSWORD = "Right-of-the-tests-7"
START_SECONDS = 90.0


def can_run() -> bool:
    """Say whether this machine lets us: root, and the programs are there."""
    return os.geteuid() == 0 and shutil.which("samba") is not None and shutil.which("samba-tool") is not None


@dataclass(slots=True)
class Controller:
    """One domain controller that runs."""

    folder: Path
    address: str
    ca_file: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Return the ldaps address."""
        return f"ldaps://{self.address}"

    def modify(self, ldif: str) -> None:
        """Change entries as the administrator."""
        subprocess.run(
            ["ldapmodify", "-x", "-H", self.url, "-D", ADMIN, "-w", ADMIN_PASSWORD],
            input=ldif.encode(), check=True, capture_output=True, timeout=60,
            env={**os.environ, "LDAPTLS_CACERT": str(self.ca_file)},
        )  # fmt: skip

    def source(self, *, as_admin: bool = False, more: str = "") -> Source:
        """Describe the controller; the service account sees what an ordinary account sees."""
        dn, password = (ADMIN, ADMIN_PASSWORD) if as_admin else (SERVICE, SERVICE_PASSWORD)
        text = (
            f'[[directory]]\nname = "field"\nflavour = "active_directory"\nurls = ["{self.url}"]\n'
            f'ca_file = "{self.ca_file}"\nbind_dn = "{dn}"\nbind_password_file = "-"\nbase_dn = "{BASE}"\n{more}'
        )
        (source,) = read_sources(text, {"-": password, "admin": ADMIN_PASSWORD}.__getitem__)
        return source


@contextlib.contextmanager
def running() -> Iterator[Controller]:
    """Provision a domain with a few people and groups, start its controller, and remove everything afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="iam-samba-"))
    address = _free_address()
    certificates = testca.make(folder / "ca", addresses=(address,))
    domain = folder / "domain"
    process = None
    try:
        subprocess.run(
            ["samba-tool", "domain", "provision", f"--targetdir={domain}", "--dns-backend=NONE", "-s", "/dev/null",
             f"--realm={REALM}", "--domain=FIELD", f"--adminpass={ADMIN_PASSWORD}", "--server-role=dc", "--host-name=dc1",
             f"--host-ip={address}", f"--option=interfaces={address}/8", "--option=bind interfaces only=yes"],
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip
        # The configuration that provisioning writes starts every service there is; ours starts one.
        configuration = domain / "etc" / "smb.conf"
        configuration.write_text(_configuration(domain, address, certificates), encoding="utf-8")
        (domain / "server.key").write_bytes(certificates.key_file.read_bytes())
        (domain / "server.key").chmod(0o600)  # Samba refuses a key that others may read
        with (folder / "samba.log").open("wb") as log:
            process = subprocess.Popen(
                ["samba", "-i", "-M", "prefork", "-s", str(configuration)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        controller = Controller(domain, address, certificates.ca_file, process)
        _wait(address, process, folder / "samba.log")
        controller.modify(_people())
        _set_passwords(configuration)
        yield controller
    finally:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _free_address() -> str:
    for _ in range(50):
        address = f"127.{random.randint(10, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}"
        with socket.socket() as probe:
            try:
                probe.bind((address, 636))
            except OSError:
                continue
            return address
    raise RuntimeError("no address of 127/8 has port 636 free")


def _configuration(domain: Path, address: str, certificates: testca.Certificates) -> str:
    return f"""[global]
netbios name = DC1
realm = {REALM}
workgroup = FIELD
server role = active directory domain controller
server services = ldap
bind interfaces only = Yes
interfaces = {address}/8
private dir = {domain}/private
lock directory = {domain}
state directory = {domain}/state
cache directory = {domain}/cache
pid directory = {domain}
ncalrpc dir = {domain}/ncalrpc
log file = {domain}/log
tls enabled = yes
tls keyfile = {domain}/server.key
tls certfile = {certificates.certificate_file}
tls cafile = {certificates.ca_file}

[sysvol]
path = {domain}/state/sysvol
read only = No

[netlogon]
path = {domain}/state/sysvol/field.example/scripts
read only = No
"""


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection((address, 636), 1.0):
            return
        time.sleep(0.2)
    raise RuntimeError(f"Samba did not start: {log.read_text(errors='replace')[-2000:]}")


LOGINS = ("amina", "omar", "sara", "leaver")


def _people() -> str:
    blocks = [
        f"dn: {dn}\nchangetype: add\nobjectClass: organizationalUnit\n"
        for dn in (f"OU=People,{BASE}", PEOPLE, GROUPS)
    ]
    for login in (*LOGINS, "svc-sync"):
        dn = SERVICE if login == "svc-sync" else f"CN={login},{PEOPLE}"
        blocks.append(
            f"dn: {dn}\nchangetype: add\nobjectClass: user\nsAMAccountName: {login}\n"
            f"displayName: {login.title()} of the tests\n"
        )
    blocks += [
        f"dn: CN=payers,{GROUPS}\nchangetype: add\nobjectClass: group\nsAMAccountName: payers\nmember: CN=amina,{PEOPLE}\n",
        f"dn: CN=everybody,{GROUPS}\nchangetype: add\nobjectClass: group\nsAMAccountName: everybody\n"
        f"member: CN=payers,{GROUPS}\nmember: CN=omar,{PEOPLE}\n",
    ]
    return "\n".join(blocks)


def _set_passwords(configuration: Path) -> None:
    for login in (*LOGINS, "svc-sync"):
        password = SERVICE_PASSWORD if login == "svc-sync" else PASSWORD
        for command in (
            ["user", "setpassword", login, f"--newpassword={password}"],
            ["user", "enable", login],
        ):
            subprocess.run(
                ["samba-tool", *command, "-s", str(configuration)],
                check=True,
                capture_output=True,
                timeout=60,
            )
