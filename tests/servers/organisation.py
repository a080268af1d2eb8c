"""The tests' own small organisation: people for slapd, and what the service knows of offices, roles and clients.

Run as a program in the service's environment it fills the database: `python -m tests.servers.organisation`.
"""

from dataclasses import dataclass
from typing import Any

BASE_DN = "dc=test,dc=example"
WRITER_DN = f"cn=svc-password,ou=services,{BASE_DN}"
SERVICE_DN = f"cn=svc-sync,ou=services,{BASE_DN}"
ADMIN_DN = f"cn=admin,{BASE_DN}"
SOURCE = "directory"
PASSWORD = "Correct-Horse-ب-Battery-7"
TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
CLIENT_SECRET = "t" * 48
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass(frozen=True, slots=True)
class TestPerson:
    """One person. `totp` says whether a second factor is enrolled; `groups` by name."""

    __test__ = False
    login: str
    latin: str
    arabic: str
    office: str
    language: str
    totp: bool = True
    status: str = "active"
    groups: tuple[str, ...] = ("staff",)
    must_change: bool = False


PEOPLE = (
    TestPerson("amina", "Amina Diallo", "أمينة ديالو", "NIM", "fr", groups=("staff", "payers")),
    TestPerson("omar", "Omar Haddad", "عمر حداد", "GVA", "ar"),
    TestPerson("sara", "Sara Khan", "سارة خان", "KBL", "en"),
    TestPerson("newcomer", "Yusuf New", "يوسف الجديد", "NIM", "en", totp=False),
    TestPerson("gone", "Gone Person", "شخص غائب", "NIM", "en", status="disabled"),
    TestPerson("stranger", "No Groups", "بلا مجموعات", "NIM", "en", groups=()),
    *(TestPerson(f"load{n:02}", f"Load {n}", f"حمل {n}", "TEST", "en", totp=False) for n in range(1, 9)),
    *(TestPerson(f"crowd{n:02}", f"Crowd {n}", f"حشد {n}", "GVA", "en") for n in range(1, 41)),
    *(
        TestPerson(f"fresh{n:02}", f"Fresh {n}", f"جديد {n}", "TEST", "en", totp=False, must_change=True)
        for n in range(1, 13)
    ),
    *(TestPerson(f"forget{n:02}", f"Forget {n}", f"ناسٍ {n}", "GVA", "en") for n in range(1, 17)),
    *(TestPerson(f"desk{n:02}", f"Desk {n}", f"مكتب {n}", "GVA", "en") for n in range(1, 31)),
    *(TestPerson(f"caller{n:02}", f"Caller {n}", f"متصل {n}", "GVA", "en") for n in range(1, 17)),
    *(TestPerson(f"plain{n:02}", f"Plain {n}", f"بسيط {n}", "TEST", "en", totp=False) for n in range(1, 31)),
    *(
        TestPerson(f"screen{n:02}", f"Screen {n}", f"شاشة {n}", "TEST", "en", totp=False)
        for n in range(1, 25)
    ),
)

CLIENTS: list[dict[str, Any]] = [
    {
        "client_id": "test-resource", "client_secret": CLIENT_SECRET, "grant_types": ["client_credentials"],
        "resource_server": ["demo.read"], "trusted": True,
    },
    {
        "client_id": "test-web", "client_secret": CLIENT_SECRET, "redirect_uris": ["http://127.0.0.1:9900/callback"],
        "post_logout_redirect_uris": ["http://127.0.0.1:9900/bye"], "application": "correspondence",
        "grant_types": ["authorization_code", "refresh_token"],
        "scope": "openid profile email roles demo.read", "trusted": True,
    },
    {
        "client_id": "test-ask", "client_secret": CLIENT_SECRET, "redirect_uris": ["http://127.0.0.1:9901/callback"],
        "client_name": "Consent Test", "grant_types": ["authorization_code", "refresh_token"],
        "scope": "openid profile email roles", "trusted": False, "authorization_details_types": ["payment"],
    },
    {
        "client_id": "test-finance", "client_secret": CLIENT_SECRET, "redirect_uris": ["http://127.0.0.1:9902/callback"],
        "application": "finance", "scope": "openid roles", "trusted": True,
    },
    {
        "client_id": "test-public", "token_endpoint_auth_method": "none",
        "redirect_uris": ["http://127.0.0.1/callback", "http://[::1]/callback"],
        "grant_types": ["authorization_code", "refresh_token"], "scope": "openid roles demo.read", "trusted": True,
    },
    {
        "client_id": "test-device", "token_endpoint_auth_method": "none", "client_name": "Meeting room screen",
        "grant_types": [DEVICE_CODE, "refresh_token"], "scope": "openid profile roles demo.read",
        "application": "correspondence",
    },
    {
        "client_id": "test-service", "client_secret": CLIENT_SECRET, "grant_types": ["client_credentials"],
        "scope": "demo.read", "trusted": True,
    },
]  # fmt: skip

