"""Every attack of the provider has a test named by its number, and nobody takes the last one out unseen.

The numbers are those of the security rules: redirects and authorization A01 to A10, tokens A11 to A21,
people who left A22 and A24, browser A45 to A49, machines and devices A57, calls to others A62, sheer size A65.
"""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

TESTS = Path(__file__).parents[1]
MUST_EXIST = frozenset({*range(1, 23), 24, *range(45, 50), 57, 62, 65})
_NUMBERS = re.compile(r"^test((?:_[a-z][0-9]{2,3})+)_[a-z]")
_NUMBER = re.compile(r"_a([0-9]{2})(?=_|$)")


def numbers_in(name: str) -> set[int]:
    """Return the attacks that a test's name begins with: `test_a01_a06_push_…` has two."""
    found = _NUMBERS.match(name)
    return {int(number) for number in _NUMBER.findall(found.group(1))} if found else set()


def that_can_fail(source: str) -> set[str]:
    """Return the tests of a module that assert something, expect an exception, or call what does."""
    tree = ast.parse(source)
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    judging = {
        name
        for name, function in functions.items()
        if any(
            isinstance(node, ast.Assert | ast.Raise)
            or (isinstance(node, ast.Attribute) and node.attr in {"raises", "fail", "expect"})
            or (isinstance(node, ast.Name) and node.id in {"expect", "error_of", "given_up"})
            for node in ast.walk(function)
        )
    }
    calling = {
        name
        for name, function in functions.items()
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and _called(node).startswith(("assert_", "check_", "refused", "judge"))
    }
    through = {
        name
        for name, function in functions.items()
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and _called(node) in judging
    }
    return judging | calling | through


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def attacks_tested(sources: Iterable[str]) -> dict[int, set[str]]:
    """Return which tests can fail for each attack."""
    found: dict[int, set[str]] = {}
    for source in sources:
        for name in that_can_fail(source):
            for number in numbers_in(name):
                found.setdefault(number, set()).add(name)
    return found


def sources() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(TESTS.rglob("test_*.py"))]


def test_every_attack_that_must_be_tried_is_tried_by_a_test_of_its_number() -> None:
    assert sorted(MUST_EXIST - set(attacks_tested(sources()))) == []


def test_every_numbered_test_can_fail() -> None:
    helpless = {
        f"{path.relative_to(TESTS)}::{node.name}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for source in [path.read_text(encoding="utf-8")]
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and numbers_in(node.name)
        if node.name not in that_can_fail(source)
    }

    assert helpless == set()


def test_a_missing_number_and_a_test_that_cannot_fail_are_found() -> None:
    good = "def test_a07_a08_code_is_used_once():\n    assert use() == 1\n"
    empty = "def test_a09_nothing():\n    use()\n"

    assert set(attacks_tested([good, empty])) == {7, 8}
    assert numbers_in("test_us03_second_application") == set()
    assert numbers_in("test_a05_only_a_code") == {5}
