"""Every route of the API, as the URLconf has them, and what calls it as it is meant to be called.

`ENTRIES` is written by hand and says again which scope a route needs, so that neither a route nor a scope can change
without somebody looking. A route without an entry fails `test_every_route_has_an_entry`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from tests.api.world import PASSWORD, StrictClient, World

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
PUBLIC, OPERATOR, SDK, PLATFORM = "public", "operator", "sdk", "platform"


@dataclass(frozen=True)
class Entry:
    """How a route is called so that it does something in a `World`."""

    scopes: tuple[str, ...]
    body: Callable[[World], Any] = lambda world: {}
    answers: tuple[int, ...] = (200,)


def _(*scopes: str, body: Callable[[World], Any] | None = None, answers: tuple[int, ...] | int = 200) -> Entry:
    return Entry(scopes, body or (lambda world: {}), (answers,) if isinstance(answers, int) else answers)


def _recipients(world: World) -> dict[str, Any]:
    return {"external_ids": [world.external_id]}


NOBODYS = {"month": "2026-11", "channel_type": "push"}
"""Parameters of addresses that name nothing of anybody's: every application has them."""
_CAMPAIGN = {"name": "c", "title": "t", "targeting_criteria": {}}
_CRITERIA = {"field": "country", "op": "eq", "value": "KR"}
_CHOICES = {"marketing": {"email": {"given": True}}}
_MONEY = {"amount": "1500", "reason": "a payment"}
_REFRESH = {"refresh": "x"}
_SDK_REPORT = {"platform": "ios", "sdk_version": "1.0.0", "initialisation_ms": [120]}
_RESET = {"uid": "x", "token": "x", "password": PASSWORD}
_STATE = (200, 409)
"""For steps of a campaign that its draft cannot take: the 409 says that the campaign was found."""


_NO_PROVIDER = (200, 201, 503)
"""The provider is not there; the 503 says that the credential was found and asked with."""


def _items(world: World) -> dict[str, Any]:
    return {"ids": [world.ids["message_id"]]}


