"""The programs of `docs/clients/`, cut out of their pages: a person signs in and out again."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.clients.conftest import Provider
from tests.servers.organisation import CLIENT_SECRET
from tests.servers.postgres import free_port
from tests.servers.service import ROOT, Service

NODE = ROOT / ".venv" / "node"
ON_LOOPBACK = {
    "SESSION_COOKIE_SECURE=True": "SESSION_COOKIE_SECURE=False",
    "; Secure`": "`",
    "ClientSecretBasic(process.env.CLIENT_SECRET))": "ClientSecretBasic(process.env.CLIENT_SECRET), { execute: [client.allowInsecureRequests] })",
}  # fmt: skip


PAGES = ROOT / "docs" / "clients"


def blocks(page: str, language: str) -> list[str]:
    text = (PAGES / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md")))
def test_clients_of_the_guides_can_be_applied(service: Service, tmp_path: Path, page: str) -> None:
    clients = [client for block in blocks(page, "json") for client in json.loads(block)]
    for client in clients:
        client["client_id"] = f"guide-{client['client_id']}"
        if "backchannel_logout_uri" in client:  # the tests' service may call nobody but this machine
            address = urlsplit(client["backchannel_logout_uri"])
            client["backchannel_logout_uri"] = f"http://localhost{address.path}?{address.query}".rstrip("?")
    file = tmp_path / "clients.json"
    file.write_text(json.dumps(clients))

    applied = service.manage("client", "apply", str(file), check=False)

    assert applied.returncode == 0, applied.stderr
    assert applied.stdout.count(": created") == len(clients) > 0


@pytest.mark.parametrize(
    ("page", "language", "site"),
    [("python.md", "python", "letters.example.org"), ("node.md", "js", "desk.example.org")],
    ids=["python", "node"],
)
def test_program_of_the_guide_signs_a_person_in_and_out(
    provider: Provider, tmp_path: Path, page: str, language: str, site: str
) -> None:
    port = free_port()
    here = f"http://localhost:{port}"
    client = json.loads(blocks(page, "json")[0].replace(f"https://{site}", here))[0]
    file = tmp_path / "client.json"
    file.write_text(json.dumps([{**client, "client_secret": CLIENT_SECRET}]))
    provider.manage("client", "apply", str(file))
    program = blocks(page, language)[0].replace(f"https://{site}", here)
    program = program.replace("https://signin.example.org", provider.issuer)
    for word, instead in ON_LOOPBACK.items():
        program = program.replace(word, instead)
    environment = {
        **os.environ, "CLIENT_SECRET": CLIENT_SECRET, "SESSION_KEY": "k" * 64, "PORT": str(port), "NO_PROXY": "localhost",
    }  # fmt: skip
    if language == "python":
        (tmp_path / "letters.py").write_text(program)
        words = [sys.executable, "-m", "flask", "--app", "letters", "run", "--port", str(port)]
    else:
        (tmp_path / "desk.mjs").write_text(program)
        (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
        words = [str(NODE / "bin" / "node"), "desk.mjs"]
    person = provider.person("plain30" if language == "js" else "plain29")

    with (tmp_path / "log").open("wb") as log, subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=log, stderr=log) as process:  # fmt: skip
        try:
            _wait(here, process)
            browser = person.browser
            sent = browser.get(f"{here}/login", allow_redirects=False).headers["Location"]
            answer = person.sign_in(sent)
            home = browser.get(f"{here}/callback", params=answer)
            assert home.url == f"{here}/", home.text
            assert "staff" in home.text
            ended = browser.get(f"{here}/sign-out")
            assert ended.url.partition("?")[0] == f"{here}/"
            assert "Sign in" in ended.text
            again = browser.get(browser.get(f"{here}/login", allow_redirects=False).headers["Location"])
            assert again.url.startswith(f"{provider.issuer}/sign-in/")
        finally:
            process.terminate()


def _wait(here: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(here, timeout=5).ok:
                return
        assert process.poll() is None
        time.sleep(0.1)
    raise AssertionError("the program does not answer")
