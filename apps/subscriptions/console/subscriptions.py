"""The console's pages of subscriptions: found by id, user, token or address; ended and restored with a reason."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from babel import Locale
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext_lazy, ngettext
from django.utils.translation import gettext as _
from unfold import widgets
from unfold.contrib.filters.admin import DropdownFilter

from apps.subscriptions import services
from apps.subscriptions.console import values
from apps.subscriptions.console.events import status_change
from apps.subscriptions.console.looking import (
    shown_address,
    subscription_ids_by_token,
    user_ids,
    user_ids_by_prefix,
    with_sealed_token,
)
from apps.subscriptions.console.person import values_of
from apps.subscriptions.models import Subscription, SubscriptionEvent, SubscriptionType
from apps.subscriptions.status import Setter, SubscriptionStatus
from apps.subscriptions.validation import COUNTRIES
from apps.tenants.audit.services import audit
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import RowAction, row_action
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.formats import moment
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, as_uuid, link_filter, newest, rare_filter
from apps.tenants.console.panels import Panel, admin_link, badge, list_address, short_id, table_panel
from automata_signal.errors import SignalError

SOURCE = "operator"
"""What events and `status_source` say of a change made here."""
WRITE = "subscriptions:write"
AT_ONCE = 500
"""Subscriptions of one selection."""
TAG_KINDS = values.KINDS[:3]


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=120,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Kept with the event, for whoever asks later."),
    )


def _by_status(rows: QuerySet[Any], value: str) -> QuerySet[Any]:
    if value == "reachable":
        return rows.filter(subscription_status__gt=0, is_archived=False)
    if value == "ended":
        return rows.filter(subscription_status__in=(0, -2, -22, -31, -98, -99))
    if value == "archived":
        return rows.filter(is_archived=True)
    return rows.filter(subscription_status__lt=-2).exclude(subscription_status__in=(-22, -31, -98, -99))


class CountryFilter(DropdownFilter):  # type: ignore[misc]
    """Those of a country, among the newest of the rows that the filters before it leave."""

    title = gettext_lazy("country")
    parameter_name = "country"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        territories = Locale.parse(get_language() or "en", sep="-").territories
        return sorted(((code, territories.get(code, code)) for code in COUNTRIES), key=lambda pair: pair[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        value = self.value()
        return newest(queryset).filter(country_code=value) if value in COUNTRIES else None


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnlyAdmin):
    read_scope = "subscriptions:read"
    manager_name = "with_archived"
    search_help_text = gettext_lazy(
        "Subscription id; how a user's external id begins; or a whole e-mail address, phone number or token"
    )
    list_display = (
        "key",
        "application",
        "type",
        "token_text",
        "user",
        "state",
        "device_model",
        "country_code",
        "last_active_at",
    )
    list_select_related = ("application", "user")
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("user"), "user", lambda rows, key: rows.filter(user_id=key)),
        AddedFilter,
        rare_filter(
            gettext_lazy("type"), "type", SubscriptionType.choices, lambda rows, value: rows.filter(type=value)
        ),
        rare_filter(
            gettext_lazy("status"),
            "status",
            (
                ("reachable", gettext_lazy("Reachable")),
                ("ended", gettext_lazy("Ended or never begun")),
                ("error", gettext_lazy("Ended by an error")),
                ("archived", gettext_lazy("Archived")),
            ),
            _by_status,
        ),
        CountryFilter,
        rare_filter(
            gettext_lazy("test group"),
            "test",
            (("1", gettext_lazy("In the test group")),),
            lambda rows, value: rows.filter(user__is_test=True),
        ),
    )
    fieldsets = (
        (None, {"fields": ("application", "user", "type", "token_text", "state", "status_source")}),
        (
            gettext_lazy("Device"),
            {
                "fields": (
                    "device_model",
                    "device_os",
                    "device_language",
                    "country_code",
                    "app_version",
                    "sdk_version",
                    "test_type",
                )
            },
        ),
        (
            gettext_lazy("Life"),
            {
                "fields": (
                    "subscribed_at",
                    "unsubscribed_at",
                    "last_active_at",
                    "token_registered_at",
                    "archived_at",
                    "total_messages_received",
                    "total_messages_converted",
                    "created_at",
                    "updated_at",
                    "id",
                )
            },
        ),
    )
    row_actions = ("end", "restore", "subscribe", "unsubscribe")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return with_sealed_token(super().get_queryset(request).select_related("application", "user"))

    @admin.display(description=gettext_lazy("address"))
    def token_text(self, row: Any) -> SafeString:
        return format_html('<span style="white-space: nowrap">{}</span>', shown_address(row))

    @admin.display(description=gettext_lazy("status"))
    def state(self, row: Subscription) -> SafeString:
        text = f"{row.get_subscription_status_display()} ({row.subscription_status})"
        if row.is_archived:
            return badge("default", _("archived · %(status)s") % {"status": text})
        if row.is_subscribed:
            return badge("success", text)
        return badge("danger" if row.has_error else "warning", text)

    @admin.display(description=gettext_lazy("id"))
    def key(self, row: Subscription) -> Any:
        return short_id(row.pk)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        if key := as_uuid(term):
            if queryset.filter(pk=key).exists():
                return queryset.filter(pk=key)
            return queryset.filter(user_id=key)
        applications = grants_of(request).applications(self.read_scope)
        if users := user_ids(applications, term):
            return queryset.filter(user_id__in=users)
        if keys := subscription_ids_by_token(applications, term):
            return queryset.filter(pk__in=keys)
        return queryset.filter(user_id__in=user_ids_by_prefix(applications, term))

    @row_action(
        gettext_lazy("End"),
        scope="subscriptions:write",
        icon="notifications_off",
        variant="danger",
        form=ReasonForm,
        explain=gettext_lazy(
            "Unsubscribes and archives. The history stays; registering the token again brings it back."
        ),
        is_offered=lambda subscription: not subscription.is_archived,
    )
    def end(self, request: HttpRequest, row: Subscription, cleaned: dict[str, Any]) -> str | HttpResponseBase:
        services.subscription_end(
            subscription=row, setter=Setter.PERSON, source=SOURCE, reason=_reason(request, cleaned)
        )
        return _after(request, row, _("The subscription has ended."))

    @row_action(
        gettext_lazy("Restore"),
        scope="subscriptions:write",
        icon="unarchive",
        variant="primary",
        form=ReasonForm,
        explain=gettext_lazy("Brings the subscription back as it was when it ended; it is not subscribed by this."),
        is_offered=lambda subscription: subscription.is_archived,
    )
    def restore(self, request: HttpRequest, row: Subscription, cleaned: dict[str, Any]) -> str | HttpResponseBase:
        services.subscription_restore(
            subscription=row, setter=Setter.PERSON, source=SOURCE, reason=_reason(request, cleaned)
        )
        return _after(request, row, _("The subscription is back."))

    @row_action(
        gettext_lazy("Subscribe"),
        scope="subscriptions:write",
        icon="notifications_active",
        form=ReasonForm,
        explain=gettext_lazy("Messages go to this address again. Do it only if its owner wants it."),
        is_offered=lambda subscription: not subscription.is_archived and not subscription.is_subscribed,
    )
    def subscribe(self, request: HttpRequest, row: Subscription, cleaned: dict[str, Any]) -> str | HttpResponseBase:
        services.subscription_update(
            subscription=row, setter=Setter.PERSON, source=SOURCE, enabled=True, reason=_reason(request, cleaned)
        )
        return _after(request, row, _("The subscription is subscribed."))

    @row_action(
        gettext_lazy("Unsubscribe"),
        scope="subscriptions:write",
        icon="do_not_disturb_on",
        form=ReasonForm,
        explain=gettext_lazy("Nothing is sent here any more, whatever the device says later (code -31)."),
        is_offered=lambda subscription: subscription.is_subscribed and not subscription.is_archived,
    )
    def unsubscribe(self, request: HttpRequest, row: Subscription, cleaned: dict[str, Any]) -> str | HttpResponseBase:
        services.subscription_update(
            subscription=row,
            setter=Setter.PERSON,
            source=SOURCE,
            subscription_status=SubscriptionStatus.DISABLED_BY_API,
            reason=_reason(request, cleaned),
        )
        return _after(request, row, _("The subscription is unsubscribed."))

    # --- Selections ----------------------------------------------------------------------------------------------

    actions = ("end_selected", "restore_selected")

    def get_actions(self, request: HttpRequest) -> Any:
        return super().get_actions(request) if self.is_allowed(request, WRITE) else {}

    @admin.action(description=gettext_lazy("End …"))
    def end_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return self._with_reason(request, queryset, self.end.row_action, services.subscription_end)  # type: ignore[attr-defined]

    @admin.action(description=gettext_lazy("Restore …"))
    def restore_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        return self._with_reason(request, queryset, self.restore.row_action, services.subscription_restore)  # type: ignore[attr-defined]

    def _with_reason(
        self, request: HttpRequest, queryset: QuerySet[Any], action: RowAction, service: Any
    ) -> HttpResponse | None:
        """Ask for a reason, then do it to each; those for which it cannot be done are counted and left as they are."""
        rows = list(queryset.select_related("application")[:AT_ONCE])
        if not all(self.is_allowed(request, WRITE, row) for row in rows):
            raise PermissionDenied
        is_answered = "reason" in request.POST
        form = ReasonForm(request.POST if is_answered else None)
        if is_answered and form.is_valid():
            done = self._do_each(request, rows, action.name, service, _reason(request, form.cleaned_data))
            text = ngettext("%(count)d subscription was changed.", "%(count)d subscriptions were changed.", done)
            messages.success(request, text % {"count": done})
            if left := len(rows) - done:
                text = ngettext("%(count)d was left as it is.", "%(count)d were left as they are.", left)
                messages.warning(request, text % {"count": left})
            return None
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": action.label,
            "subtitle": None,
            "action": action,
            "form": form,
            "media": self.media + form.media,
            "count": len(rows),
            "rows": rows[:10],
            "keys": [str(row.pk) for row in rows],
            "checkbox": ACTION_CHECKBOX_NAME,
            "action_name": request.POST.get("action", ""),
            "back": list_address("subscriptions.Subscription"),
        }
        return TemplateResponse(request, "admin/subscriptions/selection.html", context)

    def _do_each(self, request: HttpRequest, rows: list[Any], name: str, service: Any, reason: str) -> int:
        by_application: dict[Any, list[str]] = {}
        for row in rows:
            if row.is_archived == (name == "end"):
                continue
            try:
                service(subscription=row, setter=Setter.PERSON, source=SOURCE, reason=reason)
            except SignalError:
                continue
            by_application.setdefault(row.application_id, []).append(str(row.pk))
        for application_id, keys in by_application.items():
            details = {"subscriptions": keys, "reason": reason}
            audit(f"subscription.{name}", request=request, application_id=application_id, details=details)
        return sum(map(len, by_application.values()))

    # --- The page ------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.tags_view)
        return [path("<uuid:object_id>/tags/", view, name="subscriptions_subscription_tags"), *super().get_urls()]

    def tags_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """The tags as rows of a form."""
        row = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        if not self.is_allowed(request, WRITE, row):
            raise PermissionDenied
        found, problem = values.shown(row.tags), ""
        if request.method == "POST":
            found = values.read(request.POST, row.tags, kinds=[kind for kind, _label in TAG_KINDS])
            if found.is_valid:
                try:
                    services.subscription_set_tags(
                        subscription=row, tags=found.changes, setter=Setter.PERSON, source=SOURCE
                    )
                    details = {"changed": sorted(found.changes)}
                    audit(
                        "subscription.tags",
                        request=request,
                        application_id=row.application_id,
                        row=row,
                        details=details,
                    )
                    messages.success(request, _("The tags are saved."))
                    return HttpResponseRedirect(self.address_of(row.pk))
                except SignalError as error:
                    problem = values.add_refusal(found, error)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": _("Tags"),
            "subtitle": None,
            "noun": str(row),
            "values": found,
            "kinds": TAG_KINDS,
            "problem": problem,
            "back": self.address_of(row.pk),
        }
        return TemplateResponse(request, "admin/subscriptions/values.html", context)

    def panels(self, request: HttpRequest, row: Subscription) -> list[Panel]:
        events = SubscriptionEvent.objects.filter(subscription_id=row.pk).order_by("-pk")[:20]
        rows = [
            (
                admin_link("subscriptions.SubscriptionEvent", event.pk, moment(event.occurred_at)),
                event.get_event_type_display(),
                status_change(event),
                event.source,
                event.reason,
            )
            for event in events
        ]
        headers = (_("time"), _("event"), _("status"), _("by"), _("reason"))
        more = list_address("subscriptions.SubscriptionEvent", subscription=row.pk)
        return [self._tags_panel(request, row), table_panel(_("What happened"), headers, rows, more=more)]

    def _tags_panel(self, request: HttpRequest, row: Subscription) -> Panel:
        address = ""
        if self.is_allowed(request, WRITE, row) and not row.is_archived:
            address = reverse("admin:subscriptions_subscription_tags", args=[row.pk])
        headers, rows = (_("tag"), _("value")), values_of(row.tags)
        return table_panel(_("Tags"), headers, rows, more=address, more_label=_("Change the tags"))


def _after(request: HttpRequest, row: Subscription, text: str) -> str | HttpResponseBase:
    """What was done, shown where the operator came from: the subscription's page, or its user's."""
    if request.GET.get("from") != "user" or row.user_id is None:
        return text
    messages.success(request, text)
    return HttpResponseRedirect(reverse("admin:subscriptions_appuser_change", args=[row.user_id]))


def _reason(request: HttpRequest, cleaned: dict[str, Any]) -> str:
    return f"{cleaned['reason']} · {request.user}"
