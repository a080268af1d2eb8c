"""From ldapmodify to the last application: somebody is disabled, half the directory is deleted, and what then happens."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.servers.organisation import ADMIN_DN, CLIENT_SECRET, PEOPLE, dn_of
from tests.servers.person import Page, Person
from tests.servers.receivers import Receiver, receiving
from tests.servers.service import ROOT, Service, running

RESOURCE = ("test-resource", CLIENT_SECRET)
CALLBACK = "http://127.0.0.1:9950/callback"
SECONDS = 2.0
DNS = {person.login: dn_of(person) for person in PEOPLE}


@dataclass
class House:
    """A service of these tests' own, since their people come to harm, and an application that wants to know."""

    service: Service
    told: Receiver

    def enter(self, login: str) -> dict[str, Any]:
        """Sign somebody in at two applications; return the tokens of the first."""
        person = Person(self.service.issuer, login)
        tokens = person.tokens(person.sign_in(person.request(scope="openid profile demo.read")))
        answer = person.open(person.request("told", CALLBACK, scope="openid"))
        assert isinstance(answer, dict), answer.text
        person.tokens(answer, "told", CALLBACK)
        return tokens

    def modify(self, ldif: str) -> None:
        self._ldap("ldapmodify", ldif)

    def delete(self, *logins: str) -> None:
        self._ldap("ldapdelete", "".join(f"{DNS[login]}\n" for login in logins))

    def disable(self, login: str, to: str = "disabled") -> None:
        self.modify(
            f"dn: {DNS[login]}\nchangetype: modify\nreplace: orgAccountStatus\norgAccountStatus: {to}\n"
        )

    def _ldap(self, program: str, text: str) -> None:
        server = self.service.directory
        subprocess.run(
            [program, "-x", "-H", server.url, "-D", ADMIN_DN, "-w", server.admin_password],
            input=text.encode(), capture_output=True, check=True, timeout=60,
            env={**os.environ, "LDAPTLS_CACERT": str(server.ca_file)},
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.service.manage("directory", "status", "--json").stdout)[0])

    def active(self, token: str) -> bool:
        answer = requests.post(
            f"{self.service.issuer}/introspect", auth=RESOURCE, data={"token": token}, timeout=10
        )
        return bool(answer.json()["active"])

    def userinfo(self, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"{self.service.issuer}/userinfo", headers=headers, timeout=10).status_code

    def refresh(self, token: str) -> requests.Response:
        return requests.post(
            f"{self.service.issuer}/token", auth=("test-web", CLIENT_SECRET), timeout=10,
            data={"grant_type": "refresh_token", "refresh_token": token},
        )  # fmt: skip


