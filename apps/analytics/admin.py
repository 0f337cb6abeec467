"""The console's pages of scheduled reports and of what was sent; the page of statistics is in `pages`."""

from __future__ import annotations

import base64
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework.exceptions import Throttled
from unfold import widgets

from apps.analytics import home as home  # registers its sections of the first page
from apps.analytics import pages as pages  # registers the page of statistics
from apps.analytics import panels as panels  # and the panels of templates
from apps.analytics import work as work  # its rows on the page of running work
from apps.analytics.exports import admin as exports_admin  # noqa: F401
from apps.analytics.models.reports import ReportRun, ReportSchedule, RunState
from apps.analytics.reports import preview, services
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ReadOnlyAdmin, ScopedHistoryAdmin
from apps.tenants.console.formats import day, number
from apps.tenants.console.lists import ApplicationFilter, link_filter
from apps.tenants.console.panels import Panel, admin_link, badge, list_address, table_panel
from apps.tenants.models import Role

READ, WRITE = "analytics:read", "exports:write"
RUNS_SHOWN = 10
STATE_COLOURS = {
    RunState.WAITING.value: "info",
    RunState.SENT.value: "success",
    RunState.FAILED.value: "danger",
}


class ScheduleForm(forms.ModelForm):  # type: ignore[type-arg]
    hour = forms.TypedChoiceField(
        label=gettext_lazy("Hour"),
        choices=[(hour, f"{hour:02}:00") for hour in range(24)],
        coerce=int,
        initial=9,
        widget=widgets.UnfoldAdminSelectWidget,
        help_text=gettext_lazy("Of the application's time zone."),
    )
    roles = forms.MultipleChoiceField(
        label=gettext_lazy("To everybody who is"),
        choices=[(role, Role(role).label) for role in services.READERS],
        required=False,
        widget=widgets.UnfoldAdminCheckboxSelectMultipleWidget,
    )
    members = forms.CharField(
        label=gettext_lazy("And to these members"),
        required=False,
        max_length=20_000,
        widget=widgets.UnfoldAdminTextareaWidget({"rows": 3}),
        help_text=gettext_lazy("Addresses of members of the application, one in a line."),
    )

    class Meta:
        model = ReportSchedule
        fields = ("application", "kind", "hour", "weekday", "roles", "members", "language", "is_active")
        help_texts = {"weekday": gettext_lazy("Of a weekly report.")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.initial["members"] = "\n".join(services.members_of(self.instance))

    def clean_members(self) -> list[str]:
        return [line.strip() for line in self.cleaned_data["members"].splitlines() if line.strip()]

    def _post_clean(self) -> None:
        """The service checks and sets; addresses are no value of the model's field."""


@admin.register(ReportSchedule)
class ReportScheduleAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = READ, WRITE
    form = ScheduleForm
    list_display = ("kind", "application", "moment", "next_at", "last_period", "is_active")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, "kind", "is_active")
    fields = (
        *("application", "kind", "hour", "weekday", "roles", "members", "language", "is_active"),
        *("next_at", "last_period", "created_by", "updated_at", "id"),
    )
    row_actions = ("send_to_me",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else self.fields[:8]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("application", *self.fields[8:]) if obj else ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application")

    @admin.display(description=gettext_lazy("when"))
    def moment(self, row: ReportSchedule) -> str:
        day = f"{row.get_weekday_display()} " if row.kind == "weekly" else ""
        return f"{day}{row.hour:02}:00 {row.application.time_zone}"

    # --- Changes -------------------------------------------------------------------------------------------------

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> ReportSchedule:
        return services.schedule_create(**cleaned, by=str(request.user))

    def update(self, request: HttpRequest, row: ReportSchedule, changes: dict[str, Any]) -> ReportSchedule:
        return services.schedule_update(schedule=row, **changes, by=str(request.user))

    def remove(self, request: HttpRequest, row: ReportSchedule) -> None:
        services.schedule_delete(schedule=row, by=str(request.user))

    # --- The page ------------------------------------------------------------------------------------------------

    @row_action(
        gettext_lazy("Send it to me now"),
        scope=WRITE,
        icon="outgoing_mail",
        is_direct=True,
    )
    def send_to_me(self, request: HttpRequest, row: ReportSchedule, cleaned: dict[str, Any]) -> str:
        operator = preview.send_now(schedule=row, operator=request.user)  # type: ignore[arg-type]
        return _("The report of the last period is on its way to %(email)s.") % {"email": operator.email}

    def panels(self, request: HttpRequest, row: ReportSchedule) -> list[Panel]:
        runs = ReportRun.objects.filter(schedule=row).order_by("-pk")[:RUNS_SHOWN]
        recipients = services.recipients_of(row)
        facts = [(_("gets it now"), ", ".join(one.email for one in recipients) or _("nobody"))]
        if row.opted_out:
            facts.append((_("unsubscribed"), f"{len(row.opted_out)}"))
        if self.is_allowed(request, WRITE, row):
            address = reverse("admin:analytics_reportschedule_preview", args=[row.pk])
            link = format_html('<a href="{}" class="text-link">{}</a>', address, _("The last period, as it looks"))
            facts.append((_("preview"), link))
        return [
            Panel(_("Recipients"), "admin/console/facts.html", {"facts": facts}),
            table_panel(
                _("Sent"),
                (_("period"), _("state"), _("attempts"), _("delivered"), _("last error")),
                [
                    (
                        admin_link("analytics.ReportRun", run.pk, day(run.period_start)),
                        badge(STATE_COLOURS[run.state], run.get_state_display()),
                        run.attempts,
                        len(run.delivered_to),
                        run.error,
                    )
                    for run in runs
                ],
                more=list_address("analytics.ReportRun", schedule=row.pk),
            ),
        ]

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.preview_view)
        return [path("<uuid:object_id>/preview/", view, name="analytics_reportschedule_preview"), *super().get_urls()]

    def preview_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """The letter itself, with its picture. Nothing in it can run."""
        row = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        if not self.is_allowed(request, WRITE, row):
            raise PermissionDenied
        try:
            draft = preview.shown(row)
        except Throttled as throttled:
            return HttpResponse(str(throttled.detail), status=429, content_type="text/plain")
        picture = f"data:image/png;base64,{base64.b64encode(draft.picture).decode()}"
        page = HttpResponse(draft.html(picture=picture))
        page["Content-Security-Policy"] = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"
        return page


@admin.register(ReportRun)
class ReportRunAdmin(ReadOnlyAdmin):
    read_scope = READ
    list_display = ("period_start", "application", "report", "status", "attempts", "delivered", "error", "finished_at")
    list_select_related = ("application", "schedule__application")
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("report"), "schedule", lambda rows, key: rows.filter(schedule_id=key)),
    )
    fields = (
        *("application", "report", "period_start", "period_end", "status", "attempts", "delivered", "rejected"),
        *("error", "due_at", "created_at", "finished_at", "id"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application", "schedule__application")

    @admin.display(description=gettext_lazy("report"))
    def report(self, row: ReportRun) -> SafeString:
        return admin_link("analytics.ReportSchedule", row.schedule_id, row.schedule.get_kind_display())

    @admin.display(description=gettext_lazy("state"))
    def status(self, row: ReportRun) -> SafeString:
        return badge(STATE_COLOURS[row.state], row.get_state_display())

    @admin.display(description=gettext_lazy("delivered"))
    def delivered(self, row: ReportRun) -> str:
        return number(len(row.delivered_to))

    @admin.display(description=gettext_lazy("refused"))
    def rejected(self, row: ReportRun) -> str:
        return number(len(row.refused))
