"""The frame around the pages: the sidebar by area, the environment's name, the switch of language. For `UNFOLD`."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _


class _Item(NamedTuple):
    model: str
    title: Any
    icon: str


_AREAS: list[tuple[Any, list[_Item]]] = [
    (
        _("Campaigns"),
        [
            _Item("campaigns.MessageCampaign", _("Campaigns"), "campaign"),
            _Item("campaigns.Segment", _("Segments"), "group_work"),
            _Item("messaging.MessageTemplate", _("Templates"), "draft"),
        ],
    ),
    (
        _("Messages"),
        [
            _Item("messaging.Message", _("Messages"), "chat"),
            _Item("messaging.MessageEvent", _("Message events"), "timeline"),
        ],
    ),
    (
        _("Users & subscriptions"),
        [
            _Item("subscriptions.AppUser", _("Users"), "person"),
            _Item("subscriptions.Subscription", _("Subscriptions"), "devices"),
            _Item("subscriptions.SubscriptionEvent", _("Subscription events"), "history"),
        ],
    ),
    (
        _("Applications"),
        [
            _Item("tenants.Application", _("Applications"), "apps"),
            _Item("tenants.ApiKey", _("API keys"), "key"),
            _Item("tenants.ChannelCredential", _("Channel credentials"), "vpn_key"),
            _Item("tenants.Membership", _("Members"), "groups"),
        ],
    ),
    (
        _("Operations"),
        [
            _Item("messaging.Dispatch", _("Dispatches"), "outbox"),
            _Item("messaging.DispatchBatch", _("Batches"), "stacks"),
            _Item("messaging.MessageRequeue", _("Requeues"), "replay"),
            _Item("campaigns.CampaignFailure", _("Failure reasons"), "report"),
            _Item("tenants.IdempotencyRecord", _("Idempotency keys"), "repeat_one"),
            _Item("tenants.Operator", _("Operators"), "badge"),
            _Item("django_celery_beat.PeriodicTask", _("Schedules"), "schedule"),
            _Item("token_blacklist.OutstandingToken", _("Sign-ins by token"), "login"),
        ],
    ),
]


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar: the areas of work, and of each what the operator may see."""
    registry = {model._meta.label: model_admin for model, model_admin in admin.site._registry.items()}
    return [
        {
            "title": title,
            "separator": False,
            "items": [
                {
                    "title": item.title,
                    "icon": item.icon,
                    "link": reverse(f"admin:{item.model.replace('.', '_').lower()}_changelist"),
                }
                for item in items
                if item.model in registry and registry[item.model].has_view_permission(request)
            ],
        }
        for title, items in _AREAS
    ]


def environment(request: HttpRequest) -> list[Any]:
    """The label beside the title, so that nobody takes one environment for another."""
    colours = {"production": "danger", "demo": "info", "development": "success", "test": "warning"}
    return [settings.AUTOMATA_ENV.capitalize(), colours[settings.AUTOMATA_ENV]]


def language_address(request: HttpRequest) -> str:
    """Where the switch of language posts to."""
    return reverse("admin:console_language")
