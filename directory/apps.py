"""The Django application `directory`. Its tables hold what was read of the directories, never anything of a password."""

from django.apps import AppConfig


class DirectoryConfig(AppConfig):
    """Register `directory` under the label `directory`."""

    name = "directory"
    label = "directory"
    default_auto_field = "django.db.models.BigAutoField"
