"""Every action of the audit has its words for somebody who reads it for the first time."""

from iam.audit.tags import Action
from iam.audit.words import WORDS, in_words


def test_every_action_has_words_of_its_own() -> None:
    assert set(WORDS) == set(Action)
    assert len(set(WORDS.values())) == len(WORDS)


def test_action_of_a_later_release_stands_for_itself() -> None:
    assert in_words("person:something:new") == "person:something:new"
