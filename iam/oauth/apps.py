"""The Django application `iam.oauth`."""

from django.apps import AppConfig


class OauthConfig(AppConfig):
    """Register `iam.oauth` under the label `oauth`."""

    name = "iam.oauth"
    label = "oauth"

    def ready(self) -> None:
        """Tell applications of the end of every session."""
        from iam.accounts.endings import witness_endings

        from .outbox import write_deliveries

        witness_endings(write_deliveries)
