"""The Django application `iam.audit`."""

from django.apps import AppConfig


class AuditConfig(AppConfig):
    """Register `iam.audit` under the label `audit`."""

    name = "iam.audit"
    label = "audit"
