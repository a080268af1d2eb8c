"""A pytest plugin for mutants: their tests' database is a file that the one before left behind, empty.

Making it anew takes longer than everything else. Spec: pytest-django, `--reuse-db`.
"""

import os

import hypothesis
import pytest


@pytest.hookimpl(trylast=True)
def pytest_sessionstart() -> None:
    """Name the file; pytest-django then migrates it, which is nothing to do the second time."""
    from django.db import connection

    connection.settings_dict["TEST"]["NAME"] = os.environ["IAM_MUTATION_DATABASE"]
    # A machine that is busy with another mutant may be slow to draw examples.
    hypothesis.settings.register_profile(
        "mutation", deadline=None, suppress_health_check=list(hypothesis.HealthCheck), print_blob=False
    )
    hypothesis.settings.load_profile("mutation")
