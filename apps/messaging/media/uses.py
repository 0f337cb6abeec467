"""Who still needs a media file: what names it for longer than the mark that it was used is believed.

`last_used_at` is set when content that names a file is accepted. A template may lie for years until it is used, and a
campaign until it is launched, so what keeps content registers here and is asked before a file is deleted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

from apps.messaging.media.addresses import media_ids_in

UsesOf = Callable[[UUID, Collection[UUID]], set[UUID]]
"""Gets an application and ids of its files; gives those that it needs."""
_registered: list[UsesOf] = []


def register_media_user(uses_of: UsesOf) -> None:
    """Ask `uses_of` before a file is deleted; called at start-up (`AppConfig.ready`)."""
    if uses_of not in _registered:
        _registered.append(uses_of)


def still_used(application_id: UUID, ids: Collection[UUID]) -> set[UUID]:
    """Those of `ids` that something kept names."""
    used: set[UUID] = set()
    for uses_of in _registered:
        used |= uses_of(application_id, ids)
    return used


def named_in(ids: Collection[UUID], *contents: Any) -> set[UUID]:
    """Those of `ids` that stand in texts or JSON: as an address, or as an id of its own."""
    texts = [content if isinstance(content, str) else json.dumps(content) for content in contents if content]
    found = media_ids_in(texts)
    return {key for key in ids if key in found or any(str(key) in text for text in texts)}


def used_by_templates(application_id: UUID, ids: Collection[UUID]) -> set[UUID]:
    """Those that a template names in its present version."""
    from apps.messaging.models import MessageTemplate  # which imports this package's models

    used: set[UUID] = set()
    templates = MessageTemplate.objects.filter(application_id=application_id)
    names = ("title_template", "body_template", "data_template", "options", "variants")
    for row in templates.values_list(*names).iterator(200):
        used |= named_in(ids, *row)
    return used
