"""What a message says, before it is anybody's: checked once when it is accepted, rendered per recipient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from apps.messaging.adapters.base import Adapter, Content, ContentError
from apps.messaging.adapters.email_content import marked, sealed, unsealed
from apps.messaging.adapters.registry import adapters_for, subscription_types_of
from apps.messaging.models import Dispatch, MessageTemplate, MessageTemplateVersion, Purpose
from apps.messaging.rendering import CompiledTemplate, RenderError, TemplateSyntaxError, compile_template
from apps.messaging.variants import Words, language_key, read_variants, words_for
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application, ChannelCredential
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
    """Rendered for each recipient, whose message holds its own words."""
    languages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Language → title, body and data instead (`variants`)."""
    channel_type: str = ChannelType.PUSH
    purpose: str = Purpose.TRANSACTIONAL
    category: str = ""

    @classmethod
    def of_dispatch(cls, dispatch: Dispatch) -> ContentSource:
        return cls(
            title=dispatch.title,
            body=dispatch.body,
            data=dispatch.data,
            options=dispatch.options,
            variables=dispatch.variables,
            is_personalised=dispatch.is_personalised,
            languages=dispatch.languages,
            channel_type=dispatch.channel_type,
            purpose=dispatch.purpose,
            category=dispatch.category,
        )

    @property
    def is_html(self) -> bool:
        return is_html(self.channel_type, self.options)

    def compiled(self, language: str = "") -> CompiledTemplate:
        """The template, in the words of `language` if there are any."""
        key = language_key(self.languages, language)
        own = {"title": self.title, "body": self.body, "data": self.data}
        words: Mapping[str, Any] = self.languages[key] if key else own
        if self.channel_type == ChannelType.EMAIL:
            words = {**words, "body": sealed(words["body"])}
        return compile_template(**words, html=self.is_html)

    def render(self, variables: Mapping[str, Any]) -> Content:
        """What one recipient sees. `variables` are the recipient's, their `language` among them; the source's own come
        after them.

        Raises `RenderError`.
        """
        if not self.is_personalised:
            return Content(self.title, self.body, self.data, self.options)
        rendered = self.compiled(variables.get("language", "")).render({**self.variables, **variables})
        body = unsealed(rendered.body) if self.channel_type == ChannelType.EMAIL else rendered.body
        return Content(rendered.title, body, rendered.data, self.options)


def is_html(channel_type: str, options: Mapping[str, Any]) -> bool:
    """Whether the body is HTML: of an e-mail, unless its options say `"format": "text"`."""
    return channel_type == ChannelType.EMAIL and options.get("format") != "text"


class Preparer(Protocol):
    """Completes the content of a channel from what the application has: an approved template, uploaded files."""

    def __call__(self, application: Application, source: ContentSource) -> ContentSource:
        """Raises `ValidationFailed` with the field."""


_preparers: dict[str, list[Preparer]] = defaultdict(list)


def register_preparer(channel_type: str, preparer: Preparer) -> None:
    """Have `preparer` complete every content of the channel before it is checked; registering twice is once."""
    if preparer not in _preparers[channel_type]:
        _preparers[channel_type].append(preparer)


def prepared(application: Application, source: ContentSource) -> ContentSource:
    """The source, completed by what is registered for its channel. Raises `ValidationFailed`."""
    for preparer in _preparers[source.channel_type]:
        source = preparer(application, source)
    return source


def content_source(
    *,
    application: Application,
    channel_type: str,
    template: MessageTemplate | None = None,
    title: str = "",
    body: str = "",
    data: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    purpose: str = Purpose.TRANSACTIONAL,
    category: str = "",
) -> ContentSource:
    """The content of a send, from a template's present version or from literal text, checked for the channel and for
    what it is sent for.

    Literal text is never rendered: what an app server sends as text arrives as that text. Raises `ValidationFailed`
    with the field if the template is not active or has an error, or if a provider would refuse the content.
    """
    if template is None:
        source = ContentSource(title, body, data or {}, options or {}, variables or {}, channel_type=channel_type)
    else:
        source = _of_template(template, channel_type, options or {}, variables or {})
    source = prepared(application, replace(source, purpose=purpose, category=category))
    check_content(source, application=application)
    return source


def _of_template(
    template: MessageTemplate, channel_type: str, options: Mapping[str, Any], variables: Mapping[str, Any]
) -> ContentSource:
    if not template.is_active:
        raise ValidationFailed.of("template_id", "the template is not active")
    source = replace(
        source_on_channel(template, channel_type, options),
        variables=variables,
        template_version=template.versions.get(version=template.version),
    )
    is_static = check_template(source.title, source.body, source.data, html=source.is_html)
    return replace(source, is_personalised=bool(source.languages) or not is_static)


def source_on_channel(
    written: MessageTemplate | MessageTemplateVersion, channel_type: str, options: Mapping[str, Any] | None = None
) -> ContentSource:
    """What a template, or a version of one, says on a channel, in every language; `options` lie over its own."""
    own = Words(written.title_template, written.body_template, written.data_template, written.options)
    words, languages = words_for(channel_type, own, read_variants(written.variants))
    return ContentSource(
        title=words.title,
        body=words.body,
        data=words.data,
        options={**words.options, **(options or {})},
        is_personalised=True,
        languages={key: {"title": w.title, "body": w.body, "data": dict(w.data)} for key, w in languages.items()},
        channel_type=channel_type,
    )


def check_template(title: str, body: str, data: Mapping[str, Any], *, html: bool = False, field: str = "") -> bool:
    """Whether the template is the same for everybody. Raises `ValidationFailed` with field, line and column; `field` is
    put before the field's name."""
    try:
        return compile_template(title=title, body=marked(body) if html else body, data=data, html=html).is_static
    except TemplateSyntaxError as error:
        place = f"line {error.line}, column {error.column}: {error.message}"
        raise ValidationFailed.of(f"{field}{error.field}", place) from None


def check_content(source: ContentSource, *, application: Application) -> None:
    """Ask the adapters by which the application sends whether their providers would take it; of a template, what is
    fixed of it, in every language."""
    types = subscription_types_of(source.channel_type)
    adapters = {adapter.name: adapter for type_ in types for adapter in used_adapters(application, type_)}
    try:
        for language in ("", *source.languages):
            content = source.render({"language": language})
            for adapter in adapters.values():
                adapter.check_content(content)
    except ContentError as error:
        raise ValidationFailed.of(error.field, error.message) from None
    except RenderError as error:
        raise ValidationFailed.of(error.field, error.message) from None


def used_adapters(application: Application, subscription_type: str) -> Sequence[Adapter]:
    """The adapters by which the application reaches this type: those it has a credential for, else all there are."""
    adapters = adapters_for(subscription_type)
    if len(adapters) == 1:
        return adapters
    names = [adapter.name for adapter in adapters]
    credentials = ChannelCredential.objects.for_application(application).filter(provider__in=names, is_active=True)
    used = set(credentials.values_list("provider", flat=True))
    return [adapter for adapter in adapters if adapter.name in used] or adapters


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
