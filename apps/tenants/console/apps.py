"""The console's place in `INSTALLED_APPS`, instead of `django.contrib.admin`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib.admin.apps import AdminConfig
from django.db.models import Model
from django.utils.translation import gettext_lazy


class ConsoleConfig(AdminConfig):
    default_site = "apps.tenants.console.site.ConsoleSite"

    def ready(self) -> None:
        for field in fields_with_made_names():
            field.verbose_name = gettext_lazy(field.verbose_name)
        for model in models_with_made_names():
            name = str(model._meta.verbose_name)
            model._meta.verbose_name, model._meta.verbose_name_plural = gettext_lazy(name), gettext_lazy(f"{name}s")
        super().ready()


def fields_with_made_names() -> Iterator[Any]:
    """Fields whose name Django made of the attribute's (`created_at` → "created at"), which asks for no translation.

    What a migration is made of is the name that was given, so that these have none to make.
    """
    for model in _models():
        for field in (*model._meta.local_fields, *model._meta.local_many_to_many):
            if field._verbose_name is None:  # type: ignore[attr-defined]
                yield field


def models_with_made_names() -> Iterator[type[Model]]:
    """... and models that are named after their class."""
    return (model for model in _models() if "verbose_name" not in model._meta.original_attrs)


def _models() -> Iterator[type[Model]]:
    return (model for model in apps.get_models() if not model.__module__.startswith("django."))
