"""The console's pages of messages: the list with its searches, and the buttons of one message."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.messaging import services
from apps.messaging.console import searching
from apps.messaging.console.message_page import page_of
from apps.messaging.console.searching import Found, day_begins, failed_of_reason
from apps.messaging.console.words import OPEN, STATUS_COLOURS, campaign_link
from apps.messaging.models import Message, MessageStatus
from apps.messaging.next_steps import next_step
from apps.messaging.requeue import message_requeue
from apps.subscriptions.admin import masked, with_sealed_token
from apps.subscriptions.models import Subscription
from apps.tenants.channels import ChannelType
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.formats import moment, number
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, as_uuid, link_filter, newest, rare_filter
from apps.tenants.console.panels import Panel, admin_link, badge, list_address, panel_for, short_id, table_panel
from automata_signal.ids import IdRange

READ, SEND = "messages:read", "messages:send"


# --- What is asked -------------------------------------------------------------------------------------------------


def asked_application(request: HttpRequest) -> list[UUID]:
    """The one application that the list is about: the one of the filter, or the operator's only one."""
    ids = grants_of(request).applications(READ)
    named = as_uuid(request.GET.get("application", ""))
    if named is not None:
        return [named] if named in ids else []
    return ids if len(ids) == 1 else []


def found_of_reason(request: HttpRequest) -> Found | None:
    """The failed messages that the address asks for by their reason, looked for once a page; None where it names no
    reason, or no one application is meant."""
    known: Found | str | None = getattr(request, "_found_of_reason", "")
    if not isinstance(known, str):
        return known
    reason, application = request.GET.get("reason", "").strip(), asked_application(request)
    found = None
    if reason and "\0" not in reason and application:
        older = as_uuid(request.GET.get("older", ""))
        last = day_begins(request.GET.get("until", ""), after=True) or searching.LAST
        found = failed_of_reason(
            application_id=application[0],
            reason=reason[:100],
            campaign_id=as_uuid(request.GET.get("campaign", "")),
            first=_first_asked(request) or searching.FIRST,
            last=min(older, last) if older else last,
        )
    request._found_of_reason = found  # type: ignore[attr-defined]
    return found


def _first_asked(request: HttpRequest) -> UUID | None:
    """The least id of the time that is asked for: from a day on, or the last hours or days."""
    asked = (day_begins(request.GET.get("since", "")), AddedFilter.first_of(request.GET.get("added", "")))
    return max((first for first in asked if first), default=None)


class _AskedFilter(admin.SimpleListFilter):
    """A filter by what is typed above the list or stands in a link; in the sheet of filters while it is in use."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        return [(self.value(), str(self.value())[:100])] if self.value() else []


class SinceFilter(_AskedFilter):
    title = gettext_lazy("from the day")
    parameter_name = "since"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        first = day_begins(self.value() or "")
        return queryset.filter(pk__gte=first) if first else None


class UntilFilter(_AskedFilter):
    title = gettext_lazy("to the day")
    parameter_name = "until"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        last = day_begins(self.value() or "", after=True)
        return queryset.filter(pk__lt=last) if last else None


class ReasonFilter(_AskedFilter):
    """Failed of a reason: of one application in the batches that have failed messages; of several among the newest."""

    title = gettext_lazy("reason")
    parameter_name = "reason"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        reason = (self.value() or "").strip()
        if not reason:
            return None
        if "\0" in reason:
            return queryset.none()
        found = found_of_reason(request)
        if found is not None:
            return queryset.filter(pk__in=found.ids)
        return newest(queryset).filter(status=MessageStatus.FAILED, error_reason=reason)


class CampaignFilter(
    link_filter(gettext_lazy("campaign"), "campaign", searching.messages_of_campaign)  # type: ignore[misc]
):
    """The messages of a campaign; with a reason, what `ReasonFilter` has found of it."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        key = as_uuid(self.value() or "")
        if key and found_of_reason(request) is not None:
            return queryset.filter(campaign_id=key)
        narrowed: QuerySet[Any] | None = super().queryset(request, queryset)
        return narrowed


class OlderFilter(_AskedFilter):
    """Where a search by reason goes on; `ReasonFilter` reads it."""

    title = gettext_lazy("older than")
    parameter_name = "older"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        return None


class SearchBar:
    """What stands above the list: the fields as they were asked, how far a search has come, and what can be done with
    what it found."""

    channels = ChannelType.choices
    states = MessageStatus.choices

    def __init__(self, request: HttpRequest) -> None:
        given = request.GET
        names = ("q", "channel", "status", "reason", "since", "until")
        self.given = {name: given.get(name, "")[:200] for name in names}
        kept = ("application", "campaign", "user", "subscription", "dispatch", "template", "range", "added")
        self.kept = [(name, given[name][:100]) for name in kept if given.get(name)]
        self.is_asked = any(self.given[name] for name in names if name != "q")
        self.clear = f"{reverse('admin:messaging_message_changelist')}?{urlencode(self.kept)}"
        self._request = request

    @property
    def step(self) -> Any:
        """What to do about the reason that is looked for."""
        return next_step(self.given["reason"].strip()).text if self.given["reason"].strip() else ""

    @property
    def found(self) -> str:
        found = found_of_reason(self._request)
        if found is None:
            return ""
        if found.looked_to is None:
            return _("Nothing has failed in that time.")
        text = (
            _("%(count)s found, the newest first.")
            if found.is_whole
            else _("%(count)s found so far, the newest first.")
        )
        return text % {"count": number(len(found.ids))}

    @property
    def older(self) -> str:
        """The address that looks further back; empty when all was looked at."""
        found = found_of_reason(self._request)
        if found is None or found.is_whole or found.looked_to is None:
            return ""
        given = self._request.GET.copy()
        given.pop("p", None)
        given["older"] = str(found.looked_to)
        return f"?{given.urlencode()}"

    @property
    def requeue(self) -> str:
        """Where what was found is counted and sent again, for who may send in the application."""
        application, reason = asked_application(self._request), self.given["reason"].strip()
        if not application or not reason or not grants_of(self._request).has(SEND, application[0]):
            return ""
        which: dict[str, Any] = {"application": application[0], "reason": reason}
        if campaign_id := as_uuid(self._request.GET.get("campaign", "")):
            which["campaign"] = campaign_id
        if first := _first_asked(self._request):
            which["since"] = _moment_of(first)
        if last := day_begins(self.given["until"], after=True):
            which["until"] = _moment_of(last)
        return f"{reverse('admin:operations_requeue')}?{urlencode(which)}"


