"""The one gate (`gate.py`) and what leaves through it (`documents.py`)."""

from .documents import access_token, audiences, id_token, introspection, new_code, store_code, userinfo
from .gate import (
    BearerToken,
    Clearance,
    clear_bearer,
    clear_machine,
    clear_person,
    narrowed,
    refuse_unless_admitted,
    require_binding,
    subject_for,
)

__all__ = [
    "BearerToken",
    "Clearance",
    "access_token",
    "audiences",
    "clear_bearer",
    "clear_machine",
    "clear_person",
    "id_token",
    "introspection",
    "narrowed",
    "new_code",
    "refuse_unless_admitted",
    "require_binding",
    "store_code",
    "subject_for",
    "userinfo",
]
