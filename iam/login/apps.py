"""The Django application `iam.login`."""

from django.apps import AppConfig


class LoginConfig(AppConfig):
    """Register `iam.login` under the label `login`."""

    name = "iam.login"
    label = "login"
