"""`manage.py person`: what the service knows of somebody; let somebody try again after too many failures."""

import json
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db.models import F, Q

from iam.access.models import Assignment
from iam.access.selectors import effective_access
from iam.accounts.models import User
from iam.login import throttle
from iam.management.people import operator, person_named
from mfa.service import factors


class Command(BaseCommand):
    """Show a person, or let the person try again."""

    help = "Show what the service knows of a person, or clear the delays after failed sign-ins."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare show and unlock."""
        actions = parser.add_subparsers(dest="command", required=True)
        show = actions.add_parser("show", help="names, office, roles, second factors, sessions")
        show.add_argument("username", help="the login name in the directory")
        show.add_argument("--json", action="store_true")
        unlock = actions.add_parser(
            "unlock", help="forget the failed sign-ins, so that the person may try at once"
        )
        unlock.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action."""
        now = datetime.now(UTC)
        named = person_named(options["username"], now, self.stderr.write)
        if options["command"] == "unlock":
            self._unlock(options["username"], named.user, now)
            return
        shown = _described(named.user, now)
        if options["json"]:
            self.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False, default=str))
            return
        if named.created:
            self.stderr.write("Never signed in: the account was made just now from the directory.")
        self._print(shown)

    def _print(self, shown: dict[str, Any]) -> None:
        self.stdout.write(f"sub            {shown['sub']}")
        self.stdout.write(f"name           {shown['name_latin'] or '-'}  |  {shown['name_arabic'] or '-'}")
        self.stdout.write(f"e-mail         {shown['email'] or '-'}")
        self.stdout.write(f"language       {shown['language'] or '-'}")
        self.stdout.write(f"state          {'active' if shown['active'] else 'disabled'}")
        for link in shown["directory"]:
            note = "" if link["active"] else "  (the name belongs to another entry now)"
            self.stdout.write(f"directory      {link['source']}: {link['login']}  {link['dn']}{note}")
        self.stdout.write(f"home office    {shown['office'] or 'none: no mapping fits the directory entry'}")
        for row in shown["assignments"]:
            where = f"{row['office']} and below" if row["subtree"] else row["office"]
            until = f" until {row['until']:%Y-%m-%d %H:%M} UTC" if row["until"] else ""
            self.stdout.write(
                f"role           {row['role']} in {where}, {row['state']}{until}  ({row['source']})"
            )
        if not shown["assignments"]:
            self.stdout.write("role           none")
        kinds = ", ".join(shown["second_factors"]) or "none"
        self.stdout.write(f"second factor  {kinds}")
        self.stdout.write(f"sessions       {shown['live_sessions']} open")

    def _unlock(self, username: str, user: User, now: datetime) -> None:
        throttle.clear(username, user=user, actor=operator(), now=now)
        self.stdout.write(f"{username} may try to sign in at once.")


def _described(user: User, now: datetime) -> dict[str, Any]:  # Any: JSON
    access = effective_access(user.pk, now)
    expressed = {(grant.role, grant.office, grant.subtree) for grant in access.grants}
    rows = (
        Assignment.objects.select_related("role", "office")
        .filter(person=user)
        .filter(Q(valid_until=None) | (Q(valid_until__gt=now) & Q(valid_until__gt=F("valid_from"))))
        .order_by("role__code", "office__code", "valid_from")
    )
    assignments = [
        {
            "role": row.role.code,
            "office": row.office.code,
            "subtree": row.subtree,
            "state": _state(row, expressed, now),
            "from": row.valid_from,
            "until": row.valid_until,
            "source": row.source,
        }
        for row in rows
    ]
    return {
        "sub": user.sub,
        "name_latin": user.name_latin,
        "name_arabic": user.name_arabic,
        "email": user.email,
        "language": user.language,
        "active": user.is_active,
        "office": access.office,
        "assignments": assignments,
        "second_factors": sorted({factor.kind.value for factor in factors(str(user.pk))}),
        "live_sessions": user.sessions.filter(ended_at=None, expires_at__gt=now).count(),
        "directory": list(user.links.order_by("pk").values("source", "login", "dn", "active", "checked_at")),
    }


def _state(row: Assignment, expressed: set[tuple[str, str, bool]], now: datetime) -> str:
    if row.valid_from > now:
        return f"from {row.valid_from:%Y-%m-%d %H:%M} UTC"
    if (row.role.code, row.office.code, row.subtree) not in expressed:
        return "without effect: the office is closed or not open yet"
    return "in force"
