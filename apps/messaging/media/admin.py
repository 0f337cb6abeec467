"""The console's pages of media files: upload, look, delete."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.messaging.media import selectors, services
from apps.messaging.media.addresses import media_url
from apps.messaging.media.images import CHANNEL_IMAGES
from apps.messaging.media.models import MediaFile, MediaKind, MediaVariant
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import ReadOnlyAdmin, ScopedAdmin
from apps.tenants.console.formats import number
from apps.tenants.console.lists import AddedFilter, ApplicationFilter, rare_filter
from apps.tenants.console.panels import Panel, table_panel

READ, WRITE = "media:read", "media:write"


class MediaForm(forms.ModelForm):  # type: ignore[type-arg]
    file = forms.FileField(
        label=gettext_lazy("File"),
        widget=widgets.UnfoldAdminFileFieldWidget,
        help_text=gettext_lazy("JPEG, PNG, GIF, WebP, PDF, office documents without macros, text, MP3, MP4."),
    )

    class Meta:
        model = MediaFile
        fields = ("application", "file")

    def _get_validation_exclusions(self) -> set[str]:
        """The model's columns are the service's matter."""
        return {field.name for field in MediaFile._meta.fields} - {"application"}


class VariantForm(forms.Form):
    channel = forms.ChoiceField(
        label=gettext_lazy("For"),
        choices=[(name, name) for name in CHANNEL_IMAGES],
        widget=widgets.UnfoldAdminSelectWidget,
    )


@admin.register(MediaFile)
class MediaFileAdmin(ScopedAdmin):
    read_scope, write_scope = READ, WRITE
    may_change = False
    form = MediaForm
    list_display = ("file_name", "application", "kind", "content_type", "file_bytes", "created_at", "last_used_at")
    list_select_related = ("application",)
    list_filter = (
        ApplicationFilter,
        AddedFilter,
        rare_filter(gettext_lazy("kind"), "kind", MediaKind.choices, lambda rows, value: rows.filter(kind=value)),
    )
    row_actions = ("make_variant",)
    _shown = (
        *("application", "file_name", "kind", "content_type", "file_bytes", "stored_bytes", "width", "height"),
        *("is_animated", "sha256", "address", "uploaded_by", "created_at", "last_used_at", "id"),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return ((None, {"fields": MediaForm.Meta.fields if obj is None else self._shown}),)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self._shown if obj else ()

    @admin.display(description=gettext_lazy("address"))
    def address(self, row: MediaFile) -> SafeString:
        url = selectors.media_address(row)
        return format_html('<a href="{}" rel="noreferrer" target="_blank">{}</a>', url, url)

    # --- What is done --------------------------------------------------------------------------------------------

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> MediaFile:
        file = cleaned["file"]
        return services.media_create(
            application=cleaned["application"], file_name=file.name, chunks=file.chunks(), by=str(request.user)
        )

    def remove(self, request: HttpRequest, row: Any) -> None:
        services.media_delete(application=row.application, media_id=row.pk)

    @row_action(
        gettext_lazy("Make for a channel"),
        scope=WRITE,
        icon="crop",
        explain=gettext_lazy("Makes the image as a channel takes it: in its size, its format and its number of bytes."),
        form=VariantForm,
        is_offered=lambda media: media.is_image,
    )
    def make_variant(self, request: HttpRequest, row: MediaFile, cleaned: dict[str, Any]) -> str:
        made = services.media_variant(application=row.application, media_id=row.pk, channel=cleaned["channel"])
        return _("The image for %(channel)s has %(width)s × %(height)s pixels and %(size)s bytes.") % {
            "channel": made.name,
            "width": made.width,
            "height": made.height,
            "size": number(made.file_bytes),
        }

    # --- The page ------------------------------------------------------------------------------------------------

    def panels(self, request: HttpRequest, row: MediaFile) -> list[Panel]:
        variants = row.variants.order_by("name")
        lines = [
            (
                made.name,
                f"{made.width} × {made.height}",
                number(made.file_bytes),
                format_html('<a href="{0}" rel="noreferrer" target="_blank">{0}</a>', self._url(row, made)),
            )
            for made in variants
        ]
        headers = (_("for"), _("pixels"), _("bytes"), _("address"))
        return [table_panel(_("As channels take it"), headers, lines)] if lines else []

    def _url(self, row: MediaFile, made: Any) -> str:
        return media_url(row.pk, selectors.variant_file_name(row, made), variant=made.name)


@admin.register(MediaVariant)
class MediaVariantAdmin(ReadOnlyAdmin):
    read_scope = READ
    application_path = "media__application"
    list_display = ("media", "name", "content_type", "width", "height", "file_bytes", "created_at")
    list_select_related = ("media",)
    list_filter = (ApplicationFilter,)
    fields = (*list_display, "sha256", "address", "id")
    readonly_fields = fields

    @admin.display(description=gettext_lazy("address"))
    def address(self, row: MediaVariant) -> SafeString:
        return format_html('<a href="{0}" rel="noreferrer" target="_blank">{0}</a>', selectors.variant_address(row))