ENTRIES: dict[tuple[str, str], Entry] = {
    ("POST", "auth/login"): _(PUBLIC, body=lambda w: {"email": w.email, "password": PASSWORD}),
    ("POST", "auth/refresh"): _(PUBLIC, body=lambda w: _REFRESH, answers=401),
    ("POST", "auth/logout"): _(PUBLIC, body=lambda w: _REFRESH, answers=401),
    ("POST", "auth/password-reset"): _(PUBLIC, body=lambda w: {"email": "nobody@example.com"}, answers=202),
    ("POST", "auth/password-reset/confirm"): _(PUBLIC, body=lambda w: _RESET, answers=400),
    ("GET", "me"): _(OPERATOR),
    ("GET", "application"): _("settings:read"),
    ("PATCH", "application"): _("settings:write", body=lambda w: {"name": w.name}),
    ("GET", "keys"): _("settings:read"),
    ("POST", "keys"): _("settings:write", body=lambda w: {"name": "k", "kind": "secret"}, answers=201),
    ("GET", "keys/{key_id}"): _("settings:read"),
    ("POST", "keys/{key_id}/revoke"): _("settings:write"),
    ("POST", "keys/{key_id}/rotate"): _("settings:write", answers=201),
    ("GET", "credentials"): _("settings:read"),
    ("POST", "credentials"): _(
        "settings:write", body=lambda w: {"provider": "fcm", "name": "c", "secret": {"a": 1}}, answers=(201, 400)
    ),
    ("GET", "credentials/{credential_id}"): _("settings:read"),
    ("PATCH", "credentials/{credential_id}"): _("settings:write", body=lambda w: {"name": "c"}),
    ("DELETE", "credentials/{credential_id}"): _("settings:write", answers=204),
    ("GET", "subscriptions"): _("subscriptions:read"),
    ("POST", "subscriptions"): _(
        *("subscriptions:write", SDK), body=lambda w: {"type": "iOSPush", "token": "ab" * 32}, answers=201
    ),
    ("GET", "subscriptions/{subscription_id}"): _("subscriptions:read", SDK),
    ("PATCH", "subscriptions/{subscription_id}"): _(
        "subscriptions:write", SDK, body=lambda w: {"app_version": "2.0", "enabled": True}
    ),
    ("DELETE", "subscriptions/{subscription_id}"): _("subscriptions:write", SDK, answers=204),
    ("POST", "subscriptions/{subscription_id}/login"): _(
        "subscriptions:write", SDK, body=lambda w: {"external_id": "somebody"}
    ),
    ("POST", "subscriptions/{subscription_id}/logout"): _("subscriptions:write", SDK),
    ("PATCH", "subscriptions/{subscription_id}/tags"): _(
        "subscriptions:write", SDK, body=lambda w: {"tags": {"plan": "pro"}}
    ),
    ("PUT", "subscriptions/{subscription_id}/tags"): _(
        "subscriptions:write", SDK, body=lambda w: {"tags": {"plan": "pro"}}
    ),
    ("GET", "subscriptions/{subscription_id}/preferences"): _("preferences:read", SDK),
    ("PUT", "subscriptions/{subscription_id}/preferences"): _(
        "preferences:write", SDK, body=lambda w: {"marketing": {"push": {"given": True}}}
    ),
    ("POST", "subscriptions/{subscription_id}/opt-in"): _("subscriptions:write", answers=409),
    ("GET", "users/{user_id}/preferences"): _("preferences:read"),
    ("PUT", "users/{user_id}/preferences"): _("preferences:write", body=lambda w: _CHOICES),
    ("GET", "users/by-external-id/preferences?external_id={external_id}"): _("preferences:read"),
    ("PUT", "users/by-external-id/preferences?external_id={external_id}"): _(
        "preferences:write", body=lambda w: _CHOICES
    ),
    ("GET", "categories"): _("preferences:read"),
    ("POST", "categories"): _("preferences:write", body=lambda w: {"slug": "new", "name_en": "New"}, answers=201),
    ("GET", "categories/{category_id}"): _("preferences:read"),
    ("PATCH", "categories/{category_id}"): _("preferences:write", body=lambda w: {"name_en": "Other"}),
    ("DELETE", "categories/{category_id}"): _("preferences:write", answers=204),
    ("GET", "consents"): _("preferences:read"),
    ("GET", "consents/events"): _("preferences:read"),
    ("GET", "consents/notices"): _("preferences:read"),
    ("POST", "consents/notices/{notice_id}/done"): _("preferences:write"),
    ("GET", "suppressions"): _("suppressions:read"),
    ("POST", "suppressions"): _(
        "suppressions:write", body=lambda w: {"type": "Email", "address": "a@example.com"}, answers=201
    ),
    ("POST", "suppressions/import"): _(
        "suppressions:write", body=lambda w: {"type": "Email", "content": "address\nb@example.com\n"}
    ),
    ("POST", "suppressions/{suppression_id}/remove"): _(
        "suppressions:write", body=lambda w: {"note": "it was a mistake"}, answers=204
    ),
    ("GET", "media"): _("media:read"),
    ("POST", "media"): _("media:write", body=lambda w: {"file_name": "a.txt", "content": "aGVsbG8="}, answers=201),
    ("GET", "media/{media_id}"): _("media:read"),
    ("POST", "media/{media_id}/variants"): _("media:write", body=lambda w: {"channel": "thumbnail"}),
    ("POST", "media/{media_id}/links"): _("media:read", body=lambda w: {"valid_s": 60}),
    ("DELETE", "media/{media_id}"): _("media:write", answers=204),
    ("GET", "imports"): _("imports:write"),
    ("POST", "imports"): _(
        "imports:write", body=lambda w: {"kind": "users", "content": "external_id\nsomebody\n"}, answers=202
    ),
    ("GET", "imports/{import_id}"): _("imports:write"),
    ("POST", "imports/{import_id}/apply"): _("imports:write", answers=202),
    ("POST", "imports/{import_id}/cancel"): _("imports:write"),
    ("GET", "imports/{import_id}/rejects"): _("imports:write", answers=409),
    ("GET", "users"): _("users:read"),
    ("POST", "users"): _("users:write", body=lambda w: {"external_id": "new", "properties": {"a": 1}}, answers=201),
    ("GET", "users/by-external-id?external_id={external_id}"): _("users:read"),
    ("PATCH", "users/by-external-id?external_id={external_id}"): _(
        "users:write", body=lambda w: {"properties": {"a": 1}}
    ),
    ("DELETE", "users/by-external-id?external_id={external_id}"): _("users:write", answers=204),
    ("POST", "users/by-external-id/erase?external_id={external_id}"): _("users:write", answers=204),
    ("GET", "users/by-external-id/export?external_id={external_id}"): _("users:read"),
    ("GET", "users/{user_id}"): _("users:read"),
    ("PATCH", "users/{user_id}"): _("users:write", body=lambda w: {"properties": {"a": 1}}),
    ("DELETE", "users/{user_id}"): _("users:write", answers=204),
    ("POST", "users/{user_id}/erase"): _("users:write", answers=204),
    ("GET", "users/{user_id}/export"): _("users:read"),
    ("GET", "templates"): _("templates:read"),
    ("POST", "templates"): _("templates:write", body=lambda w: {"name": "t", "body_template": "b"}, answers=201),
    ("POST", "templates/preview"): _("templates:read", body=lambda w: {"body_template": "{{ a }}", "variables": {}}),
    ("GET", "templates/{template_id}"): _("templates:read"),
    ("PATCH", "templates/{template_id}"): _("templates:write", body=lambda w: {"body_template": "b2"}),
    ("DELETE", "templates/{template_id}"): _("templates:write", answers=204),
    ("GET", "templates/{template_id}/versions"): _("templates:read"),
    ("POST", "templates/{template_id}/preview"): _("templates:read", body=lambda w: {"external_id": w.external_id}),
    ("GET", "messages"): _("messages:read"),
    ("POST", "messages"): _(
        "messages:send", body=lambda w: {"recipients": _recipients(w), "title": "t", "body": "b"}, answers=202
    ),
    ("GET", "messages/{message_id}"): _("messages:read"),
    ("GET", "messages/{message_id}/conversation"): _("messages:read"),
    ("GET", "messages/{message_id}/events"): _("messages:read"),
    ("POST", "messages/{message_id}/cancel"): _("messages:send"),
    ("POST", "messages/{message_id}/requeue"): _("messages:send", answers=409),
    ("GET", "messages/failures"): _("messages:read"),
    ("POST", "messages/sms-parts"): _("templates:read", body=lambda w: {"body": "b"}),
    ("POST", "messages/requeue"): _("messages:send", body=lambda w: {"error_reason": "canceled"}, answers=202),
    ("GET", "messages/requeues/{requeue_id}"): _("messages:read"),
    ("GET", "kakao/channels"): _("templates:read"),
    ("POST", "kakao/sync"): _("templates:write", answers=_NO_PROVIDER),
    ("GET", "kakao/templates"): _("templates:read"),
    ("POST", "kakao/templates"): _(
        "templates:write",
        body=lambda w: {"channel_id": w.ids["kakao_channel_id"], "code": "T2", "name": "n", "content": "c"},
        answers=_NO_PROVIDER,
    ),
    ("GET", "kakao/templates/{kakao_template_id}"): _("templates:read"),
    ("DELETE", "kakao/templates/{kakao_template_id}"): _("templates:write", answers=409),
    ("POST", "kakao/templates/{kakao_template_id}/inspection"): _("templates:write", answers=409),
    ("DELETE", "kakao/templates/{kakao_template_id}/inspection"): _("templates:write", answers=409),
    ("GET", "webhooks"): _("webhooks:read"),
    ("POST", "webhooks"): _("webhooks:write", body=lambda w: {"url": "https://hooks.example/"}, answers=201),
    ("GET", "webhooks/{webhook_id}"): _("webhooks:read"),
    ("PATCH", "webhooks/{webhook_id}"): _("webhooks:write", body=lambda w: {"description": "d"}),
    ("DELETE", "webhooks/{webhook_id}"): _("webhooks:write", answers=204),
    ("POST", "webhooks/{webhook_id}/rotate-secret"): _("webhooks:write", answers=201),
    ("POST", "webhooks/{webhook_id}/test"): _("webhooks:write", answers=202),
    ("POST", "webhooks/{webhook_id}/replay"): _(
        "webhooks:write", body=lambda w: {"since": "2026-01-01T00:00:00Z", "until": _tomorrow()}, answers=202
    ),
    ("GET", "webhooks/{webhook_id}/deliveries"): _("webhooks:read"),
    ("POST", "webhooks/{webhook_id}/deliveries/{delivery_id}/replay"): _("webhooks:write", answers=202),
    ("POST", "receipts"): _(
        *("receipts:write", SDK),
        body=lambda w: {"events": [{"message_id": w.ids["message_id"], "type": "received"}]},
    ),
    ("GET", "in-app/inbox?subscription_id={subscription_id}"): _("messages:read", SDK),
    ("GET", "in-app/inbox/unread-count?subscription_id={subscription_id}"): _("messages:read", SDK),
    ("POST", "in-app/inbox/read?subscription_id={subscription_id}"): _("receipts:write", SDK, body=_items),
    ("POST", "in-app/inbox/read-all?subscription_id={subscription_id}"): _("receipts:write", SDK),
    ("POST", "in-app/inbox/unread?subscription_id={subscription_id}"): _("receipts:write", SDK, body=_items),
    ("POST", "in-app/inbox/archive?subscription_id={subscription_id}"): _("receipts:write", SDK, body=_items),
    ("POST", "in-app/inbox/unarchive?subscription_id={subscription_id}"): _("receipts:write", SDK, body=_items),
    ("GET", "in-app/messages?subscription_id={subscription_id}"): _("messages:read", SDK),
    ("POST", "in-app/events?subscription_id={subscription_id}"): _(
        *("receipts:write", SDK),
        body=lambda w: {"events": [{"message_id": w.ids["message_id"], "type": "shown"}]},
    ),
    ("POST", "in-app/stream-tickets?subscription_id={subscription_id}"): _("messages:read", SDK, answers=201),
    ("GET", "in-app/stream?subscription_id={subscription_id}"): _("messages:read", SDK, answers=421),
    ("POST", "sdk/figures"): _(
        *("receipts:write", SDK), body=lambda w: {"reports": [_SDK_REPORT | {"hour": timezone.now().isoformat()}]}
    ),
    ("GET", "segments"): _("segments:read"),
    ("POST", "segments"): _("segments:write", body=lambda w: {"name": "s", "criteria": _CRITERIA}, answers=201),
    ("GET", "segments/{segment_id}"): _("segments:read"),
    ("PATCH", "segments/{segment_id}"): _("segments:write", body=lambda w: {"description": "d"}),
    ("DELETE", "segments/{segment_id}"): _("segments:write", answers=204),
    ("GET", "segments/{segment_id}/count"): _("segments:read"),
    ("POST", "audience/count"): _("segments:read", body=lambda w: {"criteria": _CRITERIA}),
    ("GET", "campaigns"): _("campaigns:read"),
    ("POST", "campaigns"): _("campaigns:write", body=lambda w: _CAMPAIGN, answers=201),
    ("GET", "campaigns/{campaign_id}"): _("campaigns:read"),
    ("PATCH", "campaigns/{campaign_id}"): _("campaigns:write", body=lambda w: {"name": "c2"}),
    ("DELETE", "campaigns/{campaign_id}"): _("campaigns:write", answers=204),
    ("POST", "campaigns/{campaign_id}/schedule"): _("campaigns:launch", body=lambda w: {"at": _tomorrow()}),
    ("POST", "campaigns/{campaign_id}/unschedule"): _("campaigns:launch", answers=_STATE),
    ("POST", "campaigns/{campaign_id}/launch"): _("campaigns:launch"),
    ("POST", "campaigns/{campaign_id}/pause"): _("campaigns:launch", answers=_STATE),
    ("POST", "campaigns/{campaign_id}/resume"): _("campaigns:launch", answers=_STATE),
    ("POST", "campaigns/{campaign_id}/cancel"): _("campaigns:launch", answers=_STATE),
    ("POST", "campaigns/{campaign_id}/test"): _("campaigns:write", body=_recipients, answers=202),
    ("POST", "campaigns/{campaign_id}/requeue-failed"): _("messages:send", answers=409),
    ("GET", "campaigns/{campaign_id}/stats"): _("campaigns:read"),
    ("GET", "campaigns/{campaign_id}/experiment"): _("campaigns:read", answers=404),
    ("POST", "campaigns/{campaign_id}/experiment/winner"): _(
        "campaigns:launch", body=lambda w: {"variant": "A"}, answers=404
    ),
    ("POST", "campaigns/{campaign_id}/duplicate"): _("campaigns:write", answers=201),
    ("GET", "campaigns/{campaign_id}/approval"): _("campaigns:read", answers=404),
    ("POST", "campaigns/{campaign_id}/approval"): _("campaigns:write", answers=201),
    ("POST", "campaigns/{campaign_id}/approval/approve"): _("campaigns:approve", answers=403),
    ("POST", "campaigns/{campaign_id}/approval/reject"): _(
        "campaigns:approve", body=lambda w: {"comment": "no"}, answers=403
    ),
    ("GET", "billing/plan"): _("billing:read"),
    ("PUT", "billing/plan"): _(PLATFORM, body=lambda w: {"plan": "premium"}),
    ("GET", "billing/quotas"): _("billing:read"),
    ("PUT", "billing/quotas/{channel_type}"): _(
        PLATFORM, body=lambda w: {"daily_quota": 10, "monthly_quota": None, "unit_price": "0.5"}
    ),
    ("DELETE", "billing/quotas/{channel_type}"): _(PLATFORM),
    ("GET", "billing/ledger"): _("billing:read"),
    ("POST", "billing/top-ups"): _(PLATFORM, body=lambda w: _MONEY, answers=201),
    ("POST", "billing/adjustments"): _(PLATFORM, body=lambda w: _MONEY, answers=201),
    ("POST", "billing/refunds"): _(PLATFORM, body=lambda w: _MONEY, answers=201),
    ("GET", "billing/statements/{month}"): _("billing:read"),
    ("GET", "billing/alerts"): _("billing:read"),
    ("GET", "billing/alert-settings"): _("billing:read"),
    ("PATCH", "billing/alert-settings"): _("billing:write", body=lambda w: {"low_credit_at": "1000"}),
    ("GET", "statistics/overview"): _("analytics:read"),
    ("GET", "statistics/series"): _("analytics:read"),
    ("GET", "statistics/breakdown"): _("analytics:read"),
    ("GET", "statistics/distribution"): _("analytics:read"),
    ("GET", "statistics/campaigns"): _("analytics:read"),
    ("GET", "statistics/templates"): _("analytics:read"),
    ("GET", "statistics/subscriptions"): _("analytics:read"),
    ("GET", "statistics/active-users"): _("analytics:read"),
    ("GET", "statistics/costs"): _("billing:read"),
    ("GET", "statistics/sdk"): _("analytics:read"),
    ("GET", "reports"): _("analytics:read"),
    ("POST", "reports"): _("exports:write", body=lambda w: {"kind": "daily", "roles": ["owner"]}, answers=201),
    ("GET", "reports/{report_id}"): _("analytics:read"),
    ("PATCH", "reports/{report_id}"): _("exports:write", body=lambda w: {"hour": 7}),
    ("DELETE", "reports/{report_id}"): _("exports:write", answers=204),
    ("GET", "reports/{report_id}/runs"): _("analytics:read"),
    ("GET", "reports/{report_id}/preview"): _("exports:write"),
    ("GET", "exports"): _("exports:write"),
    ("POST", "exports"): _("exports:write", body=lambda w: {"kind": "users"}, answers=202),
    ("GET", "exports/{export_id}"): _("exports:write"),
    ("POST", "exports/{export_id}/cancel"): _("exports:write"),
    ("GET", "exports/{export_id}/download?token=x"): _("exports:write", answers=404),
    ("POST", "reports/{report_id}/send"): _(
        "exports:write", body=lambda w: {"member": w.email}, answers=(202, 429, 503)
    ),
}


