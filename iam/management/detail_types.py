"""`client detail-type apply|list|show`: the types of authorization details (RFC 9396) that clients may ask for."""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from django.core.management.base import CommandError

from iam.management.people import operator
from iam.oauth.detail_types import Applied, apply_types, describe
from iam.oauth.models import AuthorizationDetailType
from iam.oauth.protocol.fields import MetadataError


class Output(Protocol):
    """Where a command writes."""

    def write(self, text: str, /) -> object:
        """Write a line."""


def add_arguments(actions: "argparse._SubParsersAction[Any]") -> None:
    """Declare the three actions."""
    whole = actions.add_parser("detail-type", help="types of authorization details (RFC 9396)")
    inner = whole.add_subparsers(dest="detail_action", required=True)
    apply = inner.add_parser("apply", help="create or change types from a file; all or none")
    apply.add_argument("file", metavar="FILE.json", help="a JSON array; - reads standard input")
    inner.add_parser("list", help="list the types")
    show = inner.add_parser("show", help="print one type as apply takes it")
    show.add_argument("name")


def handle(options: dict[str, Any], out: Output) -> None:
    """Run one action."""
    match options["detail_action"]:
        case "apply":
            for one in _apply(options["file"]):
                word = "created" if one.created else "changed" if one.changed else "unchanged"
                changed = f" ({', '.join(one.changed)})" if one.changed and not one.created else ""
                out.write(f"{one.name}: {word}{changed}")
        case "list":
            for row in AuthorizationDetailType.objects.select_related("owner").order_by("name"):
                state = "" if row.enabled else "  (switched off)"
                out.write(f"{row.name:40} {row.owner.client_id:32} {row.description_en}{state}")
        case _:
            name = options["name"]
            found = AuthorizationDetailType.objects.select_related("owner").filter(name=name).first()
            if found is None:
                raise CommandError(f"There is no type {name!r}; `client detail-type list` names them.")
            out.write(json.dumps(describe(found), indent=2, ensure_ascii=False))


def _apply(file: str) -> list[Applied]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        items = json.loads(text)
    except OSError as problem:
        raise CommandError(f"{file} cannot be read: {problem.strerror}.") from problem
    except ValueError as problem:
        raise CommandError(f"{file} is not JSON: {problem}.") from problem
    try:
        return apply_types(items, datetime.now(UTC), operator())
    except MetadataError as problem:
        raise CommandError(f"Nothing was changed. {str(problem)[0].upper()}{str(problem)[1:]}.") from problem
