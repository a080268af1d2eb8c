"""`manage.py audit`: read what happened."""

import json
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from iam.accounts.models import DirectoryLink
from iam.audit.record import Event, Outcome, record
from iam.audit.selectors import EVENTS_MAX, DetailState, RecordedEvent, recorded_events
from iam.audit.tags import Action
from iam.management.people import instant, operator


class Command(BaseCommand):
    """Read what happened. Reading is itself an event."""

    help = "List what happened: who did what to whom, when, how it ended."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare list."""
        actions = parser.add_subparsers(dest="command", required=True)
        listing = actions.add_parser("list", help="the newest events that match, oldest of them first")
        listing.add_argument("--person", metavar="USERNAME", help="what a person did, or what was done to it")
        listing.add_argument(
            "--actor", default="", help="person:SUB, client:ID, operator:NAME, system:NAME, anonymous"
        )
        listing.add_argument("--action", default="", help="a tag, or its beginning, like person:session")
        listing.add_argument("--since", metavar="ISO-TIME")
        listing.add_argument("--before", type=int, metavar="NUMBER", help="older than this event's number")
        listing.add_argument("--limit", type=int, default=50, help=f"at most {EVENTS_MAX}")
        listing.add_argument("--json", action="store_true", help="one JSON object a line")

    def handle(self, *args: Any, **options: Any) -> None:
        """List events."""
        about = _subjects(options["person"]) if options["person"] else ()
        events = recorded_events(
            about=about,
            actor=options["actor"],
            action=options["action"],
            since=instant(options["since"], "--since") if options["since"] else None,
            before=options["before"],
            limit=options["limit"],
        )
        self._note_reading(options, about)
        names = _names(events)
        for event in events:
            self.stdout.write(_json(event) if options["json"] else _line(event, names))
        if not events:
            self.stderr.write("Nothing matches.")

    def _note_reading(self, options: dict[str, Any], about: tuple[str, ...]) -> None:
        used = {
            name: options[name] for name in ("actor", "action", "since", "before", "limit") if options[name]
        }
        with transaction.atomic():
            record(
                Event(
                    Action.AUDIT_READ,
                    Outcome.SUCCESS,
                    actor=operator(),
                    now=datetime.now(UTC),
                    object=about[0] if about else "",
                    method=" ".join(f"{name}={value}" for name, value in used.items()),
                )
            )


def _subjects(person: str) -> tuple[str, ...]:
    """Return the subjects that a login name stands for now or stood for, or the `sub` itself."""
    subs = DirectoryLink.objects.filter(login=person).values_list("user__sub", flat=True)
    return tuple(f"person:{sub}" for sub in subs) or (f"person:{person}",)


def _names(events: list[RecordedEvent]) -> dict[str, str]:
    """Return login names for the subjects that are shown: a reader knows people by these."""
    subjects = {text for event in events for text in (event.actor, event.object, event.on_behalf_of)}
    subs = [text.removeprefix("person:") for text in subjects if text.startswith("person:")]
    rows = DirectoryLink.objects.filter(user__sub__in=subs).order_by("active", "pk")
    return {f"person:{sub}": login for sub, login in rows.values_list("user__sub", "login")}


def _line(event: RecordedEvent, names: dict[str, str]) -> str:
    def called(subject: str) -> str:
        return f"{names[subject]} ({subject[:15]}…)" if subject in names else subject

    parts = [
        f"#{event.sequence}",
        f"{event.occurred_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z",
        called(event.actor),
    ]
    if event.on_behalf_of:
        parts.append(f"for {called(event.on_behalf_of)}")
    parts += [event.action, event.outcome]
    if event.reason:
        parts.append(f"[{event.reason}]")
    if event.object:
        parts.append(f"→ {called(event.object)}")
    for name in ("method", "application", "office", "session", "request_id"):
        if value := getattr(event, name):
            parts.append(f"{name}={value}")
    parts += [f"{name}={value}" for name, value in event.details.items()]
    if event.detail_state in {DetailState.ERASED, DetailState.ALTERED}:
        parts.append(f"(details {event.detail_state})")
    return "  ".join(parts)


def _json(event: RecordedEvent) -> str:
    fields = {name: getattr(event, name) for name in RecordedEvent.__slots__}
    fields["occurred_at"] = event.occurred_at.astimezone(UTC).isoformat(timespec="microseconds")
    return json.dumps(fields, ensure_ascii=False, default=str)
