"""The console's pages of templates, messages with their timeline, and the dispatches behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.messaging import services
from apps.messaging import work as work  # its rows on the page of running work
from apps.messaging.chains import admin as chains_admin  # noqa: F401
from apps.messaging.console import credential_tests  # noqa: F401  # registers its pages
from apps.messaging.console import people  # noqa: F401  # its panels on the page of a user
from apps.messaging.console import templates as template_pages  # noqa: F401  # registers their pages
from apps.messaging.inbox import admin as inbox_admin  # noqa: F401
from apps.messaging.kakao import admin as kakao_admin  # noqa: F401  # registers their pages
from apps.messaging.operations import breakers as breakers  # noqa: F401  # registers the pages of operations
from apps.messaging.operations import failed as failed_pages  # noqa: F401
from apps.messaging.operations import home as home_sections  # noqa: F401
from apps.messaging.operations import notices as notices  # noqa: F401
from apps.messaging.operations import pages as operations_pages  # noqa: F401
from apps.messaging.media import admin as media_admin  # noqa: F401  # registers their pages
from apps.messaging.models import (
    BatchState,
    Dispatch,
    DispatchBatch,
    DispatchState,
    Message,
    MessageEvent,
    MessageRequeue,
    MessageStatus,
)
from apps.messaging.rates import snapshot
from apps.messaging.receipts import admin as receipts_admin  # noqa: F401
from apps.messaging.requeue import message_requeue
from apps.messaging.selectors import message_content, message_events
from apps.messaging.services import batch_of
from apps.messaging.webhooks import admin as webhooks_admin  # noqa: F401  # registers their pages
from apps.subscriptions.admin import masked, subscription_ids_by_token, user_ids, with_sealed_token
from apps.subscriptions.models import AppUser, Subscription
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.lists import (
    AddedFilter,
    ApplicationFilter,
    as_uuid,
    link_filter,
    newest,
    rare_filter,
    text_filter,
)
from apps.tenants.console.panels import (
    Panel,
    admin_link,
    badge,
    json_text,
    list_address,
    panel_for,
    short_id,
    table_panel,
)
from apps.tenants.models import ChannelCredential
from automata_signal.ids import IdRange, event_id

STATUS_COLOURS = {
    MessageStatus.PENDING.value: "info",
    MessageStatus.SUCCESSFUL.value: "success",
    MessageStatus.ERRORED.value: "warning",
    MessageStatus.FAILED.value: "danger",
    MessageStatus.RECEIVED.value: "success",
    MessageStatus.CONVERTED.value: "primary",
}
OPEN = (MessageStatus.PENDING, MessageStatus.ERRORED)


def campaign_link(campaign_id: UUID | None) -> Any:
    """By its address alone: campaigns stand above this app."""
    if campaign_id is None:
        return "–"
    return admin_link("campaigns.MessageCampaign", campaign_id, short_id(campaign_id))


# --- Messages ------------------------------------------------------------------------------------------------------


def messages_of_campaign(rows: QuerySet[Any], campaign_id: UUID) -> QuerySet[Any]:
    """A message's id is made after its dispatch's, so nothing older than the first dispatch can be the campaign's."""
    first = Dispatch.objects.filter(campaign_id=campaign_id).order_by("pk").values_list("pk", flat=True).first()
    return rows.filter(campaign_id=campaign_id, pk__gt=first) if first else rows.none()


