"""The data of the bench: people for slapd, and what the service knows of offices, roles, clients and sessions.

Run as a program in the service's environment it fills the database and writes what the load generator needs:
`python -m tests.bench.world FILE.json`.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from iam.oauth.protocol.jose import Key, MemorySigner

BASE_DN = "dc=bench,dc=example"
SERVICE_DN = f"cn=svc-sync,ou=services,{BASE_DN}"
ADMIN_DN = f"cn=admin,{BASE_DN}"
SOURCE = "directory"
PASSWORD = "Correct-Horse-ب-Battery-7"
SECRET = "b" * 48
REDIRECT = "http://127.0.0.1:9900/callback"
SCOPE = "openid profile email roles demo.read"
OFFICES = ("NIM", "GVA", "KBL", "AMM", "BEY", "DKR", "TUN", "KRT")
# The first ones are already signed in; each of the others signs in once at most, because a TOTP step counts once.
SIGNED_IN = 40
PEOPLE = 440

# Whoever knows this number knows the key of the bench's client; it guards nothing else.
KEY_NUMBER = int.from_bytes(b"a key of the bench and of nothing else", "big") >> 64

CLIENTS: list[dict[str, Any]] = [
    {
        "client_id": "bench-resource", "client_secret": SECRET, "grant_types": ["client_credentials"],
        "application": "correspondence", "resource_server": ["demo.read"], "trusted": True,
    },
    {
        "client_id": "bench-web", "client_secret": SECRET, "redirect_uris": [REDIRECT], "scope": SCOPE,
        "application": "correspondence", "grant_types": ["authorization_code", "refresh_token"], "trusted": True,
    },
    {
        "client_id": "bench-service", "client_secret": SECRET, "grant_types": ["client_credentials"],
        "scope": "demo.read", "trusted": True,
    },
    {
        "client_id": "bench-signer", "token_endpoint_auth_method": "private_key_jwt", "scope": "demo.read",
        "grant_types": ["client_credentials"], "trusted": True,
    },
]  # fmt: skip


def client_key() -> Key:
    """Return the key of the client that proves itself with assertions and DPoP proofs."""
    private = ec.derive_private_key(KEY_NUMBER, ec.SECP256R1())
    return Key("k1", "ES256", private.public_key(), MemorySigner("ES256", private))


@dataclass(frozen=True, slots=True)
class BenchPerson:
    """A person of the directory with a second factor; `session` is the secret of a live session, or empty."""

    login: str
    totp_secret: str
    session: str


@dataclass(frozen=True, slots=True)
class World:
    """What a load generator knows. `cookie` is the name of the session's cookie."""

    host: str
    port: int
    cookie: str
    people: tuple[BenchPerson, ...]

    @property
    def issuer(self) -> str:
        """Return the service's own address."""
        return f"http://localhost:{self.port}"

    @property
    def signed_in(self) -> tuple[BenchPerson, ...]:
        """Return the people with a live session."""
        return tuple(person for person in self.people if person.session)

    @property
    def signed_out(self) -> tuple[BenchPerson, ...]:
        """Return the people who still have to sign in."""
        return tuple(person for person in self.people if not person.session)


def load(file: Path) -> World:
    """Read what `fill` wrote."""
    read = json.loads(file.read_text(encoding="utf-8"))
    return World(**{**read, "people": tuple(BenchPerson(**person) for person in read["people"])})


