"""How sure a sign-in is: what each factor reaches, and how tokens say it. Pure: a table.

Levels, weakest first: `aal1` a password; `aal2` two factors (both NIST SP 800-63B §4); `phr` a factor that cannot be
phished; `phrh` one whose key is held by hardware (OpenID EAP ACR Values 1.0 §2). Nothing here reaches the last two yet.
Spec: OIDC Core §2 (acr, amr), §3.1.2.1, §5.5.1.1; RFC 8176 §2; RFC 9470 §4.
"""

from dataclasses import dataclass

from .messages import AuthorizationRequest, SessionFacts

LEVELS = ("aal1", "aal2", "phr", "phrh")


@dataclass(frozen=True, slots=True)
class Worth:
    """What a sign-in was worth: every level that it satisfies, weakest first, and its methods for `amr`."""

    levels: tuple[str, ...]
    amr: tuple[str, ...]


PASSWORD = Worth(("aal1",), ("pwd",))
# By the kind of the second factor. No registered method is a recovery code, so `amr` names none for it.
WITH_FACTOR = {
    "otp": Worth(("aal1", "aal2"), ("pwd", "otp", "mfa")),
    "recovery": Worth(("aal1", "aal2"), ("pwd", "mfa")),
}
# What some person can reach here, weakest first.
REACHABLE = tuple(
    level for level in LEVELS if any(level in worth.levels for worth in (PASSWORD, *WITH_FACTOR.values()))
)


def worth_of(session: SessionFacts) -> Worth:
    """Return what a session's sign-in was worth; a factor that this version does not know adds nothing."""
    return PASSWORD if session.factor_at is None else WITH_FACTOR.get(session.factor_kind, PASSWORD)


def essential_levels(request: AuthorizationRequest) -> tuple[str, ...]:
    """Return the levels of which one must be reached, () when none must be. Spec: OIDC Core §5.5.1.1."""
    claims = request.asked.claims
    for place in (claims.id_token, claims.userinfo):
        asked = place.get("acr")
        if asked is not None and asked.essential and asked.values:
            return asked.values
    return ()


def wished_level(request: AuthorizationRequest) -> str:
    """Return the level to try for because it was wished for, "" for none.

    The first known one in order of preference that can be reached; if none of them can, the best that can.
    Spec: OIDC Core §3.1.2.1 (acr_values is voluntary), §5.5.1.
    """
    claims = request.asked.claims
    wishes = [*request.acr_values]
    for place in (claims.id_token, claims.userinfo):
        asked = place.get("acr")
        if asked is not None and not asked.essential:
            wishes += asked.values
    known = [level for level in wishes if level in LEVELS]
    if not known:
        return ""
    return next((level for level in known if level in REACHABLE), REACHABLE[-1])


def told_level(request: AuthorizationRequest, worth: Worth) -> str:
    """Return the `acr` to tell: the highest level satisfied, of those alone that do when some must.

    A sign-in with two factors satisfies `aal1` too, and whoever insists on `aal1` must find it in the token.
    Raises: ValueError when none of those that must be was reached: never a lower one in silence.
    """
    essential = essential_levels(request)
    told = [level for level in worth.levels if not essential or level in essential]
    return max(told, key=LEVELS.index)
