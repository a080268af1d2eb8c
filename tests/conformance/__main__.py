"""`python -m tests.conformance`: write docs/conformance.md; ends with 1 if the catalogue and the marks disagree."""

import sys
from dataclasses import asdict

from tests.mutation.table import load

from .catalogue import read
from .marks import collect
from .page import PAGE, build, findings


def current() -> str:
    """Return the page as it should be."""
    shown = frozenset(rule for mutation in load() for rule in mutation.rules)
    return build(read(), collect(), shown)


def main() -> int:
    PAGE.write_text(current(), encoding="utf-8")
    print(f"{PAGE} written")
    wrong = [(kind, item) for kind, items in asdict(findings(read(), collect())).items() for item in items]
    for kind, item in wrong:
        print(f"{kind}: {item}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