def messages_of_users(rows: QuerySet[Any], users: Sequence[UUID]) -> QuerySet[Any]:
    """By the subscriptions that the users have, since messages have no index by user."""
    subscriptions = list(Subscription.with_archived.filter(user_id__in=users).values_list("pk", flat=True)[:1_000])
    return rows.filter(subscription_id__in=subscriptions, user_id__in=users)


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    read_scope = "messages:read"
    search_help_text = gettext_lazy("Id of a message, subscription, campaign or user; external id; or a whole token")
    list_display = (
        "key",
        "application",
        "channel_type",
        "state",
        "error_reason",
        "created_at",
        "sent_at",
        "campaign",
    )
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("subscription"), "subscription", lambda rows, key: rows.filter(subscription_id=key)),
        link_filter(gettext_lazy("user"), "user", lambda rows, key: messages_of_users(rows, [key])),
        link_filter(gettext_lazy("campaign"), "campaign", messages_of_campaign),
        link_filter(gettext_lazy("batch"), "range", lambda rows, key: rows.filter(pk__range=(key, IdRange(key).last))),
        AddedFilter,
        rare_filter(
            gettext_lazy("status"), "status", MessageStatus.choices, lambda rows, value: rows.filter(status=value)
        ),
        text_filter(
            gettext_lazy("reason"), "reason", lambda rows, value: rows.filter(status="failed", error_reason=value)
        ),
    )
    fieldsets = (
        (None, {"fields": ("state", "error_reason", "error_text", "attempts", "retry_at")}),
        (
            gettext_lazy("Of"),
            {"fields": ("application", "campaign", "dispatch_link", "user_link", "subscription_link", "channel_type")},
        ),
        (
            gettext_lazy("Times"),
            {"fields": ("created_at", "sent_at", "received_at", "converted_at", "failed_at", "id")},
        ),
        (gettext_lazy("Requeued"), {"fields": ("requeued_from_link", "requeued_as_link")}),
    )
    row_actions = ("cancel", "requeue")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application")

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: Message) -> SafeString:
        return badge(STATUS_COLOURS[str(row.status)], MessageStatus(row.status).label)

    @admin.display(description=gettext_lazy("id"))
    def key(self, row: Message) -> Any:
        return short_id(row.pk)

    @admin.display(description=gettext_lazy("in place of"))
    def requeued_from_link(self, row: Message) -> Any:
        return admin_link("messaging.Message", row.requeued_from, row.requeued_from) if row.requeued_from else "–"

    @admin.display(description=gettext_lazy("sent again as"))
    def requeued_as_link(self, row: Message) -> Any:
        return admin_link("messaging.Message", row.requeued_as, row.requeued_as) if row.requeued_as else "–"

    @admin.display(description=gettext_lazy("error details"))
    def error_text(self, row: Message) -> Any:
        return json_text(row.error_details)

    @admin.display(description=gettext_lazy("campaign"))
    def campaign(self, row: Message) -> Any:
        return campaign_link(row.campaign_id)

    @admin.display(description=gettext_lazy("dispatch"))
    def dispatch_link(self, row: Message) -> Any:
        return admin_link("messaging.Dispatch", row.dispatch_id, row.dispatch_id)

    @admin.display(description=gettext_lazy("user"))
    def user_link(self, row: Message) -> Any:
        if row.user_id is None:
            return "–"
        user = AppUser.with_archived.filter(pk=row.user_id).first()
        return admin_link("subscriptions.AppUser", row.user_id, user or row.user_id)

    @admin.display(description=gettext_lazy("subscription"))
    def subscription_link(self, row: Message) -> Any:
        rows = with_sealed_token(Subscription.with_archived.filter(pk=row.subscription_id))
        subscription = rows.first()
        if subscription is None:
            return str(row.subscription_id)
        text = f"{subscription.get_type_display()} · {masked(subscription.sealed)} · {subscription.device_model}"
        return admin_link("subscriptions.Subscription", subscription.pk, text.rstrip(" ·"))

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """One question after the other, each by an index of its own."""
        if key := as_uuid(term):
            for found in (queryset.filter(pk=key), queryset.filter(subscription_id=key)):
                if found.exists():
                    return found
            if Dispatch.objects.filter(campaign_id=key).exists():
                return messages_of_campaign(queryset, key)
            return messages_of_users(queryset, [key])
        applications = grants_of(request).applications(self.read_scope)
        if users := user_ids(applications, term):
            return messages_of_users(queryset, users)
        return queryset.filter(subscription_id__in=subscription_ids_by_token(applications, term))

    @row_action(
        gettext_lazy("Cancel"),
        scope="messages:send",
        icon="cancel_schedule_send",
        variant="danger",
        explain=gettext_lazy("If it has not left yet, it never will: it becomes failed, as canceled."),
        is_offered=lambda message: message.status in OPEN,
    )
    def cancel(self, request: HttpRequest, row: Message, cleaned: dict[str, Any]) -> str:
        services.message_cancel(application=row.application, message_id=row.pk)
        return _("The message is canceled.")

    @row_action(
        gettext_lazy("Send again"),
        scope="messages:send",
        icon="replay",
        explain=gettext_lazy("As a new message with the same content, once. This one stays failed."),
        facts="requeue_facts",
        is_offered=lambda m: m.status == MessageStatus.FAILED and m.sent_at is None and m.requeued_as is None,
    )
    def requeue(self, request: HttpRequest, row: Message, cleaned: dict[str, Any]) -> SafeString:
        done = message_requeue(application=row.application, message_id=row.pk)
        text = _("The message is sent again as %s.") if done.is_new else _("The message was sent again before, as %s.")
        before, after = text.split("%s")
        link = admin_link("messaging.Message", done.message_id, short_id(done.message_id))
        return format_html("{}{}{}", before, link, after)

    def requeue_facts(self, request: HttpRequest, row: Message) -> list[tuple[str, Any]]:
        return [
            (_("messages"), 1),
            (_("status"), self.state(row)),
            (_("reason"), row.error_reason or "–"),
            (_("to"), self.subscription_link(row)),
        ]

    def panels(self, request: HttpRequest, row: Message) -> list[Panel]:
        return [content_panel(row), timeline_panel(row), *batch_panels(row)]


