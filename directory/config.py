"""Where a directory answers and how it speaks of people. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field


def _attributes() -> dict[str, tuple[str, ...]]:
    return {
        "login": ("uid",),
        "name_latin": ("cn;lang-en", "displayName", "cn"),
        "name_arabic": ("cn;lang-ar", "displayName;lang-ar"),
        "email": ("mail",),
        "language": ("preferredLanguage",),
        "office": ("orgOfficeCode", "physicalDeliveryOfficeName"),
        "status": ("orgAccountStatus",),
    }


@dataclass(frozen=True, slots=True)
class Source:
    """One directory. `urls` in the order in which they are tried; times in seconds.

    `attributes` names, for each field of a person, the attributes that may hold it, the first that does wins.
    `disabled_values` are the values of the status attribute that mean "may not sign in" (lower case).
    """

    name: str
    urls: tuple[str, ...]
    bind_dn: str
    bind_password: str = field(repr=False)
    base_dn: str
    starttls: bool = False
    ca_file: str = ""
    group_base_dn: str = ""
    user_filter: str = "(&(objectClass=inetOrgPerson)(uid={login}))"
    group_filter: str = "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=group))"
    id_attribute: str = "entryUUID"
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=_attributes)
    disabled_values: frozenset[str] = frozenset({"disabled", "suspended", "left"})
    # A sign-in waits this long for the directory in all, however many servers there are (UX: a clear page, soon).
    budget_seconds: float = 3.0
    connect_seconds: float = 1.0
