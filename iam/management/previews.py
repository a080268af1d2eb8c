"""What a directory says of one person, and what the service makes of it. Nothing is written."""

from datetime import datetime
from typing import Any

from directory.service import Person
from iam.accounts.models import DirectoryLink
from iam.lifecycle import explain


def preview(person: Person, now: datetime, *, is_live: bool) -> dict[str, Any]:  # Any: JSON
    """Return what an operator wants to see of one entry, by name."""
    home, why, rights = explain(person)
    link = DirectoryLink.objects.select_related("user").filter(
        source=person.source, entry_uuid=person.entry_uuid
    ).first()  # fmt: skip
    return {
        "directory": person.source,
        "read": "just now" if is_live else "from what was stored",
        "entry": person.entry_uuid,
        "name": person.dn,
        "login": person.login,
        "Latin name": person.name_latin,
        "Arabic name": person.name_arabic,
        "e-mail": person.email,
        "language": person.language,
        "status": str(person.standing.at(now)),
        "ends": person.standing.ends_at or "never",
        "units": list(person.ou_path),
        "office": home or "none",
        "because of": why,
        "groups": [group.name for group in person.groups],
        "roles": rights,
        "account": f"{link.user.sub}{'' if link.user.is_active else ' (closed)'}" if link else "none yet",
    }
