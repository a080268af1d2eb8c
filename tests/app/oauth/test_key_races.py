"""Several processes rotate at once: each change is made once, and the ring is whole afterwards (US-33).

The tests follow each other on one database: no keys, first keys, a next key, its taking over, an emergency.
"""

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

WORKER = Path(__file__).with_name("key_race_worker.py")
ROOT = Path(__file__).resolve().parents[3]
PROCESSES, THREADS = 3, 4
START_SECONDS = 3.0  # until every process has loaded Django and decided
ALGORITHMS = ("ES256", "EdDSA", "PS256", "RS256")


def work(order: dict[str, Any], environment: dict[str, str]) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, str(WORKER)], cwd=ROOT, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(order))
    process.stdin.close()
    process.stdin = None
    return process


def answer(process: "subprocess.Popen[str]") -> Any:
    output, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    return json.loads(output)


@dataclass(frozen=True, slots=True)
class Ring:
    """A database for races, under the role that the service runs as."""

    environment: dict[str, str]

    def race(self, act: str) -> Counter[str]:
        kids = self.look()["kids"]
        start_at = time.time() + START_SECONDS
        order = {"do": "race", "act": act, "threads": THREADS, "start_at": start_at, "kids": kids}
        racers = [work(order, self.environment) for _ in range(PROCESSES)]
        outcomes = Counter(outcome for racer in racers for outcome in answer(racer))
        assert outcomes.total() == PROCESSES * THREADS
        return outcomes

    def look(self) -> dict[str, Any]:
        found: dict[str, Any] = answer(work({"do": "look"}, self.environment))
        return found


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    name = f"key_race_{uuid.uuid4().hex}"
    kept = {key: value for key, value in os.environ.items() if key.startswith("IAM_")}
    common = {**kept, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "iam.settings"}
    owner = runtime = f"sqlite:///{tmp_path_factory.mktemp('race') / name}"
    if "postgresql" in os.environ["IAM_DATABASE_URL"]:
        owner = os.environ["IAM_DATABASE_URL"].rsplit("/", 1)[0] + f"/{name}"
        runtime = os.environ["IAM_TEST_RUNTIME_URL"].rsplit("/", 1)[0] + f"/{name}"
    owning = {**common, "IAM_DATABASE_URL": owner}
    answer(work({"do": "prepare"}, owning))
    yield Ring({**common, "IAM_DATABASE_URL": runtime})
    answer(work({"do": "destroy"}, owning))


def test_races_over_the_key_ring_make_each_change_once(ring: Ring) -> None:
    first = ring.race("first")
    held = ring.look()
    assert sum(int(made) * times for made, times in first.items()) == len(ALGORITHMS)
    assert held["keys"] == [[algorithm, "active"] for algorithm in ALGORITHMS]
    assert held["events"] == {"administrator:key:create": 4, "administrator:key:activate": 4}

    assert ring.race("begin") == {"True": 1, "False": 11}
    assert ring.look()["keys"][:2] == [["ES256", "active"], ["ES256", "next"]]

    version = ring.look()["version"]
    assert ring.race("tend") == {"1": 1, "0": 11}
    held = ring.look()
    assert held["version"] != version
    assert held["keys"][:2] == [["ES256", "active"], ["ES256", "retiring"]]
    assert held["events"] == {
        "administrator:key:create": 5, "administrator:key:activate": 5, "administrator:key:replace": 1,
    }  # fmt: skip

    assert ring.race("emergency") == {"True": 1, "False": 11}
    held = ring.look()
    assert held["keys"][:3] == [["ES256", "active"], ["ES256", "retired"], ["ES256", "retired"]]
    assert held["events"]["administrator:key:create"] == 6
    assert held["events"]["administrator:key:retire"] == 2
    assert held["problems"] == []


def test_race_for_a_client_secret_shows_only_secrets_that_were_written(ring: Ring) -> None:
    outcomes = ring.race("secret")

    held = ring.look()
    shown = [outcome for outcome in outcomes.elements() if outcome != "conflict"]
    assert all(len(digest) == 64 for digest in shown), outcomes
    assert held["secret"] in shown
    assert held["secrets"] == len(shown) == len(set(shown))
