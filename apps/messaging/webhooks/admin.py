"""The console's pages of webhooks: who is told, what was delivered, tests and replays."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.messaging.webhooks import selectors, services
from apps.messaging.webhooks.models import (
    DeliveryState,
    EventSource,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookLane,
    WebhookReader,
)
from apps.messaging.webhooks.pages import state_of
from apps.messaging.webhooks.payloads import EVENT_TYPES, KINDS, body_of
from apps.tenants.channels import ChannelType
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import PlatformAdmin, ReadOnlyAdmin, ScopedHistoryAdmin, search_by_name
from apps.tenants.console.formats import moment, number
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, link_filter, rare_filter
from apps.tenants.console.panels import Panel, admin_link, badge, list_address, short_id, table_panel
from apps.tenants.console_pages.hub import hub_of, hub_of_add
from apps.tenants.console_pages.words import shown_once
from automata_signal.masking import masked

READ, WRITE = "webhooks:read", "webhooks:write"
LATEST = 20
STATE_COLOURS = {DeliveryState.WAITING: "info", DeliveryState.DELIVERED: "success", DeliveryState.PARKED: "danger"}


def _by(request: HttpRequest) -> str:
    return str(request.user)


# --- Endpoints -----------------------------------------------------------------------------------------------------


def _choices(label: Any, choices: Any, help_text: Any) -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(
        label=label,
        required=False,
        choices=choices,
        widget=widgets.UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=help_text,
    )


class WebhookForm(forms.ModelForm):  # type: ignore[type-arg]
    event_types = _choices(
        gettext_lazy("Events"), [(name, name) for name in (*KINDS, *EVENT_TYPES)], gettext_lazy("None chosen: all.")
    )
    channels = _choices(gettext_lazy("Channels"), ChannelType.choices, gettext_lazy("None chosen: all."))

    class Meta:
        model = WebhookEndpoint
        fields = ("application", "url", "description", "event_types", "channels", "is_active")
        help_texts = {"url": gettext_lazy("https, of the public internet.")}

    def _get_validation_exclusions(self) -> set[str]:
        """The model's columns are the service's matter."""
        return {field.name for field in WebhookEndpoint._meta.fields} - {"application"}


class OverlapForm(forms.Form):
    overlap_h = forms.IntegerField(
        label=gettext_lazy("Overlap (hours)"),
        min_value=0,
        max_value=int(services.OVERLAP_MAX.total_seconds()) // 3_600,
        initial=24,
        widget=widgets.UnfoldAdminIntegerFieldWidget,
        help_text=gettext_lazy("So long deliveries are signed with both secrets."),
    )


class ReplayForm(forms.Form):
    hours = forms.IntegerField(
        label=gettext_lazy("Of the last hours"),
        min_value=1,
        max_value=24 * 365,
        initial=1,
        required=False,
        widget=widgets.UnfoldAdminIntegerFieldWidget,
    )
    since = forms.SplitDateTimeField(
        label=gettext_lazy("… or made from"), required=False, widget=widgets.UnfoldAdminSplitDateTimeWidget
    )
    until = forms.SplitDateTimeField(
        label=gettext_lazy("until"),
        required=False,
        widget=widgets.UnfoldAdminSplitDateTimeWidget,
        help_text=gettext_lazy("Empty: until now."),
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors and not cleaned.get("hours") and not cleaned.get("since"):
            self.add_error("hours", _("Say how many hours, or from when."))
        return cleaned


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = READ, WRITE
    form = WebhookForm
    list_display = ("name", "application", "state", "last_success_at", "last_error", "lost_events", "created_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter,)
    refusal_aliases = {"overlap_s": "overlap_h"}
    change_form_outer_before_template = "admin/tenants/hub_before.html"
    row_actions = ("test", "rotate_secret", "replay", "enable")
    _facts = (
        *("state", "disabled_at", "disabled_reason", "consecutive_failures", "last_success_at", "last_error"),
        *("last_error_at", "lost_events", "lost_at", "previous_until", "lanes", "created_at", "updated_at", "id"),
    )

    class Media:
        css = {"all": ("console/applications.css",)}
        js = ("console/applications.js",)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        row = kwargs.get("obj")
        tabs = hub_of_add(request, "webhooks") if row is None else hub_of(request, row.application, "webhooks")
        context["hub"] = tabs
        return super().render_change_form(request, context, *args, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = WebhookForm.Meta.fields
        if obj is None:
            return ((None, {"fields": fields[:-1]}),)
        return ((None, {"fields": fields}), (_("What happened"), {"fields": self._facts}))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("application", *self._facts) if obj else ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application").defer("secret", "previous_secret")

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "description", "url", "application__name")

    @admin.display(description=gettext_lazy("webhook"))
    def name(self, row: WebhookEndpoint) -> str:
        return str(row)

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: WebhookEndpoint) -> SafeString:
        return badge(*state_of(row))

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> WebhookEndpoint:
        names = ("application", "url", "description", "event_types", "channels")
        new = services.endpoint_create(**{name: cleaned[name] for name in names}, by=_by(request))
        request._console_new_secret = new.secret  # type: ignore[attr-defined]
        return new.endpoint

    def update(self, request: HttpRequest, row: WebhookEndpoint, changes: dict[str, Any]) -> WebhookEndpoint:
        changes.pop("application", None)
        return services.endpoint_update(endpoint=row, by=_by(request), **changes)

    def remove(self, request: HttpRequest, row: WebhookEndpoint) -> None:
        services.endpoint_delete(endpoint=row, by=_by(request))

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> HttpResponse:
        return self._show_once(request, obj, request._console_new_secret)  # type: ignore[attr-defined]

    def _show_once(self, request: HttpRequest, row: WebhookEndpoint, secret: str) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": _("The new secret"),
            "note": _("Copy it now: it is shown this once. With it the receiver checks that an event is ours."),
            "subtitle": str(row),
            "application": row.application,
            "hub": hub_of(request, row.application, "webhooks"),
            "plaintext": secret,
            "back": self.address_of(row.pk),
        }
        return shown_once(request, "admin/tenants/new_secret.html", context)

    # --- Buttons -------------------------------------------------------------------------------------------------

    @row_action(
        gettext_lazy("Send a test"),
        scope=WRITE,
        icon="outgoing_mail",
        is_direct=True,
        is_offered=lambda endpoint: endpoint.is_active,
    )
    def test(self, request: HttpRequest, row: WebhookEndpoint, cleaned: dict[str, Any]) -> str:
        services.endpoint_test(endpoint=row, by=_by(request))
        return _("A test is sent; the deliveries below say what became of it.")

    @row_action(
        gettext_lazy("New secret"),
        scope=WRITE,
        icon="key",
        form=OverlapForm,
        explain=gettext_lazy("It is shown once. For a while deliveries are signed with the old one as well."),
    )
    def rotate_secret(self, request: HttpRequest, row: WebhookEndpoint, cleaned: dict[str, Any]) -> HttpResponse:
        overlap = timedelta(hours=cleaned["overlap_h"])
        new = services.secret_rotate(endpoint=row, overlap=overlap, by=_by(request))
        return self._show_once(request, new.endpoint, new.secret)

    @row_action(
        gettext_lazy("Send again"),
        scope=WRITE,
        icon="replay",
        form=ReplayForm,
        explain=gettext_lazy("All deliveries of that time once more, in their order. Those that wait come anyway."),
        is_offered=lambda endpoint: endpoint.is_active,
    )
    def replay(self, request: HttpRequest, row: WebhookEndpoint, cleaned: dict[str, Any]) -> str:
        until = cleaned.get("until") or timezone.now()
        since = cleaned.get("since") or until - timedelta(hours=cleaned["hours"])
        made = services.deliveries_replay(endpoint=row, since=since, until=until, by=_by(request))
        return _("%(count)d deliveries are sent again.") % {"count": made}

    @row_action(
        gettext_lazy("Activate"),
        scope=WRITE,
        icon="play_arrow",
        variant="primary",
        explain=gettext_lazy("It goes on where it was: what waits is delivered now."),
        facts="waiting_facts",
        is_offered=lambda endpoint: not endpoint.is_active,
    )
    def enable(self, request: HttpRequest, row: WebhookEndpoint, cleaned: dict[str, Any]) -> str:
        services.endpoint_update(endpoint=row, is_active=True, by=_by(request))
        return _("The webhook is active.")

    def waiting_facts(self, request: HttpRequest, row: WebhookEndpoint) -> list[tuple[str, Any]]:
        backlog = selectors.backlog_of(row)
        return [
            (_("deliveries that wait"), number(backlog.deliveries)),
            (_("the oldest of"), backlog.oldest_at or "–"),
            (_("kept for days"), settings.WEBHOOK_KEEP_DAYS),
            (_("events lost"), number(row.lost_events)),
        ]

    # --- The page ------------------------------------------------------------------------------------------------

    def panels(self, request: HttpRequest, row: WebhookEndpoint) -> list[Panel]:
        backlog = table_panel(_("Waiting"), (_("what"), ""), self.waiting_facts(request, row), before=True)
        headers = (_("made"), _("of"), _("events"), _("state"), _("attempts"), _("status"), _("ms"), _("error"))
        latest = selectors.deliveries_of(row).order_by("-pk")[:LATEST]
        more = list_address("messaging.WebhookDelivery", webhook=row.pk)
        return [backlog, table_panel(_("Latest deliveries"), headers, map(_delivery_row, latest), more=more)]


def _delivery_row(row: WebhookDelivery) -> tuple[Any, ...]:
    return (
        admin_link("messaging.WebhookDelivery", row.pk, moment(row.created_at)),
        EventSource(row.source).label,
        len(row.event_ids),
        DeliveryState(row.state).label,
        row.attempts,
        row.status,
        row.duration_ms,
        row.error,
    )


# --- Deliveries ----------------------------------------------------------------------------------------------------


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    read_scope = READ
    list_display = (
        *("key", "application", "webhook", "source", "events", "state_badge", "attempts", "status", "error"),
        "created_at",
    )
    list_select_related = ("application", "endpoint")
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("webhook"), "webhook", lambda rows, key: rows.filter(endpoint_id=key)),
        AddedFilter,
        rare_filter(gettext_lazy("state"), "state", DeliveryState.choices, lambda rows, v: rows.filter(state=v)),
    )
    fields = (
        *("application", "webhook", "source", "state_badge", "created_at", "requested_by", "replay_of"),
        *("lane", "sequence", "event_ids", "id"),
    )
    row_actions = ("replay",)
    change_form_outer_before_template = "admin/tenants/hub_before.html"

    class Media:
        css = {"all": ("console/applications.css",)}
        js = ("console/applications.js",)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        row = kwargs.get("obj")
        context["hub"] = hub_of(request, row.application, "webhooks") if row else None
        return super().render_change_form(request, context, *args, **kwargs)

    def panels(self, request: HttpRequest, row: WebhookDelivery) -> list[Panel]:
        """What was sent, and what was answered: the body is made anew from its events, as each attempt makes it."""
        content, events = body_of(row)
        context = {
            "facts": attempt_facts(row),
            "headers": headers_shown(row),
            "body": json.dumps(json.loads(content), indent=2, ensure_ascii=False) if events else "",
        }
        return [Panel(_("Request and answer"), "admin/messaging/webhook_payload.html", context, before=True)]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).select_related("application", "endpoint")
        return rows.defer("endpoint__secret", "endpoint__previous_secret")

    @admin.display(description=gettext_lazy("id"))
    def key(self, row: WebhookDelivery) -> Any:
        return short_id(row.pk)

    @admin.display(description=gettext_lazy("webhook"))
    def webhook(self, row: WebhookDelivery) -> SafeString:
        return admin_link("messaging.WebhookEndpoint", row.endpoint_id, row.endpoint)

    @admin.display(description=gettext_lazy("events"))
    def events(self, row: WebhookDelivery) -> int:
        return len(row.event_ids)

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, row: WebhookDelivery) -> SafeString:
        return badge(STATE_COLOURS[DeliveryState(row.state)], DeliveryState(row.state).label)

    @row_action(
        gettext_lazy("Send again"),
        scope=WRITE,
        icon="replay",
        is_direct=True,
        is_offered=lambda delivery: delivery.state != DeliveryState.WAITING,
    )
    def replay(self, request: HttpRequest, row: WebhookDelivery, cleaned: dict[str, Any]) -> str:
        services.delivery_replay(delivery=row, by=_by(request))
        return _("The delivery is sent again.")


def attempt_facts(row: WebhookDelivery) -> list[tuple[Any, Any]]:
    """When it was tried and what came of it. Of an answer nothing is kept but its status: it could hold anything."""
    return [
        (_("attempts"), number(row.attempts)),
        (_("first attempt"), moment(row.first_attempt_at)),
        (_("last attempt"), moment(row.attempted_at)),
        (_("status of the answer"), row.status or _("no answer")),
        (_("took"), _("%(ms)s ms") % {"ms": number(row.duration_ms)} if row.duration_ms is not None else "–"),
        (_("problem"), row.error or "–"),
    ]


def headers_shown(row: WebhookDelivery) -> str:
    """Those of the last attempt, without the signature: it would prove to anybody that they are us."""
    lines = [
        f"POST {masked(row.endpoint.url)}",
        "Content-Type: application/json",
        f"X-Automata-Delivery: {row.pk}",
        f"X-Automata-Attempt: {max(1, row.attempts)}",
        f"X-Automata-Timestamp: {int(row.attempted_at.timestamp()) if row.attempted_at else '…'}",
        "X-Automata-Signature: v1=••••••••",
    ]
    return "\n".join(lines)


# --- The machinery -------------------------------------------------------------------------------------------------


@admin.register(WebhookLane)
class WebhookLaneAdmin(ReadOnlyAdmin, PlatformAdmin):
    may_add = may_change = may_delete = False
    list_display = ("endpoint", "number", "retry_at", "served_at", "lease_until")
    list_select_related = ("endpoint",)
    fields = ("endpoint", "number", "retry_at", "served_at", "lease_until", "id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).select_related("endpoint")
        return rows.defer("endpoint__secret", "endpoint__previous_secret")


@admin.register(WebhookReader)
class WebhookReaderAdmin(ReadOnlyAdmin, PlatformAdmin):
    may_add = may_change = may_delete = False
    list_display = ("name", "watermark", "sequence", "caught_up_at", "updated_at")
    fields = ("name", "watermark", "sequence", "caught_up_at", "updated_at", "id")