def _tomorrow() -> str:
    from datetime import timedelta

    from django.utils import timezone

    return (timezone.now() + timedelta(days=1)).isoformat()


def address(route: str, ids: dict[str, str]) -> str:
    return f"/api/v1/{route.format(**ids, **NOBODYS)}"


def caller_of(world: World, entry: Entry) -> StrictClient:
    """Who a route is for."""
    if PLATFORM in entry.scopes:
        return world.root
    return world.owner if OPERATOR in entry.scopes else world.server


def is_about_one(route: str) -> bool:
    """Whether the address names a thing that belongs to somebody."""
    return bool(set(re.findall(r"{(\w+)}", route)) - NOBODYS.keys())


# --- The URLconf -----------------------------------------------------------------------------------------------------


def described(route: str) -> str:
    """The route's path as OpenAPI writes it."""
    return f"/api/v1/{route.partition('?')[0]}"


def urlconf() -> Iterator[tuple[str, URLPattern]]:
    """Every address, with its parameters as OpenAPI writes them, but for the console's."""

    def walk(prefix: str, patterns: list[URLPattern | URLResolver]) -> Iterator[tuple[str, URLPattern]]:
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if isinstance(pattern, URLPattern):
                yield re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path), pattern
            elif pattern.app_name != "admin":
                yield from walk(path, pattern.url_patterns)

    return walk("", get_resolver().url_patterns)


def offered() -> set[tuple[str, str]]:
    """Every method and path below `/api/v1/` that answers something else than 405."""
    found = set()
    for path, pattern in urlconf():
        if path.startswith("api/v1/"):
            view = pattern.callback.view_class
            found |= {
                (method, f"/{path}")
                for method in METHODS
                if method.lower() in view.http_method_names and hasattr(view, method.lower())
            }
    return found
