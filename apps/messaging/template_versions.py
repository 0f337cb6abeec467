"""Versions of a template: what one says beside another, and taking an old one up again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from apps.messaging.models import MessageTemplate, MessageTemplateVersion
from apps.messaging.services import template_create, template_update
from automata_signal.errors import NotFound

CONTENT = ("title_template", "body_template", "data_template", "options", "variants")
WORDS_MAX = 4_000
"""Of longer texts whole lines are compared: by words it would take too long."""
NAME_MAX = 200


class Piece(NamedTuple):
    """A part of a text beside another: `same`, `added` or `removed`."""

    kind: str
    text: str


class Change(NamedTuple):
    """What differs in one part of the template."""

    channel: str
    language: str
    part: str
    """title, body, data or options."""
    pieces: list[Piece]


def version_get(template: MessageTemplate, version: int) -> MessageTemplateVersion:
    """Raises `NotFound`."""
    row = template.versions.filter(version=version).first()
    if row is None:
        raise NotFound("The template has no such version.")
    return row


def template_restore(*, template: MessageTemplate, version: int, by: str) -> MessageTemplate:
    """Have the template say again what it said in `version`: as a new version, so that nothing is lost. Raises
    `NotFound`, and `ValidationFailed` for content that would be refused today."""
    old = version_get(template, version)
    return template_update(template=template, changed_by=by, changes={name: getattr(old, name) for name in CONTENT})


def template_duplicate(*, template: MessageTemplate, by: str) -> MessageTemplate:
    """Another template with the same content, under a name that is free."""
    taken = set(
        MessageTemplate.objects.for_application(template.application)
        .filter(name__startswith=template.name[: NAME_MAX - 10])
        .values_list("name", flat=True)
    )
    base = template.name[: NAME_MAX - 10]
    name = next(name for number in range(2, len(taken) + 3) if (name := f"{base} ({number})") not in taken)
    return template_create(
        application=template.application,
        created_by=by,
        name=name,
        description=template.description,
        **{field: getattr(template, field) for field in CONTENT},
    )


def changes_between(old: MessageTemplateVersion, new: MessageTemplateVersion) -> list[Change]:
    """What differs, part by part, in the order of the channels; nothing of what is the same."""
    before, after = parts_of(old), parts_of(new)
    return [
        Change(*place, compared(before.get(place, ""), after.get(place, "")))
        for place in sorted({*before, *after}, key=_order)
        if before.get(place, "") != after.get(place, "")
    ]


def parts_of(version: MessageTemplateVersion) -> dict[tuple[str, str, str], str]:
    """Channel, language and part → its text; of every channel and of everybody is an empty name."""
    own = {
        "title": version.title_template,
        "body": version.body_template,
        "data": version.data_template,
        "options": version.options,
    }
    found = {("", "", part): text for part, text in _texts(own)}
    for variant in version.variants if isinstance(version.variants, list) else []:
        key = (str(variant.get("channel", "")), str(variant.get("language", "")))
        found |= {(*key, part): text for part, text in _texts(variant)}
    return found


def _texts(words: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for part in ("title", "body", "data", "options"):
        value = words.get(part) or ""
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
        if text:
            yield part, text


def _order(place: tuple[str, str, str]) -> tuple[str, str, int]:
    channel, language, part = place
    return channel, language, ("title", "body", "data", "options").index(part)


def compared(old: str, new: str) -> list[Piece]:
    """The two texts as one, word by word; line by line if they are long."""
    before, after = _split(old), _split(new)
    if len(before) + len(after) > WORDS_MAX:
        before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    pieces: list[Piece] = []
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=True).get_opcodes():
        if kind == "equal":
            pieces.append(Piece("same", "".join(before[i1:i2])))
            continue
        if i2 > i1:
            pieces.append(Piece("removed", "".join(before[i1:i2])))
        if j2 > j1:
            pieces.append(Piece("added", "".join(after[j1:j2])))
    return pieces


def _split(text: str) -> list[str]:
    """Words, blanks and signs, each by itself."""
    return re.findall(r"\{\{.*?\}\}|\w+|\s+|[^\w\s]", text)
