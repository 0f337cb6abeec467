"""E-mail: what its options say of its links unless told, and who reads the providers' reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apps.messaging.content import ContentSource, register_preparer
from apps.messaging.models import Purpose
from apps.messaging.receipts import anymail
from apps.messaging.receipts.providers import PARSERS
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application


def register_email() -> None:
    """At start-up."""
    register_preparer(ChannelType.EMAIL, complete_email)
    PARSERS["anymail"] = anymail.parse


def complete_email(application: Application, source: ContentSource) -> ContentSource:
    """Advertising offers to unsubscribe by one click, and its links are about the send's own category."""
    options: dict[str, Any] = {"list_unsubscribe": source.purpose == Purpose.MARKETING}
    if source.category:
        options["unsubscribe_category"] = source.category
    return replace(source, options={**options, **source.options})
