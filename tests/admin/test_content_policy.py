"""No page has a script of its own: the content policy would refuse it, and with it whatever somebody smuggled in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
TEMPLATES = sorted([*(ROOT / "templates").rglob("*.html"), *(ROOT / "apps").rglob("templates/**/*.html")])
_INLINE = re.compile(r"<script(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")", re.IGNORECASE)
_HANDLER = re.compile(r"<[^>]*\s(?:on[a-z]+|hx-on[\w:-]*)=", re.IGNORECASE)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_template_has_a_script_in_it(template):
    text = template.read_text()
    assert not _INLINE.search(text)
    assert not _HANDLER.search(text)


@pytest.mark.parametrize("path", ["/admin/", "/account/login/", "/api/docs/", "/nowhere"])
def test_every_answer_says_what_a_page_may_do(client, db, path):
    policy = client.get(path)["Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["script-src"] == "'self' 'unsafe-eval'"
    assert directives["default-src"] == "'self'"
    assert directives["object-src"] == directives["frame-ancestors"] == "'none'"
    assert "http" not in policy


def test_pages_for_recipients_may_do_less(client, db):
    assert client.get("/e/unsubscribe/x")["Content-Security-Policy"].startswith("default-src 'none'")
