"""What docs/asking.md tells developers is what the code does."""

import json
import re
from pathlib import Path

from iam.oauth.protocol.claims import CLAIM_SCOPES
from iam.oauth.protocol.detail_schema import check_schema, compile_schema
from iam.oauth.protocol.levels import LEVELS, PASSWORD, REACHABLE, WITH_FACTOR

TEXT = (Path(__file__).parents[2] / "docs" / "asking.md").read_text(encoding="utf-8")


def test_example_of_a_type_and_of_a_request_for_it_are_good():
    (example,) = json.loads(re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1])
    (asked,) = json.loads(re.search(r"`authorization_details=(\[.*?\])`", TEXT)[1])

    assert compile_schema(example["type"], check_schema(example["schema"])).problem(asked) == ""


def test_table_of_claims_is_whole():
    told = {
        name: scope
        for scope, names in re.findall(r"^\| `(\w+)` \| (`.*) \|$", TEXT, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", names)
        if scope in set(CLAIM_SCOPES.values())
    }

    assert told == CLAIM_SCOPES


def test_table_of_levels_is_whole():
    rows = re.findall(r"^\| `(aal\d)` \| .* \| `(.*)` \|$", TEXT, re.MULTILINE)

    assert rows == [(worth.levels[-1], " ".join(worth.amr)) for worth in (PASSWORD, *WITH_FACTOR.values())]
    assert all(f"`{level}`" in TEXT for level in LEVELS)
    assert [level for level in LEVELS if level not in REACHABLE] == ["phr", "phrh"]
