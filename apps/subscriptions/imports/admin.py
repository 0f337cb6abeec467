"""The console's pages of imports: upload, what the check found, apply, progress, rejects."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.subscriptions.imports import services
from apps.subscriptions.imports.models import Import, ImportKind, ImportState, OnConflict
from apps.subscriptions.imports.reading import ENCODINGS
from apps.subscriptions.imports.rejects import first_rejects
from apps.subscriptions.models import SubscriptionType
from apps.tenants.access import client_address
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ScopedAdmin
from apps.tenants.console.forms import JSONObjectField
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, rare_filter
from apps.tenants.console.panels import Panel, badge, json_text, table_panel

SCOPE = "imports:write"
FOUND = ("", gettext_lazy("Found in the file"))
STATE_COLOURS = {
    ImportState.WAITING: "default",
    ImportState.CHECKING: "info",
    ImportState.CHECKED: "warning",
    ImportState.RUNNING: "info",
    ImportState.DONE: "success",
    ImportState.FAILED: "danger",
    ImportState.CANCELED: "default",
}
DELIMITER_NAMES = {",": gettext_lazy("Comma"), ";": gettext_lazy("Semicolon"), "\t": gettext_lazy("Tab")}


class ImportForm(forms.ModelForm):  # type: ignore[type-arg]
    file = forms.FileField(
        label=gettext_lazy("File"),
        widget=widgets.UnfoldAdminFileFieldWidget,
        help_text=gettext_lazy("CSV with a header, UTF-8 or CP949. It is checked first; nothing is imported by this."),
    )
    type = forms.ChoiceField(
        label=gettext_lazy("Type of all subscriptions"),
        required=False,
        choices=[("", gettext_lazy("As the column type says")), *SubscriptionType.choices],
        widget=widgets.UnfoldAdminSelectWidget,
    )
    on_conflict = forms.ChoiceField(
        label=gettext_lazy("What is there already"), choices=OnConflict.choices, widget=widgets.UnfoldAdminSelectWidget
    )
    mapping = JSONObjectField(
        label=gettext_lazy("Mapping"),
        required=False,
        help_text=gettext_lazy('Only where columns have other names: {"E-Mail": "token", "Notes": ""}'),
    )
    resubscribe = forms.BooleanField(
        label=gettext_lazy("Subscribe those who had ended"),
        required=False,
        widget=widgets.UnfoldBooleanWidget,
        help_text=gettext_lazy("Only with their new consent. Who asked for it is recorded."),
    )
    clear_empty = forms.BooleanField(
        label=gettext_lazy("An empty cell clears the value"), required=False, widget=widgets.UnfoldBooleanWidget
    )
    encoding = forms.ChoiceField(
        label=gettext_lazy("Encoding"),
        required=False,
        choices=[FOUND, *((name, name.upper()) for name in ENCODINGS)],
        widget=widgets.UnfoldAdminSelectWidget,
    )
    delimiter = forms.ChoiceField(
        label=gettext_lazy("Delimiter"),
        required=False,
        choices=[FOUND, *DELIMITER_NAMES.items()],
        widget=widgets.UnfoldAdminSelectWidget,
    )

    class Meta:
        model = Import
        fields = (
            *("application", "kind", "file", "type", "on_conflict", "mapping", "resubscribe", "clear_empty"),
            *("encoding", "delimiter"),
        )

    def _get_validation_exclusions(self) -> set[str]:
        """The model's columns are the service's matter: they take what the file has, which is not known yet."""
        return {field.name for field in Import._meta.fields} - {"application", "kind"}

    def clean_mapping(self) -> dict[str, str]:
        mapping: dict[str, Any] = self.cleaned_data["mapping"] or {}
        if not all(isinstance(field, str) for field in mapping.values()):
            raise forms.ValidationError(_("Column of the file → field, or an empty text."))
        return mapping


@admin.register(Import)
class ImportAdmin(ScopedAdmin):
    read_scope = write_scope = SCOPE
    may_change = may_delete = False
    form = ImportForm
    list_display = (
        *("file_name", "application", "kind", "state_badge", "total_rows", "rejected_rows", "requested_by"),
        "created_at",
    )
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        AddedFilter,
        rare_filter(gettext_lazy("of"), "kind", ImportKind.choices, lambda rows, value: rows.filter(kind=value)),
        rare_filter(gettext_lazy("state"), "state", ImportState.choices, lambda rows, value: rows.filter(state=value)),
    )
    row_actions = ("apply", "rejects", "cancel")
    _asked = (
        *("application", "kind", "mode", "file_name", "file_bytes", "sha256", "encoding", "delimiter_name"),
        *("header_text", "mapping_text", "default_type", "on_conflict", "clear_empty", "resubscribe"),
    )
    _happened = (
        *("state_badge", "last_error", "requested_by", "ip", "created_at", "checked_at", "applied_by", "applied_at"),
        *("ended_by", "finished_at", "deleted_at", "id"),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ((None, {"fields": ImportForm.Meta.fields}),)
        return ((_("What happened"), {"fields": self._happened}), (_("What was asked"), {"fields": self._asked}))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (*self._asked, *self._happened) if obj else ()

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, row: Import) -> SafeString:
        return badge(STATE_COLOURS[ImportState(row.state)], ImportState(row.state).label)

    @admin.display(description=gettext_lazy("delimiter"))
    def delimiter_name(self, row: Import) -> Any:
        return DELIMITER_NAMES.get(row.delimiter, row.delimiter)

    @admin.display(description=gettext_lazy("columns"))
    def header_text(self, row: Import) -> str:
        return ", ".join(row.header)

    @admin.display(description=gettext_lazy("mapping"))
    def mapping_text(self, row: Import) -> Any:
        return json_text(row.mapping)

    # --- What is done --------------------------------------------------------------------------------------------

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> Import:
        file = cleaned["file"]
        return services.import_create(
            application=cleaned["application"],
            kind=cleaned["kind"],
            file_name=file.name,
            chunks=file.chunks(),
            options=services.ImportOptions(
                type=cleaned["type"],
                on_conflict=cleaned["on_conflict"],
                mapping=cleaned["mapping"],
                resubscribe=cleaned["resubscribe"],
                clear_empty=cleaned["clear_empty"],
                encoding=cleaned["encoding"],
                delimiter=cleaned["delimiter"],
            ),
            by=str(request.user),
            ip=client_address(request),
        )

    @row_action(
        gettext_lazy("Apply"),
        scope=SCOPE,
        icon="play_arrow",
        variant="primary",
        explain=gettext_lazy("Imports the file as it was checked, in the background. Refused lines are left out."),
        facts="apply_facts",
        is_offered=lambda run: run.state == ImportState.CHECKED,
    )
    def apply(self, request: HttpRequest, row: Import, cleaned: dict[str, Any]) -> str:
        services.import_apply(application=row.application, import_id=row.pk, by=str(request.user))
        return _("The file is being applied.")

    def apply_facts(self, request: HttpRequest, row: Import) -> list[tuple[str, Any]]:
        return [(str(label), f"{count:,}") for label, count in _counted(row)]

    @row_action(
        gettext_lazy("Refused lines"),
        scope=SCOPE,
        icon="download",
        explain=gettext_lazy(
            "A file with every line that was refused and why. Corrected, it can be imported as it is."
        ),
        is_offered=lambda run: run.has_rejects,
    )
    def rejects(self, request: HttpRequest, row: Import, cleaned: dict[str, Any]) -> HttpResponse:
        link = urlsplit(services.import_rejects_link(application=row.application, import_id=row.pk).url)
        return HttpResponseRedirect(f"{link.path}?{link.query}")

    @row_action(
        gettext_lazy("Cancel"),
        scope=SCOPE,
        icon="stop",
        variant="danger",
        explain=gettext_lazy("Stops the import. What it has applied stays."),
        is_offered=lambda run: run.is_open,
    )
    def cancel(self, request: HttpRequest, row: Import, cleaned: dict[str, Any]) -> str:
        services.import_cancel(application=row.application, import_id=row.pk, by=str(request.user))
        return _("The import is canceled.")

    # --- The page ------------------------------------------------------------------------------------------------

    def panels(self, request: HttpRequest, row: Import) -> list[Panel]:
        panels = [Panel(_("Progress"), "admin/console/import_progress.html", self._progress(row), before=True)]
        if rejected := first_rejects(row):
            lines = [(line.line, line.error, _shown(line.cells)) for line in rejected]
            headers = (_("line"), _("what is wrong"), _("the line"))
            panels.append(table_panel(_("The first lines that were refused"), headers, lines, before=True))
        return panels

    def _progress(self, row: Import) -> dict[str, Any]:
        return {
            "address": reverse("admin:subscriptions_import_progress", args=[row.pk]),
            "is_live": row.is_working,
            "label": ImportState(row.state).label,
            "colour": STATE_COLOURS[ImportState(row.state)],
            "percent": row.percent,
            "line": row.line,
            "cards": _counted(row),
            "is_check": row.applied_at is None,
        }

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.progress_view)
        return [path("<uuid:object_id>/progress/", view, name="subscriptions_import_progress"), *super().get_urls()]

    def progress_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """The progress alone, for a page that asks every few seconds; when it is over, the page comes anew."""
        row = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        answer = TemplateResponse(request, "admin/console/import_progress.html", {"panel": self._progress(row)})
        if not row.is_working:
            answer["HX-Refresh"] = "true"
        return answer


def _counted(row: Import) -> list[tuple[Any, int]]:
    names = ("total", "created", "updated", "unchanged", "skipped", "rejected", "kept")
    labels = (_("lines"), _("created"), _("updated"), _("unchanged"), _("skipped"), _("refused"))
    return list(zip((*labels, _("not subscribed again")), (row.counts[name] for name in names), strict=True))


def _shown(cells: Any) -> str:
    text = " | ".join(cells)
    return text if len(text) <= 200 else f"{text[:200]}…"
