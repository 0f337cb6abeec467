"""The console in Korean shows no English words but names, codes and what people wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from html.parser import HTMLParser
from zoneinfo import available_timezones

from django.urls import NoReverseMatch, reverse

from apps.tenants.console.pages import pages
from tests.admin.pages import address, list_of, registered, text_of

SILENT = ("script", "style", "code", "pre", "textarea", "svg", "template", "title")
SPOKEN = ("aria-label", "title", "placeholder", "alt", "data-label")
WITHOUT_END = {"input", "br", "img", "meta", "link", "hr", "source", "path", "rect", "circle", "line", "wbr", "col"}
HANGUL = re.compile("[가-힣]")
ENGLISH = re.compile(r"(?<![\w@./:#{&?=-])[A-Za-z][a-z]{2,}(?![\w@/:}=-]|\.\w)")
NAMES = {
    *("Automata", "Signal", "English", "Kakao", "Solapi", "Cloud", "Twilio", "Mailgun", "SendGrid", "Postmark"),
    *("Resend", "Amazon", "Apple", "Google", "Firebase", "Android", "Flower", "Celery", "Redis", "PostgreSQL"),
    *("Brevo", "Python", "Excel", "Gmail", "Gzip", "gzip", "esc", "django", "celery", "psycopg", "granian"),
    *("control", "webhooks", "Swift", "Kotlin", "JavaScript", "Web", "curl"),
}
"""Of products, of programs and of keys."""
ZONES = {zone.replace("_", " ") for zone in available_timezones()} | available_timezones()
MASKED = re.compile(r"\w+…\w*")
CODES = {
    *("email", "Email", "kakao", "thumbnail", "api", "message.*", "subscription.*", "complaint", "tests", "messages"),
    *("basic", "free", "premium", "enterprise", "Basic", "Free", "Premium", "Enterprise", "name", "news", "mark"),
    *("There", "status", "launch", "Hi Jimin Kim", "Hi — There", "Hi {{ name }}", "0 → 1 · api", "– → 1 · api"),
    *("Crontab translation", '{"type": "service_account", …}'),
}
"""Data of the rows, and codes that are written as they are."""


def is_data(text: str, marks: list[str]) -> bool:
    known = text in CODES or text in ZONES or MASKED.fullmatch(text)
    return bool(known) or any(mark in text for mark in marks)


class Words(HTMLParser):
    """The texts of a page that somebody reads or hears."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs) -> None:
        given = dict(attrs)
        is_icon = "material-symbols-outlined" in (given.get("class") or "")
        is_data = "data-as-written" in given or given.get("translate") == "no"
        if tag not in WITHOUT_END:
            self._open.append("script" if is_icon or is_data else tag)
        if not is_data and not any(name in SILENT for name in self._open[:-1]):
            self.texts += [value for name, value in attrs if name in SPOKEN and value]
            if tag == "input" and given.get("type") in ("submit", "button"):
                self.texts.append(given.get("value") or "")

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag not in WITHOUT_END:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if not any(name in SILENT for name in self._open):
            self.texts.append(data)


def english_of(page: str, marks: list[str]) -> Iterator[str]:
    """Texts without a Korean letter in which there are English words."""
    words = Words()
    words.feed(page)
    for text in (" ".join(text.split()) for text in words.texts):
        if not HANGUL.search(text) and set(ENGLISH.findall(text)) - NAMES and not is_data(text.strip(" ·:"), marks):
            yield text[:120]


def addresses(world) -> Iterator[str]:
    yield "/admin/"
    yield from (reverse(f"admin:{page.name}") for page in pages() if "<" not in page.path)
    yield from ("/account/", "/account/security/", "/account/sessions/", "/account/2fa/", "/account/password/change/")
    for label, model_admin in registered().items():
        yield list_of(label)
        yield address(label, "add")
        if row := world.rows.get(label):
            yield from pages_of_row(model_admin, row)
            yield from (address(label, "do", row.pk, name) for name in getattr(model_admin, "row_actions", ()))
    campaign = world["campaigns.MessageCampaign"]
    for step in ("basics", "audience", "content", "variants", "schedule", "check", "launch"):
        yield address("campaigns.MessageCampaign", "step", campaign.pk, step)


def pages_of_row(model_admin, row) -> Iterator[str]:
    """Its page, its history, and what its admin has besides."""
    for pattern in model_admin.get_urls():
        if not str(pattern.name).endswith("reportschedule_preview"):  # a letter, in the report's own language
            with suppress(NoReverseMatch):
                yield reverse(f"admin:{pattern.name}", args=[row.pk])


def test_no_page_has_english_words(world, root):
    root.cookies["django_language"] = "ko"
    found: dict[str, str] = {}
    marks = [*world.marks, "Shop", "Root", "k" * 40, "abcdefgh", "com.example", "example.com", "thumbnail", " · 01"]
    for place in addresses(world):
        answer = root.get(place)
        if answer.status_code == 200 and "text/html" in answer["Content-Type"]:
            for text in english_of(text_of(answer), marks):
                found.setdefault(text, place)
    listed = "\n".join(f"{place}: {text}" for text, place in sorted(found.items(), key=lambda item: item[1]))
    assert not found, listed
