"""A content that names an approved template becomes one that holds it: text, title, buttons and variables.

The variables are the content's `data`: literal, or of a template of ours, rendered for each recipient. The text that
each gets is put together here, so that what is shown in the console is what Kakao shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from apps.messaging.adapters.base import ContentError
from apps.messaging.adapters.kakao_content import RESOLVED, check_options, fill, variables_of
from apps.messaging.content import ContentSource, register_preparer
from apps.messaging.kakao.models import KakaoTemplate, TemplateState
from apps.messaging.kakao.remote import REMOTES
from apps.messaging.kakao.services import template_event
from apps.messaging.receipts.providers import register_listener
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application, ChannelCredential
from automata_signal.errors import ValidationFailed

MARKS = ("{{", "{%", "{#")
"""Begin something to be rendered in a template of ours."""


def register_kakao() -> None:
    """At start-up: contents of Alimtalk are completed here, and decisions on templates heard."""
    register_preparer(ChannelType.KAKAO_TALK, prepare)
    register_listener("nhn_kakao", template_event)


def prepare(application: Application, source: ContentSource) -> ContentSource:
    """Complete an Alimtalk. Raises `ValidationFailed` for a template that is unknown or not approved, and for
    variables that are missing."""
    options = {name: value for name, value in source.options.items() if name != RESOLVED}
    try:
        check_options(options)
    except ContentError as error:
        raise ValidationFailed.of(error.field, error.message) from None
    if "template_code" not in options:
        raise ValidationFailed.of("options.template_code", "names the approved template of an Alimtalk")
    template = template_for(application, options["template_code"], options.get("sender_key", ""))
    _refuse_own_words(source, template)
    resolved = {template.channel.provider: described(template)}
    languages = {key: _worded(template, words["data"], source) for key, words in source.languages.items()}
    own = _worded(template, source.data, source)
    return replace(
        source,
        title=own["title"],
        body=own["body"],
        options={**options, RESOLVED: resolved},
        languages=languages,
    )


def template_for(application: Application, code: str, sender_key: str = "") -> KakaoTemplate:
    """The template that can be sent with. Raises `ValidationFailed` with what is in the way. Index:
    `kakao_template_by_code`."""
    rows = KakaoTemplate.objects.for_application(application).filter(code=code, channel__credential__is_active=True)
    if sender_key:
        rows = rows.filter(channel__sender_key=sender_key)
    found = list(rows.select_related("channel").order_by("channel__credential__position", "id")[:10])
    if not found:
        raise ValidationFailed.of("options.template_code", "is no template of this application's Kakao channels")
    usable = [template for template in found if template.is_usable]
    if not usable:
        raise ValidationFailed.of("options.template_code", _problem_of(found[0]))
    if usable[0].channel.provider != _first_provider(application):
        raise ValidationFailed.of("options.template_code", "is of another provider than the first Alimtalk credential")
    if len({template.channel.sender_key for template in usable}) > 1:
        raise ValidationFailed.of("options.sender_key", "says of which channel; several have this template")
    return usable[0]


def _first_provider(application: Application) -> str:
    """By which messages go."""
    rows = ChannelCredential.objects.for_application(application).filter(provider__in=REMOTES, is_active=True)
    return rows.order_by("position", "id").values_list("provider", flat=True).first() or ""


def _problem_of(template: KakaoTemplate) -> str:
    if template.state != TemplateState.APPROVED:
        return f"is not approved: {template.get_state_display().lower()}"
    if template.is_dormant:
        return "is dormant: it was not used for a year, and Kakao must be asked to wake it up"
    return f"is of a channel that is {template.channel.get_state_display().lower()}"


def described(template: KakaoTemplate) -> dict[str, Any]:
    """What an adapter needs of the template."""
    links = [
        button[name]
        for button in template.buttons
        for name in ("link_mobile", "link_pc", "scheme_android", "scheme_ios")
        if button.get(name)
    ]
    return {
        "sender_key": template.channel.sender_key,
        "code": template.code,
        "content": template.content,
        "title": template.title,
        "links": links,
        "names": names_of(template),
    }


def names_of(template: KakaoTemplate) -> list[str]:
    """The variables of a template, wherever they stand."""
    texts = [template.content, template.title, template.subtitle, template.header]
    texts += [str(value) for button in template.buttons for value in button.values()]
    texts.append(str(template.items))
    return list(dict.fromkeys(name for text in texts for name in variables_of(text)))


def _refuse_own_words(source: ContentSource, template: KakaoTemplate) -> None:
    if (
        source.body
        and source.body != template.content
        and source.body != _worded(template, source.data, source)["body"]
    ):
        raise ValidationFailed.of("body", "comes from the approved template; leave it empty, or give the approved text")


def _worded(template: KakaoTemplate, data: Mapping[str, Any], source: ContentSource) -> dict[str, Any]:
    """Title and body: filled, or to be filled for each recipient."""
    for name in names_of(template):
        value = data.get(name)
        if value is None:
            raise ValidationFailed.of(f"data.{name}", f"is missing: the template says #{{{name}}}")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValidationFailed.of(f"data.{name}", "must be a text or a number")
        if not str(value).strip():
            raise ValidationFailed.of(f"data.{name}", "is empty")
    if source.is_personalised and any(mark in text for mark in MARKS for text in (template.content, template.title)):
        raise ValidationFailed.of(
            "options.template_code", "holds {{, {% or {# in its approved text: send it with literal data"
        )
    values = {name: str(data[name]) for name in names_of(template)}
    return {"title": fill(template.title, values), "body": fill(template.content, values), "data": data}
