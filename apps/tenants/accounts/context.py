"""What unfold's layouts need on pages that are not the admin site's own."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest


def frame(request: HttpRequest) -> dict[str, Any]:
    """A context processor: the site's title, colours and sidebar for the pages under `/account/`."""
    if not request.path_info.startswith("/account/") or not hasattr(request, "user"):
        return {}
    return {**admin.site.each_context(request), "site_url": None, "languages": settings.LANGUAGES}
