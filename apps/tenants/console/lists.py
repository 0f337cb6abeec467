"""Lists over tables of any size: pages without a full count, and filters that stop reading somewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.tenants.console.access import grants_of
from apps.tenants.models import Application
from automata_signal.ids import first_id_at

if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList as _ChangeList
else:
    from unfold.views import ChangeList as _ChangeList

COUNT_MAX = 10_000
"""Rows that are counted, and that pages lead to; whoever looks for more narrows the list."""
NEWEST = 100_000
"""Rows that a filter without an index looks through, from the newest on."""
APPLICATIONS_SHOWN = 100

# A partitioned table has no rows of its own, but an estimate of its partitions' (relkind `p`): not to count them twice.
_ESTIMATE = """
    SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_class c
    WHERE c.relkind = 'r'
      AND (c.oid = %s::regclass OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %s::regclass))
"""


def as_uuid(text: object) -> UUID | None:
    """The id that somebody pasted, or None."""
    try:
        return UUID(str(text).strip())
    except ValueError:
        return None


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # not subscriptable when Django runs it
    """Counts to `COUNT_MAX` and no further; `label` says how many rows there are, roughly if they are more."""

    template_name = "admin/console/pagination.html"

    @cached_property
    def counted(self) -> int:
        """Rows, `COUNT_MAX` + 1 at most."""
        if not isinstance(self.object_list, QuerySet):
            return len(self.object_list)
        return self.object_list.order_by().values("pk")[: COUNT_MAX + 1].count()

    @cached_property
    def count(self) -> int:
        return min(self.counted, COUNT_MAX)

    @property
    def label(self) -> str:
        if self.counted <= COUNT_MAX:
            return f"{self.counted:,}"
        if isinstance(self.object_list, QuerySet) and not self.object_list.query.where:
            return _("about %(count)s") % {"count": f"{max(estimated_rows(self.object_list.model), self.counted):,}"}
        return _("more than %(count)s") % {"count": f"{COUNT_MAX:,}"}


def estimated_rows(model: type[Model]) -> int:
    """What PostgreSQL last knew of the size of a table, with its partitions."""
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(_ESTIMATE, [table, table])
        (rows,) = cursor.fetchone()
    return int(rows)


class ScopedChangeList(_ChangeList):
    """Keeps to the admin's own order unless that admin names columns to sort by (`sortable_by`)."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        if not self.sortable_by:
            return list(self.model_admin.get_ordering(request))
        return super().get_ordering(request, queryset)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.full_result_count = self.result_count  # else the title would say "10000 results" of any large table


class ApplicationFilter(admin.SimpleListFilter):
    """Only of one application; offered to who has several."""

    title = gettext_lazy("application")
    parameter_name = "application"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        self._path: str = model_admin.application_path
        ids = grants_of(request).applications(model_admin.read_scope)
        if len(ids) < 2:
            return []
        rows = Application.objects.filter(pk__in=ids).order_by("name")
        return [(str(pk), name) for pk, name in rows.values_list("pk", "name")[:APPLICATIONS_SHOWN]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if not self.value():
            return None
        application_id = as_uuid(self.value())
        return queryset.filter(**{f"{self._path}_id": application_id}) if application_id else queryset.none()


class AddedFilter(admin.SimpleListFilter):
    """Made within the last hours or days. Ids are UUIDv7, so a time is a range of the primary key."""

    title = gettext_lazy("added")
    parameter_name = "added"
    _SECONDS = {"1h": 3_600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
        labels = (_("in the last hour"), _("in the last 24 hours"), _("in the last 7 days"), _("in the last 30 days"))
        return list(zip(self._SECONDS, labels, strict=True))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        first = self.first_of(self.value() or "")
        return queryset.filter(pk__gte=first) if first else None

    @classmethod
    def first_of(cls, value: str) -> UUID | None:
        """The least id within the hours or days that the address asks for."""
        seconds = cls._SECONDS.get(value)
        return first_id_at(int((time.time() - seconds) * 1_000)) if seconds else None


def newest(queryset: QuerySet[Any], size: int = NEWEST) -> QuerySet[Any]:
    """The newest rows of these: what comes after may filter by a column without an index and still end soon."""
    floor = queryset.order_by("-pk").values_list("pk", flat=True)[size : size + 1].first()
    return queryset if floor is None else queryset.filter(pk__gt=floor)


def rare_filter(
    title: Any,
    parameter: str,
    choices: Iterable[tuple[Any, Any]],
    narrow: Callable[[QuerySet[Any], str], QuerySet[Any]],
) -> type[admin.SimpleListFilter]:
    """A filter by what has no index: among the newest `NEWEST` of the rows that the filters before it leave."""
    offered = [(str(value), label) for value, label in choices]

    class RareFilter(admin.SimpleListFilter):
        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
            return offered

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
            value = self.value()
            return narrow(newest(queryset), value) if value in dict(offered) else None

    RareFilter.title = title
    RareFilter.parameter_name = parameter
    return RareFilter


def link_filter(
    title: Any, parameter: str, narrow: Callable[[QuerySet[Any], UUID], QuerySet[Any]]
) -> type[admin.SimpleListFilter]:
    """The rows of one other row, whose id a link of the console gives; shown while it is in use."""

    class LinkFilter(admin.SimpleListFilter):
        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
            return [(self.value(), str(self.value())[:36])] if self.value() else []

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
            if not self.value():
                return None
            key = as_uuid(self.value())
            return narrow(queryset, key) if key else queryset.none()

    LinkFilter.title = title
    LinkFilter.parameter_name = parameter
    return LinkFilter


def text_filter(
    title: Any, parameter: str, narrow: Callable[[QuerySet[Any], str], QuerySet[Any]], *, length_max: int = 100
) -> type[admin.SimpleListFilter]:
    """A filter by what a link of the console gives and no index names: among the newest `NEWEST` of the rows that the
    filters before it leave. Shown while it is in use."""

    class TextFilter(admin.SimpleListFilter):
        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[Any, str]]:
            return [(self.value(), str(self.value())[:length_max])] if self.value() else []

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
            value = self.value()
            if not value:
                return None
            return narrow(newest(queryset), value) if "\0" not in value else queryset.none()

    TextFilter.title = title
    TextFilter.parameter_name = parameter
    return TextFilter
