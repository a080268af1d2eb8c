"""`manage.py audit`: read what happened."""

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from iam.accounts.models import DirectoryLink
from iam.audit.record import Event, Outcome, record
from iam.audit.selectors import EVENTS_MAX, DetailState, RecordedEvent, event_counts, recorded_events
from iam.audit.tags import Action
from iam.audit.words import WORDS, in_words
from iam.management.people import instant, operator
from iam.oauth.protocol.refusals import REFUSALS

# A reference that is read out over the telephone; fewer letters would find those of others.
REFERENCE_LENGTH_MIN = 8
HOURS_MAX = 24 * 31
_REFERENCE = re.compile(r"[\w.-]{8,64}", re.ASCII)
_FILTERS = ("client", "actor", "action", "reference", "since", "until", "before", "limit")
_NOT_FOUND = """Nothing matches.
Refusals of somebody unknown are counted: they become events when their minute is over and `housekeeping` ran, and only the
last reference of each minute, source, client and reason is kept."""


class Command(BaseCommand):
    """Read what happened. Reading is itself an event."""

    help = "List what happened: who did what to whom, when, how it ended. Times are UTC."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare list and words."""
        actions = parser.add_subparsers(dest="command", required=True)
        listing = actions.add_parser(
            "list", help="the newest events that match everything given, oldest of them first"
        )
        listing.add_argument(
            "--reference", default="", metavar="NUMBER",
            help=f"the number that a page or an answer showed, or its first {REFERENCE_LENGTH_MIN} letters and more",
        )  # fmt: skip
        listing.add_argument("--person", metavar="USERNAME", help="what a person did, or what was done to it")
        listing.add_argument(
            "--client", default="", metavar="CLIENT_ID", help="what a client did, or what was done to it"
        )
        listing.add_argument(
            "--actor", default="", help="person:SUB, client:ID, operator:NAME, system:NAME, anonymous"
        )
        listing.add_argument(
            "--action",
            default="",
            help="a tag, or its beginning, like person:session; `audit words` names them all",
        )
        listing.add_argument(
            "--since", metavar="ISO-TIME", help="from this time on, like 2027-01-31T18:00:00+03:00"
        )
        listing.add_argument("--until", metavar="ISO-TIME", help="before this time")
        listing.add_argument("--before", type=int, metavar="NUMBER", help="older than this event's number")
        listing.add_argument("--limit", type=int, default=50, help=f"at most {EVENTS_MAX}")
        listing.add_argument("--json", action="store_true", help="one JSON object a line")
        counting = actions.add_parser("counts", help="how often each thing happened, and why it was refused")
        counting.add_argument("--hours", type=int, default=24, help="how far back; default 24")
        counting.add_argument(
            "--json", action="store_true", help="one JSON object a line, for a monitoring system"
        )
        actions.add_parser("words", help="what each action is")

    def handle(self, *args: Any, **options: Any) -> None:
        """List events, or the words."""
        if options["command"] == "words":
            for action, words in WORDS.items():
                self.stdout.write(f"{action:36}{words}")
            return
        if options["command"] == "counts":
            self._count(options["hours"], as_json=options["json"])
            return
        _check(options)
        about = _subjects(options["person"]) if options["person"] else ()
        events = recorded_events(
            about=about,
            client=options["client"],
            actor=options["actor"],
            action=options["action"],
            reference=options["reference"],
            since=instant(options["since"], "--since") if options["since"] else None,
            until=instant(options["until"], "--until") if options["until"] else None,
            before=options["before"],
            limit=options["limit"],
        )
        self._note_reading(options, about)
        names = _names(events)
        for event in events:
            self.stdout.write(_json(event) if options["json"] else _lines(event, names))
        if not events:
            self.stderr.write(_NOT_FOUND)
        elif len(events) == options["limit"]:
            self.stderr.write(f"There may be older ones: --before {events[0].sequence}")

    def _count(self, hours: int, *, as_json: bool) -> None:
        """Print how often things happened; no persons are named, and so reading it is no event."""
        if not 1 <= hours <= HOURS_MAX:
            raise CommandError(f"--hours must be 1 to {HOURS_MAX}.")
        for row in event_counts(datetime.now(UTC) - timedelta(hours=hours)):
            if as_json:
                self.stdout.write(json.dumps(asdict(row) | {"hours": hours}))
                continue
            why = f"  {row.reason}" if row.reason else ""
            self.stdout.write(f"{row.count:8} ×  {row.outcome:8}{in_words(row.action)}  ({row.action}){why}")

    def _note_reading(self, options: dict[str, Any], about: tuple[str, ...]) -> None:
        used = {name: options[name] for name in _FILTERS if options[name]}
        client = f"client:{options['client']}" if options["client"] else ""
        with transaction.atomic():
            record(
                Event(
                    Action.AUDIT_READ,
                    Outcome.SUCCESS,
                    actor=operator(),
                    now=datetime.now(UTC),
                    object=about[0] if about else client,
                    method=" ".join(f"{name}={value}" for name, value in used.items()),
                )
            )


def _check(options: dict[str, Any]) -> None:
    """Refuse what could only ever find nothing. Raises: CommandError."""
    for name in ("person", "client", "actor"):
        if "\x00" in (options[name] or ""):  # no database takes it
            raise CommandError(f"--{name}: this is no name.")
    if options["reference"] and not _REFERENCE.fullmatch(options["reference"]):
        raise CommandError(
            f"--reference: give the number as it was shown, or at least its first {REFERENCE_LENGTH_MIN} letters."
        )
    if options["action"] and not any(tag.startswith(options["action"]) for tag in Action):
        raise CommandError(
            f"--action: nothing begins with {options['action']!r}; `audit words` names them all."
        )


def _subjects(person: str) -> tuple[str, ...]:
    """Return the subjects that a login name stands for now or stood for, or the `sub` itself."""
    subs = DirectoryLink.objects.filter(login=person).values_list("user__sub", flat=True)
    return tuple(f"person:{sub}" for sub in subs) or (f"person:{person.removeprefix('person:')}",)


def _names(events: list[RecordedEvent]) -> dict[str, str]:
    """Return login names for the subjects that are shown: a reader knows people by these."""
    subjects = {text for event in events for text in (event.actor, event.object, event.on_behalf_of)}
    subs = [text.removeprefix("person:") for text in subjects if text.startswith("person:")]
    rows = DirectoryLink.objects.filter(user__sub__in=subs).order_by("active", "pk")
    return {f"person:{sub}": login for sub, login in rows.values_list("user__sub", "login")}


def _lines(event: RecordedEvent, names: dict[str, str]) -> str:
    """Return an event as a stranger can read it: what happened and how it ended, then who and why, then the rest."""

    def called(subject: str) -> str:
        return f"{names[subject]} ({subject[:15]}…)" if subject in names else subject

    time = f"{event.occurred_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    first = (
        f"#{event.sequence}  {time}  {event.outcome.upper():7}  {in_words(event.action)}  ({event.action})"
    )
    who = [f"who {called(event.actor)}"]
    if event.on_behalf_of:
        who.append(f"for {called(event.on_behalf_of)}")
    if event.object and event.object != event.actor:
        who.append(f"whom or what {called(event.object)}")
    if event.reason:
        known = REFUSALS.get(event.reason) if "client:" in event.actor + event.object else None
        who.append(f"why {event.reason}" + (f": {known.advice}" if known else ""))
    rest = [
        f"{word} {value}"
        for word, value in (
            ("how", event.method), ("application", event.application), ("office", event.office),
            ("session", event.session), *event.details.items(), ("reference", event.request_id),
        )
        if value
    ]  # fmt: skip
    if event.detail_state in {DetailState.ERASED, DetailState.ALTERED}:
        rest.append(f"(details {event.detail_state})")
    lines = [first, "      " + "  ·  ".join(who)]
    if rest:
        lines.append("      " + "  ·  ".join(rest))
    return "\n".join(lines)


def _json(event: RecordedEvent) -> str:
    fields = {name: getattr(event, name) for name in RecordedEvent.__slots__}
    fields["occurred_at"] = event.occurred_at.astimezone(UTC).isoformat(timespec="microseconds")
    return json.dumps(fields, ensure_ascii=False, default=str)
