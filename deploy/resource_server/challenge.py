"""Refusals as HTTP answers. Spec: RFC 6750 §3, RFC 9449 §7.1, RFC 9470 §3, RFC 9728 §5.1."""

import json
from collections.abc import Iterable


class Challenge(Exception):
    """Why a request is refused, ready to be sent: `status`, `headers`, `body`."""

    def __init__(
        self, status: int, error: str, description: str, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        super().__init__(f"{error or 'no token'}: {description}" if description else error or "no token")
        self.status = status
        self.error = error
        self.description = description
        self.headers = (("Content-Type", "application/json"), ("Cache-Control", "no-store"), *headers)

    @property
    def body(self) -> bytes:
        """Return the same in JSON, for a program that reads no headers."""
        told = {"error": self.error, "error_description": self.description}
        return json.dumps({name: value for name, value in told.items() if value}).encode()


def header(scheme: str, parameters: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return one WWW-Authenticate header; a parameter without value is left out.

    Spec: RFC 9110 §11.6.1, RFC 6750 §3 (%x20-21 / %x23-5B / %x5D-7E in a value).
    """
    parts = [f'{name}="{_plain(value)}"' for name, value in parameters if value]
    return "WWW-Authenticate", f"{scheme} {', '.join(parts)}" if parts else scheme


def _plain(value: str) -> str:
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in value)
