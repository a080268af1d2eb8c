"""`manage.py mfa reencrypt`: the operator's half of a key rotation."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from mfa.errors import MFAError
from mfa.service import reencrypt


class Command(BaseCommand):
    """Look after the second factors at rest."""

    help = "Look after the second factors at rest."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Name the one action."""
        parser.add_argument("action", choices=["reencrypt"], help="encrypt every secret with the first key")

    def handle(self, *args: Any, **options: Any) -> None:  # Any: Django's own signature
        """Encrypt batch by batch until nothing is left under an older key."""
        total = 0
        try:
            while done := reencrypt():
                total += done
        except MFAError as error:
            raise CommandError(f"{error.hint} ({total} secrets were re-encrypted before this one)") from error
        self.stdout.write(f"{total} secrets re-encrypted; second factors need only the first key now.")
