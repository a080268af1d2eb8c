"""`make run` as a newcomer uses it: the command itself, in a copy of the checkout, on free ports."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (".venv", "var", ".git", ".*_cache", "__pycache__", ".hypothesis", "tests", ".coverage*")


def four_free_ports() -> int:
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
        self.port = four_free_ports()

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

    @property
    def demo(self) -> dict[str, Any]:
        """What `make run` tells scripts."""
        told: dict[str, Any] = json.loads((self.folder / "var" / "demo.json").read_text(encoding="utf-8"))
        return told

    def manage(self, *arguments: str) -> None:
        """Run a management command as the line that `make run` prints says."""
        lines = (self.folder / "var" / "env").read_text(encoding="utf-8")
        given = dict(re.findall(r"^export (\w+)='(.*)'$", lines, re.MULTILINE))
        subprocess.run(
            [".venv/bin/python", "manage.py", *arguments], cwd=self.folder, env={**self.environment, **given},
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip

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
