"""What a recipient would see, on each channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from apps.messaging.adapters import in_app_content
from apps.messaging.adapters.base import Content, ContentError
from apps.messaging.adapters.registry import subscription_types_of
from apps.messaging.content import ContentSource, check_template, prepared, recipient_variables, used_adapters
from apps.messaging.rendering import RenderError
from apps.messaging.variants import language_key
from apps.subscriptions.models import AppUser
from apps.tenants.models import Application
from automata_signal.errors import NotFound, ValidationFailed

Show = Callable[[Application, Content], Mapping[str, Any]]
_shows: dict[str, Show] = {}


def register_preview(channel_type: str, show: Show) -> None:
    """Let `show` say how a channel shows a content, beyond its words: the segments of an SMS, the mail as it is sent.
    It may raise `ContentError`. The last call wins."""
    _shows[channel_type] = show


def show_in_app(application: Application, content: Content) -> Mapping[str, Any]:
    """As the SDK gets it: every option, those that were not given at their defaults."""
    return in_app_content.shown_options(content.options)


class Preview(NamedTuple):
    title: str
    body: str
    data: Mapping[str, Any]
    language: str
    """Which of the languages it is; empty: the words for everybody."""
    problems: list[str]
    """What a provider would refuse it for: `field: why`."""
    shown: Mapping[str, Any]
    """How the channel shows it."""
    variables: list[str]
    """The names that its words use."""


def preview(application: Application, source: ContentSource, variables: Mapping[str, Any]) -> Preview:
    """The content as somebody with these variables would see it. Raises `ValidationFailed` for what has no form."""
    for key, words in source.languages.items():
        check_template(words["title"], words["body"], words["data"], html=source.is_html, field=f"{key}.")
    check_template(source.title, source.body, source.data, html=source.is_html)
    source = replace(source, is_personalised=True)
    language = str(variables.get("language") or "")
    try:
        content = source.render(variables)
    except RenderError as error:
        raise ValidationFailed.of(error.field, error.message) from None
    problems = _problems(application, source.channel_type, content)
    shown: Mapping[str, Any] = {}
    if not problems and source.channel_type in _shows:
        shown = _shows[source.channel_type](application, content)
    return Preview(
        title=content.title,
        body=content.body,
        data=content.data,
        language=language_key(source.languages, language) or "",
        problems=problems,
        shown=shown,
        variables=sorted(source.compiled(language).variables),
    )


def _problems(application: Application, channel_type: str, content: Content) -> list[str]:
    found: dict[str, None] = {}
    for type_ in subscription_types_of(channel_type):
        for adapter in used_adapters(application, type_):
            try:
                adapter.check_content(content)
            except ContentError as error:
                found[str(error)] = None
    return list(found)


def prepared_or_as_is(application: Application, source: ContentSource) -> tuple[ContentSource, str]:
    """The source as a send would complete it (an approved template, uploaded files); as it is, and why, if that cannot
    be done yet."""
    try:
        return prepared(application, source), ""
    except ValidationFailed as error:
        return source, error.message


def user_named(application: Application, external_id: str) -> AppUser:
    """Raises `NotFound`."""
    user: AppUser | None = AppUser.objects.for_application(application).filter(external_id=external_id).first()
    if user is None:
        raise NotFound("There is no such user.")
    return user


def variables_of(user: AppUser) -> dict[str, Any]:
    """What a template may say of this user, with what their device that was active last says."""
    subscription = user.subscriptions.defer("token").order_by("-last_active_at").first()
    return recipient_variables(
        external_id=user.external_id,
        properties=user.properties,
        tags=subscription.tags if subscription else {},
        language=(subscription.device_language if subscription else "") or user.application.default_language,
        country=subscription.country_code if subscription else "",
    )
