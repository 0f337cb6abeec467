"""The audit log at the console: searched by indexes, so that millions of rows are no matter, and exported as seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import NoReverseMatch, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.tenants.accounts.backends import as_ip
from apps.tenants.accounts.sessions import browser_name
from apps.tenants.audit.models import AuditEvent
from apps.tenants.audit.services import audit
from apps.tenants.audit.words import AREAS, action_words
from apps.tenants.console.access import grants_of
from apps.tenants.console.base import ReadOnlyAdmin
from apps.tenants.console.formats import moment
from apps.tenants.console.list_links import ListLink, list_link_for
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, as_uuid
from apps.tenants.console.panels import Panel, admin_link, json_text, table_panel
from apps.tenants.models import Application, Operator
from automata_signal.csv_safety import csv_lines

EXPORT_BATCH = 2_000
COLUMNS = (
    *("at", "application_id", "actor", "operator_id", "action", "object_label", "object_id", "object_name"),
    *("ip", "user_agent", "request_id", "changes", "details"),
)


class AreaFilter(admin.SimpleListFilter):
    """By what stands before the point; an index serves."""

    title = gettext_lazy("about")
    parameter_name = "area"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        offered = [(value, str(label)) for value, label in AREAS.items()]
        if self.value() and self.value() not in dict(offered):
            offered.append((str(self.value())[:60], str(self.value())[:60]))
        return offered

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        value = self.value()
        if not value:
            return None
        return queryset.filter(area=value) if "\0" not in value else queryset.none()


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    """Nobody adds, changes or deletes; sign-ins and what else is of no application are for who runs the platform."""

    read_scope = "audit:read"
    may_add = may_change = may_delete = False
    list_display = ("when", "actor", "what", "of", "application_name", "ip", "browser")
    list_filter = (ApplicationFilter, AreaFilter, AddedFilter)
    search_help_text = gettext_lazy("An operator's e-mail, an id, an address, or how the action begins: sign_in.")
    fields: ClassVar[Any] = (
        *("when", "actor", "what", "action", "application_name", "thing", "object_label", "object_id"),
        *("ip", "user_agent", "request_id"),
    )

    def _shows_history(self, request: HttpRequest, row: Any) -> bool:
        return False

    def is_allowed(self, request: HttpRequest, scope: str, row: Any = None) -> bool:
        if isinstance(row, AuditEvent) and row.application_id is None:
            return grants_of(request).is_platform
        return super().is_allowed(request, scope, row)

    def get_urls(self) -> list[Any]:
        export = self.admin_site.admin_view(self.export_view)
        return [path("export/", export, name="tenants_auditevent_export"), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With the application's name, which is looked up for the rows of the page only."""
        name = Application.objects.filter(pk=OuterRef("application_id")).values("name")[:1]
        rows: QuerySet[Any] = super().get_queryset(request).annotate(application_title=Subquery(name))
        return rows

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Each kind of term has its index."""
        if (key := as_uuid(term)) is not None:
            return queryset.filter(Q(object_id=str(key)) | Q(pk=key) | Q(operator_id=key))
        if as_ip(term) is not None:
            return queryset.filter(ip=term)
        if "@" in term:
            email = term.lower()
            operator = Operator.objects.filter(email=email).values_list("pk", flat=True).first()
            mine = Q(actor=email) | Q(object_name=email, object_label="tenants.Operator")
            return queryset.filter(Q(operator_id=operator) | Q(actor=email)) if operator else queryset.filter(mine)
        area, point, verb = term.partition(".")
        by_area = queryset.filter(area=area)
        if point and verb:
            return by_area.filter(action__startswith=term)
        return by_area if point or by_area.exists() else queryset.filter(Q(object_id=term) | Q(actor=term))

    # --- Columns -------------------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("when"))
    def when(self, row: AuditEvent) -> SafeString | str:
        return moment(row.at)

    @admin.display(description=gettext_lazy("what"))
    def what(self, row: AuditEvent) -> SafeString:
        return format_html('<span title="{}">{}</span>', row.action, action_words(row.action))

    @admin.display(description=gettext_lazy("of"))
    def thing(self, row: AuditEvent) -> SafeString | str:
        """A link to it, where there is such a page; whether it opens is the page's matter."""
        try:
            return admin_link(row.object_label, row.object_id, row.object_name)
        except NoReverseMatch:
            return row.object_name or "–"

    @admin.display(description=gettext_lazy("of"))
    def of(self, row: AuditEvent) -> str:
        return row.object_name or "–"

    @admin.display(description=gettext_lazy("application"))
    def application_name(self, row: Any) -> str:
        return row.application_title or "–" if row.application_id else _("the platform")

    @admin.display(description=gettext_lazy("browser"))
    def browser(self, row: AuditEvent) -> str:
        return browser_name(row.user_agent) if row.user_agent else "–"

    # --- A row ---------------------------------------------------------------------------------------------------

    def panels(self, request: HttpRequest, row: AuditEvent) -> list[Panel]:
        found = []
        if row.changes:
            rows = [(name, _value(pair, 0), _value(pair, 1)) for name, pair in row.changes.items()]
            found.append(table_panel(_("What has changed"), (_("field"), _("before"), _("after")), rows, before=True))
        if row.details:
            told = [(name, json_text(value)) for name, value in row.details.items()]
            found.append(table_panel(_("With it"), (_("name"), _("value")), told))
        return found

    # --- Export --------------------------------------------------------------------------------------------------

    def export_view(self, request: HttpRequest) -> StreamingHttpResponse:
        """What the list shows, with its filters and its search, as CSV; a piece at a time, whatever its size."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        queryset = self.get_changelist_instance(request).get_queryset(request)
        filters = {name: request.GET[name] for name in request.GET}
        for application_id in self._exported(request, as_uuid(filters.get("application", ""))):
            audit("audit.export", request=request, application_id=application_id, details=filters)
        answer = StreamingHttpResponse(csv_lines(_rows(queryset), bom=True), content_type="text/csv; charset=utf-8")
        name = f"audit-{timezone.now():%Y%m%d-%H%M%S}.csv"
        answer["Content-Disposition"] = f'attachment; filename="{name}"'
        answer["Cache-Control"] = "no-store"
        return answer

    def _exported(self, request: HttpRequest, chosen: UUID | None) -> list[UUID | None]:
        """Of which applications rows were taken along; None for all of the platform's."""
        grants = grants_of(request)
        if chosen is not None and grants.has(self.read_scope, chosen):
            return [chosen]
        return [None] if grants.is_platform else list(grants.applications(self.read_scope))


