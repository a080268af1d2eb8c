"""`manage.py person`: what the service knows of somebody; unlock, lock, release, and the end of an account."""

import json
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import F, Q

from iam import lifecycle
from iam.access.models import Assignment
from iam.access.selectors import effective_access
from iam.accounts.models import User
from iam.accounts.selectors import reason_not_to_act
from iam.errors import Conflict
from iam.login import throttle
from iam.management.people import instant, operator, person_named
from mfa.service import factors


class Command(BaseCommand):
    """Show a person, let the person try again, lock or release the account, say when it ends."""

    help = "Show what the service knows of a person; clear delays after failed sign-ins; lock, release or end an account."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the actions."""
        actions = parser.add_subparsers(dest="command", required=True)
        show = actions.add_parser("show", help="names, office, roles, second factors, sessions")
        show.add_argument("username", help="the login name in the directory")
        show.add_argument("--json", action="store_true")
        unlock = actions.add_parser(
            "unlock", help="forget the failed sign-ins, so that the person may try at once"
        )
        unlock.add_argument("username")
        lock = actions.add_parser(
            "lock", help="let the person do nothing before an instant; sessions end now"
        )
        lock.add_argument("username")
        lock.add_argument("--until", required=True, metavar="ISO-TIME")
        lock.add_argument("--reason", default="")
        release = actions.add_parser("release", help="lift a lock before its time")
        release.add_argument("username")
        release.add_argument("--reason", default="")
        reset = actions.add_parser(
            "reset-password",
            help="give a password that must be changed at the next sign-in; sessions end now",
        )
        reset.add_argument("username")
        reset.add_argument("--reason", required=True, help="who asked, and how you know that it was they")
        telephone = actions.add_parser(
            "telephone", help="set the telephone, where the directory leaves it to us"
        )
        telephone.add_argument("username")
        telephone.add_argument("number", help='the number, "" for none')
        expire = actions.add_parser("expire", help="say when the account ends")
        expire.add_argument("username")
        expire.add_argument("--at", required=True, metavar="ISO-TIME|never")
        expire.add_argument("--reason", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action."""
        now = datetime.now(UTC)
        named = person_named(options["username"], now, self.stderr.write)
        if options["command"] == "unlock":
            self._unlock(options["username"], named.user, now)
            return
        if options["command"] != "show":
            self._change(named.user, options, now)
            return
        shown = _described(named.user, now)
        if options["json"]:
            self.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False, default=str))
            return
        if named.created:
            self.stderr.write("Never signed in: the account was made just now from the directory.")
        self._print(shown)

    def _change(self, user: User, options: dict[str, Any], now: datetime) -> None:
        username, by = (
            options["username"],
            {"reason": options.get("reason", ""), "actor": operator(), "now": now},
        )
        match options["command"]:
            case "lock":
                until = instant(options["until"], "--until")
                if until <= now:
                    raise CommandError(f"--until: {options['until']} is over already; nothing was done.")
                lifecycle.lock(user, until, **by)
                self.stdout.write(
                    f"{username} can do nothing until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
                )
            case "release":
                if not lifecycle.release(user, **by):
                    raise CommandError(f"{username} is not locked; nothing was done.")
                self.stdout.write(f"{username} may sign in again.")
            case "reset-password":
                self._reset(user, username, **by)
            case "telephone":
                number = options["number"].strip()
                if not lifecycle.choose(user, "telephone", number, actor=operator(), now=now):
                    raise CommandError(
                        "The directory owns telephones (write_back in the settings lists none); nothing was done."
                    )
                self.stdout.write(
                    f"{username} is reached at {number or 'no number'}; the directory will be told."
                )
            case _:
                at = None if options["at"] == "never" else instant(options["at"], "--at")
                lifecycle.set_account_end(user, at, **by)
                ends = f"ends at {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if at else "does not end by date"
                self.stdout.write(f"The account of {username} {ends}.")

    def _reset(self, user: User, username: str, *, reason: str, actor: str, now: datetime) -> None:
        try:
            answer = lifecycle.reset_password(user, reason=reason, actor=actor, now=now)
        except Conflict as problem:
            raise CommandError(str(problem)) from problem
        if not isinstance(answer, lifecycle.Given):
            raise CommandError(lifecycle.words_of(answer))
        self.stdout.write(answer.password)
        self.stderr.write(
            f"This is shown once. {username} signs in with it, and must then choose a password of their own."
        )

    def _print(self, shown: dict[str, Any]) -> None:
        self.stdout.write(f"sub            {shown['sub']}")
        self.stdout.write(f"name           {shown['name_latin'] or '-'}  |  {shown['name_arabic'] or '-'}")
        self.stdout.write(f"e-mail         {shown['email'] or '-'}")
        self.stdout.write(f"language       {shown['language'] or '-'}")
        self.stdout.write(f"state          {shown['state']}")
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
        "state": _account_state(user, now),
        "valid_until": user.valid_until,
        "locked_until": user.locked_until,
        "office": access.office,
        "assignments": assignments,
        "second_factors": sorted({factor.kind.value for factor in factors(str(user.pk))}),
        "live_sessions": user.sessions.filter(ended_at=None, expires_at__gt=now).count(),
        "directory": list(user.links.order_by("pk").values("source", "login", "dn", "active", "checked_at")),
    }


def _account_state(user: User, now: datetime) -> str:
    match reason_not_to_act(user, now):
        case "account_disabled":
            return "disabled"
        case "account_expired":
            return f"expired since {user.valid_until:%Y-%m-%d %H:%M} UTC"
        case "account_locked":
            return f"locked until {user.locked_until:%Y-%m-%d %H:%M} UTC"
        case _:
            return f"active until {user.valid_until:%Y-%m-%d %H:%M} UTC" if user.valid_until else "active"


def _state(row: Assignment, expressed: set[tuple[str, str, bool]], now: datetime) -> str:
    if row.valid_from > now:
        return f"from {row.valid_from:%Y-%m-%d %H:%M} UTC"
    if (row.role.code, row.office.code, row.subtree) not in expressed:
        return "without effect: the office is closed or not open yet"
    return "in force"
