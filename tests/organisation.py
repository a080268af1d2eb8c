"""A small organisation for tests: offices, roles, and people as a directory describes them."""

from datetime import UTC, datetime, timedelta

from directory.service import Group, Person, Standing
from iam.access.models import Application, Office, OfficeState, Role
from iam.accounts.models import DirectoryLink, User

NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
DAY = timedelta(days=1)
NAMES = {"name_ar": "اسم", "name_fr": "nom", "name_en": "name"}


def office(code: str, parent: Office | None = None, **fields: object) -> Office:
    return Office.objects.create(code=code, parent=parent, kind="humanitarian", **NAMES, **fields)


def state(of: Office, value: str, since: datetime) -> OfficeState:
    return OfficeState.objects.create(office=of, state=value, since=since)


def application(code: str, **fields: object) -> Application:
    return Application.objects.create(code=code, **NAMES, **fields)


def role(code: str, **fields: object) -> Role:
    owner = Application.objects.get(code=code.split(".", maxsplit=1)[0]) if "." in code else None
    return Role.objects.create(code=code, application=owner, **NAMES, **fields)


def user(login: str = "amina", entry: str = "entry-amina") -> User:
    person = User.objects.create(name_latin="Amina Diallo", created_at=NOW - DAY)
    DirectoryLink.objects.create(
        user=person, source="hq", entry_uuid=entry, login=login, dn=f"uid={login},ou=NIM",
        created_at=NOW - DAY, checked_at=NOW - DAY,
    )  # fmt: skip
    return person


def entry(login: str = "amina", entry_uuid: str = "entry-amina", **changes: object) -> Person:
    """Return what a directory says of a person; groups by their names."""
    groups = tuple(
        Group(f"group-{name}", f"cn={name},ou=groups,dc=example", name)
        for name in changes.pop("groups", ())  # type: ignore[attr-defined]
    )
    fields: dict[str, object] = {
        "source": "hq",
        "entry_uuid": entry_uuid,
        "dn": f"uid={login},ou=NIM,dc=example",
        "login": login,
        "name_latin": "Amina Diallo",
        "name_arabic": "أمينة ديالو",
        "email": f"{login}@example.org",
        "language": "fr",
        "ou_path": ("NIM", "offices"),
        "office_attribute": "",
        "standing": Standing(),
        "groups": groups,
    }
    return Person(**{**fields, **changes})  # type: ignore[arg-type]
