"""The Django application `iam.accounts`."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Register `iam.accounts` under the label `accounts`."""

    name = "iam.accounts"
    label = "accounts"
