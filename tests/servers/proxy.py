"""A real nginx in front of the service, as `deploy/nginx/iam.conf` configures it: without root, on loopback ports of its own."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.demo import testca

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "deploy" / "nginx" / "iam.conf"
NGINX = Path("/usr/sbin/nginx")
# Where nginx calls the service from. Only this address is trusted, so that a test that goes around it is a stranger.
CALLS_FROM = "127.0.0.9"
NAME = "localhost"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy: its address, and the authority that vouches for it."""

    address: str
    port: int
    plain_port: int
    ca_file: Path
    log: Path


def _sample(
    folder: Path, certificates: testca.Certificates, port: int, plain_port: int, service_port: int
) -> str:
    """Return the sample configuration with this machine's names in it, each of which must be there to be changed."""
    text = SAMPLE.read_text(encoding="utf-8")
    changes = {
        "/etc/nginx/tls/login.example.org.pem": str(certificates.certificate_file),
        "/etc/nginx/tls/login.example.org.key": str(certificates.key_file),
        "https://login.example.org$request_uri": f"https://{NAME}:{port}$request_uri",
        "server_name login.example.org;": f"server_name {NAME};",
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{service_port};",
        "listen 443 ssl default_server;": f"listen 127.0.0.1:{port} ssl default_server;",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "listen 80;": f"listen 127.0.0.1:{plain_port};",
        "proxy_pass http://iam;": f"proxy_pass http://iam;\n        proxy_bind {CALLS_FROM};",
    }
    for there, here in changes.items():
        assert there in text, f"the sample has no {there!r} any more"
        text = text.replace(there, here)
    return text


@contextlib.contextmanager
def running(folder: Path, port: int, plain_port: int, service_port: int) -> Iterator[Proxy]:
    """Run nginx in the foreground until the block ends; every file that it writes is in `folder`."""
    folder.mkdir()
    certificates = testca.make(folder / "tls")
    (folder / "iam.conf").write_text(
        _sample(folder, certificates, port, plain_port, service_port), encoding="utf-8"
    )
    places = "\n".join(
        f"    {kind}_temp_path {folder / kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\nworker_processes 1;\npid {folder / 'pid'};\nerror_log {folder / 'error.log'} warn;\n"
        f"events {{ worker_connections 256; }}\nhttp {{\n    access_log off;\n{places}\n    include {folder / 'iam.conf'};\n}}\n",
        encoding="utf-8",
    )
    process = subprocess.Popen(
        [NGINX, "-p", folder, "-e", folder / "error.log", "-c", folder / "nginx.conf"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(port, process, folder / "error.log")
        yield Proxy(f"https://{NAME}:{port}", port, plain_port, certificates.ca_file, folder / "error.log")
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("nginx did not start:\n" + (log.read_text() if log.exists() else ""))
