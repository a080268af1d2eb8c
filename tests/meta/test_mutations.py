"""The table of mutations fits the code: each text is there once, each test exists."""

import dataclasses
from pathlib import Path

import pytest

from tests.mutation.table import ROOT, load

AREAS = ("PKCE", "code", "redirect", "request", "iss", "prompt", "consent", "PAR", "DPoP", "client", "assertion", "JWS",
         "refresh", "statements", "device", "gate", "introspection", "high", "logout token", "keys")  # fmt: skip


@pytest.mark.parametrize("mutation", load(), ids=lambda mutation: mutation.name)
def test_mutation_applies_and_its_test_exists(mutation) -> None:
    assert mutation.problem(ROOT) == ""


def test_every_area_has_its_mutations() -> None:
    names = [mutation.name for mutation in load()]

    assert len(names) >= 60
    assert [area for area in AREAS if not any(name.startswith(f"{area}:") for name in names)] == []


def test_text_that_is_gone_or_stands_twice_and_a_test_that_is_gone_are_found(tmp_path: Path) -> None:
    (tmp_path / "rule.py").write_text("if a:\n    pass\nif a:\n    pass\nif b:\n    pass\n")
    (tmp_path / "test_rule.py").write_text("def test_b() -> None: ...\n")
    good = dataclasses.replace(
        load()[0], file="rule.py", before="if b:", after="if a:", test="test_rule.py::test_b"
    )

    assert good.problem(tmp_path) == ""
    assert "0 times" in dataclasses.replace(good, before="if c:").problem(tmp_path)
    assert "2 times" in dataclasses.replace(good, before="if a:").problem(tmp_path)
    assert "no test" in dataclasses.replace(good, test="test_rule.py::test_a").problem(tmp_path)
    assert "nothing" in dataclasses.replace(good, after="if b:").problem(tmp_path)


def test_mutation_is_applied_to_a_copy_and_taken_back(tmp_path: Path) -> None:
    (tmp_path / "rule.py").write_text("if b:\n    pass\n")
    mutation = dataclasses.replace(load()[0], file="rule.py", before="if b:", after="if True:")

    before = mutation.apply(tmp_path)

    assert (tmp_path / "rule.py").read_text() == "if True:\n    pass\n"
    assert before == "if b:\n    pass\n"
