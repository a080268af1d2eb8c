"""The Django application `iam.oauth`."""

from django.apps import AppConfig


class OauthConfig(AppConfig):
    """Register `iam.oauth` under the label `oauth`."""

    name = "iam.oauth"
    label = "oauth"
