"""The Django application `directory`. It has no tables: what a directory says is never copied here."""

from django.apps import AppConfig


class DirectoryConfig(AppConfig):
    """Register `directory` under the label `directory`."""

    name = "directory"
    label = "directory"
