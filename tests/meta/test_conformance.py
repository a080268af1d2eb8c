"""The matrix in docs/conformance.md is what the catalogue and the tests' marks say, and they agree. Docs: ADR 0041."""

import ast
from pathlib import Path

import pytest

from tests.conformance import catalogue, marks, page
from tests.conformance.__main__ import current
from tests.mutation.table import load

DOCUMENTS = catalogue.read()
MARKS = marks.collect()
# The issue's list: these rule by rule, those at least by what tests say.
WHOLE = {
    "OIDC Core", "OIDC Discovery", "OAuth 2.0 Form Post Response Mode", "OIDC RP-Initiated Logout",
    "OIDC Back-Channel Logout", "OIDC Front-Channel Logout", "FAPI 2.0 Security Profile", "FAPI 2.0 Message Signing",
}  # fmt: skip
RFCS = (
    6749, 6750, 7009, 7523, 7591, 7592, 7636, 7662, 8252, 8414, 8628, 8693, 8705, 8707, 9068, 9101, 9126, 9207, 9396,
    9449, 9470, 9700, 9701, 9728,
)  # fmt: skip


def test_page_is_current():
    assert page.PAGE.read_text(encoding="utf-8") == current(), "run: python -m tests.conformance"


@pytest.mark.parametrize(
    "kind", ["unknown_rules", "unknown_documents", "malformed", "without_either", "with_both"]
)
def test_marks_and_catalogue_agree(kind: str):
    assert getattr(page.findings(DOCUMENTS, MARKS), kind) == ()


def test_every_specification_of_the_issue_is_there():
    named = {mark.values[0] for mark in MARKS if mark.kind == "spec"}

    assert {document.name for document in DOCUMENTS if document.is_whole} == WHOLE
    assert {f"RFC {number}" for number in RFCS} <= {document.name for document in DOCUMENTS} & named


def test_a_rule_that_loses_its_test_would_be_seen():
    (first,) = (name for name in ["fapi/5.3.2.1/11"] if name in page.holders(MARKS))
    without = [mark for mark in MARKS if first not in mark.values]

    assert (
        page.findings(DOCUMENTS, without).without_either == (first,)
        or first in page.findings(DOCUMENTS, without).without_either
    )


@pytest.mark.parametrize(
    ("mark", "kind"),
    [
        (marks.Mark("t", "rules", ("fapi/9.9/none",)), "unknown_rules"),
        (marks.Mark("t", "spec", ("FAPI 2.0 SP", "1", "words")), "unknown_documents"),
        (marks.Mark("t", "spec", ("OIDC Core", "1")), "malformed"),
        (marks.Mark("t", "rules", ("fapi/5.2.1/4",)), "with_both"),
    ],
)
def test_wrong_mark_would_be_seen(mark: marks.Mark, kind: str):
    assert getattr(page.findings(DOCUMENTS, [*MARKS, mark]), kind) != ()


def test_marks_are_found_wherever_pytest_takes_them(tmp_path: Path):
    file = tmp_path / "tests" / "test_x.py"
    file.parent.mkdir()
    file.write_text(
        "import pytest\nNAME = 'OIDC Core'\npytestmark = [pytest.mark.rules('of/file/a')]\n"
        "@pytest.mark.rules('of/class/a')\nclass TestX:\n    @pytest.mark.spec(NAME, '2', 'words')\n"
        "    def test_in(self): ...\n"
        "@pytest.mark.parametrize('a', [pytest.param(1, marks=pytest.mark.rules('of/row/a'))])\n"
        "async def test_out(a): ...\n",
        encoding="utf-8",
    )

    found = {(mark.test, mark.values) for mark in marks.collect(tmp_path)}

    assert found == {
        ("tests/test_x.py::TestX::test_in", ("of/file/a",)),
        ("tests/test_x.py::TestX::test_in", ("of/class/a",)),
        ("tests/test_x.py::TestX::test_in", ("OIDC Core", "2", "words")),
        ("tests/test_x.py::test_out", ("of/file/a",)),
        ("tests/test_x.py::test_out", ("of/row/a",)),
    }


def test_mark_that_cannot_be_read_is_an_error(tmp_path: Path):
    file = tmp_path / "tests" / "test_x.py"
    file.parent.mkdir()
    file.write_text("import pytest\n@pytest.mark.rules(f'a{1}')\ndef test_x(): ...\n", encoding="utf-8")

    with pytest.raises(marks.MarkError):
        marks.collect(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        '{ section = "1", id = "a", level = "MUST", rule = "x", refused = "no" }',
        '{ section = "1", id = "a", level = "OUGHT", rule = "x" }',
        '{ section = "1", id = "a", level = "MUST", rule = "x", because = "it is so" }',
        '{ section = "1", id = "a", level = "MUST", rule = "x", refused = "it is so", unbuilt = "it is so" }',
        '{ section = "1", id = "a", level = "MUST", rule = "x" }, { section = "1", id = "a", level = "MUST", rule = "y" }',
    ],
    ids=["no sentence", "level", "key", "two reasons", "twice"],
)
def test_wrong_catalogue_is_an_error(entry: str, tmp_path: Path):
    (tmp_path / "one.toml").write_text(
        f'name = "N"\ntitle = "T"\naddress = "a"\nedition = "e"\nprefix = "p"\nrules = [{entry}]\n',
        encoding="utf-8",
    )
    (tmp_path / "others.toml").write_text("document = []\n", encoding="utf-8")

    with pytest.raises(catalogue.CatalogueError):
        catalogue.read(tmp_path)


def test_reasons_and_rules_are_sentences():
    rules = [rule for document in DOCUMENTS for rule in document.rules]

    assert [rule.name for rule in rules if not rule.text.endswith(".")] == []
    assert [rule.name for rule in rules if rule.absence and not rule.reason.endswith(".")] == []


def test_mutations_show_rules_that_their_test_names():
    held = page.holders(MARKS)
    wrong = [
        (mutation.name, rule)
        for mutation in load()
        for rule in mutation.rules
        if mutation.test.partition("[")[0] not in held.get(rule, ())
    ]

    assert wrong == []


def test_every_marked_test_exists():
    """The page takes names from the syntax; pytest must find the same."""
    for test in {mark.test for mark in MARKS}:
        path, *names = test.split("::")
        body: list[ast.stmt] = ast.parse((marks.ROOT / path).read_text(encoding="utf-8")).body
        for name in names:
            (node,) = (node for node in body if getattr(node, "name", "") == name)
            body = getattr(node, "body", [])