def _value(pair: Any, place: int) -> Any:
    value = pair[place] if isinstance(pair, list) and len(pair) > place else None
    if isinstance(value, dict | list):
        return json_text(value)
    return "–" if value in (None, "") else str(value)


def _rows(queryset: QuerySet[AuditEvent]) -> Iterator[list[Any]]:
    """Newest first, by ranges of the primary key: no statement is long, and none is open between two."""
    import json

    yield list(COLUMNS)
    last = None
    while True:
        page = queryset.order_by("-pk") if last is None else queryset.order_by("-pk").filter(pk__lt=last)
        events = list(page[:EXPORT_BATCH])
        for event in events:
            yield [
                event.at.isoformat(),
                *(getattr(event, name) or "" for name in COLUMNS[1:-2]),
                json.dumps(event.changes, ensure_ascii=False),
                json.dumps(event.details, ensure_ascii=False),
            ]
        if len(events) < EXPORT_BATCH:
            return
        last = events[-1].pk


@list_link_for(AuditEvent)
def _export_link(request: HttpRequest) -> ListLink | None:
    if not grants_of(request).has("audit:read", None):
        return None
    query = request.GET.urlencode()
    address = reverse("admin:tenants_auditevent_export")
    return ListLink(_("Export as CSV"), "download", f"{address}?{query}" if query else address)
