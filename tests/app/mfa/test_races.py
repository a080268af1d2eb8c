"""Sixteen tries at once, in two processes, on a database of their own: one wins (A34, A37)."""

import json
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

WORKER = Path(__file__).with_name("race_worker.py")
ROOT = Path(__file__).resolve().parents[3]
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
THREADS = 8
PROCESSES = 2
START_SECONDS = 1.5  # until both processes have loaded Django and wait


def work(order: dict[str, Any]) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, str(WORKER)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(order))
    process.stdin.close()
    process.stdin = None
    return process


def answer(process: "subprocess.Popen[str]") -> Any:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(output)


@dataclass(frozen=True, slots=True)
class Track:
    """A database for races, of the kind the suite runs on."""

    database: dict[str, Any]
    now: datetime
    prepared: dict[str, str]

    def race(self, act: str, raw: str = "") -> list[str]:
        """Run one act sixteen times at once and return the outcomes."""
        order = {
            "do": "race",
            "act": act,
            "raw": raw,
            "threads": THREADS,
            "start_at": time.time() + START_SECONDS,
            "now": self.now.isoformat(),
            "database": self.database,
            "enrolment": self.prepared["enrolment"],
        }
        racers = [work(order) for _ in range(PROCESSES)]
        outcomes = [outcome for racer in racers for outcome in answer(racer)]
        assert len(outcomes) == THREADS * PROCESSES
        return outcomes

    def count_codes(self) -> Any:
        return answer(work({"do": "count", "now": self.now.isoformat(), "database": self.database}))


@pytest.fixture(scope="module")
def track(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Track]:
    now = datetime.fromisoformat("2026-03-14T09:26:53+00:00")
    if connection.vendor == "sqlite":
        name = str(tmp_path_factory.mktemp("race") / "race.sqlite3")
        pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;"
        options = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": pragmas}
        database: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": options}
    else:
        name = f"mfa_race_{uuid.uuid4().hex}"
        given = connection.settings_dict
        database = {key: given[key] for key in ("ENGINE", "USER", "PASSWORD", "HOST", "PORT")}
    order = {"now": now.isoformat(), "secret": SECRET}
    making = {**database, "NAME": name, "TEST": {"NAME": name}}
    prepared = answer(work({**order, "do": "prepare", "database": making}))
    yield Track(database={**database, "NAME": name}, now=now, prepared=prepared)
    answer(work({**order, "do": "destroy", "database": making}))


def test_verify_totp_same_code_in_parallel_wins_once_a34(track: Track, phone: Callable[..., str]) -> None:
    outcomes = track.race("totp", phone(SECRET, track.now))

    assert Counter(outcomes) == {"Verified": 1, "WrongCode": 15}


def test_verify_recovery_same_code_in_parallel_wins_once_a37(track: Track) -> None:
    outcomes = track.race("recovery", track.prepared["code"])

    assert Counter(outcomes) == {"Verified": 1, "WrongCode": 15}


def test_confirm_totp_in_parallel_gives_one_set_of_codes(track: Track, phone: Callable[..., str]) -> None:
    outcomes = track.race("confirm", phone(track.prepared["enrolment_secret"], track.now))

    assert Counter(outcomes) == {"Confirmed": 1, "WrongCode": 15}


def test_begin_totp_in_parallel_shows_one_secret(track: Track) -> None:
    assert len(set(track.race("begin"))) == 1


def test_replace_recovery_codes_in_parallel_leaves_one_sheet(track: Track) -> None:
    track.race("replace")

    assert track.count_codes() == 10
