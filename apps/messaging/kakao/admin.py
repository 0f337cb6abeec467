"""The console's pages of Kakao channels and Alimtalk templates: in step with the provider, registering, inspection."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.forms.widgets import Media
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.messaging.console.editor import editor_media
from apps.messaging.console.previews import drawn, drawn_template
from apps.messaging.kakao import services
from apps.messaging.kakao.forms import (
    BUTTON_ALIASES,
    BUTTON_FIELDS,
    KakaoTemplateForm,
    button_conditions,
    buttons_of,
)
from apps.messaging.kakao.models import ChannelState, KakaoChannel, KakaoTemplate, TemplateState
from apps.messaging.kakao.preparing import names_of
from apps.tenants.channels import ChannelType
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ReadOnlyAdmin, ScopedAdmin, search_by_name
from apps.tenants.console.lists import ApplicationFilter
from apps.tenants.console.panels import Panel, badge

READ, WRITE = "templates:read", "templates:write"
_COLOURS = {
    TemplateState.APPROVED: "success",
    TemplateState.REJECTED: "danger",
    TemplateState.GONE: "danger",
    TemplateState.REVIEWING: "info",
    TemplateState.REQUESTED: "info",
}


@admin.register(KakaoChannel)
class KakaoChannelAdmin(ReadOnlyAdmin):
    read_scope = READ
    list_display = ("name", "application", "provider", "shown_state", "synced_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, "provider")
    fields = ("application", "search_id", "sender_key", "provider", "credential", "shown_state", "synced_at", "id")
    row_actions = ("sync",)

    @admin.display(description=gettext_lazy("channel"))
    def name(self, row: KakaoChannel) -> str:
        return str(row)

    @admin.display(description=gettext_lazy("state"))
    def shown_state(self, row: KakaoChannel) -> SafeString:
        colour = "success" if row.state == ChannelState.ACTIVE else "danger"
        return badge(colour, row.get_state_display())

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "search_id", "sender_key", "application__name")

    @row_action(
        gettext_lazy("Read from the provider"),
        scope=WRITE,
        icon="sync",
        variant="primary",
        explain=gettext_lazy("All channels and templates of the application are read."),
    )
    def sync(self, request: HttpRequest, row: KakaoChannel, cleaned: dict[str, Any]) -> str:
        counts = services.kakao_sync(application=row.application)
        return _("%(channels)d channels and %(templates)d templates are in step.") % counts._asdict()


def _steps_of(row: KakaoTemplate) -> list[dict[str, Any]]:
    """The way to approval, and where on it the template is."""
    way = [TemplateState.DRAFT, TemplateState.REQUESTED, TemplateState.REVIEWING, TemplateState.APPROVED]
    if row.state in (TemplateState.REJECTED, TemplateState.GONE):
        way = [*way[:-1], TemplateState(row.state)]
    here = way.index(TemplateState(row.state))
    return [
        {
            "label": state.label,
            "number": index + 1,
            "is_current": index == here,
            "is_done": index < here or (index == here and state == TemplateState.APPROVED),
        }
        for index, state in enumerate(way)
    ]


class CommentForm(forms.Form):
    comment = forms.CharField(
        label=gettext_lazy("Comment for the inspector"),
        required=False,
        max_length=500,
        widget=widgets.UnfoldAdminTextareaWidget({"rows": 3}),
    )


@admin.register(KakaoTemplate)
class KakaoTemplateAdmin(ScopedAdmin):
    read_scope, write_scope = READ, WRITE
    may_change = False
    form = KakaoTemplateForm
    conditional_fields = button_conditions()
    list_display = ("name", "code", "application", "channel", "shown_state", "synced_at")
    list_select_related = ("application", "channel")
    list_filter = (ApplicationFilter, "state")
    row_actions = ("inspect", "cancel_inspection", "sync")
    refusal_aliases = {"channel_id": "channel", **BUTTON_ALIASES}
    autocomplete_fields = ("channel",)
    _facts = (
        *("application", "channel", "code", "name", "variables", "shown_buttons", "provider_state", "synced_at", "id"),
    )

    @property
    def media(self) -> Media:
        return super().media + editor_media

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj:
            return ((None, {"fields": self._facts}),)
        template = (*KakaoTemplateForm.Meta.fields, "category")
        return ((None, {"fields": template}), (gettext_lazy("Buttons"), {"fields": tuple(BUTTON_FIELDS)}))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self._facts if obj else ()

    @admin.display(description=gettext_lazy("state"))
    def shown_state(self, row: KakaoTemplate) -> SafeString:
        if row.is_dormant:
            return badge("warning", _("dormant"))
        return badge(_COLOURS.get(TemplateState(row.state), "default"), row.get_state_display())

    @admin.display(description=gettext_lazy("variables"))
    def variables(self, row: KakaoTemplate) -> str:
        return ", ".join(names_of(row)) or "–"

    @admin.display(description=gettext_lazy("buttons"))
    def shown_buttons(self, row: KakaoTemplate) -> str:
        return "\n".join(" · ".join(map(str, button.values())) for button in row.buttons) or "–"

    def panels(self, request: HttpRequest, row: KakaoTemplate) -> list[Panel]:
        """As it stands in KakaoTalk, how far its inspection is, and what was said of it."""
        content = {"options": {"template_code": row.code, "sender_key": row.channel.sender_key}}
        context = {
            "preview": drawn(row.application, ChannelType.KAKAO_TALK, content) | drawn_template(row),
            "row": row,
            "state": self.shown_state(row),
            "steps": _steps_of(row),
            "comments": [comment for comment in reversed(row.comments) if isinstance(comment, dict)],
        }
        return [Panel(_("In KakaoTalk"), "admin/console/templates/alimtalk.html", context, before=True)]

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "name", "code", "application__name")

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> KakaoTemplate:
        names = ("code", "name", "content", "title", "subtitle", "extra", "category")
        return services.template_register(
            application=cleaned["application"],
            channel_id=cleaned["channel"].pk,
            buttons=buttons_of(cleaned),
            **{name: cleaned.get(name) or "" for name in names},
        )

    def remove(self, request: HttpRequest, row: KakaoTemplate) -> None:
        services.template_delete(template=row)

    @row_action(
        gettext_lazy("Request inspection"),
        scope=WRITE,
        icon="fact_check",
        variant="primary",
        form=CommentForm,
        is_offered=lambda row: row.state in (TemplateState.DRAFT, TemplateState.REJECTED),
    )
    def inspect(self, request: HttpRequest, row: KakaoTemplate, cleaned: dict[str, Any]) -> str:
        services.template_request_inspection(template=row, comment=cleaned.get("comment", ""))
        return _("Kakao inspects it within two working days.")

    @row_action(
        gettext_lazy("Take back from inspection"),
        scope=WRITE,
        icon="undo",
        explain=gettext_lazy("It is a draft again."),
        is_offered=lambda row: row.state in (TemplateState.REQUESTED, TemplateState.REVIEWING),
    )
    def cancel_inspection(self, request: HttpRequest, row: KakaoTemplate, cleaned: dict[str, Any]) -> str:
        services.template_cancel_inspection(template=row)
        return _("The inspection is taken back.")

    @row_action(
        gettext_lazy("Read from the provider"),
        scope=WRITE,
        icon="sync",
        explain=gettext_lazy("All channels and templates of the application are read."),
    )
    def sync(self, request: HttpRequest, row: KakaoTemplate, cleaned: dict[str, Any]) -> str:
        counts = services.kakao_sync(application=row.application)
        return _("%(channels)d channels and %(templates)d templates are in step.") % counts._asdict()
