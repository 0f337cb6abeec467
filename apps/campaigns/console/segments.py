"""The pages of segments."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from apps.campaigns import services
from apps.campaigns.console import builder_views  # noqa: F401  # registers their addresses
from apps.campaigns.console.builder import AudienceField
from apps.campaigns.console.words import in_words, reach
from apps.campaigns.models import Segment
from apps.campaigns.services.segments import segment_users
from apps.tenants.channels import ChannelType
from apps.tenants.console.base import ScopedHistoryAdmin, search_by_name
from apps.tenants.console.lists import ApplicationFilter
from apps.tenants.console.panels import Panel, admin_link, table_panel


class SegmentForm(forms.ModelForm):  # type: ignore[type-arg]
    criteria = AudienceField(label=gettext_lazy("Who belongs to it"))

    class Meta:
        model = Segment
        fields = ("application", "name", "description", "criteria")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            self.initial["criteria"] = ""  # everybody is chosen, never come by
        elif "criteria" in self.fields:
            self.fields["criteria"].widget.application_id = self.instance.application_id


@admin.register(Segment)
class SegmentAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = "segments:read", "segments:write"
    form = SegmentForm
    compressed_fields = False  # the builder has the whole width
    list_display = ("name", "application", "description", "updated_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter,)
    fields = ("application", "name", "description", "criteria", "updated_at", "id")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return self.fields[:-2]
        return self.fields if self.has_change_permission(request, obj) else ("application", "name", "description")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("application", "updated_at", "id") if obj else ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application")

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "name")

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> Segment:
        return services.segment_create(**cleaned, by=str(request.user))

    def update(self, request: HttpRequest, row: Segment, changes: dict[str, Any]) -> Segment:
        return services.segment_update(segment=row, **changes, by=str(request.user))

    def remove(self, request: HttpRequest, row: Segment) -> None:
        services.segment_delete(segment=row, by=str(request.user))

    def panels(self, request: HttpRequest, row: Segment) -> list[Panel]:
        """Who cannot change it reads who is in it; the builder says so itself."""
        if self.has_change_permission(request, row):
            return [used_by(row)]
        facts = [
            (pgettext("audience", "who"), in_words(row.application, row.criteria)),
            (_("reachable by push now"), reach(row.application, row.criteria, ChannelType.PUSH)),
        ]
        return [Panel(_("Audience"), "admin/console/facts.html", {"facts": facts}, before=True), used_by(row)]


def used_by(row: Segment) -> Panel:
    """What would change with the segment: other segments, and campaigns that are not launched yet."""
    kinds = {"segments": ("campaigns.Segment", _("Segment")), "campaigns": ("campaigns.MessageCampaign", _("Campaign"))}
    rows = []
    for user in segment_users(row):
        kind, _dot, key = user.field.partition(".")
        label, name = kinds[kind]
        rows.append((admin_link(label, key, user.message), name))
    if not rows:
        note = _("Nothing refers to it: it can be deleted.")
        return Panel(_("Where it is used"), "admin/console/note.html", {"note": note})
    return table_panel(_("Where it is used"), (_("name"), _("kind")), rows)
