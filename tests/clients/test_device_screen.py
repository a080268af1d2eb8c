"""The demonstration's screen beside `make run`: signed in by a person with a browser, signed out with them (US-03)."""

import subprocess
import sys

from tests.clients.conftest import Provider
from tests.servers.make_run import Checkout
from tests.servers.person import Page


def test_screen_is_signed_in_and_out_by_its_person(checkout: Checkout, made_run: Provider) -> None:
    person = made_run.person("")
    screen = subprocess.Popen(
        [sys.executable, "-m", "deploy.demo.device"], cwd=checkout.folder, stdout=subprocess.PIPE, text=True,
        env=checkout.environment,
    )  # fmt: skip
    try:
        assert screen.stdout is not None
        shown: dict[str, str] = {}
        for line in screen.stdout:
            words = line.split()
            if len(words) == 2:
                shown[words[0]] = words[1]
            elif words:
                break

        person.let_in(shown["Open"], shown["Type"])
        said = screen.stdout.readline() + screen.stdout.readline()
        assert "Signed in: " in said
        assert "roles staff" in said

        page = person.open(f"{made_run.issuer}/sign-out")
        assert isinstance(page, Page)
        person.submit(page, "to")
        assert screen.communicate(timeout=30)[0].splitlines()[-1] == "Signed out."
        assert screen.returncode == 0
    finally:
        if screen.poll() is None:
            screen.kill()
            screen.communicate()
