"""The Django application `mfa`."""

from django.apps import AppConfig


class MFAConfig(AppConfig):
    """Register `mfa` under the label `mfa`."""

    name = "mfa"
    label = "mfa"
