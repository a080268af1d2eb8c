"""Compile the translations whose text is newer than what was compiled: `python -m deploy.messages`."""

from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

LOCALE = Path(__file__).resolve().parent.parent / "iam" / "locale"


def main() -> None:
    """Compile every catalogue that changed; nothing is printed when none did."""
    for po in sorted(LOCALE.glob("*/LC_MESSAGES/django.po")):
        mo = po.with_suffix(".mo")
        if mo.exists() and mo.stat().st_mtime >= po.stat().st_mtime:
            continue
        with po.open("rb") as source:
            catalog = read_po(source, locale=po.parent.parent.name)
        with mo.open("wb") as target:
            write_mo(target, catalog)
        print(f"translations compiled: {po.parent.parent.name}")


if __name__ == "__main__":
    main()
