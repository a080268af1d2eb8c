"""The Django application `iam.portal`."""

from django.apps import AppConfig


class PortalConfig(AppConfig):
    """Register `iam.portal` under the label `portal`."""

    name = "iam.portal"
    label = "portal"