DETAIL_TYPES: list[dict[str, Any]] = [
    {
        "type": "payment", "resource_server": "test-resource",
        "description": {"ar": "دفع مبلغ", "fr": "Faire un paiement", "en": "Make a payment"},
        "labels": {
            "amount.value": {"ar": "المبلغ", "fr": "Montant", "en": "Amount"},
            "creditor": {"ar": "المستفيد", "fr": "Bénéficiaire", "en": "To"},
        },
        "schema": {
            "type": "object",
            "properties": {
                "amount": {
                    "type": "object",
                    "properties": {"value": {"type": "string", "pattern": "^[0-9]{1,9}\\.[0-9]{2}$"}, "currency": {"enum": ["XOF", "EUR"]}},
                    "required": ["value", "currency"],
                    "additionalProperties": False,
                },
                "creditor": {"type": "string", "maxLength": 200},
                "urgent": {"type": "boolean"},
                "references": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
            },
            "required": ["amount", "creditor"],
            "additionalProperties": False,
        },
    },
]  # fmt: skip


def ldif(password_hash: str) -> str:
    """Return everything below the base entry."""
    blocks = [f"dn: ou=people,{BASE_DN}\nobjectClass: organizationalUnit\nou: people"]
    blocks.append(f"dn: ou=groups,{BASE_DN}\nobjectClass: organizationalUnit\nou: groups")
    for office in sorted({person.office for person in PEOPLE}):
        blocks.append(f"dn: ou={office},ou=people,{BASE_DN}\nobjectClass: organizationalUnit\nou: {office}")
    for person in PEOPLE:
        blocks.append(
            f"dn: {dn_of(person)}\nobjectClass: inetOrgPerson\nobjectClass: orgPerson\nuid: {person.login}\n"
            f"cn: {person.latin}\nsn: {person.latin.split()[-1]}\ncn;lang-ar: {person.arabic}\n"
            f"displayName: {person.latin}\ndisplayName;lang-ar: {person.arabic}\n"
            f"mail: {person.login}@test.example\npreferredLanguage: {person.language}\n"
            f"orgOfficeCode: {person.office}\norgAccountStatus: {person.status}\nuserPassword: {password_hash}"
            + ("\npwdReset: TRUE" if person.must_change else "")
        )
    for group in sorted({group for person in PEOPLE for group in person.groups}):
        members = "\n".join(f"member: {dn_of(person)}" for person in PEOPLE if group in person.groups)
        blocks.append(
            f"dn: cn={group},ou=groups,{BASE_DN}\nobjectClass: groupOfNames\ncn: {group}\n{members}"
        )
    return "\n\n".join(blocks) + "\n"


def dn_of(person: TestPerson) -> str:
    """Return where a person's entry stands."""
    return f"uid={person.login},ou={person.office},ou=people,{BASE_DN}"


def fill() -> None:
    """Make offices, applications, roles, mappings, clients, keys and second factors."""
    import django

    django.setup()
    from datetime import UTC, datetime

    import mfa.service
    from directory.service import Found, find
    from iam.access.models import Application, GroupMapping, Office, OfficeMapping, Role
    from iam.lifecycle import admit_from_directory
    from iam.oauth import keyring
    from iam.oauth.clients import apply_all
    from iam.oauth.detail_types import apply_types

    now = datetime.now(UTC)

    def names(word: str) -> dict[str, str]:
        return {"name_ar": f"{word} ع", "name_fr": f"{word} f", "name_en": word}

    top = Office.objects.create(code="GS", kind="headquarters", **names("Secretariat"))
    for code in ("NIM", "GVA", "KBL", "TEST"):
        office = Office.objects.create(
            code=code, kind="test" if code == "TEST" else "political", parent=top,
            second_factor="optional" if code == "TEST" else "", **names(code),
        )  # fmt: skip
        OfficeMapping.objects.create(source=SOURCE, ou=code, office=office)
    correspondence = Application.objects.create(
        code="correspondence", admits="staff", **names("Correspondence")
    )
    finance = Application.objects.create(
        code="finance", admits="roles", second_factor=True, factor_max_age_seconds=300,
        owner_contact="finance@test.example", **names("Finance"),
    )  # fmt: skip
    staff = Role.objects.create(code="staff", is_staff=True, **names("Staff"))
    payer = Role.objects.create(code="finance.payer", application=finance, **names("Payer"))
    Role.objects.create(code="correspondence.registrar", application=correspondence, **names("Registrar"))
    finance.admitted_roles.add(payer)
    GroupMapping.objects.create(source=SOURCE, group="staff", role=staff)
    GroupMapping.objects.create(source=SOURCE, group="payers", role=payer)
    keyring.ensure(now, "system:test")
    apply_all([client for client in CLIENTS if client.get("resource_server")], now, "system:test")
    apply_types(DETAIL_TYPES, now, "system:test")
    apply_all(CLIENTS, now, "system:test")
    for person in PEOPLE:
        if person.totp:
            found = find(person.login)
            assert isinstance(found, Found), found
            user = admit_from_directory(found.person, now)
            mfa.service.import_totp(str(user.pk), TOTP_SECRET, now)


if __name__ == "__main__":
    fill()
