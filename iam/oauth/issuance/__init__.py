"""The one gate (`gate.py`) and what leaves through it (`documents.py`)."""

from .address import Address, address, resources_asked, restricted
from .answers import signed_response
from .documents import (
    access_token,
    id_token,
    introspection,
    logout_token,
    new_code,
    store_code,
    userinfo,
)
from .gate import (
    BearerToken,
    Clearance,
    Ending,
    clear_bearer,
    clear_exchange,
    clear_logout,
    clear_machine,
    clear_person,
    client_named_by,
    known_bearer,
    narrowed,
    read_access_token,
    refuse_unless_admitted,
    require_binding,
    subject_for,
)
from .sealing import sealed_userinfo, signed_introspection

__all__ = [
    "Address",
    "BearerToken",
    "Clearance",
    "Ending",
    "access_token",
    "address",
    "clear_bearer",
    "clear_exchange",
    "clear_logout",
    "clear_machine",
    "clear_person",
    "client_named_by",
    "id_token",
    "introspection",
    "known_bearer",
    "logout_token",
    "narrowed",
    "new_code",
    "read_access_token",
    "refuse_unless_admitted",
    "require_binding",
    "resources_asked",
    "restricted",
    "sealed_userinfo",
    "signed_introspection",
    "signed_response",
    "store_code",
    "subject_for",
    "userinfo",
]
