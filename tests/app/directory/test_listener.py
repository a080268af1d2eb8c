"""The listener as processes on a real slapd: killed, doubled, without its cookie, beside a strange or a cut-off directory."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.demo import slapd
from tests.app.directory.secretariat import (
    BASE,
    GENEVA,
    SERVICE,
    SERVICE_PASSWORD,
    change,
    frozen,
    secretariat,
)

ROOT = Path(__file__).resolve().parents[3]
WORKER = Path(__file__).with_name("listener_worker.py")


@dataclass
class Track:
    """A database of this module's own, and what works on it."""

    environment: dict[str, str]

    def ask(self, do: str, **order: Any) -> Any:
        done = subprocess.run(
            [sys.executable, str(WORKER)], input=json.dumps({"do": do, **order}), cwd=ROOT, env=self.environment,
            text=True, capture_output=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", "directory", *arguments], cwd=ROOT, env=self.environment,
            text=True, capture_output=True, timeout=300,
        )  # fmt: skip

    @contextlib.contextmanager
    def listening(self) -> Iterator["subprocess.Popen[bytes]"]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "directory", "listen"], cwd=ROOT, env=self.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def own() -> Iterator[slapd.Server]:
    with secretariat() as server:
        yield server


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory, own: slapd.Server) -> Iterator[Track]:
    name = f"listener_{uuid.uuid4().hex}"
    kept = {key: value for key, value in os.environ.items() if key.startswith("IAM_")}
    common = {
        **kept, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "iam.settings",
        "IAM_LDAP_SOURCE_NAME": "hq", "IAM_LDAP_URLS": own.url, "IAM_LDAP_CA_FILE": str(own.ca_file),
        "IAM_LDAP_BIND_DN": SERVICE, "IAM_LDAP_BIND_PASSWORD": SERVICE_PASSWORD, "IAM_LDAP_BASE_DN": BASE,
    }  # fmt: skip
    url = f"sqlite:///{tmp_path_factory.mktemp('listener') / name}"
    if "postgresql" in os.environ["IAM_DATABASE_URL"]:
        url = os.environ["IAM_DATABASE_URL"].rsplit("/", 1)[0] + f"/{name}"
    made = Track({**common, "IAM_DATABASE_URL": url})
    made.ask("prepare")
    assert made.command("apply").returncode == 0
    yield made
    made.ask("destroy")


def until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.1)


def title(server: slapd.Server, text: str) -> None:
    change(server, f"dn: uid=omar,{GENEVA}\nchangetype: modify\nreplace: title\ntitle: {text}\n")


def status(server: slapd.Server, login: str, to: str) -> None:
    dn = f"uid={login},{GENEVA}"
    change(server, f"dn: {dn}\nchangetype: modify\nreplace: orgAccountStatus\norgAccountStatus: {to}\n")


def test_killed_at_any_moment_it_resumes_without_loss_or_repetition(own, track):
    chance = random.Random(4)
    before = track.ask("events", login="fatima")
    for round_ in range(4):
        with track.listening():
            time.sleep(chance.uniform(0.2, 4.0))
            title(own, f"round {round_}")
            status(own, "fatima", "disabled" if round_ % 2 == 0 else "active")
            time.sleep(chance.uniform(0.0, 0.3))
        # killed, and the other half happens while nobody listens
        title(own, f"after {round_}")
    status(own, "fatima", "disabled")
    with track.listening():
        until(lambda: not track.ask("person", login="fatima")["acts"])
    after = track.ask("events", login="fatima")
    closed = after["directory:person:deactivate"] - before.get("directory:person:deactivate", 0)
    opened = after.get("directory:person:reactivate", 0) - before.get("directory:person:reactivate", 0)

    assert closed == opened + 1  # each time once, whatever was killed
    assert 1 <= closed <= 3
    status(own, "fatima", "active")
    assert track.command("apply").returncode == 0
    assert track.ask("compare") == []


def test_two_listeners_one_leads_and_the_other_takes_over(own, track):
    with track.listening() as one, track.listening() as two:
        until(lambda: track.ask("status")["leader"] != "")
        leader = int(track.ask("status")["leader"].rsplit(":", 1)[1])
        assert leader in {one.pid, two.pid}
        os.kill(leader, signal.SIGKILL)
        other = two if leader == one.pid else one

        until(lambda: track.ask("status")["leader"].endswith(f":{other.pid}"))


@pytest.mark.parametrize("cookie", ["", "garbage", "rid=000,csn=20990101000000.000000Z#000000#000#000000"])
def test_cookie_that_was_lost_or_is_wrong_costs_nobody_anything(own, track, cookie):
    before = track.ask("people")
    track.ask("cookie", cookie=cookie)

    track.command("apply")
    title(own, f"after {cookie[:5]}")
    track.ask("cookie", cookie="")
    done = track.command("apply")

    assert done.returncode == 0, done.stderr
    assert track.ask("people") == before
    assert track.ask("compare") == []


def test_session_log_lost_by_a_restart_costs_nobody_anything(own, track):
    before = track.ask("people")
    own.stop()
    own.start()
    title(own, "after the restart")

    assert track.command("apply").returncode == 0

    assert track.ask("people") == before


def test_clock_of_the_directory_that_is_wrong_matters_to_nobody(own, track):
    """What orders changes is the cookie; an end that is written in a distant past or future is judged by our clock."""
    dn = f"uid=odd,{GENEVA}"
    for text, acts in (("20990101000000Z", True), ("19990101000000Z", False)):
        change(own, f"dn: {dn}\nchangetype: modify\nreplace: orgContractEnd\norgContractEnd: {text}\n")
        assert track.command("apply").returncode == 0
        assert track.ask("person", login="odd")["acts"] is acts
    change(own, f"dn: {dn}\nchangetype: modify\ndelete: orgContractEnd\n")
    assert track.command("apply").returncode == 0
    assert track.ask("person", login="odd")["acts"]


def test_a30_frozen_directory_ends_the_command_in_time_and_nobodys_access(own, track):
    before = track.ask("people")
    began = time.monotonic()

    with frozen(own):
        done = track.command("apply")

    assert done.returncode != 0
    assert "Nothing was done" in done.stderr
    assert time.monotonic() - began < 60
    assert track.ask("people") == before


@pytest.mark.parametrize("kind", ["size-limited", "foreign", "empty"])
def test_cut_off_foreign_or_empty_directory_behind_the_address_removes_nobody(own, track, kind):
    before = track.ask("people")
    options = {"service_size_limit": 5, "session_log": -1} if kind == "size-limited" else {}
    with secretariat(**options) as other:
        if kind == "empty":
            for login in track.ask("logins"):
                with contextlib.suppress(subprocess.CalledProcessError):
                    change(other, f"dn: {login}\nchangetype: delete\n")
        elsewhere = Track(
            {**track.environment, "IAM_LDAP_URLS": other.url, "IAM_LDAP_CA_FILE": str(other.ca_file)}
        )
        done = elsewhere.command("apply", "--full")

    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert track.ask("people") == before
    assert track.command("apply", "--full").returncode == 0
    assert track.ask("people") == before
