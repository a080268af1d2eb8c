"""Run one request in its transaction, and read what others publish outside of it.

Keys that are not at hand may take seconds to read. Inside a transaction those seconds would be everybody's: of the one
writer that SQLite has, of the rows that are locked on PostgreSQL. So a request that turns out to need such keys is
undone, the keys are read while no transaction is open, and the request is run anew (docs/adr/0048).
"""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from django.db import transaction

from . import client_keys, engine
from .client_keys import KeysNeeded
from .protocol.messages import Answer, Request
from .state import DatabaseState

# A request names the keys of at most two parties: of its client, and of who vouches for it.
READS_MAX = 2

Sent = TypeVar("Sent")


def run(request: Request, clock: Callable[[], datetime], send: Callable[[Answer, datetime], Sent]) -> Sent:
    """Answer a request and send the answer, both in one transaction if the request may write; what went wrong undoes it.

    In: `clock` is read once for each run, because reading keys takes time. Raises: what the engine raises, and `send`.
    """
    if not engine.may_write(request):
        now = clock()
        return send(engine.handle(request, DatabaseState(), now), now)
    for _ in range(READS_MAX):
        try:
            return _run(request, clock(), send, client_keys.at_hand)
        except KeysNeeded as needed:
            client_keys.read(needed.address, needed.kid)
    return _run(request, clock(), send, client_keys.known)


def _run(
    request: Request,
    now: datetime,
    send: Callable[[Answer, datetime], Sent],
    published: client_keys.Published,
) -> Sent:
    with transaction.atomic():
        return send(engine.handle(request, DatabaseState(published), now), now)
