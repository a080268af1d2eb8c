"""Types of authorization details: written from a file by an operator, read into every worker's memory. Spec: RFC 9396 §10."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from iam.audit.record import Event, Outcome, record
from iam.audit.tags import Action

from .models import AuthorizationDetailType, Client
from .protocol import fields
from .protocol.authorization_details import DetailType
from .protocol.detail_schema import check_schema, compile_schema
from .protocol.fields import MetadataError
from .protocol.messages import ClientFacts
from .protocol.metadata import LANGUAGES
from .versions import touch

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~:/-]{1,127}", re.ASCII)
_KNOWN = frozenset({"type", "resource_server", "schema", "description", "labels", "enabled"})
_LABELS_COUNT_MAX = 50


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one type: `changed` names what is other than before."""

    name: str
    created: bool
    changed: tuple[str, ...]


def load(servers: Mapping[str, ClientFacts]) -> dict[str, DetailType]:
    """Return the enabled types of the enabled resource servers, compiled, by name."""
    owners = {server.pk: server for server in servers.values()}
    rows = AuthorizationDetailType.objects.filter(enabled=True, owner_id__in=owners).order_by("name")
    return {
        row.name: DetailType(
            row.name,
            owners[row.owner_id],
            compile_schema(row.name, row.schema),
            {"ar": row.description_ar, "fr": row.description_fr, "en": row.description_en},
            row.labels,
        )
        for row in rows
    }


@transaction.atomic
def apply_types(items: Any, now: datetime, actor: str) -> list[Applied]:  # Any: JSON from outside
    """Create or change types; all of them or none. A type is never deleted: it is switched off.

    Raises: MetadataError that names the type and the field.
    """
    if not isinstance(items, list):
        raise MetadataError("the file must hold a JSON array of types")
    applied = []
    for number, item in enumerate(items, 1):
        label = item.get("type", "without type") if isinstance(item, dict) else "not an object"
        try:
            applied.append(_apply(item, now, actor))
        except MetadataError as problem:
            raise MetadataError(f"type {number} ({str(label)[:80]}): {problem}") from None
    return applied


def _apply(item: Any, now: datetime, actor: str) -> Applied:  # Any: JSON from outside
    values = _checked(item)
    name = values["name"]
    before = AuthorizationDetailType.objects.select_for_update().filter(name=name).first()
    old = describe(before) if before else {}
    row = before or AuthorizationDetailType()
    for field, value in values.items():
        setattr(row, field, value)
    new = describe(row)
    changed = tuple(field for field in new if old.get(field) != new[field])
    if not changed:
        return Applied(name, False, ())
    row.save(force_insert=before is None)
    touch()
    record(
        Event(
            Action.DETAIL_TYPE_CHANGE,
            Outcome.SUCCESS,
            actor=actor,
            now=now,
            object=f"client:{row.owner.client_id}",
            details={"type": name, "changed": ", ".join(changed)},
        )
    )
    return Applied(name, before is None, changed)


def _checked(item: Any) -> dict[str, Any]:  # Any: JSON from outside
    if not isinstance(item, dict):
        raise MetadataError("each type must be a JSON object")
    value = {name: inner for name, inner in item.items() if not name.startswith("_")}
    for name in sorted(set(value) - _KNOWN):
        raise MetadataError(f"{name} is not known")
    name = value.get("type")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise MetadataError(
            "type must be 2 to 128 of A-Z a-z 0-9 . _ ~ : / - and begin with a letter or digit"
        )
    owner_id = fields.text(value, "resource_server", 128)
    owner = Client.objects.filter(client_id=owner_id, is_resource_server=True).first()
    if owner is None:
        raise MetadataError(f"resource_server: {owner_id!r} is no resource server")
    words = _words(value.get("description"), "description", 300)
    return {
        "name": name,
        "owner": owner,
        "enabled": fields.flag(value, "enabled", True),
        "schema": dict(check_schema(value.get("schema"))),
        "labels": _labels(value.get("labels", {})),
        **{f"description_{language}": words[language] for language in LANGUAGES},
    }


def _labels(given: Any) -> dict[str, dict[str, str]]:  # Any: JSON from outside
    if not isinstance(given, dict) or len(given) > _LABELS_COUNT_MAX:
        raise MetadataError(f"labels must be an object of at most {_LABELS_COUNT_MAX} members")
    return {path: _words(words, f"labels.{path[:80]}", 100) for path, words in given.items()}


def _words(given: Any, name: str, length: int) -> dict[str, str]:  # Any: JSON from outside
    """Return a text in every language: a person must not meet a page that is half in another one."""
    if not isinstance(given, dict) or set(given) != set(LANGUAGES):
        raise MetadataError(f"{name} must be an object with {', '.join(LANGUAGES)}")
    words = {language: fields.text(given, language, length) for language in LANGUAGES}
    if not all(words.values()):
        raise MetadataError(f"{name} must not be empty in any language")
    return words


def describe(row: AuthorizationDetailType) -> dict[str, Any]:  # Any: JSON
    """Return a type in the form that `apply_types` takes."""
    return {
        "type": row.name,
        "resource_server": row.owner.client_id,
        "enabled": row.enabled,
        "description": {"ar": row.description_ar, "fr": row.description_fr, "en": row.description_en},
        "labels": row.labels,
        "schema": row.schema,
    }
