"""Refuse django-oauth-toolkit's `cleartokens`: on our tables it would sign everyone out (docs/adr/0003)."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """Refuse, and say what to use."""

    help = "Refused: use housekeeping."

    def handle(self, *args: Any, **options: Any) -> None:
        """Refuse."""
        raise CommandError(
            "cleartokens would delete what this service still needs. Use: manage.py housekeeping"
        )
