"""Find the marks of the tests without running them: by their syntax, so that no database is needed.

`spec("RFC 9126", "2.1", "words")` says what a test is about; `rules("core/2/iss", …)` says which rules of the
catalogue fail with it. Both may stand on a function, a class, a row of `parametrize`, or in `pytestmark`.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark of one test."""

    test: str  # as pytest takes it
    kind: str  # spec or rules
    values: tuple[str, ...]


class MarkError(Exception):
    """A mark that cannot be read: it says something else than texts."""


def collect(root: Path = ROOT) -> list[Mark]:
    """Return every `spec` and `rules` mark below `tests/`, in the order of the files. Raises: MarkError."""
    return [mark for path in sorted((root / "tests").rglob("test_*.py")) for mark in of_file(path, root)]


def of_file(path: Path, root: Path) -> Iterator[Mark]:
    """Return the marks of one file."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    constants = dict(_constants(tree.body))
    common = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(getattr(target, "id", "") == "pytestmark" for target in node.targets)
    ]
    name = path.relative_to(root).as_posix()
    for test, expressions in _tests(tree.body, name, common):
        for expression in expressions:
            for kind, call in _calls(expression):
                yield Mark(test, kind, tuple(_text(argument, constants, test) for argument in call.args))


def _constants(body: Iterable[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Return the names of texts: of `A = "x"`, and of `A, B = "x", "y"`."""
    for node in body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            (target,) = node.targets
            both = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
            pairs = zip(target.elts, node.value.elts, strict=False) if both else [(target, node.value)]
            for name, value in pairs:
                if (
                    isinstance(name, ast.Name)
                    and isinstance(value, ast.Constant)
                    and isinstance(value.value, str)
                ):
                    yield name.id, value.value


def _tests(
    body: Iterable[ast.stmt], prefix: str, inherited: list[ast.expr]
) -> Iterator[tuple[str, list[ast.expr]]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield f"{prefix}::{node.name}", [*inherited, *node.decorator_list]
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _tests(node.body, f"{prefix}::{node.name}", [*inherited, *node.decorator_list])


def _calls(expression: ast.expr) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(expression):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"spec", "rules"}
        ):
            owner = node.func.value
            if isinstance(owner, ast.Attribute) and owner.attr == "mark":
                yield node.func.attr, node


def _text(argument: ast.expr, constants: dict[str, str], test: str) -> str:
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return argument.value
    if isinstance(argument, ast.Name) and argument.id in constants:
        return constants[argument.id]
    raise MarkError(f"{test}: a mark takes texts, or names of texts of its own file")
