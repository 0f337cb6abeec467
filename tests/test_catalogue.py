"""The console's words in Korean: all of them are there, and both files are in step with the code."""

from __future__ import annotations

import gettext
import io

import pytest
from django.utils import translation

from tools import catalogue
from tools.catalogue import Text

HOW = "`./run messages` lists them, and brings both files in step; CONTRIBUTING.md says how words are written"


@pytest.fixture(scope="module")
def asked() -> set[Text]:
    return catalogue.texts_asked()


@pytest.fixture(scope="module")
def translated() -> dict[Text, str]:
    return catalogue.translations()


def test_every_text_of_the_console_is_in_korean(asked, translated):
    missing = sorted(text for text in asked if not translated.get(text))
    listed = "\n".join(f"  {text.singular!r}" for text in missing)
    assert not missing, f"{len(missing)} texts have no Korean: {HOW}.\n{listed}"


def test_no_text_stays_that_nobody_asks_for(asked, translated):
    assert sorted(translated.keys() - asked) == [], HOW


def test_placeholders_and_tags_are_the_same_in_both_languages(translated):
    wrong = [
        f"{problem}: {text.singular!r} → {korean!r}"
        for text, korean in sorted(translated.items())
        for problem in catalogue.problems_of(text, korean)
    ]
    assert not wrong, "\n".join(wrong)


def test_both_files_are_as_the_tool_writes_them(translated):
    assert catalogue.PO.read_bytes() == catalogue.po_bytes(translated), HOW
    assert catalogue.MO.read_bytes() == catalogue.mo_bytes(translated), HOW


def test_what_is_compiled_is_read_by_python():
    texts = {Text("day"): "날", Text("%(n)s day", "%(n)s days"): "%(n)s일", Text("May", context="month"): "5월"}
    read = gettext.GNUTranslations(io.BytesIO(catalogue.mo_bytes(texts)))
    assert read.gettext("day") == "날"
    assert read.ngettext("%(n)s day", "%(n)s days", 3) == "%(n)s일"
    assert read.pgettext("month", "May") == "5월"
    assert read.gettext("no such text") == "no such text"


def test_texts_of_python_are_found():
    source = b"""
_("One"); gettext_lazy("Two " "lines"); ngettext("a row", "%(n)s rows", n); pgettext("verb", "Open"); _(name); f("Not")
"""
    found = set(catalogue.texts_of_python(source))
    assert found == {Text("One"), Text("Two lines"), Text("a row", "%(n)s rows"), Text("Open", context="verb")}


def test_texts_of_templates_are_what_django_looks_up():
    source = """{% load i18n %}
      {% translate "It's 5 % of it" as share %}{{ _("In a variable")|upper }}{% if x == _("In a tag") %}{% endif %}
      {% translate "Open" context "verb" %}
      {% blocktranslate trimmed count n=rows|length %}
        {{ n }} row
      {% plural %}
        {{ n }} rows
      {% endblocktranslate %}
    """
    assert set(catalogue.texts_of_template(source)) == {
        *(Text("It's 5 %% of it"), Text("In a variable"), Text("In a tag"), Text("Open", context="verb")),
        Text("%(n)s row", "%(n)s rows"),
    }


@pytest.mark.parametrize(
    ("english", "korean", "is_right"),
    [
        ("%(count)s rows", "%(count)s행", True),
        ("%(count)s rows", "행", False),
        ("%(count)s rows", "%(rows)s행", False),
        ('<a href="{}">Back</a>', '<a href="{}">뒤로</a>', True),
        ('<a href="{}">Back</a>', "뒤로 {}", False),
        ("fields: ", "필드:", False),
    ],
)
def test_a_wrong_placeholder_is_found(english, korean, is_right):
    assert (list(catalogue.problems_of(Text(english), korean)) == []) is is_right


def test_names_that_django_makes_of_attributes_are_translated():
    from apps.analytics.models import Export

    field = next(f for f in Export._meta.fields if f._verbose_name is None)
    with translation.override("en"):
        assert str(field.verbose_name) == field.name.replace("_", " ")
    with translation.override("ko"):
        assert str(field.verbose_name) != field.name.replace("_", " ")
