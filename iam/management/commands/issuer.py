"""`manage.py issuer`: register those whose assertions stand for clients of ours."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from iam.management.people import operator
from iam.oauth.issuers import apply_issuers, describe_issuer
from iam.oauth.models import TrustedIssuer
from iam.oauth.protocol.fields import MetadataError


class Command(BaseCommand):
    """Create, change and look at trusted issuers."""

    help = "Create or change trusted issuers of JWT bearer assertions from a JSON array, list them, show one."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare apply, list and show."""
        actions = parser.add_subparsers(dest="action", required=True)
        apply = actions.add_parser("apply", help="create or change issuers from a file; all or none")
        apply.add_argument("file", metavar="FILE.json", help="a JSON array; - reads standard input")
        actions.add_parser("list", help="list the issuers")
        show = actions.add_parser("show", help="print what is registered of one issuer")
        show.add_argument("issuer")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one action."""
        match options["action"]:
            case "apply":
                self._apply(options["file"])
            case "list":
                for row in TrustedIssuer.objects.order_by("issuer"):
                    state = "" if row.enabled else "  (switched off)"
                    clients = ", ".join(sorted(set(row.subjects.values())))
                    self.stdout.write(f"{row.issuer:48} {clients}{state}")
            case "show":
                self._show(options["issuer"])

    def _show(self, issuer: str) -> None:
        row = TrustedIssuer.objects.filter(issuer=issuer).first()
        if row is None:
            raise CommandError(f"There is no issuer {issuer!r}; `issuer list` names them.")
        self.stdout.write(json.dumps(describe_issuer(row), indent=2, ensure_ascii=False))

    def _apply(self, file: str) -> None:
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
            items = json.loads(text)
        except OSError as problem:
            raise CommandError(f"{file} cannot be read: {problem.strerror}.") from problem
        except ValueError as problem:
            raise CommandError(f"{file} is not JSON: {problem}.") from problem
        try:
            applied = apply_issuers(items, datetime.now(UTC), operator())
        except MetadataError as problem:
            raise CommandError(
                f"Nothing was changed. {str(problem)[0].upper()}{str(problem)[1:]}."
            ) from problem
        for one in applied:
            word = "created" if one.created else ("changed" if one.changes else "unchanged")
            self.stdout.write(f"{one.issuer}: {word}")
            if one.changes and not one.created:
                self.stdout.write(f"  ~ {', '.join(one.changes)}")
