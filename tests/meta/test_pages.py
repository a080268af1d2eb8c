"""Rules of the pages that a machine can hold (docs: right to left, no inline code, budgets)."""

import gzip
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "iam").rglob("templates/**/*.html"))
STYLES = sorted((ROOT / "iam").rglob("static/**/*.css"))
SCRIPTS = sorted((ROOT / "iam").rglob("static/**/*.js"))
# Its form goes to an application: our CSRF secret has no business there.
TO_OTHERS = "form_post.html"


@pytest.mark.parametrize("style", STYLES, ids=lambda path: path.name)
def test_style_uses_logical_directions_only(style):
    text = style.read_text(encoding="utf-8")

    found = re.findall(
        r"(?<![\w-])(?:left|right|margin-left|margin-right|padding-left|padding-right)\s*[:;]|text-align:\s*(?:left|right)",
        text,
    )

    assert found == []


@pytest.mark.parametrize("style", STYLES, ids=lambda path: path.name)
def test_style_is_at_most_8_kilobytes_and_loads_nothing(style):
    text = style.read_text(encoding="utf-8")

    assert len(text.encode()) <= 8192
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_template_has_no_inline_style_script_or_handler(template):
    text = template.read_text(encoding="utf-8")

    text = text.replace("<script src=\"{% static 'portal/form_post.js' %}\" defer></script>", "")
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:", text)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_template_marks_nothing_safe_but_the_picture_that_we_drew(template):
    marked = re.findall(r"{{ ([\w.]+)\|safe", template.read_text(encoding="utf-8"))

    assert set(marked) <= {"enrolment.qr_svg"}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_template_posts_only_with_a_csrf_field(template):
    text = template.read_text(encoding="utf-8")

    expected = 0 if template.name == TO_OTHERS else text.count('method="post"')
    assert text.count("{% csrf_token %}") == expected


def test_the_sheet_fits_the_first_pages_budget():
    assert len(gzip.compress(STYLES[0].read_bytes(), 9)) <= 4096


def test_the_only_script_sends_one_form_and_does_nothing_else():
    assert [path.name for path in SCRIPTS] == ["form_post.js"]
    text = SCRIPTS[0].read_text(encoding="utf-8")

    assert len(text.encode()) <= 300
    assert not re.search(r"eval|innerHTML|fetch|location|cookie|http", text)
