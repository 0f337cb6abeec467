"""Keeping the categories of an application."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.subscriptions.preferences.models import MessageCategory
from apps.tenants.models import Application
from automata_signal.errors import Conflict, NotFound, ValidationFailed

CATEGORIES_MAX = 100
_SLUG = re.compile("[a-z0-9][a-z0-9_-]{0,49}")


def category_create(*, application: Application, slug: str, name_en: str, **fields: Any) -> MessageCategory:
    """Make a category. Raises `ValidationFailed`, `Conflict` (SLUG_TAKEN, also by an archived one; TOO_MANY)."""
    if not _SLUG.fullmatch(slug):
        raise ValidationFailed.of("slug", "must be 1 to 50 of a-z, 0-9, - and _, and begin with a letter or digit")
    category = MessageCategory(application=application, slug=slug, name_en=name_en, **fields)
    _check(category)
    if MessageCategory.objects.for_application(application).count() >= CATEGORIES_MAX:
        raise Conflict(f"There are {CATEGORIES_MAX} categories already.", code="TOO_MANY_CATEGORIES")
    try:
        with transaction.atomic():
            category.save()
    except IntegrityError:
        raise Conflict("There is a category with this slug, or there was one.", code="SLUG_TAKEN") from None
    return category


def category_update(*, category: MessageCategory, changes: Mapping[str, Any]) -> MessageCategory:
    """Change names, texts, order and defaults. What people have chosen themselves stays as they chose it."""
    with transaction.atomic():
        row = MessageCategory.objects.select_for_update().get(pk=category.pk)
        for name, value in changes.items():
            if name == "slug" and value != row.slug:
                raise ValidationFailed.of("slug", "cannot be changed: messages and choices name it")
            setattr(row, name, value)
        _check(row)
        row.updated_at = timezone.now()
        row.save()
    return row


def category_archive(*, category: MessageCategory) -> MessageCategory:
    """Take a category out of use: no message can name it any more, and people are not asked. Their choices stay."""
    return category_update(category=category, changes={"is_archived": True})


def category_get(*, application: Application, category_id: UUID) -> MessageCategory:
    row = MessageCategory.objects.for_application(application).filter(pk=category_id).first()
    if row is None:
        raise NotFound("There is no such category.")
    return row


def category_by_slug(application_id: UUID, slug: str) -> MessageCategory | None:
    """The category that is in use under this slug."""
    return MessageCategory.objects.filter(application_id=application_id, slug=slug, is_archived=False).first()


def categories_of(application: Application) -> list[MessageCategory]:
    """Those in use, in the order that people see."""
    rows = MessageCategory.objects.for_application(application).filter(is_archived=False)
    return list(rows.order_by("position", "slug"))


def _check(category: MessageCategory) -> None:
    for name in ("name_en", "name_ko", "description_en", "description_ko"):
        text = getattr(category, name)
        if any(ord(character) < 32 for character in text):
            raise ValidationFailed.of(name, "holds a control character")
    if not category.name_en.strip():
        raise ValidationFailed.of("name_en", "must not be empty")
    if category.is_marketing and not category.may_opt_out:
        raise ValidationFailed.of("may_opt_out", "must be true for advertising: everybody may refuse it")
    if not category.may_opt_out and not category.is_default_opted_in:
        raise ValidationFailed.of("is_default_opted_in", "must be true for what nobody may refuse")
