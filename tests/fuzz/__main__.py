"""Fuzz what reads the bytes of directories, guided by coverage: `python -m tests.fuzz [SECONDS]`.

Needs atheris, which is in no lock file because only this needs it: `.venv/bin/pip install atheris`. The tests damage
the same readers with hypothesis in every run; this goes deeper. Ends with the bytes that raised anything but BERError.
"""

import contextlib
import sys

try:
    import atheris
except ImportError:
    raise SystemExit("atheris is not installed: .venv/bin/pip install atheris") from None

with atheris.instrument_imports(include=["directory"]):
    from directory import ber, paging, syncrepl
    from directory.ber import BERError
    from directory.errors import DirectoryError

READERS = (
    ber.read_elements,
    ber.read_entry,
    ber.read_result,
    ber.read_intermediate,
    ber.read_controls,
    syncrepl.read_state,
    syncrepl.read_done,
    syncrepl.read_info,
    paging.read_cookie,
)


def one_input(data: bytes) -> None:
    """Give the bytes to every reader, then as messages, in two pieces, to a whole refresh."""
    for read in READERS:
        with contextlib.suppress(BERError):
            read(data)
    half = len(data) // 2
    splitter = ber.Splitter(1_000_000)
    with contextlib.suppress(BERError, DirectoryError):
        messages = splitter.feed(data[:half]) + splitter.feed(data[half:])
        for persists in (False, True):
            refresh = syncrepl.Refresh(iter(messages), lambda *_: None, has_cookie=True, persists=persists)
            with contextlib.suppress(BERError, DirectoryError):
                list(refresh)
                refresh.ending()
        ready = list(messages)
        burst = syncrepl.Burst(
            iter(ready), lambda *_: None, iter([True] * len(ready) + [False]).__next__, 100
        )
        list(burst)


if __name__ == "__main__":
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096"], one_input)
    atheris.Fuzz()
