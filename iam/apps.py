"""The Django application `iam`: commands, system checks, translations."""

from django.apps import AppConfig


class IAMConfig(AppConfig):
    """Register the service itself."""

    name = "iam"

    def ready(self) -> None:
        """Register the system checks."""
        from iam import checks  # noqa: F401
