"""`make reset`: empty `var/`, unless the demonstration is using it."""

import fcntl
import shutil
from pathlib import Path

VAR = Path(__file__).resolve().parents[2] / "var"


def main() -> None:
    """Remove everything that `make run` wrote."""
    if not VAR.exists():
        return
    lock_file = VAR / "run.lock"
    if lock_file.exists():
        with lock_file.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SystemExit("`make run` is using var/; stop it first.") from None
    for path in VAR.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    print("var/ is empty")


if __name__ == "__main__":
    main()
