"""A real browser, and the two demonstration applications beside the running service."""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.live import service
from tests.servers.organisation import CLIENT_SECRET
from tests.servers.postgres import free_port
from tests.servers.service import ROOT, Service

__all__ = ["service"]


@dataclass(frozen=True, slots=True)
class Applications:
    """Where the applications answer."""

    correspondence: str
    finance: str


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a screen."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                  "--disable-component-update", "--disable-sync"],
        )  # fmt: skip
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A browser that nobody used before; its language is the test's parameter `language`, else English."""
    language = (
        request.node.callspec.params.get("language", "en") if hasattr(request.node, "callspec") else "en"
    )
    fresh = browser.new_context(locale=language, viewport={"width": 1280, "height": 800})
    fresh.set_default_timeout(15_000)
    yield fresh
    fresh.close()


@pytest.fixture(scope="session")
def applications(service: Service) -> Iterator[Applications]:
    """Correspondence and Finance, as `make run` starts them: separate processes with a real OIDC client."""
    ports = {name: free_port() for name in ("correspondence", "finance")}
    clients = [
        {
            "client_id": f"{name}-app", "client_secret": CLIENT_SECRET, "application": name, "trusted": True,
            "redirect_uris": [f"http://localhost:{port}/callback"],
            "post_logout_redirect_uris": [f"http://localhost:{port}/"],
            "backchannel_logout_uri": f"http://127.0.0.1:{port}/backchannel-logout",
            "grant_types": ["authorization_code", "refresh_token"],
            "scope": "openid profile email roles" + (" payments.approve" if name == "finance" else ""),
        }
        for name, port in ports.items()
    ]  # fmt: skip
    clients.append(
        {
            "client_id": "finance-api", "token_endpoint_auth_method": "none", "grant_types": [], "application": "finance",
            "resource_server": ["payments.approve"], "resource_uri": f"http://localhost:{ports['finance']}/api", "trusted": True,
        }
    )  # fmt: skip
    file = service.folder / "applications.json"
    file.write_text(json.dumps(clients))
    service.manage("client", "apply", str(file))
    with contextlib.ExitStack() as stack:
        for name, port in ports.items():
            environment = {
                "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "APP_PORT": str(port), "APP_ISSUER": service.issuer,
                "APP_CLIENT_ID": f"{name}-app", "APP_CLIENT_SECRET": CLIENT_SECRET,
                "APP_SESSION_KEY": secrets.token_urlsafe(32),
            }  # fmt: skip
            log = stack.enter_context((service.folder / f"{name}.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", f"deploy.demo.apps.{name}"],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            _wait(f"http://localhost:{port}/health")
        yield Applications(*(f"http://localhost:{ports[name]}/" for name in ("correspondence", "finance")))


def _wait(url: str) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer")
