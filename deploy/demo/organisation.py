"""The sample Secretariat: people with names in two scripts, groups, what they mean. Pure, from one seed.

The same seed gives the same people and passwords, so that a second start knows what the first one wrote.
"""

import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASE_DN = "dc=secretariat,dc=example"
PEOPLE_DN = f"ou=people,{BASE_DN}"
GROUPS_DN = f"ou=groups,{BASE_DN}"
WRITER_DN = f"cn=svc-password,ou=services,{BASE_DN}"
SERVICE_DN = f"cn=svc-sync,ou=services,{BASE_DN}"
ADMIN_DN = f"cn=admin,{BASE_DN}"
DATA = Path(__file__).parent / "data"
OVERSEAS = ("NYC", "GVA", "BRU", "BGW", "NIM", "KBL", "MGQ", "RAM")
LOAD_PEOPLE = 50

# (Latin, Arabic): spellings as people of many member states write them.
GIVEN = (
    ("Amina", "أمينة"), ("Omar", "عمر"), ("Fatima", "فاطمة"), ("Yusuf", "يوسف"), ("Mariam", "مريم"),
    ("Ibrahim", "إبراهيم"), ("Khadija", "خديجة"), ("Hassan", "حسن"), ("Aisha", "عائشة"), ("Mohamed", "محمد"),
    ("Zainab", "زينب"), ("Idris", "إدريس"), ("Layla", "ليلى"), ("Mahmoud", "محمود"), ("Salma", "سلمى"),
    ("Tariq", "طارق"), ("Nour", "نور"), ("Abdoulaye", "عبد الله"), ("Hawa", "حواء"), ("Karim", "كريم"),
    ("Samira", "سميرة"), ("Bilal", "بلال"), ("Rania", "رانيا"), ("Moussa", "موسى"), ("Huda", "هدى"),
)  # fmt: skip
FAMILY = (
    ("Diallo", "ديالو"), ("Haddad", "حداد"), ("Khan", "خان"), ("Al-Rashid", "الراشد"), ("Traoré", "تراوري"),
    ("Yıldız", "يلدز"), ("Rahman", "رحمن"), ("Ba", "با"), ("Mansour", "منصور"), ("Cissé", "سيسي"),
    ("Al-Amin", "الأمين"), ("Hussein", "حسين"), ("Touré", "توري"), ("Nasser", "ناصر"), ("Siddiqui", "صديقي"),
    ("Benali", "بن علي"), ("Suleiman", "سليمان"), ("Abubakar", "أبو بكر"), ("Karimov", "كريموف"), ("Farouk", "فاروق"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """One person of the sample. `totp_secret` is None for who has no second factor yet."""

    login: str
    password: str
    latin: str
    arabic: str
    office: str
    language: str
    totp_secret: str | None = None
    disabled: bool = False
    groups: tuple[str, ...] = ()
    must_change: bool = False  # the password was given by somebody else, and a new one must be chosen first

    @property
    def dn(self) -> str:
        """Return where the entry stands."""
        return f"uid={self.login},ou={self.office},{PEOPLE_DN}"


@dataclass(frozen=True, slots=True)
class Group:
    """A directory group: people by login, groups by name."""

    name: str
    people: tuple[str, ...]
    groups: tuple[str, ...] = ()


def load_offices() -> list[dict[str, Any]]:  # Any: JSON
    """Return the sample's offices."""
    return list(json.loads((DATA / "offices.json").read_text(encoding="utf-8"))["offices"])


def build_people(seed: str) -> list[DemoPerson]:
    """Return everybody: the named ones of the documentation first, then staff of every office, then `load…`."""
    named = [
        _person(seed, "amina", "Amina Diallo", "أمينة ديالو", "NIM", "fr", factor=True, groups=("finance-payers",)),
        _person(seed, "omar", "Omar Haddad", "عمر حداد", "GVA", "ar", factor=True),
        _person(seed, "sara", "Sara Khan", "سارة خان", "KBL", "en", factor=True),
        _person(seed, "newcomer", "Yusuf Ba", "يوسف با", "NIM", "fr"),
        _person(seed, "niamey.admin", "Idris Traoré", "إدريس تراوري", "NIM", "fr", factor=True, groups=("office-admins",)),
        _person(seed, "central.admin", "Layla Mansour", "ليلى منصور", "HQ-ADF-ITD-SEC", "ar", factor=True, groups=("central-admins",)),
        _person(seed, "firstday", "Nour Siddiqui", "نور صديقي", "KBL", "en", must_change=True),
        _person(seed, "gone", "Karim Nasser", "كريم ناصر", "BRU", "en", disabled=True),
    ]  # fmt: skip
    rng = random.Random(seed)  # noqa: S311 -- which name works where; passwords are derived elsewhere
    taken = {person.login for person in named}
    units = [office["code"] for office in load_offices() if office["code"].startswith("HQ-")]
    places = [code for code in OVERSEAS for _ in range(8)] + [code for code in units for _ in range(2)]
    pairs = [(given, family) for given in GIVEN for family in FAMILY]
    rng.shuffle(pairs)
    for number, place in enumerate(places):
        (given, given_ar), (family, family_ar) = pairs[number]
        login = _login(given, family, taken)
        taken.add(login)
        language = {"NIM": "fr", "BRU": "fr", "GVA": "fr", "NYC": "en", "KBL": "en", "MGQ": "en"}.get(
            place, "ar"
        )
        groups = ("finance-payers",) if place == "HQ-ADF-FIN" else ("registrars",) if number % 5 == 0 else ()
        named.append(
            _person(
                seed, login, f"{given} {family}", f"{given_ar} {family_ar}", place, language, groups=groups
            )
        )
    load = (
        _person(seed, f"load{number:02}", f"Load {number:02}", f"حمل {number:02}", "TEST", "en")
        for number in range(1, LOAD_PEOPLE + 1)
    )
    return [*named, *load]


def _person(
    seed: str, login: str, latin: str, arabic: str, office: str, language: str, *,
    factor: bool = False, disabled: bool = False, must_change: bool = False, groups: tuple[str, ...] = (),
) -> DemoPerson:  # fmt: skip
    secret = _derived(seed, login, "totp", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 32) if factor else None
    password = _derived(seed, login, "password", "abcdefghijkmnpqrstuvwxyz23456789", 20)
    return DemoPerson(login, password, latin, arabic, office, language, secret, disabled, groups, must_change)


def _derived(seed: str, login: str, what: str, alphabet: str, length: int) -> str:
    digest = hashlib.shake_256(f"{seed}\0{login}\0{what}".encode()).digest(length)
    return "".join(alphabet[byte % len(alphabet)] for byte in digest)


def _login(given: str, family: str, taken: set[str]) -> str:
    """Return an ASCII login name that nobody has."""
    plain = str.maketrans({"é": "e", "ı": "i", "ğ": "g", " ": "", "'": ""})
    base = f"{given}.{family}".lower().translate(plain).encode("ascii", "ignore").decode()
    number = 2
    login = base
    while login in taken:
        login, number = f"{base}{number}", number + 1
    return login


def build_groups(people: list[DemoPerson]) -> list[Group]:
    """Return the groups: staff of each office inside staff of a region inside staff of all; others by name."""
    staffed = sorted({person.office for person in people})
    by_office = [
        Group(f"staff-{code}", tuple(p.login for p in people if p.office == code)) for code in staffed
    ]
    overseas = Group("staff-overseas", (), tuple(f"staff-{code}" for code in staffed if code in OVERSEAS))
    rest = Group("staff-headquarters", (), tuple(f"staff-{code}" for code in staffed if code not in OVERSEAS))
    everyone = Group("staff-all", (), ("staff-overseas", "staff-headquarters"))
    extra = sorted({name for person in people for name in person.groups})
    others = [Group(name, tuple(p.login for p in people if name in p.groups)) for name in extra]
    return [*by_office, overseas, rest, everyone, *others]


def build_ldif(people: list[DemoPerson], hash_password: Any) -> str:  # Any: a function of text
    """Return everything below the base entry."""
    by_login = {person.login: person for person in people}
    blocks = [_unit("people", BASE_DN), _unit("groups", BASE_DN)]
    blocks += [_unit(code, PEOPLE_DN) for code in sorted({person.office for person in people})]
    blocks += [_entry(person, hash_password(person.password)) for person in people]
    for group in build_groups(people):
        members = [by_login[login].dn for login in group.people]
        members += [f"cn={name},{GROUPS_DN}" for name in group.groups]
        lines = "\n".join(f"member: {member}" for member in members)
        blocks.append(
            f"dn: cn={group.name},{GROUPS_DN}\nobjectClass: groupOfNames\ncn: {group.name}\n{lines}"
        )
    return "\n\n".join(blocks) + "\n"


def _unit(name: str, parent: str) -> str:
    return f"dn: ou={name},{parent}\nobjectClass: organizationalUnit\nou: {name}"


def _entry(person: DemoPerson, password_hash: str) -> str:
    given, _, family = person.latin.partition(" ")
    given_ar, _, family_ar = person.arabic.partition(" ")
    return "\n".join(
        [
            f"dn: {person.dn}", "objectClass: inetOrgPerson", "objectClass: orgPerson", f"uid: {person.login}",
            f"cn: {person.latin}", f"cn;lang-ar: {person.arabic}", f"displayName: {person.latin}",
            f"displayName;lang-ar: {person.arabic}", f"givenName: {given}", f"givenName;lang-ar: {given_ar}",
            f"sn: {family or given}", f"sn;lang-ar: {family_ar or given_ar}",
            f"mail: {person.login}@secretariat.example", f"preferredLanguage: {person.language}",
            f"orgOfficeCode: {person.office}",
            f"orgAccountStatus: {'disabled' if person.disabled else 'active'}", f"userPassword: {password_hash}",
            *(["pwdReset: TRUE"] if person.must_change else []),
        ]
    )  # fmt: skip


APPLICATIONS = [
    {
        "code": "correspondence", "admits": "staff", "owner_contact": "registry@secretariat.example",
        "names": {"ar": "المراسلات", "fr": "Correspondance", "en": "Correspondence"},
    },
    {
        "code": "finance", "admits": "roles", "admitted_roles": ["finance.payer"], "second_factor": True,
        "factor_max_age_seconds": 300, "owner_contact": "finance@secretariat.example",
        "names": {"ar": "الشؤون المالية", "fr": "Finances", "en": "Finance"},
    },
    {
        "code": "demo", "admits": "everyone", "owner_contact": "it@secretariat.example",
        "names": {"ar": "تطبيق تجريبي", "fr": "Démonstration", "en": "Demonstration"},
    },
]  # fmt: skip
ROLES = [
    {"code": "staff", "is_staff": True, "names": {"ar": "موظف", "fr": "Personnel", "en": "Staff"}},
    {"code": "office-admin", "second_factor": True, "names": {"ar": "مسؤول المكتب", "fr": "Administrateur du bureau", "en": "Office administrator"}},
    {"code": "central-admin", "second_factor": True, "names": {"ar": "المسؤول المركزي", "fr": "Administrateur central", "en": "Central administrator"}},
    {"code": "correspondence.registrar", "names": {"ar": "أمين السجل", "fr": "Greffier", "en": "Registrar"}},
    {"code": "finance.payer", "second_factor": True, "names": {"ar": "آمر الصرف", "fr": "Ordonnateur", "en": "Payer"}},
    {"code": "demo.reader", "names": {"ar": "قارئ", "fr": "Lecteur", "en": "Reader"}},
]  # fmt: skip
GROUP_ROLES = [
    {"group": "staff-all", "role": "staff"},
    {"group": "registrars", "role": "correspondence.registrar"},
    {"group": "finance-payers", "role": "finance.payer"},
    {"group": "office-admins", "role": "office-admin", "subtree": True},
    {"group": "central-admins", "role": "central-admin", "office": "GS", "subtree": True},
]

DETAIL_TYPES = [
    {
        "type": "payment", "resource_server": "finance-api",
        "description": {"ar": "دفع مبلغ", "fr": "Faire un paiement", "en": "Make a payment"},
        "labels": {
            "amount": {"ar": "المبلغ", "fr": "Montant", "en": "Amount"},
            "currency": {"ar": "العملة", "fr": "Monnaie", "en": "Currency"},
            "creditor": {"ar": "المستفيد", "fr": "Bénéficiaire", "en": "To"},
        },
        "schema": {
            "type": "object",
            "properties": {
                "amount": {"type": "string", "pattern": "^[0-9]{1,9}\\.[0-9]{2}$"},
                "currency": {"enum": ["XOF", "EUR"]},
                "creditor": {"type": "string", "maxLength": 200},
            },
            "required": ["amount", "currency", "creditor"],
            "additionalProperties": False,
        },
    },
]  # fmt: skip


def build_seed(source: str) -> dict[str, Any]:  # Any: JSON
    """Return what `manage.py seed` reads: offices, applications, roles, and what groups and units mean."""
    offices = load_offices()
    return {
        "offices": offices,
        "applications": APPLICATIONS,
        "roles": ROLES,
        "group_mappings": [{"source": source, **mapping} for mapping in GROUP_ROLES],
        "office_mappings": [
            {"source": source, "ou": office["code"], "office": office["code"]} for office in offices
        ],
    }


def expected_roles(person: DemoPerson) -> list[dict[str, Any]]:  # Any: JSON
    """Return a person's roles in the form of the `access` claim, every application's, sorted."""
    held = [{"role": "staff", "office": person.office, "subtree": False}]
    held += [
        {
            "role": mapping["role"],
            "office": mapping.get("office", person.office),
            "subtree": mapping.get("subtree", False),
        }
        for mapping in GROUP_ROLES
        if mapping["group"] in person.groups
    ]
    return sorted(held, key=lambda one: (str(one["role"]), str(one["office"])))
