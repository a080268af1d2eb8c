"""The Django application `iam.oauth`."""

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate


class OauthConfig(AppConfig):
    """Register `iam.oauth` under the label `oauth`."""

    name = "iam.oauth"
    label = "oauth"

    def ready(self) -> None:
        """Tell applications of the end of every session; have the triggers that tell workers laid with every migration."""
        from iam.accounts.endings import witness_endings
        from iam.accounts.use import register_use

        from .outbox import write_deliveries
        from .session_use import without_those_in_use

        witness_endings(write_deliveries)
        register_use(without_those_in_use)
        post_migrate.connect(_lay_triggers, dispatch_uid="iam.oauth.changes")


def _lay_triggers(using: str, **_: Any) -> None:  # Any: a signal's arguments
    from .changes import lay_triggers

    lay_triggers(connections[using])
