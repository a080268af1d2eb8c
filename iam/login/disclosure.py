"""Say in words what a person is asked to agree to."""

from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from iam.oauth.protocol.authorization_details import Detail, DetailType
from iam.oauth.protocol.messages import Disclosure
from iam.oauth.state import DatabaseState

_SCOPES: dict[str, Promise] = {
    "openid": _("that it is you"),
    "profile": _("your name, user name and language"),
    "email": _("your e-mail address"),
    "roles": _("your office and your roles"),
}
_CLAIMS: dict[str, Promise] = {
    "name": _("your name"),
    "name#ar": _("your name in Arabic"),
    "preferred_username": _("your user name"),
    "locale": _("your language"),
    "email": _("your e-mail address"),
    "office": _("your office"),
    "access": _("your roles, and the offices where you hold them"),
    "roles": _("your roles"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that the application would receive. `technical` says that `text` is a name of the application's."""

    text: str | Promise
    technical: bool = False


def received(shown: Disclosure) -> list[Line]:
    """Return a line for every scope and claim; an unknown one is shown by its name, never left out."""
    words = [
        *((_SCOPES.get(name), name) for name in shown.scopes),
        *((_CLAIMS.get(name), name) for name in shown.claims),
    ]
    return [Line(text) if text is not None else Line(name, technical=True) for text, name in words]


@dataclass(frozen=True, slots=True)
class Row:
    """One member of an authorization detail. `technical` says that `label` is a name of the application's."""

    label: str
    value: str
    technical: bool = False


@dataclass(frozen=True, slots=True)
class Allowed:
    """One authorization detail in words."""

    description: str
    rows: list[Row]


def allowed(shown: Disclosure, language: str) -> list[Allowed]:
    """Return every detail with every member of it: what is not shown is not agreed to. Spec: RFC 9396 §13, §16.2."""
    state = DatabaseState()
    return [_allowed(detail, state.detail_type(detail["type"]), language) for detail in shown.details]


def _allowed(detail: Detail, of: DetailType | None, language: str) -> Allowed:
    leaves = [leaf for name, value in detail.items() if name != "type" for leaf in _flat(name, value)]
    labels = {path: of.labels.get(path, {}).get(language, "") if of else "" for path, _text in leaves}
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for path, text in sorted(leaves, key=lambda leaf: (not labels[leaf[0]], leaf[0])):
        seen[path] = seen.get(path, 0) + 1
        number = f" {seen[path]}" if seen[path] > 1 else ""
        rows.append(Row(f"{labels[path] or path}{number}", text, technical=not labels[path]))
    return Allowed(of.descriptions[language] if of else str(detail["type"]), rows)


def _flat(path: str, value: Any) -> list[tuple[str, str]]:  # Any: JSON; its depth is bounded
    """Return the leaves of a value, each with its path; an empty object or list is a leaf too."""
    if isinstance(value, dict) and value:
        return [leaf for name, inner in value.items() for leaf in _flat(f"{path}.{name}", inner)]
    if isinstance(value, list) and value:
        return [leaf for inner in value for leaf in _flat(path, inner)]
    if isinstance(value, bool):
        return [(path, gettext("yes") if value else gettext("no"))]
    return [(path, str(value) if isinstance(value, str | int | float) and value != "" else "–")]
