"""`client refusals ID`: why a client was refused lately, for its owner: counts and reasons, no persons."""

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError
from django.db import transaction

from iam.audit.record import Event, Outcome, record
from iam.audit.selectors import RefusalCount, refusals_of
from iam.audit.tags import Action
from iam.management.invitations import Output
from iam.management.people import operator
from iam.oauth.models import Client
from iam.oauth.protocol.refusals import explained

ACTION = "refusals"
HOURS_MAX = 24 * 31


def add_arguments(actions: "argparse._SubParsersAction[Any]") -> None:
    """Declare the action."""
    reading = actions.add_parser(ACTION, help="why a client was refused lately; no persons are named")
    reading.add_argument("client_id")
    reading.add_argument("--hours", type=int, default=24, help="how far back; default 24")


def handle(options: dict[str, Any], out: Output) -> None:
    """Print one line a reason. Reading is itself an event."""
    client_id, hours, now = options["client_id"], options["hours"], datetime.now(UTC)
    if not 1 <= hours <= HOURS_MAX:
        raise CommandError(f"--hours must be 1 to {HOURS_MAX}.")
    if "\x00" in client_id or not Client.objects.filter(client_id=client_id).exists():
        raise CommandError(f"There is no client {client_id!r}; `client list` names them.")
    found = refusals_of(client_id, now - timedelta(hours=hours))
    with transaction.atomic():
        record(
            Event(
                Action.AUDIT_READ,
                Outcome.SUCCESS,
                actor=operator(),
                now=now,
                object=f"client:{client_id}",
                method=f"refusals hours={hours}",
            )
        )
    if not found:
        out.write(f"{client_id} was not refused in the last {hours} hours.")
        return
    out.write(f"{client_id} was refused {sum(one.count for one in found)} times in the last {hours} hours:")
    for one in found:
        out.write(_line(one))
    out.write("The reference is that of the last such answer, as its error_description or page showed it.")


def _line(one: RefusalCount) -> str:
    told = explained(one.reason)
    return (
        f"{one.count:6} ×  {told.error or '-'}  [{one.reason}]  {told.advice}\n"
        f"          last {one.last_at.astimezone(UTC):%Y-%m-%d %H:%M}Z  reference {one.last_reference or '-'}"
    )
