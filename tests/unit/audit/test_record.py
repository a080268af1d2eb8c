"""What an event is made of, without a database."""

import json
import re
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam.audit.record import canonical, commit, neutral, uuid7
from iam.audit.tags import Action

NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "character",
    [
        "\r",
        "\n",
        "\x00",
        "\x1b",
        "\x7f",
        "\x85",
        "\u2028",
        "\u2029",
        "\u202e",
        "\u2066",
        "\u200f",
        "\u061c",
        "\u200b",
        "\ufeff",
    ],
    ids=lambda character: f"U+{ord(character):04X}",
)
def test_neutral_of_a_character_that_could_pass_for_structure_is_its_escape(character):
    assert neutral(f"a{character}b", 100) == f"a\\u{ord(character):04x}b"


@given(st.text(st.characters(codec=None)))
def test_neutral_of_anything_is_one_line_that_can_be_stored(text):
    stored = neutral(text, 500)

    assert len(stored.splitlines()) <= 1
    assert "\x1b" not in stored
    stored.encode("utf-8")


def test_neutral_leaves_arabic_as_it_is():
    assert neutral("أمينة — نيامي", 100) == "أمينة — نيامي"


def test_neutral_of_a_long_text_is_cut():
    assert len(neutral("\n" * 500, 300)) == 300


def test_canonical_is_one_spelling_of_equal_values():
    assert canonical({"b": "é", "a": 1}) == canonical({"a": 1, "b": "é"}) == '{"a":1,"b":"é"}'.encode()


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=5),
    st.binary(min_size=16, max_size=16),
)
def test_commitment_of_other_details_differs(details, salt):
    other = {**details, "more": "x" * 21}

    assert commit(salt, details) != commit(salt, other)
    assert commit(salt, details) == commit(salt, dict(json.loads(canonical(details))))


def test_commitment_under_another_salt_differs():
    assert commit(b"a" * 16, {"address": "192.0.2.1"}) != commit(b"b" * 16, {"address": "192.0.2.1"})


def test_uuid7_says_the_time_and_its_version():
    at = NOW + timedelta(days=3650)  # after whatever other tests asked for

    value = uuid7(at)

    assert (value.version, value.variant) == (7, "specified in RFC 4122")
    assert abs((value.int >> 80) - int(at.timestamp() * 1000)) <= 2


def test_uuid7_of_one_process_only_grows_even_when_the_clock_jumps_back():
    values = [uuid7(NOW - timedelta(seconds=number)) for number in range(10_000)]

    assert values == sorted(set(values))


def test_uuid7_from_many_threads_never_repeats():
    found: list = []

    def work() -> None:
        found.extend([uuid7(NOW) for _ in range(2000)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(found)) == 8000


def test_actions_are_subject_object_action():
    assert all(re.fullmatch(r"[a-z]+:[a-z]+:[a-z]+", action.value) for action in Action)
    assert len({action.value for action in Action}) == len(Action)
