"""Take one rule out at a time, on copies of the tree, and see whether its test fails: `python -m tests.mutation`.

Exit status 0: every mutation was killed. 1: one survived, no longer applies, or its test fails on the tree as it is.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from tests.mutation.table import ROOT, Mutation, load

COPIED = ("iam", "directory", "mfa", "deploy", "tests", "manage.py", "pyproject.toml")
# Half a minute is much for one test. One that is still busy then has shown nothing: the machine may be the reason.
TEST_SECONDS = 180
# What pytest says: 1 tests failed; all else but 0 is something other than a failed test. The last is ours.
PASSED, FAILED, NO_END = 0, 1, 124


class Copy:
    """A copy of the tree in which one mutant after the other is tried."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        self.root.mkdir()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                skipped = shutil.ignore_patterns("__pycache__", "node_modules")
                shutil.copytree(source, self.root / name, ignore=skipped)
            else:
                shutil.copy2(source, self.root / name)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("IAM_")},
            "IAM_MUTATION_DATABASE": str(folder / "kept.sqlite3"),
        }

    def run(self, *tests: str) -> tuple[int, str]:
        """Run tests as the copy stands now; return pytest's status and its words."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--no-header",
            "-p",
            "tests.mutation.kept_database",
        ]
        try:
            done = subprocess.run(
                [*command, "--reuse-db", *tests], cwd=self.root, env=self._environment, capture_output=True, text=True,
                timeout=TEST_SECONDS * len(tests), check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return NO_END, "it did not end"
        return done.returncode, done.stdout + done.stderr

    def try_mutant(self, mutation: Mutation) -> str:
        """Return "" when the test saw the rule go, else what happened instead."""
        problem = mutation.problem(self.root)
        if problem:
            return f"does not apply: {problem}"
        path = self.root / mutation.file
        text = mutation.apply(self.root)
        try:
            # Python believes compiled code of the same second and length.
            Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
            status, words = self.run(mutation.test)
        finally:
            path.write_text(text, encoding="utf-8")
            Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
        if status == FAILED:
            return ""
        if status == PASSED:
            return f"SURVIVED {mutation.test}"
        return f"proves nothing, pytest ended with {status}: {words.strip()[-400:]}"


@contextmanager
def copies(number: int) -> Iterator[list[Copy]]:
    """Make copies, and remove them afterwards."""
    with tempfile.TemporaryDirectory(prefix="iam-mutation-") as folder:
        places = [Path(folder) / str(worker) for worker in range(number)]
        for place in places:
            place.mkdir()
        yield [Copy(place) for place in places]


def broken_before(workers: Sequence[Copy], mutations: Sequence[Mutation]) -> list[str]:
    """Return what pytest says of the named tests on the tree as it is, where they do not all pass.

    A test that fails anyway would seem to kill its mutant. Split by files, so that databases are made at the same time.
    """
    tests = sorted({mutation.test for mutation in mutations})
    files = sorted({test.partition("::")[0] for test in tests})
    shares = [
        [test for test in tests if files.index(test.partition("::")[0]) % len(workers) == number]
        for number in range(len(workers))
    ]
    problems: list[str] = []

    def run(worker: Copy, share: list[str]) -> None:
        status, words = worker.run(*share) if share else (PASSED, "")
        if status != PASSED:
            problems.append(words.strip()[-1500:])

    _together([Thread(target=run, args=pair) for pair in zip(workers, shares, strict=True)])
    return problems


def survivors(workers: Sequence[Copy], mutations: Sequence[Mutation]) -> dict[str, str]:
    """Try every mutation, each on whichever copy is free; return those that were not killed, with what happened."""
    waiting: Queue[Mutation] = Queue()
    for mutation in mutations:
        waiting.put(mutation)
    alive: dict[str, str] = {}

    def work(worker: Copy) -> None:
        while True:
            try:
                mutation = waiting.get_nowait()
            except Empty:
                return
            begun = time.monotonic()
            what = worker.try_mutant(mutation)
            if what:
                alive[mutation.name] = what
            print(f"{what or 'killed':8} {mutation.name}  ({time.monotonic() - begun:.0f} s)", flush=True)

    _together([Thread(target=work, args=(worker,)) for worker in workers])
    return alive


def _together(threads: Sequence[Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> int:
    """Read the command line, try what it names, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only mutations whose name has one of these words in it")
    parser.add_argument("--workers", type=int, default=2, help="how many at once, 2 if nothing is said")
    chosen = parser.parse_args()
    mutations = [
        mutation
        for mutation in load()
        if not chosen.names or any(name in mutation.name for name in chosen.names)
    ]
    if not mutations:
        print("No mutation has such a name.")
        return 1
    with copies(max(1, min(chosen.workers, len(mutations)))) as workers:
        broken = broken_before(workers, mutations)
        if broken:
            print("Tests fail on the tree as it is:\n", *broken, sep="\n")
            return 1
        alive = survivors(workers, mutations)
    print(f"{len(mutations) - len(alive)} of {len(mutations)} mutations killed.")
    for name, what in alive.items():
        print(f"  {name}: {what}")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
