"""The console's pages of exports, and the button "Export" above the lists of what can be exported."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import exceptions

from apps.analytics.exports import services
from apps.analytics.exports.api import file_response
from apps.analytics.exports.columns import Resource
from apps.analytics.exports.forms import ExportForm, initial_of
from apps.analytics.exports.registry import kind_choices, resource_of
from apps.analytics.models.exports import OPEN_STATES, Export, ExportState
from apps.billing.models import LedgerTransaction
from apps.messaging.models import Message, MessageEvent
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent
from apps.tenants.access import client_address
from apps.tenants.audit.services import audit
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.formats import number
from apps.tenants.console.forms import add_refusal
from apps.tenants.console.list_links import ListLink, list_link_for
from apps.tenants.console.lists import AddedFilter, ApplicationFilter
from apps.tenants.console.panels import Panel, badge, json_text, table_panel
from automata_signal.api import flatten_errors
from automata_signal.errors import NotFound, SignalError, ValidationFailed

STATE_COLOURS = {
    ExportState.WAITING.value: "info",
    ExportState.RUNNING.value: "info",
    ExportState.DONE.value: "success",
    ExportState.FAILED.value: "danger",
    ExportState.CANCELED.value: "warning",
    ExportState.EXPIRED.value: "default",
}
DOWNLOADS_SHOWN = 20


class KindFilter(admin.SimpleListFilter):
    title = gettext_lazy("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, Any]]:
        return kind_choices()

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(kind=self.value()) if self.value() in dict(kind_choices()) else None


@admin.register(Export)
class ExportAdmin(ReadOnlyAdmin):
    """Who asked for what, and who took it. Nobody changes or deletes a row."""

    read_scope = services.WRITE
    may_add = may_change = may_delete = False
    list_display = ("what", "application", "status", "rows_written", "masked", "requested_by", "created_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, KindFilter, AddedFilter)
    fields = (
        *("application", "what", "filters_text", "columns_text", "masked", "time_zone", "with_bom", "is_gzipped"),
        *("rows_written", "bytes_written", "sha256", "requested_by", "requested_from"),
        *("created_at", "started_at", "finished_at", "expires_at", "downloads_count", "id"),
    )
    row_actions = ("download", "cancel")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("application")

    @admin.display(description=gettext_lazy("kind"))
    def what(self, row: Export) -> Any:
        return dict(kind_choices()).get(row.kind, row.kind)

    @admin.display(description=gettext_lazy("state"))
    def status(self, row: Export) -> SafeString:
        label = row.get_state_display()
        return badge(STATE_COLOURS[row.state], f"{label} {row.progress:.0%}" if row.state in OPEN_STATES else label)

    @admin.display(description=gettext_lazy("personal data"))
    def masked(self, row: Export) -> SafeString:
        return badge("success", _("masked")) if row.is_masked else badge("warning", _("in clear"))

    @admin.display(description=gettext_lazy("filters"))
    def filters_text(self, row: Export) -> Any:
        return json_text(row.filters)

    @admin.display(description=gettext_lazy("columns"))
    def columns_text(self, row: Export) -> str:
        return ", ".join(row.columns)

    # --- The page ------------------------------------------------------------------------------------------------

    @row_action(
        gettext_lazy("Download"),
        scope=services.WRITE,
        icon="download",
        variant="primary",
        is_direct=True,
        is_offered=lambda export: services.download_link(export) is not None,
    )
    def download(self, request: HttpRequest, row: Export, cleaned: dict[str, Any]) -> HttpResponseBase:
        return HttpResponseRedirect(_download_address(row))

    @row_action(
        gettext_lazy("Cancel"),
        scope=services.WRITE,
        icon="cancel",
        variant="danger",
        explain=gettext_lazy("What is written is deleted."),
        is_offered=lambda export: export.state in OPEN_STATES,
    )
    def cancel(self, request: HttpRequest, row: Export, cleaned: dict[str, Any]) -> str:
        services.export_cancel(export=row)
        return _("The export is canceled.")

    def panels(self, request: HttpRequest, row: Export) -> list[Panel]:
        downloads = row.downloads.order_by("-pk")[:DOWNLOADS_SHOWN]
        rows = [(one.downloaded_at, one.downloaded_by, one.downloaded_from) for one in downloads]
        return [
            Panel(_("Progress"), "admin/console/export_progress.html", self._progress(row), before=True),
            table_panel(_("Downloads"), (_("at"), _("by"), _("from")), rows),
        ]

    def _progress(self, row: Export) -> dict[str, Any]:
        rows = _("%(rows)s rows") % {"rows": number(row.rows_written)}
        return {
            "is_open": row.state in OPEN_STATES,
            "address": reverse("admin:analytics_export_progress", args=[row.pk]),
            "colour": STATE_COLOURS[row.state],
            "label": ExportState(row.state).label,
            "percent": int(row.progress * 100),
            "line": f"{rows} · {filesizeformat(row.bytes_written)}",
            "problem": row.last_error,
            "file_name": row.file_name,
            "download": _download_address(row) if services.download_link(row) else "",
        }

    def get_urls(self) -> list[Any]:
        routes = (
            ("<uuid:object_id>/progress/", self.progress_view, "analytics_export_progress"),
            ("<uuid:object_id>/download/", self.download_view, "analytics_export_download"),
            ("new/<slug:kind>/", self.new_view, "analytics_export_new"),
        )
        own = [path(route, self.admin_site.admin_view(view), name=name) for route, view, name in routes]
        return [*own, *super().get_urls()]

    def _row(self, request: HttpRequest, object_id: UUID) -> Export:
        row: Export | None = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        return row

    def progress_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """The progress alone, for a page that asks every few seconds."""
        row = self._row(request, object_id)
        return TemplateResponse(request, "admin/console/export_progress.html", {"panel": self._progress(row)})

    def download_view(self, request: HttpRequest, object_id: UUID) -> HttpResponseBase:
        """The file, for the token in the address and who is signed in. 404 for whatever does not fit."""
        row = self._row(request, object_id)
        try:
            download = services.export_download(
                application=row.application,
                export_id=row.pk,
                token=request.GET.get("token", ""),
                requester=requester(request, row.application_id),
            )
        except NotFound as error:
            raise Http404(error.message) from None
        audit("export.file_taken", request=request, application_id=row.application_id, row=row)
        return file_response(download)

    # --- Asking for one ------------------------------------------------------------------------------------------

    def new_view(self, request: HttpRequest, kind: str) -> HttpResponse:
        """The form of a kind; on POST the order."""
        try:
            resource = resource_of(kind)
        except ValidationFailed:
            raise Http404 from None
        grants = grants_of(request)
        applications = [pk for pk in grants.applications(services.WRITE) if grants.has(resource.scope, pk)]
        if not applications:
            raise PermissionDenied
        form = ExportForm(
            resource,
            applications,
            request.POST if request.method == "POST" else None,
            may_unmask=any(grants.has(services.PERSONAL, pk) for pk in applications),
            initial=initial_of(resource, request.GET.dict()),
        )
        if request.method == "POST" and form.is_valid():
            export = self._ordered(request, form)
            if export is not None:
                told = {"kind": export.kind, "filters": export.filters, "masked": export.is_masked}
                self.tell(request, "add", export, details=told)
                return HttpResponseRedirect(self.address_of(export.pk))
        action = {"label": _("Export"), "icon": "download", "variant": "primary"}
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": _("Export"),
            "subtitle": resource.label,
            "row": resource.label,
            "action": action,
            "form": form,
            "media": self.media + form.media,
            "back": reverse("admin:analytics_export_changelist"),
        }
        return TemplateResponse(request, "admin/console/action.html", context)

    def _ordered(self, request: HttpRequest, form: ExportForm) -> Export | None:
        """The export, or None with the refusal on the form."""
        order = form.order()
        try:
            return services.export_create(**order, requester=requester(request, order["application"].pk))
        except SignalError as error:
            add_refusal(form, _unprefixed(error), {})
        except exceptions.ValidationError as error:
            problems = list(flatten_errors(error.detail))
            add_refusal(form, _unprefixed(ValidationFailed(_("The input is not valid."), details=problems)), {})
        return None


def requester(request: HttpRequest, application_id: UUID) -> services.Requester:
    """Who is signed in, with the scopes of the role there."""
    return services.Requester(str(request.user), client_address(request), grants_of(request).of(application_id))


def _download_address(row: Export) -> str:
    token = urlencode({"token": services.download_token(row)})
    return f"{reverse('admin:analytics_export_download', args=[row.pk])}?{token}"


def _unprefixed(error: SignalError) -> SignalError:
    """The form has the filters as fields of its own."""
    error.details = [one._replace(field=one.field.removeprefix("filters.")) for one in error.details]
    return error


# --- The buttons of the lists --------------------------------------------------------------------------------------

_ADDED_S = AddedFilter._SECONDS
_CARRIED: dict[type[Model], tuple[str, Mapping[str, str]]] = {
    Message: (
        "messages",
        {"campaign": "campaign_id", "subscription": "subscription_id", "user": "user_id", "status": "status"},
    ),
    MessageEvent: ("message_events", {"event": "event_type"}),
    AppUser: ("users", {"archived": "archived"}),
    Subscription: ("subscriptions", {"user": "user_id", "type": "type", "status": "status"}),
    SubscriptionEvent: ("subscription_events", {"subscription": "subscription_id", "event": "event_type"}),
    LedgerTransaction: ("ledger", {"kind__exact": "transaction_kind"}),
}
"""Of each list: the kind, and which of its filters are which of the export's."""


