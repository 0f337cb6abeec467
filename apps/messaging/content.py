"""What a message says, before it is anybody's: checked once when it is accepted, rendered per recipient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.messaging.adapters.base import Content, ContentError
from apps.messaging.adapters.registry import adapters_of
from apps.messaging.models import Dispatch, MessageTemplate, MessageTemplateVersion
from apps.messaging.rendering import CompiledTemplate, RenderError, TemplateSyntaxError, compile_template
from automata_signal.errors import ValidationFailed

VARIABLES_MAX_BYTES = 64 * 1024
"""As JSON: they are stored with the send, and rendered once for each recipient."""


@dataclass(frozen=True, slots=True)
class ContentSource:
    """Title, body and data as they were given: literal, or with placeholders when `is_personalised`."""

    title: str = ""
    body: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    template_version: MessageTemplateVersion | None = None
    is_personalised: bool = False

    @classmethod
    def of_dispatch(cls, dispatch: Dispatch) -> ContentSource:
        return cls(
            title=dispatch.title,
            body=dispatch.body,
            data=dispatch.data,
            options=dispatch.options,
            variables=dispatch.variables,
            is_personalised=dispatch.is_personalised,
        )

    def compiled(self) -> CompiledTemplate:
        return compile_template(title=self.title, body=self.body, data=self.data)

    def render(self, variables: Mapping[str, Any]) -> Content:
        """What one recipient sees. `variables` are the recipient's; the source's own come after them.

        Raises `RenderError`.
        """
        if not self.is_personalised:
            return Content(self.title, self.body, self.data, self.options)
        rendered = self.compiled().render({**self.variables, **variables})
        return Content(rendered.title, rendered.body, rendered.data, self.options)


def content_source(
    *,
    channel_type: str,
    template: MessageTemplate | None = None,
    title: str = "",
    body: str = "",
    data: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> ContentSource:
    """The content of a send, from a template's present version or from literal text, checked for the channel.

    Literal text is never rendered: what an app server sends as text arrives as that text. Raises `ValidationFailed`
    with the field if the template is not active or has an error, or if a provider would refuse the content.
    """
    if template is None:
        source = ContentSource(title, body, data or {}, options or {}, variables or {})
    else:
        if not template.is_active:
            raise ValidationFailed.of("template_id", "the template is not active")
        source = ContentSource(
            title=template.title_template,
            body=template.body_template,
            data=template.data_template,
            options={**template.options, **(options or {})},
            variables=variables or {},
            template_version=template.versions.get(version=template.version),
            is_personalised=not check_template(template.title_template, template.body_template, template.data_template),
        )
    check_content(source, channel_type=channel_type)
    return source


def check_template(title: str, body: str, data: Mapping[str, Any]) -> bool:
    """Whether the template is the same for everybody. Raises `ValidationFailed` with field, line and column."""
    try:
        return compile_template(title=title, body=body, data=data).is_static
    except TemplateSyntaxError as error:
        place = f"line {error.line}, column {error.column}: {error.message}"
        raise ValidationFailed.of(error.field, place) from None


def check_content(source: ContentSource, *, channel_type: str) -> None:
    """Ask each adapter of the channel whether its provider would take it; of a template, what is fixed of it."""
    adapters = adapters_of(channel_type)
    if not adapters:
        raise ValidationFailed.of("channel_type", "nothing is sent on this channel yet")
    try:
        content = source.render({})
        for adapter in adapters:
            adapter.check_content(content)
    except ContentError as error:
        raise ValidationFailed.of(error.field, error.message) from None
    except RenderError as error:
        raise ValidationFailed.of(error.field, error.message) from None


def recipient_variables(
    *, external_id: str, properties: Mapping[str, Any], tags: Mapping[str, Any], language: str, country: str
) -> dict[str, Any]:
    """What a template may say of its recipient: properties and tags by name, and both in full under `user` and `tags`.

    A property comes before a tag of the same name.
    """
    return {
        **tags,
        **properties,
        "external_id": external_id,
        "language": language,
        "country": country,
        "tags": tags,
        "user": {"external_id": external_id, **properties},
    }
