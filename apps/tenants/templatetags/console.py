"""`{% load console %}`: numbers, money and moments in a template, by the operator's language and zone."""

from __future__ import annotations

from django import template

from apps.tenants.audit.words import action_words
from apps.tenants.console import formats

register = template.Library()
register.filter("number", formats.number)
register.filter("money", formats.money)
register.filter("moment", formats.moment)
register.filter("day", formats.day)
register.filter("action_words", action_words)
