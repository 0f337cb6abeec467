"""The console's pages of imports, as a guided flow: the file, its columns, what the check found, applying it."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.subscriptions.imports import mapping, services
from apps.subscriptions.imports.models import Import, ImportKind, ImportState, OnConflict
from apps.subscriptions.imports.reading import ENCODINGS
from apps.subscriptions.imports.rejects import REJECT_COLUMNS, RejectedLine, first_rejects
from apps.subscriptions.models import SubscriptionType
from apps.tenants.access import client_address
from apps.tenants.audit.services import audit
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ScopedAdmin
from apps.tenants.console.formats import number
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, as_uuid, rare_filter
from apps.tenants.console.panels import badge
from automata_signal.errors import SignalError

SCOPE = "imports:write"
FOUND = ("", gettext_lazy("Found in the file"))
STATE_COLOURS = {
    ImportState.MAPPING: "warning",
    ImportState.WAITING: "default",
    ImportState.CHECKING: "info",
    ImportState.CHECKED: "warning",
    ImportState.RUNNING: "info",
    ImportState.DONE: "success",
    ImportState.FAILED: "danger",
    ImportState.CANCELED: "default",
}
DELIMITER_NAMES = {",": gettext_lazy("Comma"), ";": gettext_lazy("Semicolon"), "\t": gettext_lazy("Tab")}
REMAPPABLE = (ImportState.MAPPING, ImportState.CHECKED)


class ImportForm(forms.ModelForm):  # type: ignore[type-arg]
    file = forms.FileField(
        label=gettext_lazy("File"),
        widget=widgets.UnfoldAdminFileFieldWidget,
        help_text=gettext_lazy(
            "CSV with a header, UTF-8 or CP949. Next you say what its columns are; nothing is imported by this."
        ),
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
        fields = ("application", "kind", "file", "encoding", "delimiter")

    def _get_validation_exclusions(self) -> set[str]:
        """The model's columns are the service's matter: they take what the file has, which is not known yet."""
        return {field.name for field in Import._meta.fields} - {"application", "kind"}


class RejectRow(NamedTuple):
    """A refused line as the page shows it: the cell that is wrong, and why."""

    line: int
    problems: list[tuple[str, str]]
    cells: list[tuple[str, bool]]


@admin.register(Import)
class ImportAdmin(ScopedAdmin):
    read_scope = write_scope = SCOPE
    may_change = may_delete = False
    form = ImportForm
    add_form_template = "admin/subscriptions/import_add.html"
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
    _facts = (
        *("application", "kind", "mode", "file_name", "file_bytes", "sha256", "encoding", "delimiter_name"),
        *("state_badge", "last_error", "requested_by", "ip", "created_at", "checked_at", "applied_by", "applied_at"),
        *("ended_by", "finished_at", "deleted_at", "id"),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return ((None, {"fields": ImportForm.Meta.fields if obj is None else self._facts}),)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self._facts if obj else ()

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("application")

    @admin.display(description=gettext_lazy("state"))
    def state_badge(self, row: Import) -> SafeString:
        return badge(STATE_COLOURS[ImportState(row.state)], ImportState(row.state).label)

    @admin.display(description=gettext_lazy("delimiter"))
    def delimiter_name(self, row: Import) -> Any:
        return DELIMITER_NAMES.get(row.delimiter, row.delimiter)

    # --- What is done --------------------------------------------------------------------------------------------

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> Import:
        file = cleaned["file"]
        return services.import_create(
            application=cleaned["application"],
            kind=cleaned["kind"],
            file_name=file.name,
            chunks=file.chunks(),
            options=services.ImportOptions(encoding=cleaned["encoding"], delimiter=cleaned["delimiter"]),
            by=str(request.user),
            ip=client_address(request),
            is_to_be_mapped=True,
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
        return [(str(label), number(count)) for label, count, _tone in _counted(row)]

    @row_action(
        gettext_lazy("Refused lines"),
        scope=SCOPE,
        icon="download",
        is_direct=True,
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

    # --- The pages -----------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        of = {"progress": self.progress_view, "columns": self.columns_view}
        views = {name: self.admin_site.admin_view(view) for name, view in of.items()}
        own = [path(f"<uuid:object_id>/{name}/", view, name=f"{self._route}_{name}") for name, view in views.items()]
        return [*own, *super().get_urls()]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        return super().add_view(request, form_url, {"steps": _steps(None), **(extra_context or {})})

    def response_post_save_add(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        return HttpResponseRedirect(reverse("admin:subscriptions_import_columns", args=[obj.pk]))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Where the import is in its flow, and what came of it."""
        row = self.get_object(request, object_id) if request.method == "GET" and as_uuid(object_id) else None
        if row is None:
            return super().change_view(request, object_id, form_url, extra_context)
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        context = {**self._base(request, row), **self._shown(request, row)}
        return TemplateResponse(request, "admin/subscriptions/import.html", context)

    def progress_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """The progress alone, for a page that asks every few seconds; when it is over, the page comes anew."""
        row = self._found(request, object_id)
        answer = TemplateResponse(request, "admin/subscriptions/import_body.html", self._shown(request, row))
        if not row.is_working:
            answer["HX-Refresh"] = "true"
        return answer

    def columns_view(self, request: HttpRequest, object_id: UUID) -> HttpResponseBase:
        """What the columns of the file are; on POST the check begins."""
        row = self._found(request, object_id)
        if row.state not in REMAPPABLE:
            messages.info(request, _("The columns of this file cannot be changed any more."))
            return HttpResponseRedirect(self.address_of(row.pk))
        asked = mapping.guessed(row)
        if request.method == "POST":
            asked = mapping.read(row, request.POST)
            try:
                self._map(request, row, asked)
                return HttpResponseRedirect(self.address_of(row.pk))
            except SignalError as error:
                asked.add_refusal(error)
        context = {
            **self._base(request, row),
            "asked": asked,
            "targets": mapping.targets(row.kind),
            "value_targets": mapping.value_targets(row.kind),
            "value_group": mapping.GROUPS[ImportKind(row.kind)],
            "types": SubscriptionType.choices if row.kind == ImportKind.SUBSCRIPTIONS else [],
            "conflicts": OnConflict.choices,
            "steps": _steps(row, is_mapping=True),
        }
        return TemplateResponse(request, "admin/subscriptions/import_columns.html", context)

    def _map(self, request: HttpRequest, row: Import, asked: mapping.Asked) -> None:
        options = services.ImportOptions(
            mapping=asked.mapping(row.kind),
            type=asked.type,
            on_conflict=asked.on_conflict,
            resubscribe=asked.resubscribe,
            clear_empty=asked.clear_empty,
        )
        services.import_map(application=row.application, import_id=row.pk, options=options)
        details = {"mapping": dict(options.mapping), "resubscribe": options.resubscribe}
        audit("import.columns", request=request, application_id=row.application_id, row=row, details=details)

    def _found(self, request: HttpRequest, object_id: UUID) -> Import:
        row: Import | None = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        return row

    def _base(self, request: HttpRequest, row: Import) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": row.file_name,
            "subtitle": None,
            "original": row,
            "row": row,
        }

    def _shown(self, request: HttpRequest, row: Import) -> dict[str, Any]:
        rejected = first_rejects(row)
        titles = [title for title in row.header if title not in REJECT_COLUMNS]
        return {
            "row": row,
            "steps": _steps(row),
            "state_badge": self.state_badge(row),
            "address": reverse("admin:subscriptions_import_progress", args=[row.pk]),
            "cards": _counted(row),
            "is_check": row.applied_at is None,
            "is_over": not row.is_open,
            "columns_address": reverse("admin:subscriptions_import_columns", args=[row.pk])
            if row.state in REMAPPABLE
            else "",
            "rejects": [_reject(line, titles) for line in rejected],
            "reject_titles": titles,
            "mapped": [(title, _said(row, title)) for title in row.header],
            "delimiter": DELIMITER_NAMES.get(row.delimiter, row.delimiter),
            "row_actions": [
                {"action": action, "address": self.action_address(row, action.name)}
                for action in self._declared_actions()
                if action.is_offered(row) and self.is_allowed(request, action.scope, row)
            ],
        }


