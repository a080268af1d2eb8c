"""Every reason of a refusal has its line for the developer whose client was refused."""

import ast
from pathlib import Path

from iam.oauth.protocol.refusals import REFUSALS

ROOT = Path(__file__).parents[2] / "iam" / "oauth"
# Calls whose `reason` is a refusal's, with the place of the error that stands for it when there is none.
ERRORS = {"OAuthError": 0, "BearerError": 0, "Unshowable": 0, "InvalidClient": None, "InvalidProof": None}
PREFIXED = {"_refusal": "object_"}  # request_object.py
WORDS = {"BadAssertion": 0}
# Reasons of other things than refusals: why a page is shown, why a family or session ended.
OTHERS = {"none", "policy", "signed_out", "ran_out", "sent_again", "reason", "authorization_pending"}


def _constant(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def reasons_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        named = next((_constant(word.value) for word in node.keywords if word.arg == "reason"), "")
        given = any(word.arg == "reason" for word in node.keywords)
        if name in ERRORS:
            place = ERRORS[name]
            found.add(named or (_constant(node.args[place]) if place is not None and not given else ""))
        elif name in WORDS:
            found.add(_constant(node.args[WORDS[name]]))
        elif name in PREFIXED and path.name == "request_object.py":
            found.add(PREFIXED[name] + _constant(node.args[0]))
        elif named:
            found.add(named)
    return found - {""} - OTHERS


def test_every_reason_in_the_code_is_explained() -> None:
    missing = {
        reason: path.name
        for path in sorted(ROOT.rglob("*.py"))
        for reason in reasons_of(path)
        if reason not in REFUSALS
    }

    assert missing == {}


def test_every_line_is_one_sentence_that_a_developer_can_read() -> None:
    for reason, told in REFUSALS.items():
        assert reason.replace("_", "").isalnum(), reason
        assert told.advice.endswith("."), reason
        assert len(told.advice) <= 120, reason
        assert "\n" not in told.advice, reason


def test_the_check_sees_reasons_at_all() -> None:
    seen = {reason for path in ROOT.rglob("*.py") for reason in reasons_of(path)}

    assert {"code_replayed", "invalid_request", "wrong_format"} - seen == {"wrong_format"}
    assert len(seen) > 60
