"""What advertising has to say in Korea (정보통신망법 50 ④, Decree 61 ③ and annex 6), where the application's setting
`advertising_rules` is `kr`; and what no message may be, whatever the setting.

| Channel | The mark `(광고)` first | Sender's name | How to refuse, free of charge |
| --- | --- | --- | --- |
| SMS, LMS | body | right after the mark | last in the body: `무료수신거부` or `무료거부` and the 080 number |
| push | title, or body without a title | in title or body | the app's own settings; the device shows whose it is |
| e-mail | subject | in the body | a link in the body: `{{ unsubscribe_url }}` |
| in-app | title, or body without a title | in title or body | as push |

Alimtalk is for information: advertising is refused. With the setting `ad_mark_add` what is missing is added; what is
there in a wrong form, such as `[광고]` or `(광 고)`, is refused all the same: it would stand beside the right one.

Source: providers.md 4.6, of the Act as in force 2026-07-07 and KISA's guide. What a variable holds is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any

from apps.messaging.adapters.email_content import PREFERENCES_MARK, UNSUBSCRIBE_MARK, marked
from apps.messaging.content import ContentSource
from apps.messaging.models import Purpose
from apps.subscriptions.preferences.categories import category_by_slug
from apps.subscriptions.preferences.letters import sender_name
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application
from automata_signal.errors import FieldProblem, ValidationFailed

MARK = "(광고)"
# What people write instead: other brackets, full-width ones, something between the letters, or English. The blanks give
# nothing back (`*+`): 60,000 of them would take minutes.
_VARIANT = re.compile(
    r"[\s\u200b-\u200f\u2060\ufeff]*+[\[({<（［【〔《〈{｛]?[\s\u200b-\u200f\u2060\ufeff]*+"
    r"(광[\s\W_]*고|ad|advertisement)[\s\u200b-\u200f\u2060\ufeff]*[\])}>）］】〕》〉}｝]",
    re.IGNORECASE,
)
_SEPARATORS = r"[\s\[\](){}<>【】:·|-]*"
_REFUSAL = re.compile(r"무료\s?(수신)?거부\s*:?\s*080-?[0-9]{3,4}-?[0-9]{4}\s*\Z")
"""At the end of an SMS; providers check the same (NHN -6003). Spaces and hyphens are allowed."""


def complete_advertising(application: Application, source: ContentSource) -> ContentSource:
    """A preparer (`register_preparer`), the last of each channel: the category is one of the application's and fits
    the purpose, and advertising says what it must. Raises `ValidationFailed` with the field."""
    _check_category(application, source)
    is_marketing = source.purpose == Purpose.MARKETING
    if is_marketing and source.channel_type == ChannelType.KAKAO_TALK:
        raise ValidationFailed.of("purpose", "cannot be marketing: Alimtalk is for information only")
    if application.settings.get("advertising_rules") != "kr":
        return source
    if not is_marketing:
        _refuse_unmarked_purpose(source)
        return source
    if source.options.get("list_unsubscribe") is False:
        raise ValidationFailed.of("options.list_unsubscribe", "cannot be false for advertising")
    words = {"title": source.title, "body": source.body}
    own = _completed(application, source, words, "")
    languages = {
        key: {**theirs, **_completed(application, source, theirs, f" (in {key})")}
        for key, theirs in source.languages.items()
    }
    return replace(source, title=own["title"], body=own["body"], languages=languages)


def _check_category(application: Application, source: ContentSource) -> None:
    if not source.category:
        return
    category = category_by_slug(application.pk, source.category)
    if category is None:
        raise ValidationFailed.of("category", "is not a category of the application")
    if category.is_marketing and source.purpose != Purpose.MARKETING:
        raise ValidationFailed.of("category", "is for advertising: it goes with the purpose marketing")
    if not category.may_opt_out and source.purpose == Purpose.MARKETING:
        raise ValidationFailed.of("category", "cannot be refused, so it cannot be of advertising")


def _refuse_unmarked_purpose(source: ContentSource) -> None:
    """Whoever writes the mark says that it is advertising, and then needs consent."""
    for text in (source.title, source.body):
        if text.lstrip().startswith(MARK):
            raise ValidationFailed.of("purpose", f"must be marketing for a text that begins with {MARK}")


def _completed(application: Application, source: ContentSource, words: Mapping[str, Any], where: str) -> dict[str, str]:
    """Title and body with what is missing, if it is to be added. Raises `ValidationFailed` with every field."""
    text = {"title": str(words.get("title", "")), "body": str(words.get("body", ""))}
    sender = sender_name(application)
    if application.settings.get("ad_mark_add"):
        text = _added(source.channel_type, text, sender, str(application.settings.get("ad_opt_out_number", "")))
    problems = [
        FieldProblem(field, f"{message}{where}") for field, message in _problems(source.channel_type, text, sender)
    ]
    if problems:
        raise ValidationFailed("The text is not what advertising has to be.", details=problems)
    return text


def _marked_field(channel: str, text: Mapping[str, str]) -> str:
    if channel == ChannelType.EMAIL:
        return "title"
    if channel == ChannelType.SMS:
        return "body"
    return "title" if text["title"].strip() else "body"


def _problems(channel: str, text: Mapping[str, str], sender: str) -> list[tuple[str, str]]:
    field = _marked_field(channel, text)
    problems: list[tuple[str, str]] = []
    if not text[field].startswith(MARK):
        if _VARIANT.match(text[field]):
            problems.append((field, f"must begin with exactly {MARK}: other forms of the mark are not allowed"))
        else:
            problems.append((field, f"must begin with exactly {MARK}, since it is advertising"))
    if channel == ChannelType.SMS:
        begins = re.compile(re.escape(MARK) + _SEPARATORS + re.escape(sender))
        if not begins.match(text["body"]) and text["body"].startswith(MARK):
            problems.append(("body", f"must name the sender, {sender}, after {MARK}"))
        if not _REFUSAL.search(text["body"]):
            problems.append(("body", "must end with 무료수신거부 or 무료거부 and the 080 number"))
        return problems
    if channel == ChannelType.EMAIL:
        if sender not in text["body"] and escape(sender) not in text["body"]:
            problems.append(("body", f"must name the sender, {sender}"))
        body = marked(text["body"])
        if UNSUBSCRIBE_MARK not in body and PREFERENCES_MARK not in body:
            problems.append(("body", "must have a link to refuse: {{ unsubscribe_url }}"))
        return problems
    if sender not in f"{text['title']} {text['body']}":
        problems.append(("body", f"must name the sender, {sender}, here or in the title"))
    return problems


def _added(channel: str, text: dict[str, str], sender: str, number: str) -> dict[str, str]:
    """`text` with the mark, the sender's name and the way to refuse where they are missing."""
    text = dict(text)
    field = _marked_field(channel, text)
    has_variant = _VARIANT.match(text[field]) is not None and not text[field].startswith(MARK)
    if channel == ChannelType.SMS:
        rest = text["body"].removeprefix(MARK).lstrip()
        if not re.match(_SEPARATORS + re.escape(sender), rest):
            rest = f"{sender} {rest}"
        if not has_variant:
            text["body"] = f"{MARK}{rest}" if text["body"].startswith(MARK + sender) else f"{MARK} {rest}"
        if number and not _REFUSAL.search(text["body"]):
            text["body"] = f"{text['body'].rstrip()}\n무료수신거부 {number}"
        return text
    if not has_variant and not text[field].startswith(MARK):
        text[field] = f"{MARK} {text[field]}"
    if channel == ChannelType.EMAIL:
        return text | {"body": _with_footer(text["body"], sender)}
    if sender not in f"{text['title']} {text['body']}":
        text["body"] = f"{text['body']} [{sender}]".strip()
    return text


def _with_footer(body: str, sender: str) -> str:
    is_named = sender in body or escape(sender) in body
    shown = marked(body)
    has_link = UNSUBSCRIBE_MARK in shown or PREFERENCES_MARK in shown
    if is_named and has_link:
        return body
    parts = ([] if is_named else [escape(sender)]) + (
        [] if has_link else ['<a href="{{ unsubscribe_url }}">수신거부 (Unsubscribe)</a>']
    )
    footer = f"<p>{' · '.join(parts)}</p>"
    at = body.lower().rfind("</body>")
    return f"{body}\n{footer}" if at < 0 else f"{body[:at]}{footer}\n{body[at:]}"
