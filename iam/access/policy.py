"""Who may enter, with which factors, and what a token says of it. Pure.

Policies merge so: the nearest office that says something decides for its subtree, else the organisation;
then roles and the application may only tighten. The answer always says which rule decided.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never


class Level(StrEnum):
    """How sure a sign-in is, in the names that `acr` uses."""

    AAL1 = "aal1"
    AAL2 = "aal2"


class SecondFactor(StrEnum):
    """What an office says about second factors in its subtree."""

    INHERIT = ""
    REQUIRED = "required"
    OPTIONAL = "optional"


class Admits(StrEnum):
    """Whom an application lets in."""

    EVERYONE = "everyone"
    STAFF = "staff"  # whoever holds a staff role in the own office
    ROLES = "roles"  # whoever holds one of the named roles anywhere


@dataclass(frozen=True, slots=True)
class Grant:
    """A role that is held now. `application` is None for a role of the organisation."""

    role: str
    office: str
    subtree: bool
    application: str | None
    valid_until: datetime | None
    is_staff: bool
    second_factor: bool


@dataclass(frozen=True, slots=True)
class OfficePolicy:
    """What one office of the chain, nearest first, says."""

    code: str
    second_factor: SecondFactor


@dataclass(frozen=True, slots=True)
class EffectiveAccess:
    """Everything a person holds at one instant. `office` is the home office's code, `offices` it and those above it.

    `chain` is what these offices say about second factors, nearest first.
    """

    office: str | None
    offices: tuple[str, ...] = ()
    grants: tuple[Grant, ...] = ()
    chain: tuple[OfficePolicy, ...] = ()


@dataclass(frozen=True, slots=True)
class ApplicationPolicy:
    """What an application asks."""

    code: str
    admits: Admits
    admitted_roles: frozenset[str]
    second_factor: bool
    factor_max_age: timedelta | None


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a sign-in must be worth, and the rules that said so."""

    level: Level
    factor_max_age: timedelta | None
    decided_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """The application lets the person in."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The application does not; `reason` is a stable word."""

    reason: str


# A client that belongs to no application: everybody who signs in, at the organisation's level.
NO_APPLICATION = ApplicationPolicy("", Admits.EVERYONE, frozenset(), second_factor=False, factor_max_age=None)


def decide_admission(application: ApplicationPolicy, access: EffectiveAccess) -> Admitted | Refused:
    """Return whether the application lets this person in."""
    match application.admits:
        case Admits.EVERYONE:
            return Admitted()
        case Admits.STAFF:
            if any(grant.is_staff and _covers(grant, access) for grant in access.grants):
                return Admitted()
            return Refused("no_staff_role")
        case Admits.ROLES:
            if any(grant.role in application.admitted_roles for grant in access.grants):
                return Admitted()
            return Refused("no_role")
        case (
            _ as unreachable
        ):  # pragma: no cover -- a new kind of admission is an error until it is decided here
            assert_never(unreachable)


def _covers(grant: Grant, access: EffectiveAccess) -> bool:
    """Say whether a grant reaches the home office: held there, or above it with the whole subtree."""
    return grant.office == access.office or (grant.subtree and grant.office in access.offices)


def decide_requirement(
    office_chain: tuple[OfficePolicy, ...], grants: tuple[Grant, ...], application: ApplicationPolicy
) -> Requirement:
    """Return what a sign-in must be worth.

    In: `office_chain` from the home office upwards. No office, no rule: the organisation's default, a second factor.
    """
    spoken = next(
        (office for office in office_chain if office.second_factor is not SecondFactor.INHERIT), None
    )
    required = spoken is None or spoken.second_factor is SecondFactor.REQUIRED
    decided = ["organisation" if spoken is None else f"office {spoken.code}"]
    tightening = [f"role {grant.role}" for grant in grants if grant.second_factor]
    if application.second_factor or application.factor_max_age is not None:
        tightening.append(f"application {application.code}")
    if tightening:
        required = True
        decided += sorted(set(tightening))
    level = Level.AAL2 if required else Level.AAL1
    return Requirement(level, application.factor_max_age, tuple(decided))


@dataclass(frozen=True, slots=True, order=True)
class Expressed:
    """One entry of the `access` claim."""

    role: str
    office: str
    subtree: bool


def expresses(grant: Grant, audience: frozenset[str]) -> bool:
    """Say whether a token for these applications may carry the grant: their own roles and the organisation's."""
    return grant.application is None or grant.application in audience


def access_claim(grants: tuple[Grant, ...], audience: frozenset[str]) -> tuple[Expressed, ...]:
    """Return the `access` claim, sorted, each entry once."""
    return tuple(sorted({Expressed(g.role, g.office, g.subtree) for g in grants if expresses(g, audience)}))


def flat_roles(grants: tuple[Grant, ...], audience: frozenset[str]) -> tuple[str, ...]:
    """Return the `roles` claim: sorted, unique."""
    return tuple(sorted({g.role for g in grants if expresses(g, audience)}))
