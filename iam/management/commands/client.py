"""`manage.py client`: create, change and look at the provider's clients."""

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from iam.management import invitations
from iam.oauth.clients import Applied, apply_all, describe
from iam.oauth.models import Client
from iam.oauth.protocol.fields import MetadataError


class Command(BaseCommand):
    """Create, change and look at clients; invite others to register theirs."""

    help = "Create or change clients from a JSON array (names of RFC 7591), list them, show one."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare apply, list and show."""
        actions = parser.add_subparsers(dest="action", required=True)
        apply = actions.add_parser("apply", help="create or change clients from a file; all or none")
        apply.add_argument("file", metavar="FILE.json", help="a JSON array; - reads standard input")
        apply.add_argument("--json", action="store_true", help="print what was done as JSON")
        actions.add_parser("list", help="list the clients")
        show = actions.add_parser("show", help="print one client's metadata, without its secret")
        show.add_argument("client_id")
        invitations.add_arguments(actions)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action."""
        match options["action"]:
            case "apply":
                self._apply(options["file"], as_json=options["json"])
            case "list":
                self._list()
            case "show":
                self._show(options["client_id"])
            case action if action in invitations.ACTIONS:
                invitations.handle(action, options, self.stdout)

    def _apply(self, file: str, *, as_json: bool) -> None:
        try:
            text = self._read(file)
            items = json.loads(text)
        except OSError as problem:
            raise CommandError(f"{file} cannot be read: {problem.strerror}.") from problem
        except ValueError as problem:
            raise CommandError(f"{file} is not JSON: {problem}.") from problem
        try:
            applied = apply_all(items, datetime.now(UTC), f"operator:{getpass.getuser()}")
        except MetadataError as problem:
            raise CommandError(
                f"Nothing was changed. {str(problem)[0].upper()}{str(problem)[1:]}."
            ) from problem
        if as_json:
            self.stdout.write(json.dumps([_as_json(one) for one in applied], indent=2, ensure_ascii=False))
            return
        for one in applied:
            self._print(one)

    def _read(self, file: str) -> str:
        if file == "-":
            import sys

            return sys.stdin.read()
        return Path(file).read_text(encoding="utf-8")

    def _print(self, one: Applied) -> None:
        word = "created" if one.created else ("changed" if one.changes else "unchanged")
        self.stdout.write(f"{one.client_id}: {word}")
        for name, before, after in one.changes:
            if one.created:
                self.stdout.write(f"  + {name}: {_shown(after)}")
            else:
                self.stdout.write(f"  ~ {name}: {_shown(before)} -> {_shown(after)}")
        if one.generated_secret:
            self.stdout.write(f"  client_secret (shown once, keep it now): {one.generated_secret}")

    def _list(self) -> None:
        for client in Client.objects.select_related("application").order_by("client_id"):
            state = "" if client.enabled else "  (switched off)"
            application = client.application.code if client.application else "-"
            self.stdout.write(
                f"{client.client_id:32} {application:20} {client.token_endpoint_auth_method}{state}"
            )

    def _show(self, client_id: str) -> None:
        client = Client.objects.select_related("application").filter(client_id=client_id).first()
        if client is None:
            raise CommandError(f"There is no client {client_id!r}; `client list` names them.")
        self.stdout.write(json.dumps(describe(client), indent=2, ensure_ascii=False))


def _shown(value: Any) -> str:  # Any: JSON
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _as_json(one: Applied) -> dict[str, Any]:
    return {
        "client_id": one.client_id,
        "created": one.created,
        "changes": [{"name": name, "before": before, "after": after} for name, before, after in one.changes],
        **({"client_secret": one.generated_secret} if one.generated_secret else {}),
    }
