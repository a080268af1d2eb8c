"""Protect an application's API with access tokens of the sign-in service: see README.md beside this file.

Needs `cryptography` and nothing else; imports nothing of the service. The adapters are in `for_django`, `for_wsgi`
and `for_asgi`.
"""

from .challenge import Challenge
from .keys import KeySource, Unavailable
from .proofs import MemoryReplayStore, Nonces, ReplayStore, read_certificate
from .tokens import LEVELS, RoleInOffice, Token
from .verifier import NOTHING, Needs, Verifier

__all__ = [
    "LEVELS",
    "NOTHING",
    "Challenge",
    "KeySource",
    "MemoryReplayStore",
    "Needs",
    "Nonces",
    "ReplayStore",
    "RoleInOffice",
    "Token",
    "Unavailable",
    "Verifier",
    "read_certificate",
]
