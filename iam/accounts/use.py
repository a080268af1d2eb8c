"""Who else knows that a sign-in session is in use, beside its browser.

Sessions are kept here, below the provider, and applications that go on getting tokens are its knowledge. It registers
once, at the start (`AppConfig.ready`), how to leave out the sessions that are in use (docs/adr/0062).
"""

from collections.abc import Callable
from datetime import datetime

from django.db.models import QuerySet

from .models import LoginSession

# Narrows sessions down to those that nobody used since an instant. It reads, and nothing else.
LeavesOut = Callable[["QuerySet[LoginSession]", datetime], "QuerySet[LoginSession]"]

_known: list[LeavesOut] = []


def register_use(leaves_out: LeavesOut) -> None:
    """Have `leaves_out` asked before sessions end for want of use. Idempotent."""
    if leaves_out not in _known:
        _known.append(leaves_out)


def unused_since(rows: "QuerySet[LoginSession]", since: datetime) -> "QuerySet[LoginSession]":
    """Return those of the sessions that nobody used since then.

    Raises: RuntimeError when nobody is registered: a session in use must not end because nobody was asked.
    """
    if not _known:
        raise RuntimeError("nobody is there to say which sessions applications use")
    for leaves_out in _known:
        rows = leaves_out(rows, since)
    return rows
