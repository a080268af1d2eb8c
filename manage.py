#!/usr/bin/env python
"""The command line of the sign-in service."""

import os
import sys


def main() -> None:
    """Run one management command; the settings come from the environment."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iam.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
