"""What a typed name is, and how long somebody must wait, in words."""

from datetime import timedelta
from math import ceil

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

NAME_LENGTH_MAX = 256
# Keyboards and copied text bring these along unseen (bidi controls, zero width); in a name they only hide differences.
_INVISIBLE = dict.fromkeys(
    map(
        ord,
        "\u200b\u200c\u200d\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff",
    )
)


def clean_name(raw: str) -> str:
    """Return a typed name without what nobody sees: spaces around it, marks that turn the direction of writing.

    A name that is too long stays too long by one, so that the directory refuses it: cut, it could be somebody's.
    """
    return raw.translate(_INVISIBLE).strip()[: NAME_LENGTH_MAX + 1]


def wait_words(wait: timedelta | None) -> str:
    """Say how long to wait; None is until somebody helps."""
    minutes = max(1, ceil(wait.total_seconds() / 60)) if wait else 0
    if not minutes:
        return _("Too many tries. Ask your office administrator to let you try again.")
    return ngettext("Too many tries. Wait {n} minute.", "Too many tries. Wait {n} minutes.", minutes).format(
        n=minutes
    )
