"""The package stands alone: its imports, its examples."""

import ast
import re
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "deploy" / "resource_server"
MODULES = sorted(FOLDER.glob("*.py"))
README = FOLDER / "README.md"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_only_the_standard_library_and_cryptography_are_imported(module: Path) -> None:
    allowed = {"cryptography", *sys.stdlib_module_names}
    if module.name == "for_django.py":
        allowed |= {"django", "asgiref"}
    if module.name == "for_wsgi.py":
        allowed |= {"_typeshed"}  # for the eyes of a type checker only
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        else:
            continue
        assert {name.partition(".")[0] for name in names} <= allowed, ast.unparse(node)


@pytest.mark.parametrize("number", range(len(re.findall(r"```python\n", README.read_text(encoding="utf-8")))))
def test_every_example_of_the_readme_compiles(number: int) -> None:
    example = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[number]

    ast.parse(example)
