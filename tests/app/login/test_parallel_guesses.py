"""Two hundred guesses at once, from two processes, let through as few as two hundred in a row (A33)."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

WORKER = Path(__file__).with_name("guesser.py")
ROOT = Path(__file__).resolve().parents[3]
PROCESSES, THREADS, GUESSES = 2, 10, 10
START_SECONDS = 2.5  # until both processes have loaded Django and wait


def work(order: dict[str, Any], exempt: str = "") -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, str(WORKER)], cwd=ROOT, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "IAM_THROTTLE_EXEMPT_NETWORKS": exempt},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps({"now": "2026-11-25T10:00:00+00:00", **order}))
    process.stdin.close()
    process.stdin = None
    return process


def answer(process: "subprocess.Popen[str]") -> Any:
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return json.loads(output)


@pytest.fixture(scope="module", name="database")
def _database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if connection.vendor == "sqlite":
        name = str(tmp_path_factory.mktemp("guesses") / "guesses.sqlite3")
    else:
        name = f"guesses_{uuid.uuid4().hex}"
    answer(work({"do": "prepare", "name": name}))
    yield name
    answer(work({"do": "destroy", "name": name}))


def guess(database: str, account: str, source: str, exempt: str = "") -> Counter[str]:
    order = {
        "do": "guess", "name": database, "account": account, "source": source, "threads": THREADS,
        "guesses": GUESSES, "start_at": time.time() + START_SECONDS,
    }  # fmt: skip
    total: Counter[str] = Counter()
    for process in [work(order, exempt) for _ in range(PROCESSES)]:
        total.update(answer(process))
    assert total.total() == 200
    return total


def test_a33_of_two_hundred_parallel_guesses_five_are_tried_and_the_source_counts_all(database):
    outcomes = guess(database, "one", "198.51.100.1")

    assert outcomes == {"Charge": 5, "Blocked": 195}
    counted = answer(work({"do": "count", "name": database}))
    assert counted["code:source:198.51.100.1"] == 200


def test_a33_an_exempt_network_in_parallel_still_stops_at_a_hundred(database):
    outcomes = guess(database, "two", "198.51.100.2", exempt="192.0.2.0/24")

    assert outcomes == {"Charge": 100, "Blocked": 100}
    counted = answer(work({"do": "count", "name": database}))
    assert 100 in counted.values()
    assert counted["code:source:198.51.100.2"] == 200
