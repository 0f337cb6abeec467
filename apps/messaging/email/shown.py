"""How an e-mail is shown in a preview: as it leaves, without anybody's links."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.messaging.adapters.base import Content
from apps.messaging.adapters.email_building import Author, Letter
from apps.tenants.models import Application


def show_letter(application: Application, content: Content) -> Mapping[str, Any]:
    """Subject, preheader, the HTML with its styles where mail programs look for them, and the text alternative. Raises
    `ContentError`."""
    author = Author("sender@example.com", "", track_opens=False, track_clicks=False, public_url="")
    letter = Letter.of(content, author)
    return {
        "subject": letter.subject,
        "preheader": letter.options.preheader,
        "html": letter.html,
        "text": letter.text,
        "html_bytes": len(letter.html.encode()),
    }
