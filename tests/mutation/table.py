"""The table of mutations, read; and what it must be to be of any use."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLES = tuple(sorted(Path(__file__).parent.glob("*.toml")))
_FIELDS = {"name", "file", "before", "after", "test"}


@dataclass(frozen=True, slots=True)
class Mutation:
    """A rule taken out: `before` becomes `after` in `file`, and then `test` must fail.

    `rules` are those of tests/conformance/specifications that this shows; the test's mark must name them.
    """

    name: str
    file: str
    before: str
    after: str
    test: str
    rules: tuple[str, ...] = ()

    def problem(self, root: Path) -> str:
        """Return why it cannot be applied, or proves nothing; "" when all is well."""
        text = (root / self.file).read_text(encoding="utf-8") if (root / self.file).is_file() else ""
        if text.count(self.before) != 1:
            return f"its text stands {text.count(self.before)} times in {self.file}, not once"
        if self.before == self.after:
            return "it changes nothing"
        module, _, name = self.test.partition("::")
        function = re.escape(name.partition("[")[0])
        source = (root / module).read_text(encoding="utf-8") if (root / module).is_file() else ""
        if not name or not re.search(rf"^def {function}\(", source, re.MULTILINE):
            return f"there is no test {self.test}"
        return ""

    def apply(self, root: Path) -> str:
        """Take the rule out of a copy; return the text of before."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(self.before, self.after), encoding="utf-8")
        return text


def load(tables: Sequence[Path] = TABLES) -> list[Mutation]:
    """Return every mutation. Raises: ValueError for an entry that is not whole, or a name given twice."""
    entries = [
        entry for table in tables for entry in tomllib.loads(table.read_text(encoding="utf-8"))["mutation"]
    ]
    for entry in entries:
        if set(entry) - {"rules"} != _FIELDS:
            raise ValueError(
                f"{entry.get('name', entry)}: the fields are {', '.join(sorted(_FIELDS))}, and rules"
            )
    mutations = [Mutation(**{**entry, "rules": tuple(entry.get("rules", ()))}) for entry in entries]
    names = [mutation.name for mutation in mutations]
    if len(set(names)) != len(names):
        raise ValueError(
            f"a name is given twice: {sorted({name for name in names if names.count(name) > 1})}"
        )
    return mutations