def content_panel(message: Message) -> Panel:
    """What the recipient saw."""
    try:
        content = message_content(message)
    except ObjectDoesNotExist:
        context: dict[str, Any] = {"problem": _("The dispatch that had the content is gone.")}
    else:
        shown = {"title": content["title"], "body": content["body"], "data": json_text(content["data"])}
        context = {"content": {**shown, "options": json_text(content["options"])}}
    return Panel(_("Content"), "admin/console/preview.html", context, before=True)


def timeline_panel(message: Message) -> Panel:
    """From the request to the tap, with the provider's answers."""
    entries = [
        {
            "colour": "info",
            "label": _("Accepted"),
            "at": message.created_at,
            "details": [(_("channel"), message.get_channel_type_display())],
        }
    ]
    for event in message_events(message):
        entries.append(
            {
                "colour": STATUS_COLOURS[event.event_type],
                "label": event.get_event_type_display(),
                "at": event.occurred_at,
                "details": list((event.metadata or {}).items()) if isinstance(event.metadata, dict) else [],
            }
        )
    if message.status == MessageStatus.ERRORED and message.retry_at:
        entries.append({"colour": "default", "label": _("Next attempt"), "at": message.retry_at, "details": []})
    return Panel(_("Timeline"), "admin/console/timeline.html", {"entries": entries}, before=True)


def batch_panels(message: Message) -> list[Panel]:
    batch = batch_of(application=message.application, message_id=message.pk)
    if batch is None:
        return []
    link = admin_link("messaging.DispatchBatch", batch.pk, batch.pk)
    row = (link, batch.get_state_display(), batch.recipient_count, batch.due_at, batch.claims)
    headers = (_("batch"), _("state"), _("recipients"), _("due"), _("claims"))
    return [table_panel(_("Sent in"), headers, [row])]


def _message_rows(rows: QuerySet[Message]) -> list[tuple[Any, ...]]:
    return [
        (
            admin_link("messaging.Message", m.pk, f"{m.created_at:%Y-%m-%d %H:%M:%S}"),
            MessageStatus(m.status).label,
            m.error_reason,
            m.sent_at,
            m.received_at,
            m.converted_at,
        )
        for m in rows.order_by("-pk")[:20]
    ]


def _message_headers() -> tuple[str, ...]:
    return _("accepted (UTC)"), _("status"), _("reason"), _("sent"), _("received"), _("converted")


@panel_for(Subscription)
def messages_of_subscription_panel(request: HttpRequest, subscription: Subscription) -> Panel | None:
    if not grants_of(request).has("messages:read", subscription.application_id):
        return None
    rows = Message.objects.filter(application_id=subscription.application_id, subscription_id=subscription.pk)
    more = list_address("messaging.Message", subscription=subscription.pk)
    return table_panel(_("Recent messages"), _message_headers(), _message_rows(rows), more=more)


_BREAKER = {
    "closed": ("success", gettext_lazy("sending")),
    "open": ("danger", gettext_lazy("stopped")),
    "half_open": ("warning", gettext_lazy("probing")),
}


