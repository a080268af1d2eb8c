"""Several processes that end sessions and deliver at once, and what is left when one is killed.

F15 (receivers dead or slow), and the outbox's promise: each told once, nothing lost.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.app.oauth.conftest import claims_of
from tests.servers.receivers import Receiver, away, receiving

WORKER = Path(__file__).with_name("delivery_worker.py")
ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Office:
    """A database of the kind the suite runs on, and processes of the service that work on it."""

    environment: dict[str, str]

    def start(self, do: str, **order: Any) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, str(WORKER)], cwd=ROOT, env=self.environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        process.stdin.flush()
        return process

    def ask(self, do: str, **order: Any) -> Any:
        return answer(self.start(do, **order))

    def begin(self, clients: dict[str, str], sessions: int, *, ended: bool = False) -> list[str]:
        ids: list[str] = self.ask("begin", clients=clients, sessions=sessions, ended=ended)
        return ids

    @contextlib.contextmanager
    def delivering(self, count: int = 1, lease: float = 30) -> Iterator[list["subprocess.Popen[str]"]]:
        """Run deliverers; each that lives at the end must stop when it is asked to."""
        crew = [self.start("deliver", lease=lease) for _ in range(count)]
        try:
            for process in crew:
                assert process.stdout is not None
                assert process.stdout.readline() == '"ready"\n', process.stderr and process.stderr.read()
            yield crew
            for process in crew:
                if process.poll() is None:
                    process.terminate()
                    assert answer(process) == "stopped"
        finally:
            for process in crew:
                process.kill()
                process.communicate()


def answer(process: "subprocess.Popen[str]") -> Any:
    output, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    name = f"delivery_{uuid.uuid4().hex}"
    kept = {key: value for key, value in os.environ.items() if key.startswith("IAM_")}
    common = {
        **kept, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "iam.settings",
        "IAM_OUTBOUND_ALLOW": "http://127.0.0.1:* 127.0.0.0/8",
    }  # fmt: skip
    owner = runtime = f"sqlite:///{tmp_path_factory.mktemp('delivery') / name}"
    if "postgresql" in os.environ["IAM_DATABASE_URL"]:
        owner = os.environ["IAM_DATABASE_URL"].rsplit("/", 1)[0] + f"/{name}"
        runtime = os.environ["IAM_TEST_RUNTIME_URL"].rsplit("/", 1)[0] + f"/{name}"
    owning = Office({**common, "IAM_DATABASE_URL": owner})
    owning.ask("prepare")
    yield Office({**common, "IAM_DATABASE_URL": runtime})
    owning.ask("destroy")


def sids(receiver: Receiver) -> Counter[str]:
    return Counter(claims_of(token)["sid"] for token in receiver.tokens)


def test_session_ended_by_forty_at_once_is_told_once_to_each_application(office: Office) -> None:
    with receiving() as mail, receiving() as wiki:
        sessions = office.begin({"mail-app": mail.url, "wiki-app": wiki.url}, 10)
        before = office.ask("look")

        at = time.time() + 2.5
        enders = [office.start("end", sessions=sessions, threads=20, at=at) for _ in range(2)]
        outcomes = [outcome for ender in enders for outcome in answer(ender)]

        assert Counter(outcomes) == {True: 10, False: 390}
        held = office.ask("look")
        assert held["by_client"] == {"mail-app": 10, "wiki-app": 10}
        assert held["ends"] - before["ends"] == 10

        with office.delivering(3):
            mail.wait_for(10)
            wiki.wait_for(10)
            time.sleep(1)

        assert [len(sids(receiver)) for receiver in (mail, wiki)] == [10, 10]
        assert {*sids(mail).values(), *sids(wiki).values()} == {1}
        assert office.ask("look")["attempts"] == [1] * 20


def test_delivery_claimed_by_fifty_at_once_is_claimed_once(office: Office) -> None:
    office.begin({"mail-app": away()}, 1, ended=True)

    at = time.time() + 2.5
    claimers = [office.start("claim", threads=25, at=at) for _ in range(2)]
    outcomes = [outcome for claimer in claimers for outcome in answer(claimer)]

    assert Counter(outcomes) == {True: 1, False: 49}
    assert office.ask("look")["attempts"] == [1]


def test_many_deliveries_by_several_deliverers_are_each_sent_once(office: Office) -> None:
    with receiving(seconds=0.05) as mail:
        office.begin({"mail-app": mail.url}, 60, ended=True)

        with office.delivering(3):
            mail.wait_for(60)
            time.sleep(1)

        assert len(sids(mail)) == 60
        assert len(mail.requests) == 60
        assert mail.most_at_once <= 6  # two a deliverer: an application is never flooded
        assert office.ask("look")["told"] == 60


def test_us03_end_is_told_within_ten_seconds(office: Office) -> None:
    with receiving() as mail:
        sessions = office.begin({"mail-app": mail.url}, 1)
        with office.delivering():
            time.sleep(0.6)
            ended = time.monotonic()
            ender = office.start("end", sessions=sessions, threads=1, at=0)
            mail.wait_for(1)
            arrived = time.monotonic()
            answer(ender)

        assert arrived - ended < 10  # most of it is the start of the process that ends the session


def test_delivery_of_a_killed_deliverer_is_made_by_another(office: Office) -> None:
    with receiving(seconds=2.0) as mail:
        office.begin({"mail-app": mail.url}, 2, ended=True)
        with office.delivering(lease=4) as (victim,):
            mail.wait_for(2)
            victim.kill()
            victim.wait()

        held = office.ask("look")
        assert (held["told"], held["waiting"], held["attempts"]) == (0, 2, [1, 1])

        mail.seconds = 0
        with office.delivering(lease=4):
            mail.wait_for(4)
            time.sleep(0.5)

        assert set(sids(mail).values()) == {2}
        held = office.ask("look")
        assert (held["told"], held["waiting"], held["attempts"]) == (2, 0, [2, 2])


def test_f15_receivers_that_hang_do_not_keep_the_others_waiting(office: Office) -> None:
    with contextlib.ExitStack() as stack:
        hanging = {f"hang-{n}": stack.enter_context(receiving(seconds=30)).url for n in range(6)}
        good = stack.enter_context(receiving())
        broken = stack.enter_context(receiving(500))
        clients = {**hanging, "gone-app": away(), "fail-app": broken.url, "good-app": good.url}
        with office.delivering():
            began = time.monotonic()
            office.begin(clients, 12, ended=True)
            good.wait_for(12, 30)
            took = time.monotonic() - began

        assert took < 10
        held = office.ask("look")
        assert held["told"] == 12
        assert held["waiting"] == 12 * 8


def test_f15_receiver_that_comes_back_is_told_all_it_missed(office: Office) -> None:
    with receiving(503) as mail:
        office.begin({"mail-app": mail.url}, 5, ended=True)
        with office.delivering():
            mail.wait_for(5)
            time.sleep(0.3)
            mail.status = 200
            missed = len(mail.requests)
            office.ask("hasten")
            mail.wait_for(missed + 5)
            time.sleep(0.5)

        held = office.ask("look")
        assert (held["told"], held["waiting"], held["failures"]) == (5, 0, [""])


def test_deliverer_that_is_asked_to_stop_finishes_what_it_sends(office: Office) -> None:
    with receiving(seconds=1.0) as mail:
        office.begin({"mail-app": mail.url}, 1, ended=True)
        with office.delivering():
            mail.wait_for(1)

        assert office.ask("look")["told"] == 1
        assert len(mail.requests) == 1
