"""The console's place in `INSTALLED_APPS`, instead of `django.contrib.admin`."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig


class ConsoleConfig(AdminConfig):
    default_site = "apps.tenants.console.site.ConsoleSite"
