"""The content editor: the fields of a channel's content, and what is offered while it is written.

`content_form(channel)` is a form of one content, alone or beside others on a page (`prefix`); `form.content()` is what
services take. The page shows it with `admin/console/editor/form.html` and links `editor_media`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from django import forms
from django.forms.widgets import Media
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.messaging.console.parts import LINK, PARTS, SECTIONS, content_of, is_of_words, shown_of
from apps.messaging.console.starters import starters
from apps.messaging.kakao.models import KakaoTemplate, TemplateState
from apps.messaging.kakao.preparing import names_of
from apps.messaging.media.models import MediaFile
from apps.messaging.media.selectors import media_address
from apps.subscriptions.known import known_properties
from apps.tenants.channels import ChannelType
from apps.tenants.console.forms import JSONObjectField, JSONTextarea
from apps.tenants.models import Application

editor_media = Media(css={"all": ["messaging/editor.css", "messaging/preview.css"]}, js=["messaging/editor.js"])
"""What a page with an editor or a preview links."""
MEDIA_OFFERED = 24
KAKAO_OFFERED = 200


class Section(NamedTuple):
    """Fields that stand together."""

    name: str
    title: Any
    fields: list[Any]
    is_folded: bool


class ContentForm(forms.Form):
    """One content. `stored`: what it begins with; `application`: whose files, templates and variables are offered."""

    channel: str
    sections_of: dict[str, str]
    words_only: bool = False
    """Of one language: title, body and data; options are those of everybody (`base_options`, for the preview)."""
    base_options: Mapping[str, Any] = {}
    more_data = JSONObjectField(
        label=gettext_lazy("More data"),
        required=False,
        help_text=gettext_lazy("A JSON object that goes along with the message; your app reads it."),
        widget=JSONTextarea(5),
    )
    more_options = JSONObjectField(
        label=gettext_lazy("Unusual options"),
        required=False,
        help_text=gettext_lazy("A JSON object of the channel's options that no field above is for."),
        widget=JSONTextarea(5),
    )

    def __init__(
        self,
        data: Any = None,
        *,
        application: Application | None = None,
        stored: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if stored is not None:
            kwargs["initial"] = shown_of(self.channel, stored) | (kwargs.get("initial") or {})
        super().__init__(data, **kwargs)
        self.application = application
        self.label_suffix = ""
        if self.channel in (ChannelType.EMAIL, ChannelType.SMS):
            del self.fields["more_data"]  # there is none
        elif self.channel == ChannelType.KAKAO_TALK:
            self.fields["more_data"].label = _("Variables")
            self.fields["more_data"].help_text = _("What stands in place of #{…}: a text, or {{ name }}.")

    def content(self) -> dict[str, Any]:
        """Title, body, data and options, of what could be read; nothing is checked but its form."""
        return content_of(self.channel, getattr(self, "cleaned_data", {}))

    @property
    def base_options_json(self) -> str:
        return json.dumps(dict(self.base_options))

    @property
    def media(self) -> Media:
        return editor_media

    def sections(self) -> Iterator[Section]:
        """The fields in groups, as the page shows them."""
        for name, title in SECTIONS.items():
            fields = [self[field] for field, section in self.sections_of.items() if section == name]
            if name == "words" and self.channel == ChannelType.KAKAO_TALK:
                fields.insert(1, self["more_data"])
            if fields:
                has_error = any(field.errors for field in fields)
                yield Section(name, title, fields, is_folded=name != "words" and not has_error)
        rest = [self[name] for name in ("more_data", "more_options") if name in self.fields]
        if self.channel == ChannelType.KAKAO_TALK:
            rest = rest[1:]
        if rest:
            yield Section("advanced", _("Advanced"), rest, is_folded=not any(field.errors for field in rest))

    # --- What is offered ------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return reverse("admin:content_preview")

    @property
    def offers_address(self) -> str:
        return reverse("admin:content_offers")

    @property
    def starters(self) -> list[dict[str, str]]:
        return starters() if self.channel == ChannelType.EMAIL else []


@cache
def content_form(channel: str, *, words_only: bool = False) -> type[ContentForm]:
    """The form of a channel's content; `words_only`: of one language, without options. Raises KeyError for an unknown
    channel."""
    fields: dict[str, Any] = {"more_options": None} if words_only else {}
    sections: dict[str, str] = {}
    for part in PARTS[channel]:
        if words_only and not is_of_words(part):
            continue
        for name, field in part.fields().items():
            fields[name] = field
            sections[name] = part.section
    title = "".join(word.capitalize() for word in channel.split("_"))
    return type(
        f"{title}ContentForm",
        (ContentForm,),
        {"channel": channel, "sections_of": sections, "words_only": words_only, **fields},
    )


def offered_variables(application: Application) -> list[tuple[str, list[str]]]:
    """Names that a text may say of its recipient, in groups: what each has, and properties of the newest users."""
    own = ["external_id", "language", "country"]
    properties = known_properties(application.pk)
    return [(_("Properties"), properties[:30]), (_("Everybody has"), own)]


def offered_media(application: Application, kind: str) -> list[dict[str, Any]]:
    """The newest files. Index: `media_by_application`."""
    rows = MediaFile.objects.for_application(application).filter(kind=kind).order_by("-pk")[:MEDIA_OFFERED]
    return [{"id": str(row.pk), "name": row.file_name, "url": media_address(row), "row": row} for row in rows]


def offered_kakao(application: Application) -> list[dict[str, Any]]:
    """The Alimtalk templates that messages can be sent with: code, name, text and the names of their variables."""
    rows = KakaoTemplate.objects.for_application(application).filter(state=TemplateState.APPROVED, is_dormant=False)
    return [
        {"code": row.code, "name": row.name, "content": row.content, "names": names_of(row)}
        for row in rows.select_related("channel").order_by("name")[:KAKAO_OFFERED]
        if row.is_usable
    ]


__all__ = ["LINK", "ContentForm", "content_form", "editor_media", "offered_kakao", "offered_media", "offered_variables"]
