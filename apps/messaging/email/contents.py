"""What an e-mail's options say of its links, unless told: by what it is sent for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apps.messaging.content import ContentSource
from apps.messaging.models import Purpose
from apps.tenants.models import Application


def complete_email(application: Application, source: ContentSource) -> ContentSource:
    """Advertising offers to unsubscribe by one click, and its links are about the send's own category."""
    options: dict[str, Any] = {"list_unsubscribe": source.purpose == Purpose.MARKETING}
    if source.category:
        options["unsubscribe_category"] = source.category
    return replace(source, options={**options, **source.options})
