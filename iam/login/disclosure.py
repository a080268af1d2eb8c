"""Say in words what a person is asked to agree to."""

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from iam.oauth.protocol.messages import Disclosure

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
