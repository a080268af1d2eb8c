"""`make run` as a newcomer uses it, in a copy of the checkout: ready, stopped, killed, refused."""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (".venv", "var", ".git", ".*_cache", "__pycache__", ".hypothesis", "tests", ".coverage*")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _four_free_ports() -> int:
    for base in range(21000, 29000, 10):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + 4):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise AssertionError("no free ports")


class Checkout:
    """A copy that shares the virtual environment and nothing else."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT), dirs_exist_ok=True)
        (folder / "tests").mkdir()
        shutil.copy2(ROOT / "tests" / "requirements.txt", folder / "tests" / "requirements.txt")
        (folder / ".venv").symlink_to(ROOT / ".venv")
        self.folder = folder
        self.port = _four_free_ports()

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def environment(self) -> dict[str, str]:
        """What a newcomer's shell has: none of the test run's own settings."""
        return {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("IAM_", "MAKE", "MFLAGS"))
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[tuple[subprocess.Popen[str], float]]:
        """`make run`, ready; with the seconds that took."""
        began = time.monotonic()
        process = subprocess.Popen(
            ["make", "run", f"DEMO_PORT={self.port}"], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            said = []
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if line.startswith("ready "):
                    break
            assert said, "make run said nothing"
            assert said[-1] == f"ready http://localhost:{self.port}\n", "".join(said)[-3000:]
            yield process, time.monotonic() - began
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=15)
            process.stdout.close()

    def left_running(self) -> list[str]:
        """The command lines of processes at work in the copy, or listening where it listened."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(self.folder):
                    words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if words:  # a corpse has none
                        found.append(words)
        return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("check out"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_make_run_asked_to_stop_ends_with_status_0_and_leaves_nothing(checkout, number):
    with checkout.running() as (process, _):
        for offset, path in ((0, ".well-known/openid-configuration"), (1, ""), (2, "")):
            with DIRECT.open(f"http://localhost:{checkout.port + offset}/{path}", timeout=10) as answer:
                assert answer.status == 200
        demo = checkout.folder / "var" / "demo.json"
        assert stat.S_IMODE(demo.stat().st_mode) == 0o600
        assert json.loads(demo.read_text())["issuer"] == f"http://localhost:{checkout.port}"

        process.send_signal(number)
        process.communicate(timeout=10)

    assert process.returncode == 0
    assert checkout.left_running() == []


def test_make_run_again_keeps_the_data_and_after_a_kill_clears_what_was_left(checkout):
    with checkout.running():
        before = json.loads((checkout.folder / "var" / "demo.json").read_text())
    with checkout.running() as (process, _):
        process.kill()
        process.wait()
        process.stdout.close()
        assert checkout.left_running()

        with checkout.running() as (_, seconds):
            after = json.loads((checkout.folder / "var" / "demo.json").read_text())

    assert after == before
    assert seconds < 15  # 5 on a quiet machine; tests share theirs
    assert checkout.left_running() == []


def test_make_run_twice_and_reset_meanwhile_are_refused_in_one_sentence(checkout):
    with checkout.running():
        second = checkout.make("run", f"DEMO_PORT={_four_free_ports()}")
        reset = checkout.make("reset")

    assert second.returncode != 0
    assert "Another `make run` is using this folder" in second.stderr
    assert reset.returncode != 0
    assert "stop it first" in reset.stderr


def test_make_run_child_that_died_is_named_and_everything_is_stopped(checkout):
    with checkout.running() as (process, _):
        known = json.loads((checkout.folder / "var" / "processes.json").read_text())
        os.kill(next(one["pid"] for one in known if one["name"] == "finance"), signal.SIGKILL)
        said, _ = process.communicate(timeout=15)

    assert process.returncode != 0
    assert "finance ended" in said
    assert checkout.left_running() == []


def test_make_run_busy_port_is_refused_by_number(checkout):
    with socket.socket() as busy:
        # The tests before this one used the port: their closed connections linger for a minute.
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        busy.bind(("127.0.0.1", checkout.port + 2))
        busy.listen()
        done = checkout.make("run", f"DEMO_PORT={checkout.port}")

    assert done.returncode != 0
    assert done.stderr.startswith(f"Port {checkout.port + 2} (Finance) is busy")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["80", "70000", "abc"])
def test_make_run_impossible_port_is_refused(checkout, port):
    done = checkout.make("run", f"DEMO_PORT={port}")

    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_make_reset_empties_var(checkout):
    with checkout.running():
        pass

    done = checkout.make("reset")

    assert done.returncode == 0
    assert list((checkout.folder / "var").iterdir()) == []
