"""A session ends by one road only, or an application would not learn of it (US-03, docs/adr/0032)."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROAD = ROOT / "iam" / "accounts" / "services.py"


def writes_the_end(source: str) -> bool:
    """Say whether code gives `ended_at` a value: by keyword, by attribute, or in SQL."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(keywords=words):
                named = any(
                    word.arg == "ended_at"
                    and not (isinstance(word.value, ast.Constant) and word.value.value is None)
                    for word in words
                )
            case ast.Assign(targets=targets):
                named = any(
                    isinstance(target, ast.Attribute) and target.attr == "ended_at" for target in targets
                )
            case ast.Constant(value=str() as text):
                named = "ended_at =" in text or "DELETE FROM accounts_loginsession" in text
            case _:
                named = False
        if named:
            return True
    return False


def test_only_one_file_ends_sessions():
    found = [
        path
        for folder in ("iam", "directory", "mfa", "deploy")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "migrations" not in path.parts and writes_the_end(path.read_text(encoding="utf-8"))
    ]

    assert found == [ROAD]


def test_a_second_road_would_be_seen():
    assert writes_the_end("sessions.update(ended_at=now)")
    assert writes_the_end("session.ended_at = now")
    assert writes_the_end("sql('UPDATE accounts_loginsession SET ended_at = 1')")
    assert not writes_the_end("sessions.filter(ended_at=None)")
