"""The pages of templates: words by channel and language with a live preview, versions, what differs between them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms.widgets import Media
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.messaging import services
from apps.messaging.console.editor import content_form, editor_media
from apps.messaging.console.parts import aliases_of, content_of
from apps.messaging.console.previews import preview_fragment, user_for
from apps.messaging.content import source_on_channel
from apps.messaging.models import MessageTemplate, MessageTemplateVersion
from apps.messaging.template_versions import changes_between, template_duplicate, template_restore
from apps.messaging.variants import Words, language_key, read_variants, words_for
from apps.tenants.audit.services import audit
from apps.tenants.channels import ChannelType
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ReadOnlyAdmin, ScopedHistoryAdmin, search_by_name
from apps.tenants.console.formats import moment
from apps.tenants.console.lists import ApplicationFilter
from apps.tenants.console.panels import Panel, badge, json_text
from automata_signal.errors import SignalError

READ, WRITE = "templates:read", "templates:write"
VERSIONS_SHOWN = 100
ICONS = {
    "": "stacks",
    ChannelType.PUSH: "notifications",
    ChannelType.EMAIL: "mail",
    ChannelType.SMS: "sms",
    ChannelType.KAKAO_TALK: "chat",
    ChannelType.IN_APP: "web_asset",
}
EVERY = gettext_lazy("Every channel")


class Place:
    """Which words of a template a page is about: `?channel=email&language=ko`; neither: those for all."""

    def __init__(self, request: HttpRequest) -> None:
        channel, language = request.GET.get("channel", ""), request.GET.get("language", "").strip()
        self.channel = channel if channel in ChannelType.values else ""
        self.language = language if language and _is_language(language) else ""

    @property
    def is_own(self) -> bool:
        """The template's own words, which stand for every channel and language without others."""
        return not self.channel and not self.language

    @property
    def editor(self) -> str:
        """The channel whose fields are shown: what is for every channel is written as a push message."""
        return self.channel or ChannelType.PUSH.value

    def matches(self, variant: Any) -> bool:
        return bool(
            isinstance(variant, dict)
            and variant.get("channel", "") == self.channel
            and variant.get("language", "") == self.language
        )

    def index_in(self, variants: Any) -> int | None:
        found = [index for index, variant in enumerate(variants or []) if self.matches(variant)]
        return found[0] if found else None

    def content_in(self, template: MessageTemplate) -> dict[str, Any] | None:
        """The words of this place; None if it has none of its own."""
        if self.is_own:
            return own_content(template)
        index = self.index_in(template.variants)
        return None if index is None else template.variants[index]


def _is_language(text: str) -> bool:
    try:
        return bool(read_variants([{"language": text}]))
    except SignalError:
        return False


def own_content(template: MessageTemplate | MessageTemplateVersion) -> dict[str, Any]:
    return {
        "title": template.title_template,
        "body": template.body_template,
        "data": template.data_template,
        "options": template.options,
    }


def _options_of(template: MessageTemplate, place: Place) -> dict[str, Any]:
    """Those of everybody on the place's channel, which its languages have as well."""
    try:
        return dict(source_on_channel(template, place.editor).options)
    except SignalError:
        return {}


def changes_for(
    template: MessageTemplate, place: Place, content: dict[str, Any], *, remove: bool = False
) -> dict[str, Any]:
    """What the service is to change so that the place says `content`."""
    if place.is_own:
        return {
            "title_template": content["title"],
            "body_template": content["body"],
            "data_template": content["data"],
            "options": content["options"],
        }
    variants = list(template.variants)
    index = place.index_in(variants)
    written = {"channel": place.channel, "language": place.language, **content}
    if remove:
        variants = [variant for variant in variants if not place.matches(variant)]
    elif index is None:
        variants.append(written)
    else:
        variants[index] = written
    return {"variants": variants}


class TemplateForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = MessageTemplate
        fields = ("application", "name", "description", "is_active")
        widgets = {
            "name": forms.TextInput({"class": "as-input"}),
            "description": forms.TextInput({"class": "as-input"}),
        }
        help_texts = {"is_active": gettext_lazy("What is not active is not sent with; nothing of it is lost.")}


def form_at(place: Place) -> type[forms.ModelForm[MessageTemplate]]:
    """The form of a template with the fields of the place's words."""
    editor = content_form(place.editor, words_only=bool(place.language))

    class Form(editor, TemplateForm):  # type: ignore[misc, valid-type]
        def __init__(self, data: Any = None, files: Any = None, **kwargs: Any) -> None:
            row: MessageTemplate | None = kwargs.get("instance")
            there = row if row is not None and not row._state.adding else None
            kwargs |= {
                "application": there.application if there else None,
                "stored": (place.content_in(there) or {}) if there else {},
            }
            super().__init__(data, files=files, **kwargs)
            if there is not None and place.language:
                self.base_options = _options_of(there, place)

    return Form


@admin.register(MessageTemplate)
class MessageTemplateAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = READ, WRITE
    change_form_template = "admin/console/templates/change_form.html"
    list_display = ("name", "application", "channels", "languages", "version", "state", "updated_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, "is_active")
    fields = ("application", "name", "description", "is_active")
    row_actions = ("duplicate", "archive", "bring_back")

    @property
    def media(self) -> Media:
        return super().media + editor_media

    # --- The list ------------------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("channels"))
    def channels(self, row: MessageTemplate) -> str:
        labels = dict(ChannelType.choices)
        own = [str(EVERY)] if row.title_template or row.body_template or row.data_template else []
        named = {str(variant.get("channel", "")) for variant in row.variants if isinstance(variant, dict)} - {""}
        return ", ".join([*own, *(str(labels[name]) for name in ChannelType.values if name in named)]) or "–"

    @admin.display(description=gettext_lazy("languages"))
    def languages(self, row: MessageTemplate) -> str:
        named = {str(variant.get("language", "")) for variant in row.variants if isinstance(variant, dict)} - {""}
        return ", ".join(sorted(named)) or "–"

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: MessageTemplate) -> SafeString:
        return badge("success", _("active")) if row.is_active else badge("default", _("archived"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application")

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "name")

    # --- The form ------------------------------------------------------------------------------------------------

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        place = Place(request)
        if obj is not None and not self.has_change_permission(request, obj):
            return super().get_form(request, obj, change=change, **kwargs)
        kwargs["form"] = form_at(place)
        form = super().get_form(request, obj, change=change, **kwargs)
        if getattr(request, "_console_refusal", None) is not None:
            form.aliases = _aliases(place, obj)
        return form

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("application",) if obj else ()

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None and not self.has_change_permission(request, obj):
            return ((None, {"fields": self.fields}),)
        return ((None, {"fields": (*self.fields, *form_at(Place(request)).base_fields)}),)

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name in ("name", "description", "application"):
            field.widget.attrs["class"] = "as-input"
        return field

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        request._template_content = form.content()  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> MessageTemplate:
        place = Place(request)
        facts = {name: cleaned[name] for name in self.fields}
        words = changes_for(MessageTemplate(variants=[]), place, content_of(place.editor, cleaned))
        return services.template_create(created_by=str(request.user), **facts, **words)

    def update(self, request: HttpRequest, row: MessageTemplate, changes: dict[str, Any]) -> MessageTemplate:
        place = Place(request)
        present = MessageTemplate.objects.select_for_update().get(pk=row.pk)  # others write words beside these
        facts = {name: value for name, value in changes.items() if name in self.fields}
        content = request._template_content  # type: ignore[attr-defined]
        remove = "_remove_words" in request.POST and not place.is_own
        known = place.content_in(present)
        if place.language:
            content["options"] = (known or {}).get(
                "options"
            ) or {}  # nobody sees them here, and nothing of them is lost
        is_same = (
            not remove and known is not None and content == {name: known.get(name) or empty for name, empty in _EMPTY}
        )
        is_nothing = known is None and not any(content.values())
        words = {} if is_same or is_nothing else changes_for(present, place, content, remove=remove)
        return services.template_update(template=row, changed_by=str(request.user), changes={**facts, **words})

    def remove(self, request: HttpRequest, row: MessageTemplate) -> None:
        services.template_delete(template=row)

    def response_post_save_change(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        if "_remove_words" in request.POST:
            return HttpResponseRedirect(self.address_of(obj.pk))
        return HttpResponseRedirect(_with_query(self.address_of(obj.pk), Place(request)))

    def response_post_save_add(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        return HttpResponseRedirect(_with_query(self.address_of(obj.pk), Place(request)))

    # --- The page ------------------------------------------------------------------------------------------------

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        row, place = kwargs.get("obj"), Place(request)
        here = self.address_of(row.pk) if row else request.path
        known = place.content_in(row) if row else None
        context |= {
            "place": place,
            "place_label": _label(place),
            "channel_tabs": _channel_tabs(row, place, here),
            "language_tabs": _language_tabs(row, place, here),
            "has_own_words": known is not None,
            "instead": "" if known is not None or row is None else _instead(row, place),
            "versions_address": reverse(f"admin:{self._route}_versions", args=[row.pk]) if row else "",
            "can_edit": row is None or self.has_change_permission(request, row),
        }
        if row is not None and not context["can_edit"]:
            context["shown"] = self._shown(request, row, place)
        return super().render_change_form(request, context, *args, **kwargs)

    def _shown(self, request: HttpRequest, row: MessageTemplate, place: Place) -> SafeString:
        """What somebody sees who may not change it."""
        return shown_version(request, row, row, place.editor, place.language)

    def panels(self, request: HttpRequest, row: MessageTemplate) -> list[Panel]:
        versions = row.versions.defer("variants")[:5]
        address = reverse(f"admin:{self._route}_versions", args=[row.pk])
        context = {"versions": _listed(versions), "template": row, "address": address}
        return [Panel(_("Versions"), "admin/console/templates/versions_panel.html", context)]

    # --- Buttons -------------------------------------------------------------------------------------------------

    @row_action(
        gettext_lazy("Duplicate"),
        scope=WRITE,
        icon="content_copy",
        explain=gettext_lazy("Another template with the same words, which can be changed without this one."),
    )
    def duplicate(self, request: HttpRequest, row: MessageTemplate, cleaned: dict[str, Any]) -> HttpResponse:
        made = template_duplicate(template=row, by=str(request.user))
        messages.success(request, _("“%(name)s” has the same words.") % {"name": made.name})
        return HttpResponseRedirect(self.address_of(made.pk))

    @row_action(
        gettext_lazy("Archive"),
        scope=WRITE,
        icon="archive",
        explain=gettext_lazy("Nothing new is sent with it. What was sent keeps its words, and it can be brought back."),
        is_offered=lambda row: row.is_active,
    )
    def archive(self, request: HttpRequest, row: MessageTemplate, cleaned: dict[str, Any]) -> str:
        services.template_update(template=row, changed_by=str(request.user), changes={"is_active": False})
        return _("The template is archived.")

    @row_action(
        gettext_lazy("Bring back"),
        scope=WRITE,
        icon="unarchive",
        explain=gettext_lazy("It can be sent with again."),
        is_offered=lambda row: not row.is_active,
    )
    def bring_back(self, request: HttpRequest, row: MessageTemplate, cleaned: dict[str, Any]) -> str:
        services.template_update(template=row, changed_by=str(request.user), changes={"is_active": True})
        return _("The template is active again.")

    # --- Versions ------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        versions = self.admin_site.admin_view(self.versions_view)
        restore = self.admin_site.admin_view(self.restore_view)
        return [
            path("<uuid:object_id>/versions/", versions, name=f"{self._route}_versions"),
            path("<uuid:object_id>/versions/<int:version>/restore/", restore, name=f"{self._route}_restore"),
            *super().get_urls(),
        ]

    def _row(self, request: HttpRequest, object_id: UUID, scope: str) -> MessageTemplate:
        row: MessageTemplate | None = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        if not self.is_allowed(request, scope, row):
            raise PermissionDenied
        return row

    def versions_view(self, request: HttpRequest, object_id: UUID) -> HttpResponse:
        """The versions, what differs between two of them, and one as somebody sees it."""
        row = self._row(request, object_id, READ)
        versions = list(row.versions.all()[:VERSIONS_SHOWN])
        numbers = {version.version: version for version in versions}
        new = numbers.get(_number(request.GET.get("to")), versions[0] if versions else None)
        before = [version for version in versions if new and version.version < new.version]
        old = numbers.get(_number(request.GET.get("from")), before[0] if before else new)
        place = Place(request)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": _("Versions"),
            "subtitle": str(row),
            "row": row,
            "versions": _listed(versions),
            "old": old,
            "new": new,
            "changes": _shown_changes(old, new) if old and new else [],
            "shown": shown_version(request, row, new, place.editor, place.language) if new else "",
            "place": place,
            "channel_choices": ChannelType.choices,
            "external_id": request.GET.get("external_id", "")[:255],
            "may_see_users": grants_of(request).has("users:read", row.application_id),
            "may_restore": self.is_allowed(request, WRITE, row),
            "back": self.address_of(row.pk),
            "media": self.media,
        }
        return TemplateResponse(request, "admin/console/templates/versions.html", context)

    def restore_view(self, request: HttpRequest, object_id: UUID, version: int) -> HttpResponse:
        """By POST alone."""
        row = self._row(request, object_id, WRITE)
        back = reverse(f"admin:{self._route}_versions", args=[row.pk])
        if request.method != "POST":
            return HttpResponseRedirect(back)
        try:
            template = template_restore(template=row, version=version, by=str(request.user))
        except SignalError as error:
            self.show_refusal(request, error)
            return HttpResponseRedirect(back)
        audit(
            "template.restored",
            request=request,
            application_id=row.application_id,
            row=row,
            details={"version": version, "as": template.version},
        )
        text = _("Version %(old)s is in use again, as version %(new)s.")
        messages.success(request, text % {"old": version, "new": template.version})
        return HttpResponseRedirect(self.address_of(row.pk))


_EMPTY: tuple[tuple[str, Any], ...] = (("title", ""), ("body", ""), ("data", {}), ("options", {}))


def shown_version(
    request: HttpRequest,
    template: MessageTemplate,
    written: MessageTemplate | MessageTemplateVersion,
    channel: str,
    language: str,
) -> SafeString:
    """A version on a channel, as the user whose external id is in the address sees it, or somebody made up."""
    external_id = request.GET.get("external_id", "")
    problems: list[str] = []
    user = None
    try:
        user = user_for(request, template.application, external_id)
    except SignalError as error:
        problems.append(error.message)
    try:
        source = source_on_channel(written, channel)
    except SignalError as error:
        return conditional_escape(error.message)
    content = {"title": source.title, "body": source.body, "data": source.data, "options": source.options}
    return preview_fragment(
        request,
        template.application,
        channel,
        content,
        user,
        language=language,
        languages=source.languages,
        problems=problems,
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0


def _with_query(address: str, place: Place) -> str:
    named = {name: value for name, value in (("channel", place.channel), ("language", place.language)) if value}
    return f"{address}?{urlencode(named)}" if named else address


def _aliases(place: Place, row: MessageTemplate | None) -> dict[str, str]:
    """Where what the service says of the words is shown."""
    prefix = ""
    if not place.is_own:
        index = place.index_in(row.variants) if row else 0
        prefix = f"variants.{len(row.variants) if row and index is None else index or 0}."
    found = aliases_of(place.editor, prefix=prefix)
    templates = {
        f"{prefix}{name}_template": found[f"{prefix}{name}"]
        for name in ("title", "body", "data")
        if f"{prefix}{name}" in found
    }
    return found | templates


def _label(place: Place) -> str:
    channel = str(dict(ChannelType.choices).get(place.channel, EVERY))
    return f"{channel} · {place.language}" if place.language else channel


def _channel_tabs(row: MessageTemplate | None, place: Place, here: str) -> list[dict[str, Any]]:
    named = {str(variant.get("channel", "")) for variant in (row.variants if row else []) if isinstance(variant, dict)}
    tabs = []
    for value, label in [("", EVERY), *ChannelType.choices]:
        tabs.append(
            {
                "label": label,
                "icon": ICONS[value],
                "is_current": value == place.channel,
                "has_words": value in named if value else bool(row and any(own_content(row).values())),
                "address": f"{here}?{urlencode({'channel': value})}" if value else here,
            }
        )
    return tabs


def _language_tabs(row: MessageTemplate | None, place: Place, here: str) -> list[dict[str, Any]]:
    named = [
        str(variant.get("language", ""))
        for variant in (row.variants if row else [])
        if isinstance(variant, dict) and variant.get("channel", "") == place.channel and variant.get("language")
    ]
    if place.language and place.language not in named:
        named.append(place.language)
    channel = {"channel": place.channel} if place.channel else {}
    tabs = []
    for language in ["", *sorted(named)]:
        query = urlencode({**channel, **({"language": language} if language else {})})
        label = language or _("Everybody else") if named else _("Everybody")
        tabs.append(
            {"label": label, "is_current": language == place.language, "address": f"{here}?{query}" if query else here}
        )
    return tabs


def _instead(row: MessageTemplate, place: Place) -> str:
    """What is said here as long as the place has no words of its own."""
    try:
        own = Words(**own_content(row))
        words, languages = words_for(place.editor, own, read_variants(row.variants))
    except SignalError as error:
        return error.message
    key = language_key(languages, place.language) if place.language else None
    chosen = languages[key] if key else words
    text = " · ".join(part for part in (chosen.title, chosen.body) if part)
    where = key or (_("every channel") if words is own else _label_of(place.channel))
    if not text:
        return _("There are no words for it yet.")
    return _("As long as there are none, the words for %(place)s are used: %(text)s") % {
        "place": where,
        "text": text[:200],
    }


def _label_of(channel: str) -> str:
    return str(dict(ChannelType.choices).get(channel, EVERY))


def _listed(versions: Any) -> list[dict[str, Any]]:
    return [
        {
            "number": v.version,
            "by": v.created_by,
            "at": moment(v.created_at),
            "pk": v.pk,
            "text": v.title_template or v.body_template,
        }
        for v in versions
    ]


def _shown_changes(old: MessageTemplateVersion, new: MessageTemplateVersion) -> list[dict[str, Any]]:
    parts = {"title": _("Title"), "body": _("Text"), "data": _("Data"), "options": _("Options")}
    return [
        {
            "where": " · ".join(part for part in (_label_of(change.channel), change.language) if part),
            "part": parts[change.part],
            "pieces": change.pieces,
        }
        for change in changes_between(old, new)
    ]


@admin.register(MessageTemplateVersion)
class MessageTemplateVersionAdmin(ReadOnlyAdmin):
    read_scope = READ
    application_path = "template__application"
    list_display = ("template", "version", "created_at", "created_by")
    list_select_related = ("template",)
    list_filter = (ApplicationFilter,)
    fields = (
        *("template", "version", "title_template", "body_template", "data_text", "options_text", "variants_text"),
        *("created_at", "created_by"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("template")

    @admin.display(description=gettext_lazy("data"))
    def data_text(self, row: MessageTemplateVersion) -> Any:
        return json_text(row.data_template)

    @admin.display(description=gettext_lazy("options"))
    def options_text(self, row: MessageTemplateVersion) -> Any:
        return json_text(row.options)

    @admin.display(description=gettext_lazy("words by channel and language"))
    def variants_text(self, row: MessageTemplateVersion) -> Any:
        return json_text(row.variants)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "template__name")