@contextlib.contextmanager
def listening(service: Service) -> Iterator[subprocess.Popen[bytes]]:
    with (service.folder / "listen.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "directory", "listen"], cwd=ROOT, env=service.environment,
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def house(pytestconfig: pytest.Config) -> Iterator[House]:
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(running(pytestconfig.getoption("--database")))
        told = stack.enter_context(receiving())
        client = {
            "client_id": "told", "client_secret": CLIENT_SECRET, "redirect_uris": [CALLBACK], "trusted": True,
            "scope": "openid", "backchannel_logout_uri": told.url,
        }  # fmt: skip
        file = service.folder / "told.json"
        file.write_text(json.dumps([client]))
        service.manage("client", "apply", str(file))
        stack.enter_context(listening(service))
        made = House(service, told)
        within(60, lambda: made.status()["people"] == len(PEOPLE), (service.folder / "listen.log").read_text)
        yield made


def within(seconds: float, is_so: Callable[[], bool], words: Callable[[], str] = str) -> float:
    """Wait until something is so; return how long that took."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {words()}"
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.spec(
    "OIDC Back-Channel Logout", "2.5", "somebody disabled in the directory is signed out everywhere"
)
def test_a22_disabled_in_the_directory_ends_everything_within_two_seconds(house: House) -> None:
    tokens = house.enter("crowd01")
    assert house.active(tokens["access_token"])
    assert house.userinfo(tokens["access_token"]) == 200
    before = len(house.told.requests)

    house.disable("crowd01")
    took = within(SECONDS, lambda: not house.active(tokens["access_token"]))

    assert house.userinfo(tokens["access_token"]) == 401
    assert house.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    house.told.wait_for(before + 1, SECONDS - took)
    again = Person(house.service.issuer, "crowd01")
    assert isinstance(again.go_on(again.open(again.request())), Page)
    story = house.service.python(
        "from iam.audit.models import AuditEvent\n"
        "for event in AuditEvent.objects.order_by('occurred_at').values_list('action', 'reason', 'actor'): print(*event)"
    )
    assert "directory:person:deactivate disabled_in_directory system:directory:directory" in story
    assert "person:session:end" in story


def test_a22_enabled_again_lets_in_and_gives_no_old_token_back(house: House) -> None:
    tokens = house.enter("crowd02")
    house.disable("crowd02")
    within(SECONDS, lambda: not house.active(tokens["access_token"]))

    house.disable("crowd02", to="active")

    within(SECONDS, lambda: bool(house.status()["sizes"]["enabled"]))
    assert not house.active(tokens["access_token"])
    assert house.refresh(tokens["refresh_token"]).status_code == 400
    assert house.active(house.enter("crowd02")["access_token"])


def test_deleted_half_of_the_tree_ends_the_brakes_number_and_is_restored_by_one_command(house: House) -> None:
    half = [person.login for person in PEOPLE if person.login.startswith(("desk", "screen", "plain"))]
    tokens = house.enter("desk01")

    house.delete(*half)
    within(30, lambda: house.status()["to_approve"] + house.status()["left_lately"] == len(half))

    status = house.status()
    assert status["left_lately"] <= 5
    assert status["to_approve"] == len(half) - status["left_lately"]
    shown = house.service.manage("directory", "status").stdout
    assert "more than 5 of" in shown
    assert f"manage.py directory approve directory {status['to_approve']}" in shown
    wrong = house.service.manage(
        "directory", "approve", "directory", str(status["to_approve"] + 1), check=False
    )
    assert wrong.returncode != 0
    assert f"{status['to_approve']} wait" in wrong.stderr
    restored = house.service.manage("directory", "restore", "directory", "--all").stdout
    assert f"restored {status['left_lately']}" in restored
    assert house.status()["left_lately"] == 0
    if "desk01" not in restored:  # held or restored; whom the brake held was never signed out
        assert house.active(tokens["access_token"])


def test_plan_says_what_would_happen_and_writes_nothing(house: House) -> None:
    shown = house.service.manage("directory", "plan", "--full").stdout

    assert shown.startswith("directory:")


def test_preview_shows_office_groups_and_account_of_one_person(house: House) -> None:
    shown = json.loads(house.service.manage("directory", "preview", "amina", "--json").stdout)[0]

    assert shown["login"] == "amina"
    assert shown["office"] == "NIM"
    assert set(shown["groups"]) == {"staff", "payers"}
    assert shown["units"] == ["NIM", "people"]


def test_metrics_are_what_a_collector_reads(house: House) -> None:
    text = house.service.manage("directory", "status", "--metrics").stdout

    assert 'directory_event_age_seconds{source="directory"} ' in text
    assert 'deprovision_latency_seconds{source="directory",office="GVA",quantile="0.99"} ' in text


@pytest.mark.parametrize(
    "arguments",
    [("approve", "nowhere", "1"), ("approve", "directory", "-1"), ("restore", "directory"), ("restore", "directory", "nobody"),
     ("preview", "no*body"), ("plan", "nowhere")],
)  # fmt: skip
def test_wrong_arguments_do_nothing_and_say_what_is_right(house: House, arguments: tuple[str, ...]) -> None:
    done = house.service.manage("directory", *arguments, check=False)

    assert done.returncode != 0
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
