"""Apache with mod_auth_openidc, which nobody here wrote: unprivileged, free ports, a temporary folder.

Its configuration is the one that `docs/clients/apache.md` gives to application owners, with other addresses.
"""

import contextlib
import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.demo import testca
from tests.servers.organisation import CLIENT_SECRET
from tests.servers.postgres import free_port

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "clients" / "apache.md"
PROGRAM = "/usr/sbin/apache2"
MODULES = Path("/usr/lib/apache2/modules")
LOADED = (
    "mpm_event", "authn_core", "authz_core", "authz_user", "auth_openidc", "include", "mime", "dir", "socache_shmcb", "ssl",
    "proxy", "proxy_http",
)  # fmt: skip
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Intranet</title><link rel="icon" href="data:,">
<p id="user"><!--#echo encoding="entity" var="REMOTE_USER" --></p>
<p id="name"><!--#echo encoding="entity" var="OIDC_CLAIM_name" --></p>
<p id="office"><!--#echo encoding="entity" var="OIDC_CLAIM_office" --></p>
<p id="roles"><!--#echo encoding="entity" var="OIDC_CLAIM_roles" --></p>
<p id="acr"><!--#echo encoding="entity" var="OIDC_CLAIM_acr" --></p>
<a id="sign-out" href="/oidc?logout={out}">Sign out</a></html>
"""


@dataclass(frozen=True, slots=True)
class Apache:
    """Two virtual hosts: people sign in at `url` (an API there looks at signatures); the API at `asking` introspects."""

    url: str
    asking: str


def blocks(language: str) -> list[str]:
    """Return the guide's fenced blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def clients(port: int) -> list[dict[str, Any]]:
    """Return the guide's clients, as the tests' organisation has them."""
    return [
        {**client, "client_secret": CLIENT_SECRET}
        for block in blocks("json")
        for client in json.loads(_here(block, "", port))
    ]


def _here(text: str, issuer: str, port: int) -> str:
    return (
        text.replace("https://signin.example.org", issuer)
        .replace("https://intranet.example.org", f"http://localhost:{port}")
        .replace(r"https://intranet\.example\.org", f"http://localhost:{port}")
        .replace("CLIENT-SECRET", CLIENT_SECRET)
        .replace("PASSPHRASE", "p" * 64)
    )


def _user() -> dict[str, Any]:
    """Apache could be root's, but a test's server need not be."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("www-data")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def running(issuer: str, port: int, more: str = "", client: str = "intranet") -> Iterator[Apache]:
    """Start it as a client, on a port that is free, `more` added to the guide's settings; remove it afterwards."""
    folder, asking, encrypted = Path(tempfile.mkdtemp(prefix="iam-apache-")), free_port(), free_port()
    certificates = testca.make(folder / "ca")
    people, signatures, introspection = (_here(block, issuer, port) for block in blocks("apache"))
    people = people.replace("OIDCClientID intranet", f"OIDCClientID {client}")
    # For an API the module speaks TLS only: a proxy gives it that.
    tls = f"https://localhost:{encrypted}"
    signatures = signatures.replace(f"{issuer}/jwks", f"{tls}/jwks")
    introspection = introspection.replace(f"{issuer}/introspect", f"{tls}/introspect")
    for part in ("staff", "payments", "api"):
        (folder / "pages" / part).mkdir(parents=True)
        page = PAGE.format(out=f"http%3A%2F%2Flocalhost%3A{port}%2F")
        (folder / "pages" / part / "index.shtml").write_text(page)
    (folder / "pages" / "index.shtml").write_text("<!doctype html><title>Intranet</title><h1>Welcome</h1>")
    (folder / "apache.conf").write_text(
        "\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in LOADED)
        + f"""
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/pid
Mutex file:{folder} default
ErrorLog {folder}/error.log
LogLevel warn
ServerName localhost
TypesConfig /dev/null
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml
DirectoryIndex index.shtml
DocumentRoot {folder}/pages
StartServers 1
ThreadsPerChild 8
MinSpareThreads 8
MaxSpareThreads 16
MaxRequestWorkers 16
Listen 127.0.0.1:{port}
Listen 127.0.0.1:{asking}
Listen 127.0.0.1:{encrypted}
OIDCCABundlePath {certificates.ca_file}
<Directory "{folder}/pages">
    Options +Includes
    Require all granted
</Directory>
<VirtualHost 127.0.0.1:{port}>
{people}
{more}
{signatures}
</VirtualHost>
<VirtualHost 127.0.0.1:{asking}>
{introspection}
</VirtualHost>
<VirtualHost 127.0.0.1:{encrypted}>
    SSLEngine on
    SSLCertificateFile {certificates.certificate_file}
    SSLCertificateKeyFile {certificates.key_file}
    ProxyPass "/" "{issuer}/"
</VirtualHost>
"""
    )
    who = _user()
    if who:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, who["user"], who["group"])
    try:
        with (folder / "start.log").open("wb") as said:
            process = subprocess.Popen(
                [PROGRAM, "-d", folder, "-f", folder / "apache.conf", "-D", "FOREGROUND"],
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}, stdout=subprocess.DEVNULL, stderr=said, **who,
            )  # fmt: skip
        try:
            _wait(f"http://localhost:{port}/", process, folder)
            yield Apache(f"http://localhost:{port}", f"http://localhost:{asking}")
        finally:
            process.terminate()
            process.wait(timeout=10)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    for _ in range(200):
        with contextlib.suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(url):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    said = "".join(path.read_text() for path in (folder / "start.log", folder / "error.log") if path.exists())
    raise RuntimeError(f"Apache did not start:\n{said}")
