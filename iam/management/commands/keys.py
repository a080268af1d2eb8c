"""`manage.py keys`: make, rotate and withdraw signing keys."""

import getpass
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from iam.oauth import keyring
from iam.oauth.models import KeyStatus, SigningKey
from iam.oauth.protocol.jose import ALGORITHMS


class Command(BaseCommand):
    """Make, rotate and withdraw signing keys."""

    help = "Signing keys: ensure that there are some, list, rotate, retire."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare ensure, list, rotate and retire."""
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("ensure", help="make an active key for every algorithm that has none")
        actions.add_parser("list", help="list the keys, never their private halves")
        rotate = actions.add_parser(
            "rotate", help="sign with a new key from now on; the old one still verifies"
        )
        rotate.add_argument("algorithm", choices=ALGORITHMS)
        retire = actions.add_parser("retire", help="withdraw a key that no longer signs")
        retire.add_argument("kid")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action."""
        now, actor = datetime.now(UTC), f"operator:{getpass.getuser()}"
        match options["action"]:
            case "ensure":
                for key in keyring.ensure(now, actor):
                    self.stdout.write(f"{key.kid}: made, active")
            case "rotate":
                key = keyring.rotate(options["algorithm"], now, actor)
                self.stdout.write(
                    f"{key.kid}: made, active; tokens of the old key live at most 5 minutes more"
                )
            case "retire":
                if not keyring.retire(options["kid"], now, actor):
                    raise CommandError(
                        f"{options['kid']!r} is not a key that can be withdrawn; see `keys list`."
                    )
                self.stdout.write(f"{options['kid']}: withdrawn")
            case "list":
                for row in SigningKey.objects.order_by("created_at"):
                    self.stdout.write(
                        f"{row.kid:28} {row.algorithm}  {KeyStatus(row.status).value:9} {row.created_at:%Y-%m-%d %H:%M} UTC"
                    )
