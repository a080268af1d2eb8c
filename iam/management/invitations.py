"""`client invite`, `invitations`, `uninvite`: let somebody else register clients, within bounds and for a while."""

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from django.conf import settings
from django.core.management.base import CommandError

from iam.management.people import operator
from iam.oauth.models import InitialAccessToken
from iam.oauth.protocol.fields import MetadataError
from iam.oauth.registrations import Bounds, end_invitation, invite

ACTIONS = ("invite", "invitations", "uninvite")


class Output(Protocol):
    """Where a command writes."""

    def write(self, text: str, /) -> object:
        """Write a line."""


def add_arguments(actions: "argparse._SubParsersAction[Any]") -> None:
    """Declare the three actions."""
    making = actions.add_parser("invite", help="make an initial access token (RFC 7591); it is printed once")
    making.add_argument("label", help="whom it is for")
    making.add_argument(
        "--application", required=True, metavar="CODE", help="to which its clients will belong"
    )
    making.add_argument(
        "--grant-type", action="append", metavar="TYPE", help="default: authorization_code and refresh_token"
    )
    making.add_argument("--scope", default="openid", help='scopes with a space between; default "openid"')
    making.add_argument("--profile", default="standard", help="standard or high")
    making.add_argument("--uses", type=int, default=1, help="how many clients it may register; default 1")
    making.add_argument("--days", type=int, default=7, help="how long it is good; default 7")
    actions.add_parser("invitations", help="list the initial access tokens, never the tokens themselves")
    ending = actions.add_parser(
        "uninvite", help="end an initial access token; what was registered with it stays"
    )
    ending.add_argument("number", type=int, help="as `client invitations` shows it")


def handle(action: str, options: dict[str, Any], out: Output) -> None:
    """Run one of ACTIONS."""
    now = datetime.now(UTC)
    match action:
        case "invite":
            out.write(_invite(options, now))
        case "invitations":
            for row in InitialAccessToken.objects.select_related("application").order_by("pk"):
                out.write(_line(row, now))
        case _:
            if not end_invitation(options["number"], now, operator()):
                raise CommandError(f"There is no invitation {options['number']} with a use left.")
            out.write(f"invitation {options['number']}: ended")


def _invite(options: dict[str, Any], now: datetime) -> str:
    bounds = Bounds(
        options["application"],
        tuple(dict.fromkeys(options["grant_type"] or ("authorization_code", "refresh_token"))),
        tuple(dict.fromkeys(options["scope"].split())),
        options["profile"],
    )
    try:
        life = timedelta(days=options["days"])
        token = invite(options["label"], bounds, options["uses"], life, now, operator())
    except (MetadataError, OverflowError) as problem:
        raise CommandError(f"Nothing was made. {str(problem)[0].upper()}{str(problem)[1:]}.") from problem
    return (
        f"initial access token (shown once, keep it now): {token}\n"
        f"  for {options['uses']} client(s) at {settings.IAM_ISSUER}/register until {now + life:%Y-%m-%d %H:%M}Z"
    )


def _line(row: InitialAccessToken, now: datetime) -> str:
    state = (
        "used up or ended"
        if not row.uses_left
        else "expired"
        if row.expires_at <= now
        else f"{row.uses_left} left"
    )
    return (
        f"{row.pk:4}  {row.label}  application={row.application.code}  {state}  until {row.expires_at:%Y-%m-%d %H:%M}Z"
        f"  grants={','.join(row.grant_types)}  scope={' '.join(row.scopes) or '-'}  by {row.created_by}"
    )