def export_link(request: HttpRequest, resource: Resource, carried: Mapping[str, str]) -> ListLink | None:
    """The button, with the filters that the list has now; None for who may not export these rows."""
    grants = grants_of(request)
    if not any(grants.has(resource.scope, pk) for pk in grants.applications(services.WRITE)):
        return None
    query = {name: request.GET[given] for given, name in carried.items() if request.GET.get(given)}
    if request.GET.get("application"):
        query["application"] = request.GET["application"]
    if seconds := _ADDED_S.get(request.GET.get("added", "")):
        query["since"] = f"{datetime.fromtimestamp(time.time() - seconds, UTC):%Y-%m-%dT%H:%M}"
    address = reverse("admin:analytics_export_new", args=[resource.kind])
    return ListLink(_("Export"), "download", f"{address}?{urlencode(query)}" if query else address)


def offer(model: type[Model], kind: str, carried: Mapping[str, str]) -> None:
    """Put the button above the list of `model`. Upper apps do it for their own."""

    @list_link_for(model)
    def link(request: HttpRequest) -> ListLink | None:
        return export_link(request, resource_of(kind), carried)


for _model, (_kind, _names) in _CARRIED.items():
    offer(_model, _kind, _names)


@list_link_for(Export)
def statistics_link(request: HttpRequest) -> ListLink | None:
    """Of statistics, which have no list."""
    link = export_link(request, resource_of("statistics"), {})
    return link._replace(label=_("Export statistics"), icon="bar_chart") if link else None
