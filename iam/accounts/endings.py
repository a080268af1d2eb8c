"""Who else acts in the transaction in which a sign-in session ends.

Sessions end here, below the provider, and applications must learn of every end. What has to be written with it is
registered once, at the start (`AppConfig.ready`), by the layer that knows; no way of ending a session can leave
it out, because there is no other (docs/adr/0032).
"""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

# What is called with the session that just ended, and when. It writes in the same transaction; it sends nothing.
Witness = Callable[[UUID, datetime], None]

_witnesses: list[Witness] = []


def witness_endings(witness: Witness) -> None:
    """Have `witness` called whenever a session ends. Idempotent."""
    if witness not in _witnesses:
        _witnesses.append(witness)


def tell_witnesses(session_id: UUID, now: datetime) -> None:
    """Let every witness write what belongs to the end of a session.

    Raises: RuntimeError when nobody is registered: a session must not end without its applications' knowledge.
    """
    if not _witnesses:
        raise RuntimeError("nobody is there to tell applications of the end of a session")
    for witness in _witnesses:
        witness(session_id, now)
