"""The Django application `iam.audit`."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AuditConfig(AppConfig):
    """Register `iam.audit` under the label `audit`."""

    name = "iam.audit"
    label = "audit"

    def ready(self) -> None:
        """Renew the runtime role's rights after every migration."""
        from .grants import apply_grants

        post_migrate.connect(apply_grants, sender=self, dispatch_uid="iam.audit.grants")
