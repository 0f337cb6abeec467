"""Addresses of the console."""

from __future__ import annotations

from django.contrib import admin
from django.urls import reverse

OURS = ("tenants", "subscriptions", "billing", "messaging", "campaigns")


def address(label: str, page: str, *args) -> str:
    return reverse(f"admin:{label.replace('.', '_').lower()}_{page}", args=args)


def list_of(label: str, query: str = "") -> str:
    return address(label, "changelist") + query


def page_of(row, page: str = "change") -> str:
    return address(row._meta.label, page, row.pk)


def button(row, name: str) -> str:
    return address(row._meta.label, "do", row.pk, name)


def registered() -> dict[str, admin.ModelAdmin]:
    return {model._meta.label: model_admin for model, model_admin in admin.site._registry.items()}


def text_of(answer) -> str:
    return answer.content.decode()
