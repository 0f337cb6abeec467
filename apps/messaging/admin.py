"""Where Django finds the console's pages of messaging (`apps.messaging.console` and those of its parts)."""

from __future__ import annotations

from apps.messaging import work as work  # its rows on the page of running work
from apps.messaging.chains import admin as chains_admin
from apps.messaging.console import (
    credential_tests,
    dispatches,
    events,
    messages,
    people,
    traffic,
)
from apps.messaging.console import templates as template_pages
from apps.messaging.console.traffic import traffic_panel
from apps.messaging.inbox import admin as inbox_admin
from apps.messaging.kakao import admin as kakao_admin
from apps.messaging.media import admin as media_admin
from apps.messaging.operations import breakers, failed, notices
from apps.messaging.operations import home as home_sections
from apps.messaging.operations import pages as operations_pages
from apps.messaging.receipts import admin as receipts_admin
from apps.messaging.webhooks import admin as webhooks_admin

__all__ = [
    "breakers",
    "chains_admin",
    "credential_tests",
    "dispatches",
    "events",
    "failed",
    "home_sections",
    "inbox_admin",
    "kakao_admin",
    "media_admin",
    "messages",
    "notices",
    "operations_pages",
    "people",
    "receipts_admin",
    "template_pages",
    "traffic",
    "traffic_panel",
    "webhooks_admin",
    "work",
]
