"""Joiner, mover, leaver: the only door through which a person's rights change.

Every function is one transaction: the change, its audit event, and whatever it revokes. A right that
shrinks raises the person's counter, so that the access tokens that express it end with it.
"""

from .admission import directory_source
from .directory import (
    DirectoryEffects,
    admit_from_directory,
    explain,
    has_ended,
    home_office_of,
    refuse_disabled,
)
from .locks import lock, release, set_account_end
from .organisation import change_office_state, place_office
from .owned import choose, settle_debts
from .people import deactivate
from .resets import Given, reset_password, words_of
from .rights import assign_role, office_by_code, revoke_role, role_by_code

__all__ = [
    "DirectoryEffects",
    "Given",
    "admit_from_directory",
    "assign_role",
    "change_office_state",
    "choose",
    "deactivate",
    "directory_source",
    "explain",
    "has_ended",
    "home_office_of",
    "lock",
    "office_by_code",
    "place_office",
    "refuse_disabled",
    "release",
    "reset_password",
    "revoke_role",
    "role_by_code",
    "set_account_end",
    "settle_debts",
    "words_of",
]