@panel_for(ChannelCredential)
def traffic_panel(request: HttpRequest, credential: ChannelCredential) -> Panel | None:
    """How fast the credential sends at this moment, and what holds it back."""
    if not grants_of(request).has("settings:read", credential.application_id):
        return None
    now = snapshot(credential)
    rate = _per_minute(now.rate_per_minute, _("as fast as it goes")) if now.is_live else _UNKNOWN
    facts = [
        (_("breaker"), badge(*_BREAKER[now.breaker])),
        (_("limit"), _per_minute(now.limit_per_minute, _("none"))),
        (_("rate now"), format_html("{} {}", rate, badge("warning", _("slowed down"))) if now.is_slowed else rate),
        (_("sent lately"), _per_minute(now.sent_per_minute, _UNKNOWN)),
        (_("may leave at once"), f"{now.tokens:,.0f}" if now.tokens is not None else "–"),
    ]
    if now.breaker_opened_at:
        kind = credential.get_breaker_cause_display() or "–"
        facts[1:1] = [
            (_("stopped because"), f"{kind}: {now.breaker_reason}"),
            (_("stopped since"), now.breaker_opened_at),
            (_("next probe"), now.breaker_probe_at or "–"),
            (_("failed probes"), now.breaker_failed_probes),
        ]
    if now.held_until:
        facts.append((_("held by the provider until"), now.held_until))
    if now.throttled_at:
        facts.append((_("last slowed down"), f"{now.throttled_at:%Y-%m-%d %H:%M:%S} UTC: {now.throttled_by}"))
    if not now.is_live:
        facts.append((_("note"), _("Redis does not answer: each worker keeps to its share of the limit.")))
    return Panel(_("Traffic"), "admin/console/facts.html", {"facts": facts}, before=True)


_UNKNOWN = gettext_lazy("unknown")


def _per_minute(value: float | None, otherwise: Any) -> Any:
    return otherwise if value is None else _("%(count)s per minute") % {"count": f"{value:,.0f}"}


