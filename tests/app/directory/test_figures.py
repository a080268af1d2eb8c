"""The measures of the bridge run as they are: from a shell, without the service."""

import subprocess
import sys


def test_measures_run_and_print_their_table():
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.directory", "--people", "100"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    for name in ("read alone", "nothing changed", "sign-in bind, new TLS", "sign-in bind, kept TLS"):
        assert name in done.stdout
