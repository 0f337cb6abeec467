"""`{% load people %}`: countries, properties and tags in the words of who reads."""

from __future__ import annotations

from typing import Any

from babel import Locale, UnknownLocaleError
from django import template
from django.utils.translation import get_language

from apps.subscriptions.console.person import values_of

register = template.Library()
register.filter("as_values", values_of)


@register.filter
def country_name(code: Any) -> str:
    """`KR` → South Korea."""
    return str(Locale.parse(get_language() or "en", sep="-").territories.get(code, code or ""))


@register.filter
def language_name(tag: Any) -> str:
    """`ko-KR` → Korean (South Korea); as it is, if nobody knows it."""
    try:
        return str(Locale.parse(str(tag), sep="-").get_display_name(get_language() or "en") or tag) if tag else ""
    except (UnknownLocaleError, ValueError):
        return str(tag)
