"""`manage.py seed FILE.json`: offices, applications, roles, and what a directory's groups and units mean.

For a first installation and the demonstration. Idempotent: what is there is made as the file says; nothing is removed.
"""

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import models, transaction

from iam.access.models import Application, GroupMapping, Office, OfficeMapping, OfficeState, Role
from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action
from iam.oauth.versions import touch


class Command(BaseCommand):
    """Load the organisation from a file."""

    help = "Load offices, applications, roles and mappings from a JSON file; idempotent."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the file."""
        parser.add_argument("file", metavar="FILE.json")

    def handle(self, *args: Any, **options: Any) -> None:
        """Load the file, all of it or nothing."""
        try:
            seed = json.loads(Path(options["file"]).read_text(encoding="utf-8"))
        except OSError as problem:
            raise CommandError(f"{options['file']} cannot be read: {problem.strerror}.") from problem
        except ValueError as problem:
            raise CommandError(f"{options['file']} is not JSON: {problem}.") from problem
        try:
            changed = load(seed, datetime.now(UTC), f"operator:{getpass.getuser()}")
        except (KeyError, TypeError, ValidationError, models.ObjectDoesNotExist) as problem:
            raise CommandError(f"Nothing was changed. The file is not as expected: {problem!r}.") from problem
        self.stdout.write(f"{changed} entries made or changed")


@transaction.atomic
def load(seed: dict[str, Any], now: datetime, actor: str) -> int:  # Any: JSON
    """Make the organisation as `seed` says; return how many rows were made or changed."""
    changed = 0
    for item in seed.get("offices", []):
        parent = Office.objects.get(code=item["parent"]) if item.get("parent") else None
        values = {
            **_names(item),
            "parent": parent,
            "kind": item["kind"],
            "time_zone": item.get("time_zone", "Asia/Riyadh"),
            "second_factor": item.get("second_factor", ""),
        }
        office, news = _ensure(Office, {"code": item["code"]}, values)
        if news:
            _record(Action.OFFICE_CHANGE, f"office:{item['code']}", now, actor)
            OfficeState.objects.get_or_create(
                office=office, state=item.get("state", OfficeState.State.OPEN), defaults={"since": now}
            )
        changed += news
    for item in seed.get("applications", []):
        keys = ("owner_contact", "url", "admits", "second_factor", "factor_max_age_seconds")
        values = {**_names(item), **{key: item[key] for key in keys if key in item}}
        _, news = _ensure(Application, {"code": item["code"]}, values)
        if news:
            _record(Action.APPLICATION_CHANGE, f"application:{item['code']}", now, actor)
        changed += news
    for item in seed.get("roles", []):
        owner = item["code"].partition(".")[0] if "." in item["code"] else None
        values = {
            **_names(item),
            "application": Application.objects.get(code=owner) if owner else None,
            "is_staff": item.get("is_staff", False),
            "second_factor": item.get("second_factor", False),
        }
        _, news = _ensure(Role, {"code": item["code"]}, values)
        if news:
            _record(Action.ROLE_CHANGE, f"role:{item['code']}", now, actor)
        changed += news
    for item in seed.get("applications", []):
        roles = Role.objects.filter(code__in=item.get("admitted_roles", []))
        Application.objects.get(code=item["code"]).admitted_roles.set(roles)
    for item in seed.get("group_mappings", []):
        office = Office.objects.get(code=item["office"]) if item.get("office") else None
        _, made = GroupMapping.objects.get_or_create(
            source=item["source"],
            group=item["group"],
            role=Role.objects.get(code=item["role"]),
            office=office,
            subtree=item.get("subtree", False),
        )
        changed += made
    for item in seed.get("office_mappings", []):
        _, made = OfficeMapping.objects.get_or_create(
            source=item["source"],
            ou=item.get("ou", ""),
            attribute_value=item.get("attribute_value", ""),
            defaults={"office": Office.objects.get(code=item["office"])},
        )
        changed += made
    if changed:
        touch()
    return changed


def _names(item: dict[str, Any]) -> dict[str, str]:  # Any: JSON
    return {f"name_{language}": item["names"][language] for language in ("ar", "fr", "en")}


def _ensure(
    model: type[Any], key: dict[str, Any], values: dict[str, Any]
) -> tuple[Any, bool]:  # Any: a model's row
    """Return the row and whether it was made or changed; checked by the model's own rules."""
    row = model.objects.filter(**key).first() or model(**key)
    if row.pk and all(getattr(row, name) == value for name, value in values.items()):
        return row, False
    for name, value in values.items():
        setattr(row, name, value)
    row.full_clean()
    row.save()
    return row, True


def _record(action: Action, what: str, now: datetime, actor: str) -> None:
    record(Event(action, Outcome.SUCCESS, actor=actor, now=now, object=what))
