"""Nothing is left in English on an Arabic or French page (US-04 AC4)."""

import re
from pathlib import Path

import pytest
from babel.messages.catalog import Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parents[2]
# Names that are the same in every language.
SAME = frozenset[str]()
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w+\}|</?\w+>")


def catalogue(language: str) -> dict[str, Message]:
    with (ROOT / "iam" / "locale" / language / "LC_MESSAGES" / "django.po").open("rb") as file:
        return {
            message.id[0] if isinstance(message.id, tuple) else message.id: message
            for message in read_po(file, locale=language)
            if message.id
        }


def texts_in_the_code() -> set[str]:
    """Return every text that a page or a view asks to be translated."""
    found = set()
    for template in (ROOT / "iam").rglob("templates/**/*.html"):
        source = template.read_text(encoding="utf-8")
        found |= {a or b for a, b in re.findall(r"""{% translate (?:"([^"]+)"|'([^']+)') %}""", source)}
        for block in re.findall(r"{% blocktranslate[^%]*%}(.*?){% endblocktranslate %}", source, re.DOTALL):
            singular = block.partition("{% plural %}")[0]
            found.add(re.sub(r"{{ (\w+) }}", r"%(\1)s", singular))
    for _, _, message, *_ in extract_from_dir(
        ROOT / "iam", [("**.py", "python")], keywords={"_": None, "gettext": None, "ngettext": (1, 2)}
    ):
        found.add(message[0] if isinstance(message, tuple) else message)
    return found


@pytest.mark.parametrize("language", ["ar", "fr"])
def test_every_text_of_the_code_is_translated(language):
    known = catalogue(language)

    assert texts_in_the_code() - set(known) == set()
    assert set(known) - texts_in_the_code() == set(), "translated, but no longer in the code"


@pytest.mark.parametrize("language", ["ar", "fr"])
def test_no_translation_is_empty_fuzzy_or_the_english_text(language):
    for text, message in catalogue(language).items():
        forms = message.string if isinstance(message.string, tuple) else (message.string,)
        assert all(forms), text
        assert not message.fuzzy, text
        assert text in SAME or all(form.strip().casefold() != text.strip().casefold() for form in forms), text


@pytest.mark.parametrize("language", ["ar", "fr"])
def test_translations_keep_placeholders_and_markup(language):
    for text, message in catalogue(language).items():
        if isinstance(message.id, tuple):
            continue
        assert sorted(PLACEHOLDER.findall(message.string)) == sorted(PLACEHOLDER.findall(text)), text


def test_arabic_has_six_plural_forms():
    plural = [message for message in catalogue("ar").values() if isinstance(message.id, tuple)]

    assert plural
    assert all(len(message.string) == 6 for message in plural)


def test_arabic_texts_are_arabic():
    for text, message in catalogue("ar").items():
        forms = message.string if isinstance(message.string, tuple) else (message.string,)
        assert all(re.search("[\u0600-\u06ff]", form) for form in forms), text
