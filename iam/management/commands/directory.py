"""`manage.py directory`: follow the directories, see what they would change, and say that it is meant."""

import contextlib
import json
import logging
import signal
import threading
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from directory import service
from directory.service import DirectoryError, NotApproved, Overtaken, Person, Planned, Refused, Source, Status
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action
from iam.lifecycle import DirectoryEffects
from iam.management.people import operator
from iam.management.previews import preview

SHOWN_MAX = 20
_HAPPENINGS = {
    "joined": "join", "changed": "change", "disabled": "are disabled", "enabled": "are enabled again",
    "left": "leave", "returned": "return",
}  # fmt: skip


class Command(BaseCommand):
    """Follow the directories, plan, apply, approve, restore, show."""

    help = "Follow the directories; plan, apply, approve or restore; show how they stand, or what one person gets."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the actions."""
        actions = parser.add_subparsers(dest="command", required=True)
        for name, words in (
            ("plan", "show what the directory would change now; nothing is written"),
            ("apply", "do it now, under the brake; the listener does the same by itself"),
        ):
            one = actions.add_parser(name, help=words)
            one.add_argument("source", nargs="?", help="only this directory; all of them without it")
            one.add_argument("--full", action="store_true", help="compare everything, not only what changed")
        approve = actions.add_parser("approve", help="let happen what the brake holds")
        approve.add_argument("source", help="the directory, as `directory status` calls it")
        approve.add_argument(
            "number", type=int, help="how many wait, as `directory status` says: repeated to be sure"
        )
        restore = actions.add_parser("restore", help="take back that people left, up to 30 days later")
        restore.add_argument("source")
        restore.add_argument("who", nargs="*", help="login names or entry ids")
        restore.add_argument("--all", action="store_true", help="everybody who left within 30 days")
        status = actions.add_parser("status", help="how the directories stand, what waits, and why")
        how = status.add_mutually_exclusive_group()
        how.add_argument("--json", action="store_true")
        how.add_argument(
            "--metrics", action="store_true", help="for a collector, in the text form of Prometheus"
        )
        shown = actions.add_parser(
            "preview", help="what the directory says of one person, and what follows from it"
        )
        shown.add_argument("username")
        shown.add_argument("--json", action="store_true")
        actions.add_parser("listen", help="follow the directories until stopped")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action."""
        if not settings.DIRECTORY_SOURCES:
            raise CommandError("No directory is configured: set IAM_LDAP_URLS and what belongs to it.")
        try:
            match options["command"]:
                case "plan" | "apply":
                    self._run(options)
                case "approve":
                    self._approve(_source(options["source"]), options["number"])
                case "restore":
                    self._restore(_source(options["source"]), options["who"], everybody=options["all"])
                case "status":
                    self._status(options)
                case "preview":
                    self._preview(options["username"], is_json=options["json"])
                case "listen":
                    self._listen()
        except DirectoryError as error:
            raise CommandError(
                f"The directory gave no whole answer ({error.reason}): {error.hint}. Nothing was done."
            ) from error

    # -- plan, apply -----------------------------------------------------------------------------------------

    def _run(self, options: dict[str, Any]) -> None:
        is_rehearsal = options["command"] == "plan"
        for source in _sources(options["source"]):
            try:
                planned = service.run(
                    source, DirectoryEffects(), is_whole=options["full"], is_rehearsal=is_rehearsal
                )
            except Refused as refused:
                raise CommandError(
                    f"{source.name}: the answer was not believed and nothing was done: {refused.reason}. It would have"
                    f" cost {refused.people} people. If that is right: manage.py directory approve {source.name} {refused.people}"
                ) from refused
            except Overtaken as overtaken:
                raise CommandError(
                    f"{source.name}: the listener applied a batch meanwhile; run the command again."
                ) from overtaken
            self._show_plan(source.name, planned, is_rehearsal=is_rehearsal)

    def _show_plan(self, source: str, planned: Planned, *, is_rehearsal: bool) -> None:
        plan = planned.plan
        counted = Counter(event.happening.value for event in plan.events)
        parts = [f"{counted[name]} {words}" for name, words in _HAPPENINGS.items() if counted[name]]
        parts += [f"{planned.links} links of groups change"] if planned.links else []
        parts += [f"{len(plan.dropped)} groups or units go"] if plan.dropped else []
        done = "would happen" if is_rehearsal else "done"
        self.stdout.write(f"{source}: {', '.join(parts) or 'nothing to do'}{f' ({done})' if parts else ''}")
        for event in plan.events[:SHOWN_MAX]:
            name = planned.logins.get(event.entry_id) or event.entry_id
            self.stdout.write(
                f"  {event.happening.value:9} {name}{' (missing)' if event.is_inferred else ''}"
            )
        if len(plan.events) > SHOWN_MAX:
            self.stdout.write(f"  and {len(plan.events) - SHOWN_MAX} more")
        reasons = Counter((waiting.wait.value, waiting.holding.reason) for waiting in plan.waiting)
        for (wait, reason), count in reasons.items():
            self.stdout.write(f"  {count} held ({wait}): {reason}")
        if reasons and not is_rehearsal:
            self.stdout.write(
                f"  see: manage.py directory status; then: manage.py directory approve {source} NUMBER"
            )

    # -- what an administrator says ----------------------------------------------------------------------------

    def _approve(self, source: Source, number: int) -> None:
        try:
            with transaction.atomic():
                gone = service.approve(source, DirectoryEffects(), number)
                self._record(Action.REMOVAL_APPROVE, source, f"{gone} of {number}")
        except NotApproved as refused:
            raise CommandError(
                f"Nothing was done: {refused.waiting} wait in {source.name}, not {number}. Look at them with"
                f" `manage.py directory status`, and repeat the number if they are meant."
                if refused.waiting
                else f"Nothing waits in {source.name}."
            ) from refused
        if not gone:
            self.stdout.write(
                f"{source.name}: the next reading may cost {number} people; whom the brake then holds is approved the same way."
            )
            return
        self.stdout.write(f"{source.name}: {gone} of {number} went; the others are there after all.")
        self.stdout.write(
            f"  To take it back within 30 days: manage.py directory restore {source.name} --all"
        )

    def _restore(self, source: Source, who: list[str], *, everybody: bool) -> None:
        if bool(who) == everybody:
            raise CommandError("Name the people, or say --all for everybody who left within 30 days.")
        with transaction.atomic():
            names = service.restore(source, DirectoryEffects(), who)
            self._record(Action.REMOVAL_RESTORE, source, f"{len(names)} restored")
        if not names:
            raise CommandError(
                "Nobody was restored: nobody of that name left within 30 days, or somebody else has the name now."
            )
        self.stdout.write(f"{source.name}: restored {len(names)}: {', '.join(names[:SHOWN_MAX])}")
        self.stdout.write("  They can sign in once the directory has their entries again.")

    def _record(self, action: Action, source: Source, method: str) -> None:
        record(
            Event(
                action, Outcome.SUCCESS, actor=operator(), now=datetime.now(UTC),
                object=f"directory:{source.name}", method=method,
            )
        )  # fmt: skip

    # -- status ------------------------------------------------------------------------------------------------

    def _status(self, options: dict[str, Any]) -> None:
        now = datetime.now(UTC)
        found = [service.status(source.name, now) for source in settings.DIRECTORY_SOURCES]
        if options["metrics"]:
            self.stdout.write(service.metrics(found, now), ending="")
        elif options["json"]:
            plain = [one.plain(now) for one in found]
            self.stdout.write(json.dumps(plain, indent=2, ensure_ascii=False, default=str))
        else:
            for one in found:
                self._show_status(one, now)

    def _show_status(self, one: Status, now: datetime) -> None:
        say = self.stdout.write
        age = one.event_age_seconds(now)
        say(f"{one.source}: {one.people} people, {one.groups} groups, {one.links} links of groups")
        if age is None:
            say("  never read: run `manage.py directory listen`, or `apply` once")
        else:
            say(
                f"  known to be whole {age:.0f} s ago; followed by {one.leader or 'NOBODY: start `manage.py directory listen`'}"
            )
        if one.completed_at:
            drift = (
                ", ".join(f"{count} {what}" for what, count in one.drift.items() if count)
                or "nothing differed"
            )
            say(f"  compared as a whole {one.completed_at:%Y-%m-%d %H:%M} UTC: {drift}")
        for waits in one.waits:
            say(
                f"  HELD since {waits.since:%Y-%m-%d %H:%M} UTC: {waits.count} {waits.wait}"
                f"{' (missing)' if waits.is_inferred else ''}: {waits.reason}"
            )
            say(f"    {', '.join(waits.logins)}{', …' if waits.count > len(waits.logins) else ''}")
        if one.refusal:
            say(f"  NOT BELIEVED: {one.refusal}; it would have cost {one.refused_people} people")
        if one.to_approve:
            say(f"  If that is meant: manage.py directory approve {one.source} {one.to_approve}")
            say("  If not: put the directory right; whoever is there again is released by itself.")
        if one.names_taken:
            say(f"  {one.names_taken} wait because somebody else who is still there has their login name")
        if one.trouble:
            say(f"  TROUBLE since {one.trouble_at:%Y-%m-%d %H:%M:%S} UTC: {one.trouble}")
        for finding in one.findings:
            say(f"  SET-UP: {finding.value.replace('_', ' ')}")
        if one.left_lately:
            say(f"  {one.left_lately} left within 30 days: manage.py directory restore {one.source} WHO")
        for latency in one.latencies:
            say(
                f"  ends of access in {latency.office or 'no office'} today: {latency.count}, half of them within"
                f" {latency.p50:.3f} s, nearly all within {latency.p99:.3f} s"
            )

    # -- one person ----------------------------------------------------------------------------------------------

    def _preview(self, login: str, *, is_json: bool) -> None:
        now = datetime.now(UTC)
        found: list[tuple[Person, bool]] = []
        match service.find(login):
            case service.Found(person):
                found = [(service.place(person), True)]
            case service.Ambiguous(count):
                raise CommandError(f"{login!r} means {count} entries: none of them can sign in by this name.")
            case service.Unavailable(reason):
                self.stderr.write(f"The directory gives no answer ({reason}); this is what was read last.")
        if not found:
            for source in settings.DIRECTORY_SOURCES:
                found += [(person, False) for person in service.describe(source, DirectoryEffects(), login)]
        if not found:
            raise CommandError(f"There is no person {login!r} in the directory.")
        shown = [preview(person, now, is_live=is_live) for person, is_live in found]
        if is_json:
            self.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False, default=str))
            return
        for one in shown:
            for name, value in one.items():
                self.stdout.write(
                    f"{name:12} {', '.join(map(str, value)) if isinstance(value, list) else value}"
                )

    # -- listen ----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        logging.getLogger("directory").setLevel(logging.INFO)
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with contextlib.suppress(ValueError):  # not in the main thread: a test
                signal.signal(number, lambda *_: stop.set())
        service.listen(settings.DIRECTORY_SOURCES, DirectoryEffects, stop)


def _sources(name: str | None) -> list[Source]:
    return [_source(name)] if name else list(settings.DIRECTORY_SOURCES)


def _source(name: str) -> Source:
    for source in settings.DIRECTORY_SOURCES:
        if source.name == name:
            return source
    names = ", ".join(source.name for source in settings.DIRECTORY_SOURCES)
    raise CommandError(f"There is no directory {name!r}; there is {names}.")