def _moment_of(first: UUID) -> str:
    at = datetime.fromtimestamp((first.int >> 80) / 1_000, timezone.get_current_timezone())
    return str(at.isoformat())


# --- The pages -----------------------------------------------------------------------------------------------------


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    read_scope = READ
    search_help_text = gettext_lazy(
        "Id of a message, user, subscription, campaign, dispatch or template; external id; whole token; "
        "a gateway's request; or a reason"
    )
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
        link_filter(gettext_lazy("user"), "user", lambda rows, key: searching.messages_of_users(rows, [key])),
        CampaignFilter,
        link_filter(gettext_lazy("dispatch"), "dispatch", searching.messages_of_dispatch),
        link_filter(gettext_lazy("template"), "template", searching.messages_of_template),
        link_filter(gettext_lazy("batch"), "range", lambda rows, key: rows.filter(pk__range=(key, IdRange(key).last))),
        AddedFilter,
        SinceFilter,
        UntilFilter,
        ReasonFilter,  # before those that look through the newest: it finds older ones
        rare_filter(
            gettext_lazy("channel"),
            "channel",
            ChannelType.choices,
            lambda rows, value: rows.filter(channel_type=value),
        ),
        rare_filter(
            gettext_lazy("status"), "status", MessageStatus.choices, lambda rows, value: rows.filter(status=value)
        ),
        OlderFilter,
    )
    fields = ("application", "id")
    change_form_template = "admin/console/messages/message.html"
    list_before_template = "admin/console/messages/list_before.html"
    row_actions = ("cancel", "requeue")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application")

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: Message) -> SafeString:
        return badge(STATUS_COLOURS[str(row.status)], MessageStatus(row.status).label)

    @admin.display(description=gettext_lazy("id"))
    def key(self, row: Message) -> Any:
        return short_id(row.pk)

    @admin.display(description=gettext_lazy("campaign"))
    def campaign(self, row: Message) -> Any:
        return campaign_link(row.campaign_id)

    @admin.display(description=gettext_lazy("subscription"))
    def subscription_link(self, row: Message) -> Any:
        rows = with_sealed_token(Subscription.with_archived.filter(pk=row.subscription_id))
        subscription = rows.first()
        if subscription is None:
            return str(row.subscription_id)
        text = f"{subscription.get_type_display()} · {masked(subscription.sealed)} · {subscription.device_model}"
        return admin_link("subscriptions.Subscription", subscription.pk, text.rstrip(" ·"))

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        applications = grants_of(request).applications(self.read_scope)
        return searching.messages_found(queryset, asked_application(request) or applications, term)

    # --- The list ------------------------------------------------------------------------------------------------

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        extra = {"asked": SearchBar(request), "now": timezone.now(), **(extra_context or {})}
        return super().changelist_view(request, extra)

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

    # --- The page ------------------------------------------------------------------------------------------------

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        row = kwargs.get("obj")
        if row is not None:
            context["page"] = page_of(request, row)
        return super().render_change_form(request, context, *args, **kwargs)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.timeline_view)
        return [path("<uuid:object_id>/timeline/", view, name="messaging_message_timeline"), *super().get_urls()]

    def timeline_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """The timeline alone, for a page that asks while something is to come."""
        row = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        return TemplateResponse(request, "admin/console/messages/timeline.html", {"page": page_of(request, row)})


# --- On other pages ------------------------------------------------------------------------------------------------


def _message_rows(rows: QuerySet[Message]) -> list[tuple[Any, ...]]:
    return [
        (
            admin_link("messaging.Message", m.pk, moment(m.created_at)),
            MessageStatus(m.status).label,
            m.error_reason,
            m.sent_at,
            m.received_at,
            m.converted_at,
        )
        for m in rows.order_by("-pk")[:20]
    ]


def _message_headers() -> tuple[str, ...]:
    return _("accepted"), _("status"), _("reason"), _("sent"), _("received"), _("converted")


@panel_for(Subscription)
def messages_of_subscription_panel(request: HttpRequest, subscription: Subscription) -> Panel | None:
    if not grants_of(request).has("messages:read", subscription.application_id):
        return None
    rows = Message.objects.filter(application_id=subscription.application_id, subscription_id=subscription.pk)
    more = list_address("messaging.Message", subscription=subscription.pk)
    return table_panel(_("Recent messages"), _message_headers(), _message_rows(rows), more=more)
