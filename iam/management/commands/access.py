"""`manage.py access`: give a role in an office, take it away, show what a person holds."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from iam import lifecycle
from iam.access.models import Assignment
from iam.access.selectors import effective_access
from iam.errors import Conflict, NotKnown
from iam.management.people import instant, operator, person_named


class Command(BaseCommand):
    """Give, take and show rights."""

    help = "Give a person a role in an office, take it away, or show what a person holds."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare grant, revoke and show."""
        actions = parser.add_subparsers(dest="command", required=True)
        grant = actions.add_parser("grant", help="give a role in an office")
        revoke = actions.add_parser("revoke", help="take a role in an office away, from now on")
        for one in (grant, revoke):
            one.add_argument("username", help="the login name in the directory")
            one.add_argument("role", help="application.role, or a bare code for a role of the organisation")
            one.add_argument("--office", required=True, metavar="CODE")
            one.add_argument("--reason", default="", help="why; kept in the audit")
        grant.add_argument("--subtree", action="store_true", help="in every office below as well")
        grant.add_argument("--from", dest="begin", metavar="ISO-TIME", help="default: now")
        grant.add_argument("--until", metavar="ISO-TIME", help="default: until it is taken away")
        show = actions.add_parser("show", help="show what a person holds")
        show.add_argument("username")
        show.add_argument("--at", metavar="ISO-TIME", help="at another instant than now, past or future")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action."""
        now = datetime.now(UTC)
        try:
            match options["command"]:
                case "grant":
                    self._grant(options, now)
                case "revoke":
                    self._revoke(options, now)
                case "show":
                    self._show(options["username"], options["at"], now)
        except (NotKnown, Conflict) as problem:
            raise CommandError(problem.hint or problem.public) from problem

    def _warn(self, text: str) -> None:
        self.stderr.write(text)

    def _grant(self, options: dict[str, Any], now: datetime) -> None:
        username, role, office = options["username"], options["role"], options["office"]
        begin = instant(options["begin"], "--from") if options["begin"] else now
        until = instant(options["until"], "--until") if options["until"] else None
        if until is not None and until <= now:
            raise CommandError(f"--until: {options['until']} is over already; nothing was done.")
        if until is not None and until <= begin:
            raise CommandError("--until is not after --from; nothing was done.")
        # Before anybody is looked up: a misspelt role must not leave an account behind.
        lifecycle.role_by_code(role)
        lifecycle.office_by_code(office)
        person = person_named(username, now, self._warn).user
        held = _overlapping(person.pk, role, office, options["subtree"], begin, until)
        if held is not None:
            if held.valid_from <= begin and _covers(held, until):
                self.stdout.write(
                    f"{username} already holds {role} in {office}, {_span(held)}; nothing to do."
                )
                return
            raise CommandError(
                f"{username} already holds {role} in {office}, {_span(held)}, which covers part of that time only;"
                " revoke it first, or choose times that do not overlap."
            )
        assignment = lifecycle.assign_role(
            actor=operator(),
            person=person,
            role_code=role,
            office_code=office,
            now=now,
            subtree=options["subtree"],
            valid_from=begin,
            valid_until=until,
            reason=options["reason"],
        )
        where = f"{office} and below" if assignment.subtree else office
        self.stdout.write(f"{username} holds {role} in {where}, {_span(assignment)}.")
        if not person.is_active:
            self._warn(
                f"{username} is disabled: the role counts once the directory lets the person in again."
            )

    def _revoke(self, options: dict[str, Any], now: datetime) -> None:
        username, role, office = options["username"], options["role"], options["office"]
        lifecycle.role_by_code(role)
        lifecycle.office_by_code(office)
        person = person_named(username, now, self._warn).user
        ended = lifecycle.revoke_role(
            actor=operator(),
            person=person,
            role_code=role,
            office_code=office,
            now=now,
            reason=options["reason"],
        )
        if not ended:
            raise CommandError(f"{username} does not hold {role} in {office}; nothing was done.")
        self.stdout.write(f"{username} no longer holds {role} in {office}.")
        for source in sorted({row.source for row in ended if row.source.startswith("directory:")}):
            self._warn(
                f"It came from a group of {source}: the next sign-in gives it again while the person is in that group."
            )

    def _show(self, username: str, at: str | None, now: datetime) -> None:
        instant_shown = instant(at, "--at") if at else now
        person = person_named(username, now, self._warn).user
        access = effective_access(person.pk, instant_shown)
        self.stdout.write(f"{username} at {instant_shown.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
        self.stdout.write(f"  home office: {access.office or 'none'}")
        if not person.is_active:
            self.stdout.write("  disabled: no application receives any of this")
        for grant in access.grants:
            where = f"{grant.office} and below" if grant.subtree else grant.office
            end = (
                f", until {grant.valid_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if grant.valid_until else ""
            )
            self.stdout.write(f"  {grant.role} in {where}{end}")
        if not access.grants:
            self.stdout.write("  no role")


def _overlapping(
    person_id: UUID, role: str, office: str, subtree: bool, begin: datetime, until: datetime | None
) -> Assignment | None:
    """Return the manual assignment that the new one would overlap, the earliest if several."""
    rows = Assignment.objects.filter(
        person_id=person_id, role__code=role, office__code=office, subtree=subtree, source="manual"
    ).order_by("valid_from")
    for row in rows:
        ends_after_begin = row.valid_until is None or row.valid_until > max(begin, row.valid_from)
        if ends_after_begin and (until is None or row.valid_from < until):
            return row
    return None


def _covers(held: Assignment, until: datetime | None) -> bool:
    return held.valid_until is None or (until is not None and until <= held.valid_until)


def _span(row: Assignment) -> str:
    begin = f"from {row.valid_from.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if row.valid_until is None:
        return f"{begin} until it is taken away"
    return f"{begin} until {row.valid_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