def _steps(row: Import | None, *, is_mapping: bool = False) -> list[dict[str, Any]]:
    """The four steps of the flow, with where the import is; without one at the first."""
    names, at, is_done, addresses = (_("File"), _("Columns"), _("Check"), _("Apply")), 1, False, {1: ""}
    if row is not None:
        at = 2 if is_mapping or row.state == ImportState.MAPPING else 3 if row.applied_at is None else 4
        columns = reverse("admin:subscriptions_import_columns", args=[row.pk])
        page = reverse("admin:subscriptions_import_change", args=[row.pk])
        addresses = {2: columns if row.state in REMAPPABLE else "", 3: page if row.state != ImportState.MAPPING else ""}
        is_done = row.state == ImportState.DONE
    return [
        {
            "number": step,
            "name": name,
            "is_done": step < at or (step == at and is_done),
            "is_current": step == at,
            "address": "" if step == at else addresses.get(step, ""),
        }
        for step, name in enumerate(names, 1)
    ]


def _counted(row: Import) -> list[tuple[Any, int, str]]:
    names = ("total", "created", "updated", "unchanged", "skipped", "rejected", "kept")
    labels = (_("lines"), _("created"), _("updated"), _("unchanged"), _("skipped"), _("refused"))
    tones = {"created": "good", "rejected": "bad", "kept": "warning"}
    return [
        (label, count, tones.get(name, "") if count else "")
        for name, label in zip(names, (*labels, _("not subscribed again")), strict=True)
        for count in [row.counts[name]]
    ]


def _reject(line: RejectedLine, titles: list[str]) -> RejectRow:
    problems = [_split(one) for one in line.error.split("; ")]
    wrong = {title for title, _message in problems}
    cells = [(_short(cell), title in wrong) for title, cell in zip(titles, line.cells, strict=False)]
    return RejectRow(line.line, problems, cells or [(_short(cell), False) for cell in line.cells])


def _split(problem: str) -> tuple[str, str]:
    title, colon, message = problem.partition(": ")
    return (title, message) if colon else ("", problem)


def _short(cell: str) -> str:
    return cell if len(cell) <= 60 else f"{cell[:60]}…"


def _said(row: Import, title: str) -> str:
    """What a column was taken for, in the words of its field."""
    said = row.mapping.get(title, title)
    if not said or title in REJECT_COLUMNS:
        return str(_("left out"))
    if said in mapping.LABELS:
        return str(mapping.LABELS[said])
    target, name = mapping.read_back(row.kind, said)
    if not target.startswith(":"):
        return str(said)
    words = {"group": mapping.GROUPS[ImportKind(row.kind)], "name": name, "kind": mapping.KIND_LABELS[target[1:]]}
    return str(_("%(group)s “%(name)s” %(kind)s") % words)
