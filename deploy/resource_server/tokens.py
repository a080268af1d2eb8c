"""What an access token of the service says, once it was verified."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .jws import BadToken

# From the weakest to the strongest. Spec: OpenID EAP ACR Values 1.0 for the last two.
LEVELS = ("aal1", "aal2", "phr", "phrh")

OfficesAbove = Callable[[str], Collection[str]]


@dataclass(frozen=True, slots=True)
class RoleInOffice:
    """A role that is held in an office, or in it and everything below it."""

    role: str
    office: str
    subtree: bool


@dataclass(frozen=True, slots=True)
class Token:
    """A verified access token. Times are aware and UTC; `claims` is everything that it says.

    A token of a machine has no `auth_time`, no office and no roles; its `subject` is the client.
    """

    subject: str
    client_id: str
    scopes: frozenset[str]
    jti: str
    issued_at: datetime
    expires_at: datetime
    auth_time: datetime | None
    acr: str
    amr: tuple[str, ...]
    office: str | None
    access: tuple[RoleInOffice, ...]
    bound: tuple[str, ...]  # "dpop", "mtls": what was proved beside the token
    claims: Mapping[str, Any] = field(repr=False)  # Any: JSON

    @property
    def is_person(self) -> bool:
        """Say whether somebody is signed in behind this token."""
        return self.auth_time is not None

    @property
    def roles(self) -> frozenset[str]:
        """Return the roles that are held anywhere; where, `access` says."""
        return frozenset(entry.role for entry in self.access)

    def has_role(self, role: str, office: str = "", above: Collection[str] = ()) -> bool:
        """Say whether the role is held in the office; without an office, anywhere.

        A token names the office in which a role was given and whether it holds below it, and carries no tree. So a role
        with a subtree reaches `office` only if you say which offices are `above` it; without them the answer is no.
        """
        return any(
            entry.role == role
            and (not office or entry.office == office or (entry.subtree and entry.office in above))
            for entry in self.access
        )

    def reaches(self, acr: str) -> bool:
        """Say whether the sign-in was at least of this level; a level that is not one of LEVELS must be met exactly."""
        if acr in LEVELS and self.acr in LEVELS:
            return LEVELS.index(self.acr) >= LEVELS.index(acr)
        return self.acr == acr


def read_token(claims: Mapping[str, Any], bound: tuple[str, ...]) -> Token:  # Any: JSON
    """Return what verified claims say. Raises: BadToken, when they are not as the service writes them."""
    auth_time = claims.get("auth_time")
    return Token(
        subject=_text(claims, "sub"),
        client_id=_text(claims, "client_id"),
        scopes=frozenset(_text(claims, "scope", "").split()),
        jti=_text(claims, "jti"),
        issued_at=instant(claims, "iat"),
        expires_at=instant(claims, "exp"),
        auth_time=None if auth_time is None else instant(claims, "auth_time"),
        acr=_text(claims, "acr", ""),
        amr=_texts(claims.get("amr", [])),
        office=None if claims.get("office") is None else _text(claims, "office"),
        access=_access(claims.get("access", [])),
        bound=bound,
        claims=claims,
    )


def instant(claims: Mapping[str, Any], name: str) -> datetime:  # Any: JSON
    """Return a time. Raises: BadToken. Spec: RFC 7519 §2 (NumericDate)."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadToken(f"{name} is missing or no time")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as problem:
        raise BadToken(f"{name} is no time") from problem


def _text(claims: Mapping[str, Any], name: str, default: str | None = None) -> str:  # Any: JSON
    value = claims.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise BadToken(f"{name} is missing or no text")
    return value


def _texts(value: Any) -> tuple[str, ...]:  # Any: JSON
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadToken("a list of texts is something else")
    return tuple(value)


def _access(value: Any) -> tuple[RoleInOffice, ...]:  # Any: JSON
    if not isinstance(value, list):
        raise BadToken("access is no list")
    return tuple(_entry(item) for item in value)


def _entry(item: Any) -> RoleInOffice:  # Any: JSON
    match item:
        case {"role": str(role), "office": str(office), "subtree": bool(subtree)}:
            return RoleInOffice(role, office, subtree)
        case _:
            raise BadToken("access has an entry that is not understood")