def ldif(password_hash: str) -> str:
    """Return everything below the base entry: everybody is in two groups, of which one is inside another."""
    blocks = [
        f"dn: ou={unit},{BASE_DN}\nobjectClass: organizationalUnit\nou: {unit}"
        for unit in ("people", "groups")
    ]
    blocks += [
        f"dn: ou={office},ou=people,{BASE_DN}\nobjectClass: organizationalUnit\nou: {office}"
        for office in OFFICES
    ]
    blocks += [
        f"dn: {_dn(number)}\nobjectClass: inetOrgPerson\nobjectClass: orgPerson\nuid: {_login(number)}\n"
        f"cn: Person {number}\nsn: {number}\ncn;lang-ar: شخص {number}\n"
        f"displayName: Person {number}\ndisplayName;lang-ar: شخص {number}\n"
        f"mail: {_login(number)}@bench.example\npreferredLanguage: en\n"
        f"orgOfficeCode: {_office(number)}\norgAccountStatus: active\nuserPassword: {password_hash}"
        for number in range(PEOPLE)
    ]
    everybody = "\n".join(f"member: {_dn(number)}" for number in range(PEOPLE))
    blocks.append(
        f"dn: cn=registry,ou=groups,{BASE_DN}\nobjectClass: groupOfNames\ncn: registry\n{everybody}"
    )
    blocks.append(
        f"dn: cn=staff,ou=groups,{BASE_DN}\nobjectClass: groupOfNames\ncn: staff\n"
        f"member: cn=registry,ou=groups,{BASE_DN}"
    )
    return "\n\n".join(blocks) + "\n"


def _login(number: int) -> str:
    return f"person{number:03}"


def _office(number: int) -> str:
    return OFFICES[number % len(OFFICES)]


def _dn(number: int) -> str:
    return f"uid={_login(number)},ou={_office(number)},ou=people,{BASE_DN}"


def fill(file: Path) -> None:
    """Make offices, roles, mappings, clients, keys, people with a second factor, and sessions; write them down."""
    import django

    django.setup()
    from datetime import UTC, datetime

    from django.conf import settings
    from django.db import transaction

    from iam.access.models import Application, GroupMapping, Office, OfficeMapping, Role
    from iam.accounts import cookies
    from iam.oauth import keyring
    from iam.oauth.clients import apply_all

    now = datetime.now(UTC)

    def names(word: str) -> dict[str, str]:
        return {"name_ar": f"{word} ع", "name_fr": f"{word} f", "name_en": word}

    with transaction.atomic():
        top = Office.objects.create(code="GS", kind="headquarters", **names("Secretariat"))
        for code in OFFICES:
            office = Office.objects.create(code=code, kind="political", parent=top, **names(code))
            OfficeMapping.objects.create(source=SOURCE, ou=code, office=office)
        application = Application.objects.create(
            code="correspondence", admits="staff", **names("Correspondence")
        )
        staff = Role.objects.create(code="staff", is_staff=True, **names("Staff"))
        registrar = Role.objects.create(
            code="correspondence.registrar", application=application, **names("Registrar")
        )
        GroupMapping.objects.create(source=SOURCE, group="staff", role=staff)
        GroupMapping.objects.create(source=SOURCE, group="registry", role=registrar)
        keyring.ensure(now, "system:bench")
        *others, signer = CLIENTS
        apply_all([*others, {**signer, "jwks": {"keys": [client_key().jwk()]}}], now, "system:bench")
        people = tuple(_admit(number, now) for number in range(PEOPLE))
    world = World("127.0.0.1", int(settings.IAM_ISSUER.rpartition(":")[2]), cookies.SESSION, people)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(asdict(world), stream)


def _admit(number: int, now: Any) -> BenchPerson:
    """Let a person in as a first sign-in does, with an authenticator that we can read."""
    from datetime import timedelta

    import pyotp

    import mfa.service
    from directory.service import Found, find
    from iam.accounts.services import mark_factor, open_session
    from iam.lifecycle import admit_from_directory

    match find(_login(number)):
        case Found(person=person):
            user = admit_from_directory(person, now)
        case other:
            raise LookupError(f"The directory does not find {_login(number)}: {other}.")
    secret = pyotp.random_base32()
    mfa.service.import_totp(str(user.pk), secret, now)
    if number >= SIGNED_IN:
        return BenchPerson(_login(number), secret, "")
    session, _ = open_session(user, now, timedelta(hours=12))
    return BenchPerson(_login(number), secret, mark_factor(session, "otp", now))


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
