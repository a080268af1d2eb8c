"""What a killed run left behind is ended, and nothing else."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.demo.processes import Supervisor, Trouble, clear_leftovers, started_at


@pytest.fixture
def sleeper(tmp_path):
    """A process in a session of its own, at work in the folder."""
    process = subprocess.Popen(["sleep", "60"], cwd=tmp_path, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def _ledger(folder: Path, pid: int, started: str) -> Path:
    file = folder / "processes.json"
    file.write_text(json.dumps([{"name": "service", "pid": pid, "started": started}]))
    return file


def test_clear_leftovers_recorded_process_is_ended(tmp_path, sleeper):
    ledger = _ledger(tmp_path, sleeper.pid, started_at(sleeper.pid))

    cleared = clear_leftovers(ledger, tmp_path)

    assert cleared == ["service"]
    assert sleeper.wait(5) == -signal.SIGTERM
    assert not ledger.exists()


def test_clear_leftovers_recycled_number_is_left_alone(tmp_path, sleeper):
    ledger = _ledger(tmp_path, sleeper.pid, "another-boot 1")

    cleared = clear_leftovers(ledger, tmp_path)

    assert cleared == []
    assert sleeper.poll() is None


def test_clear_leftovers_worker_of_a_dead_leader_is_ended(tmp_path):
    code = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid, flush=True)"
    leader = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    started = started_at(leader.pid)
    worker = int(leader.communicate(timeout=10)[0])
    ledger = _ledger(tmp_path, leader.pid, started)

    cleared = clear_leftovers(ledger, tmp_path)

    assert cleared == ["service"]
    assert not started_at(worker)


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"name": "x"}]', "null"])
def test_clear_leftovers_broken_ledger_ends_nothing(tmp_path, text):
    (tmp_path / "processes.json").write_text(text)

    assert clear_leftovers(tmp_path / "processes.json", tmp_path) == []


def test_check_dead_child_is_named_with_its_last_words(tmp_path):
    (tmp_path / "log").mkdir()
    supervisor = Supervisor(tmp_path, tmp_path, dict(os.environ))
    supervisor.start("finance", sys.executable, "-c", "print('no such thing'); raise SystemExit(3)")
    supervisor.processes[0][1].wait(10)

    with pytest.raises(Trouble, match=r"(?s)finance ended with status 3.*no such thing"):
        supervisor.check()

    supervisor.stop()


def test_stop_child_that_ignores_the_request_is_killed_with_its_group(tmp_path):
    (tmp_path / "log").mkdir()
    supervisor = Supervisor(tmp_path, tmp_path, dict(os.environ))
    script = "trap '' TERM; sleep 61 & echo $! > worker; wait; sleep 61"
    supervisor.start("stubborn", "sh", "-c", script)
    while not (tmp_path / "worker").exists() or not (tmp_path / "worker").read_text().endswith("\n"):
        time.sleep(0.01)
    worker = int((tmp_path / "worker").read_text())

    supervisor.stop()

    assert not started_at(supervisor.processes[0][1].pid)
    assert not started_at(worker)
    assert not supervisor.ledger.exists()
