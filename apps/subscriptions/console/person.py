"""What the page of one user shows, in a fixed number of queries however much there is of the person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _

from apps.subscriptions.console.looking import shown_address, with_sealed_token
from apps.subscriptions.data_requests.models import DataRequest
from apps.subscriptions.models import AppUser, Subscription, SubscriptionType
from apps.subscriptions.preferences.categories import categories_of
from apps.subscriptions.preferences.consents import is_wanted
from apps.subscriptions.preferences.models import ConsentEvent, ConsentSource, MarketingConsent, Preference
from apps.subscriptions.preferences.subjects import CHANNEL_OF
from apps.subscriptions.preferences.suppressed import suppression_reasons
from apps.subscriptions.services.users import is_erased
from apps.tenants.channels import ChannelType
from apps.tenants.console.access import Grants, grants_of

CHANNELS_SHOWN = 50
EVENTS_SHOWN = 10
REQUESTS_SHOWN = 5
ICONS = {
    SubscriptionType.IOS_PUSH: "phone_iphone",
    SubscriptionType.ANDROID_PUSH: "phone_android",
    SubscriptionType.EMAIL: "mail",
    SubscriptionType.SMS: "sms",
    SubscriptionType.KAKAO_TALK: "chat",
    SubscriptionType.IN_APP_MESSAGE: "web_asset",
}
YES, NO = gettext_lazy("Yes"), gettext_lazy("No")


@dataclass(frozen=True)
class Channel:
    """A subscription of the user, as a row of the page."""

    row: Subscription
    address: str
    icon: str
    state: str
    """good, warning, bad or quiet."""
    device: str
    suppressed: str
    """Why its address is on the suppression list; empty: it is not."""
    buttons: list[tuple[str, Any, str]]
    """Name, label and address of what can be done with it."""


def person_context(request: HttpRequest, user: AppUser) -> dict[str, Any]:
    """Everything but the panels that other apps add."""
    grants, application_id = grants_of(request), user.application_id
    sees_subscriptions = grants.has("subscriptions:read", application_id)
    channels = _channels(grants, user) if sees_subscriptions else []
    newest = sorted((one.row for one in channels), key=_activity, reverse=True)
    may_write = grants.has("users:write", application_id) and not is_erased(user)
    context: dict[str, Any] = {
        "is_erased": is_erased(user),
        "language": next((row.device_language for row in newest if row.device_language), ""),
        "country": next((row.country_code for row in newest if row.country_code), ""),
        "sees_subscriptions": sees_subscriptions,
        "channels": channels[:CHANNELS_SHOWN],
        "has_more_channels": len(channels) > CHANNELS_SHOWN,
        "properties": values_of(user.properties),
        "may_write": may_write,
        "may_edit": may_write and not user.is_archived,
        "requests": list(DataRequest.objects.filter(user=user).order_by("-pk")[:REQUESTS_SHOWN]),
    }
    if grants.has("preferences:read", application_id):
        context["consents"] = _consents(user, channels)
        context["consent_events"] = list(ConsentEvent.objects.filter(user_id=user.pk).order_by("-pk")[:EVENTS_SHOWN])
        context["may_write_consents"] = grants.has("preferences:write", application_id) and not is_erased(user)
    return context


def _activity(row: Subscription) -> Any:
    return (not row.is_archived, row.last_active_at or row.created_at)


# --- Channels ------------------------------------------------------------------------------------------------------


def _channels(grants: Grants, user: AppUser) -> list[Channel]:
    """By the index on the user; what is reachable first."""
    found = with_sealed_token(Subscription.with_archived.filter(user=user)).order_by("-pk")[: CHANNELS_SHOWN + 1]
    rows = sorted(found, key=lambda row: (row.is_archived, not row.is_subscribed))
    reasons = {}
    if grants.has("suppressions:read", user.application_id):
        keys = [(row.type, bytes(row.token_digest)) for row in rows]
        reasons = suppression_reasons(user.application_id, keys)
    may_write = grants.has("subscriptions:write", user.application_id)
    return [_channel(row, reasons.get((row.type, bytes(row.token_digest)), ""), may_write=may_write) for row in rows]


def _channel(row: Any, suppressed: str, *, may_write: bool) -> Channel:
    app = _("app %(version)s") % {"version": row.app_version} if row.app_version else ""
    device = " · ".join(part for part in (row.device_model, row.device_os, app) if part)
    return Channel(
        row,
        shown_address(row),
        ICONS.get(row.type, "devices"),
        _state(row),
        device,
        suppressed,
        _buttons(row) if may_write else [],
    )


def _state(row: Subscription) -> str:
    if row.is_archived:
        return "quiet"
    if row.is_subscribed:
        return "good"
    return "bad" if row.has_error else "warning"


def _buttons(row: Subscription) -> list[tuple[str, Any, str]]:
    if row.is_archived:
        offered = [("restore", _("Restore"))]
    elif row.is_subscribed:
        offered = [("unsubscribe", _("Unsubscribe")), ("end", _("End"))]
    else:
        offered = [("subscribe", _("Subscribe")), ("end", _("End"))]
    return [
        (name, label, f"{reverse('admin:subscriptions_subscription_do', args=[row.pk, name])}?from=user")
        for name, label in offered
    ]


# --- Values --------------------------------------------------------------------------------------------------------


def values_of(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Properties or tags to be read by people, by name."""
    return [(name, value_text(values[name])) for name in sorted(values)]


def value_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(YES if value else NO)
    if isinstance(value, dict):
        return " · ".join(f"{name}: {value_text(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(value_text, value))
    return "–" if value is None else str(value)


# --- Consent -------------------------------------------------------------------------------------------------------


def _consents(user: AppUser, channels: list[Channel]) -> list[dict[str, Any]]:
    """By channel: advertising by day and night, and each category; of which channels there is something to be said."""
    of_user = {"application_id": user.application_id, "subject_id": user.pk}
    given = {row.channel: row for row in MarketingConsent.objects.filter(**of_user)}
    chosen = {(row.channel, row.category_id): row for row in Preference.objects.filter(**of_user)}
    categories = categories_of(user.application)
    language = get_language() or "en"
    present = {str(CHANNEL_OF[one.row.type]) for one in channels} | set(given) | {channel for channel, _key in chosen}
    return [
        {
            "channel": ChannelType(channel).label,
            "consent": given.get(channel),
            "source": _source(given.get(channel)),
            "categories": [
                {
                    "name": category.name_in(language),
                    "is_wanted": is_wanted(category, row.is_opted_in if row else None),
                    "source": _source(row) if row else _("by default"),
                    "at": row.updated_at if row else None,
                }
                for category in categories
                for row in [chosen.get((channel, category.pk))]
            ],
        }
        for channel in ChannelType.values
        if channel in present
    ]


def _source(row: MarketingConsent | Preference | None) -> str:
    return "" if row is None else str(ConsentSource(row.source).label)
