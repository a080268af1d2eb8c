"""The Django application `iam.access`."""

from django.apps import AppConfig


class AccessConfig(AppConfig):
    """Register `iam.access` under the label `access`."""

    name = "iam.access"
    label = "access"
