"""What the hosted pages share: how a page is answered, which headers it has, and how often a link may be followed.

No session, no cookie, no script and nothing from elsewhere: the token in the path is what allows, so that a page must
not be framed, kept on the way, or told to other sites as the address one came from.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.subscriptions.preferences.pages.texts import TEXTS, language_for
from apps.tenants.access import client_address, count_request, network_of

STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:34rem;padding:2rem 1rem;color:#1f2937;"
    "background:#fff;overflow-wrap:anywhere}"
    "h1{font-size:1.5rem;line-height:1.3}"
    "fieldset{border:1px solid #6b7280;border-radius:.5rem;margin:0 0 1rem;padding:.5rem 1rem}"
    "legend{font-weight:600;padding:0 .3rem}"
    ".choice{display:grid;grid-template-columns:1.75rem 1fr;align-items:start;padding:.4rem 0}"
    ".choice p{grid-column:2;margin:0;font-size:.875rem;color:#4b5563}"
    "input[type=checkbox]{width:1.25rem;height:1.25rem;margin:.15rem 0 0}"
    "button{font:inherit;width:100%;min-height:2.75rem;padding:.6rem;margin:.3rem 0;border:1px solid #4338ca;"
    "border-radius:.5rem;background:#4338ca;color:#fff;cursor:pointer}"
    "button.plain{background:transparent;color:inherit;border-color:#6b7280}"
    ":focus-visible{outline:3px solid #f59e0b;outline-offset:2px}"
    "[role=status]{border-left:4px solid #15803d;padding-left:.75rem;font-weight:600}"
    "footer{margin-top:2rem}"
    "@media(prefers-color-scheme:dark){body{color:#e5e7eb;background:#111827}a{color:#a5b4fc}"
    ".choice p{color:#9ca3af}}"
)
FORM_MAX_BYTES = 256 * 1024
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def page(
    request: HttpRequest, language: str, context: dict[str, Any], *, status: int = 200, template: str = "page"
) -> HttpResponse:
    """A page in one of the two languages. `context` has `title`, and what the template shows besides."""
    other = "en" if language == "ko" else "ko"
    is_chosen = request.GET.get("lang") == language
    frame = {
        "language": language,
        "text": TEXTS[language],
        "style": STYLE,
        "address": f"{request.path}?lang={language}" if is_chosen else request.path,
        "other_language": other,
        "other_address": f"{request.path}?lang={other}",
    }
    answer = render(None, f"preferences/{template}.html", {**frame, **context}, status=status)
    answer["Content-Language"] = language
    answer["Content-Security-Policy"] = POLICY
    answer["Referrer-Policy"] = "no-referrer"
    answer["Cache-Control"] = "no-store"
    answer["X-Robots-Tag"] = "noindex, nofollow"
    return answer


def is_too_large(request: HttpRequest) -> bool:
    """Whether a form is larger than any of our pages: one with files would be written to disk as it comes."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    return not length.isdecimal() or int(length) > FORM_MAX_BYTES


def refusal(request: HttpRequest, kind: str, *, status: int) -> HttpResponse:
    """`gone`, `expired` or `busy`: nothing about whom the link is for."""
    language = language_for(request)
    text = TEXTS[language]
    return page(request, language, {"title": text[kind], "lines": [text[f"{kind}_text"]]}, status=status)


def refused_link(request: HttpRequest) -> HttpResponse:
    """404 for what we never signed; who guesses is told to wait in the end."""
    limit = settings.API_RATE_PER_MINUTE["unauthenticated"]
    state = count_request((f"refused-link:{network_of(client_address(request))}", limit))
    if state is not None and state.remaining < 0:
        return refusal(request, "busy", status=429)
    return refusal(request, "gone", status=404)


def is_too_often(subscription_id: UUID) -> bool:
    """Whether one person's links are followed too often. Not by address: mail providers unsubscribe many from one."""
    state = count_request((f"link:{subscription_id}", settings.API_RATE_PER_MINUTE["link"]))
    return state is not None and state.remaining < 0