@admin.register(MessageEvent)
class MessageEventAdmin(ReadOnlyAdmin):
    """Events have no index by application: without a search, an operator sees those among the newest."""

    read_scope = "messages:read"
    search_help_text = gettext_lazy("Id of a message or of an event")
    list_display = ("occurred_at", "application", "state", "message_link", "metadata_line")
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        AddedFilter,
        rare_filter(
            gettext_lazy("event"), "event", MessageStatus.choices, lambda rows, value: rows.filter(event_type=value)
        ),
    )
    fields = ("occurred_at", "application", "state", "message_link", "metadata_text", "id")

    @admin.display(description=gettext_lazy("event"))
    def state(self, row: MessageEvent) -> SafeString:
        return badge(STATUS_COLOURS[row.event_type], row.get_event_type_display())

    @admin.display(description=gettext_lazy("message"))
    def message_link(self, row: MessageEvent) -> Any:
        return admin_link("messaging.Message", row.message_id, short_id(row.message_id))

    @admin.display(description=gettext_lazy("metadata"))
    def metadata_line(self, row: MessageEvent) -> str:
        details = row.metadata if isinstance(row.metadata, dict) else {}
        return ", ".join(f"{name}: {value}" for name, value in details.items())[:120] or "–"

    @admin.display(description=gettext_lazy("metadata"))
    def metadata_text(self, row: MessageEvent) -> Any:
        return json_text(row.metadata)

    def unsearched(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if grants_of(request).is_platform:
            return queryset
        floor = newest(MessageEvent.objects.all())
        return self.within(request, floor.order_by(*self.ordering), self.read_scope)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """The events of a message are a range of the primary key, and so is an event by itself."""
        key = as_uuid(term)
        if key is None:
            return queryset.none()
        if key.int & 0xFF:
            return queryset.filter(pk=key)
        return queryset.filter(pk__range=(event_id(key, 1), event_id(key, 255)))


# --- Dispatches ----------------------------------------------------------------------------------------------------


@admin.register(Dispatch)
class DispatchAdmin(ReadOnlyAdmin):
    read_scope = "messages:read"
    search_help_text = gettext_lazy("Id of a dispatch or of a campaign")
    list_display = ("key", "application", "channel_type", "priority", "state", "campaign", "created_at")
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("campaign"), "campaign", lambda rows, key: rows.filter(campaign_id=key)),
        AddedFilter,
        rare_filter(gettext_lazy("state"), "state", DispatchState.choices, lambda rows, v: rows.filter(state=v)),
    )
    fields = (
        "application",
        "campaign",
        "channel_type",
        "priority",
        "state",
        "ttl_s",
        "is_personalised",
        "template_version_link",
        "title",
        "body",
        "data_text",
        "options_text",
        "variables_text",
        "audience_text",
        "created_at",
        "id",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application", "template_version")

    @admin.display(description=gettext_lazy("campaign"))
    def campaign(self, row: Dispatch) -> Any:
        return campaign_link(row.campaign_id)

    @admin.display(description=gettext_lazy("id"))
    def key(self, row: Dispatch) -> Any:
        return short_id(row.pk)

    @admin.display(description=gettext_lazy("template version"))
    def template_version_link(self, row: Dispatch) -> Any:
        version = row.template_version
        return admin_link("messaging.MessageTemplateVersion", version.pk, version) if version else "–"

    @admin.display(description=gettext_lazy("data"))
    def data_text(self, row: Dispatch) -> Any:
        return json_text(row.data)

    @admin.display(description=gettext_lazy("options"))
    def options_text(self, row: Dispatch) -> Any:
        return json_text(row.options)

    @admin.display(description=gettext_lazy("variables"))
    def variables_text(self, row: Dispatch) -> Any:
        return json_text(row.variables)

    @admin.display(description=gettext_lazy("audience"))
    def audience_text(self, row: Dispatch) -> Any:
        return (
            _("named recipients")
            if row.audience is None
            else json_text(row.audience)
            if row.audience
            else _("everybody")
        )

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        key = as_uuid(term)
        if key is None:
            return queryset.none()
        found = queryset.filter(pk=key)
        return found if found.exists() else queryset.filter(campaign_id=key)

    def panels(self, request: HttpRequest, row: Dispatch) -> list[Panel]:
        rows = [
            (
                admin_link("messaging.DispatchBatch", batch.pk, batch.pk),
                batch.get_state_display(),
                batch.recipient_count,
                batch.due_at,
                batch.claims,
                batch.finished_at,
            )
            for batch in DispatchBatch.objects.filter(dispatch=row).order_by("-pk")[:20]
        ]
        headers = (_("batch"), _("state"), _("recipients"), _("due"), _("claims"), _("finished"))
        return [table_panel(_("Batches"), headers, rows, more=list_address("messaging.DispatchBatch", dispatch=row.pk))]


@admin.register(DispatchBatch)
class DispatchBatchAdmin(ReadOnlyAdmin):
    read_scope = "messages:read"
    search_help_text = gettext_lazy("Id of a batch or of its dispatch")
    list_display = (
        "key",
        "application",
        "subscription_type",
        "priority",
        "state",
        "recipient_count",
        "due_at",
        "claims",
        "finished_at",
    )
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("dispatch"), "dispatch", lambda rows, key: rows.filter(dispatch_id=key)),
        AddedFilter,
        rare_filter(gettext_lazy("state"), "state", BatchState.choices, lambda rows, v: rows.filter(state=v)),
    )
    fields = (
        "application",
        "dispatch_link",
        "messages_link",
        "subscription_type",
        "priority",
        "state",
        "recipient_count",
        "due_at",
        "expires_at",
        "queued_at",
        "lease_until",
        "claims",
        "first_subscription_id",
        "last_subscription_id",
        "first_id",
        "created_at",
        "finished_at",
        "receipts_closed",
        "has_failed",
        "id",
    )

    @admin.display(description=gettext_lazy("dispatch"))
    def dispatch_link(self, row: DispatchBatch) -> Any:
        return admin_link("messaging.Dispatch", row.dispatch_id, row.dispatch_id)

    @admin.display(description=gettext_lazy("id"))
    def key(self, row: DispatchBatch) -> Any:
        return short_id(row.pk)

    @admin.display(description=gettext_lazy("messages"))
    def messages_link(self, row: DispatchBatch) -> Any:
        if row.first_id is None:
            return _("made when it is claimed")
        address = f"{reverse('admin:messaging_message_changelist')}?range={row.first_id}"
        return format_html('<a href="{}" class="text-link">{}</a>', address, _("Show them"))

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        key = as_uuid(term)
        if key is None:
            return queryset.none()
        found = queryset.filter(pk=key)
        return found if found.exists() else queryset.filter(dispatch_id=key)


@admin.register(MessageRequeue)
class MessageRequeueAdmin(ReadOnlyAdmin):
    read_scope = "messages:read"
    list_display = ("key", "application", "campaign", "error_reason", "requeued", "requested_by", "finished_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, AddedFilter)
    fields = (
        "application",
        "campaign",
        "error_reason",
        "error_class",
        "since",
        "until",
        "requeued",
        "skipped_text",
        "requested_by",
        "created_at",
        "updated_at",
        "finished_at",
        "id",
    )

    @admin.display(description=gettext_lazy("id"))
    def key(self, row: MessageRequeue) -> Any:
        return short_id(row.pk)

    @admin.display(description=gettext_lazy("campaign"))
    def campaign(self, row: MessageRequeue) -> Any:
        return campaign_link(row.campaign_id)

    @admin.display(description=gettext_lazy("skipped"))
    def skipped_text(self, row: MessageRequeue) -> Any:
        return json_text(row.skipped)
