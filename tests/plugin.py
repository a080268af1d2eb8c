"""What must be true before Django is set up: an environment, and a database of the chosen kind.

`--database sqlite` (default) or `--database postgresql`; the latter starts a cluster of its own.
"""

import base64
import contextlib
import json
import os
import tempfile
from pathlib import Path

import pytest

_stack = contextlib.ExitStack()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", choices=["sqlite", "postgresql"], default="sqlite")


def _test_environment() -> None:
    # The browser's loop runs in the thread of the tests, and a process that had a browser goes on to other files.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    os.environ.setdefault("IAM_MODE", "test")
    os.environ.setdefault("IAM_ISSUER", "http://localhost:8000")
    os.environ.setdefault("IAM_SECRET_KEY", "test-" + "k" * 60)
    os.environ.setdefault("IAM_ENCRYPTION_KEYS", "t1:" + base64.b64encode(b"e" * 32).decode())
    os.environ.setdefault("IAM_THROTTLE_EXEMPT_NETWORKS", "")
    # Nothing of a `make run` in the same folder may matter: a fresh clone has no var/.
    if "IAM_STATIC_ROOT" not in os.environ:
        folder = _stack.enter_context(tempfile.TemporaryDirectory(prefix="iam-static-"))
        # The manifest that `collectstatic` would write, with each file under its own name.
        names = ("portal/page.css", "portal/form_post.js")
        manifest = {"version": "1.1", "paths": {name: name for name in names}, "hash": ""}
        (Path(folder) / "staticfiles.json").write_text(json.dumps(manifest), encoding="utf-8")
        os.environ["IAM_STATIC_ROOT"] = folder
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "iam.settings")


def _database_environment(kind: str) -> None:
    """Choose the database; with xdist the first process starts the cluster and the others inherit its address."""
    if "IAM_DATABASE_URL" in os.environ:
        return
    if kind == "sqlite":
        folder = Path(_stack.enter_context(tempfile.TemporaryDirectory(prefix="iam-sqlite-")))
        os.environ["IAM_DATABASE_URL"] = f"sqlite:///{folder / 'iam.sqlite3'}"
        return
    from tests.servers import postgres

    cluster = _stack.enter_context(postgres.running())
    os.environ["IAM_DATABASE_URL"] = cluster.url(postgres.OWNER, "iam")
    os.environ["IAM_TEST_RUNTIME_URL"] = cluster.url(postgres.RUNTIME, "iam")
    os.environ["IAM_DATABASE_RUNTIME_ROLE"] = postgres.RUNTIME


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before pytest-django reads the settings, and before any conftest imports a model."""
    _test_environment()
    _database_environment(early_config.known_args_namespace.database)


def pytest_unconfigure() -> None:
    _stack.close()
